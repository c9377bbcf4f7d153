"""multipart/form-data (RFC 7578, RFC 2046 5.1), read strictly as it streams: how many parts, how many files, how large.

Pure and incremental; no part is kept. What readers disagree about is refused: preambles and epilogues, a boundary that
is no whole delimiter line, bare line ends and folded lines in a part's head, fields and parameters that forms do not
know, a part without one name, a parameter told twice or inside another one, a length that is not the part's, transfer
encodings, nested multiparts. Where readers differ about a name alone, a part is what the strictest takes it for. Called
through `bodies`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import MultipartRule

MAX_PART_HEAD_BYTES = 8 * 1024
BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,70}")
"""RFC 2046 5.1.1: 1 to 70 characters. It allows spaces inside, which some readers trim."""

_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION = re.compile(rb"form-data(?=[ \t;]|\Z)", re.IGNORECASE)
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb')=(?:"((?:[^"\\]|\\.)*)"|(' + _TOKEN + rb"))(?=[ \t;]|\Z)")
_PLAIN_ENCODINGS = frozenset([b"7bit", b"8bit", b"binary"])
_TEXT = b"text/plain"
"""The one type that a part may have without being a file."""
_PART_FIELDS = frozenset([b"content-disposition", b"content-type", b"content-transfer-encoding", b"content-length"])
"""RFC 7578 4.8 forbids others. Content-Length is told by some clients, and believed by some readers."""
_PARAMETERS = frozenset([b"name", b"filename", b"filename*"])
_PARAMETER_INSIDE = re.compile(rb";[ \t]*(?:file)?name\*?[ \t]*=", re.IGNORECASE)
"""Readers that know no quotation marks, or end one after a backslash, find a parameter inside a value."""
_FILE_INSIDE = re.compile(rb"filename\*?[ \t]*=", re.IGNORECASE)
"""Readers that search a disposition for `filename=` find it inside a value, and take the part for a file."""
_EXTENDED = re.compile(rb"(?i:utf-8)'[0-9A-Za-z-]*'(?:[!#$&+.^_`|~0-9A-Za-z-]|%[0-9A-Fa-f]{2})+")
"""RFC 8187 3.2.1, of the one charset that it asks everybody to know. Some readers drop a part with any other."""
_LENGTH = re.compile(rb"[0-9]{1,15}")


class _State(Enum):
    OPENING = "the first delimiter"
    DELIMITED = "what follows a delimiter"
    HEAD = "a part's head"
    CONTENT = "a part's content"
    CLOSED = "the final delimiter was read"


class _Refused(Exception):
    """Carries a refusal up to `feed` and no further."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class MultipartReader:
    """One body. `feed` it in order and `end` it; the first refusal is final."""

    __slots__ = (
        "_delimiter",
        "_files",
        "_is_bounded",
        "_part_bytes",
        "_parts",
        "_rest",
        "_rule",
        "_seen",
        "_state",
        "_told",
        "closing",
    )

    def __init__(self, boundary: bytes, rule: MultipartRule) -> None:
        """`boundary` matches BOUNDARY."""
        self._delimiter = b"--" + boundary
        self._rule = rule
        self._state = _State.OPENING
        self._rest = b""
        self._seen = 0
        self._parts = 0
        self._files = 0
        self._is_bounded = False
        self._part_bytes = 0
        self._told: int | None = None
        self.closing = 0
        """How many of the bytes fed last belong to the final delimiter or follow it: what completes the body."""

    def feed(self, data: bytes) -> Refusal | None:
        """The next bytes of the body; why it is refused, or None so far."""
        self._seen = seen = len(self._rest)
        data = self._rest + data if seen else data
        at = 0
        try:
            step = self._step(data, at)
            while step is not None:
                at = step
                step = self._step(data, at)
        except _Refused as refused:
            return refused.refusal
        self._rest = data[at:]
        self.closing = 0
        if self._state is _State.CLOSED:
            self.closing = min(len(data) - at + len(self._delimiter) + 2, len(data) - seen)
        return None

    def end(self) -> Refusal | None:
        """No more bytes come: why the body is refused as it is, or None."""
        if self._state is _State.CLOSED and self._rest in (b"", _CRLF):
            return None
        return _bad("it does not end with its final delimiter")

    def _step(self, data: bytes, at: int) -> int | None:
        """Read on from a position: the next one, or None when more bytes are needed. `_rest` begins where it stops."""
        if self._state is _State.CONTENT:
            return self._content(data, at)
        if self._state is _State.HEAD:
            return self._head(data, at)
        if self._state is _State.DELIMITED:
            return self._delimited(data, at)
        if self._state is _State.OPENING:
            return self._opening(data, at)
        if not _CRLF.startswith(data[at:]):
            raise _Refused(_bad("something follows its final delimiter"))
        return None

    def _opening(self, data: bytes, at: int) -> int | None:
        begun = data[at : at + len(self._delimiter)]
        if not self._delimiter.startswith(begun):
            raise _Refused(_bad("it does not begin with its delimiter"))
        if len(begun) < len(self._delimiter):
            return None
        self._state = _State.DELIMITED
        return at + len(begun)

    def _delimited(self, data: bytes, at: int) -> int | None:
        mark = data[at : at + 2]
        if mark == _CRLF:
            self._begin_part()
        elif mark == b"--":
            self._state = _State.CLOSED
        elif mark not in (b"", b"\r", b"-"):
            raise _Refused(_bad("a delimiter does not stand on a line of its own"))
        else:
            return None
        return at + 2

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > self._rule.max_parts:
            detail = f"The form may have at most {self._rule.max_parts} parts here."
            raise _Refused(Refusal(413, "too_many_parts", detail, close=True))
        self._state = _State.HEAD

    def _head(self, data: bytes, at: int) -> int | None:
        fresh = max(at, self._seen - len(_HEAD_END) + 1)  # before it there is no end: a head may come byte by byte
        end = data.find(_HEAD_END, fresh, at + MAX_PART_HEAD_BYTES)
        if end < 0:
            if len(data) - at >= MAX_PART_HEAD_BYTES:
                raise _Refused(_bad("a part's head is too long"))
            return None
        head = _read_head(data[at:end])
        self._is_bounded, self._told = head.is_file or head.is_typed, head.length
        self._part_bytes = 0
        if head.is_file:
            self._files += 1
            if self._files > self._rule.max_files:
                detail = f"The form may have at most {self._rule.max_files} files here."
                raise _Refused(Refusal(413, "too_many_files", detail, close=True))
        self._state = _State.CONTENT
        return end + len(_HEAD_END)

    def _content(self, data: bytes, at: int) -> int | None:
        found = data.find(self._delimiter, at)
        if found < 0:
            kept = len(_CRLF) + len(self._delimiter) - 1
            end = max(at, len(data) - kept)
            self._count(end - at)
            return end if end > at else None
        if data[max(at, found - 2) : found] != _CRLF:
            raise _Refused(_bad("a delimiter does not stand on a line of its own"))
        self._count(found - 2 - at)
        if self._told is not None and self._told != self._part_bytes:
            raise _Refused(_bad("a part does not have the length it tells"))
        self._state = _State.DELIMITED
        return found + len(self._delimiter)

    def _count(self, size: int) -> None:
        most = self._rule.max_file_bytes
        self._part_bytes += size
        if self._is_bounded and most is not None and self._part_bytes > most:
            detail = f"A file may have at most {most} bytes here."
            raise _Refused(Refusal(413, "file_too_large", detail, close=True))


def _bad(what: str) -> Refusal:
    return Refusal(400, "bad_multipart", f"The form is malformed: {what}.", close=True)


@dataclass(frozen=True, slots=True)
class _Head:
    """`is_file`: some common reader takes the part for a file, though a typed one is a file to a few even as
    text/plain. `length` is what the part says of itself, None for nothing."""

    is_file: bool
    is_typed: bool
    length: int | None


def _read_head(head: bytes) -> _Head:
    fields = _fields(head)
    if b"content-disposition" not in fields:
        raise _Refused(_bad("a part has no Content-Disposition"))
    parameters = _parameters(fields[b"content-disposition"])
    is_typed = b"content-type" in fields
    kind = fields.get(b"content-type", _TEXT).partition(b";")[0].strip(b" \t").lower()
    if kind.startswith(b"multipart"):
        raise _Refused(_bad("a part is a multipart itself"))
    if fields.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise _Refused(_bad("a part has a transfer encoding"))
    length = fields.get(b"content-length", b"0")
    if _LENGTH.fullmatch(length) is None:
        raise _Refused(_bad("a part does not have the length it tells"))
    is_file = len(parameters) > 1 or kind != _TEXT or _FILE_INSIDE.search(parameters[b"name"]) is not None
    return _Head(is_file, is_typed, int(length) if b"content-length" in fields else None)


def _fields(head: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in head.split(_CRLF):
        field = _FIELD.fullmatch(line)
        name = b"" if field is None else field[1].lower()
        if field is None or name in fields:
            raise _Refused(_bad("a part's head has a line that is no field, or a field twice"))
        if name not in _PART_FIELDS:
            raise _Refused(_bad("a part has a field that forms do not know"))
        fields[name] = field[2].strip(b" \t")
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused(_bad("a part's head is not UTF-8")) from None
    return fields


def _parameters(disposition: bytes) -> dict[bytes, bytes]:
    """The parameters of a form-data disposition: exactly one name, at most one file name of each spelling (.NET and
    React Native send both), nothing else. A quotation mark after a backslash belongs to the value, as curl writes it
    (RFC 9110 5.6.4); readers that end the value there (WHATWG) find no parameter behind it that is not one."""
    kind = _DISPOSITION.match(disposition)
    if kind is None:
        raise _Refused(_bad("a part is not form-data"))
    parameters: dict[bytes, bytes] = {}
    at = kind.end()
    while at < len(disposition):
        found = _PARAMETER.match(disposition, at)
        if found is None:
            raise _Refused(_bad("a part's Content-Disposition is malformed"))
        at = found.end()
        name = found[1].lower()
        if name in parameters or name not in _PARAMETERS:
            raise _Refused(_bad("a part's Content-Disposition tells something twice, or more than names"))
        value = parameters[name] = found[2] if found[3] is None else found[3]
        if not _has_one_reading(name, value, is_quoted=found[3] is None):
            raise _Refused(_bad("a part's Content-Disposition may be read in two ways"))
    if b"name" not in parameters:
        raise _Refused(_bad("a part does not have one name"))
    return parameters


def _has_one_reading(name: bytes, value: bytes, *, is_quoted: bool) -> bool:
    """An apostrophe outside quotation marks is one to some readers."""
    if name == b"filename*":
        return not is_quoted and _EXTENDED.fullmatch(value) is not None
    return _PARAMETER_INSIDE.search(value) is None and (is_quoted or b"'" not in value)
