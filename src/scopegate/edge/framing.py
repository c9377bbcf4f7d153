"""Where a message body ends: RFC 9112 sections 6 and 7, read strictly, for both directions.

Pure: bytes in, payload out. A reader is fed what arrived after the head and says what is payload, whether the body has
ended, and what was left over. Chunk extensions are refused: nobody in front of an app needs them, and they are where
readers disagree. Trailer fields are read as strictly as fields, and dropped: they never become fields (RFC 9110 6.5.1).
"""

from __future__ import annotations

import re
from typing import Literal, Protocol, TypeAlias, assert_never

_HEX = frozenset(b"0123456789abcdefABCDEF")
_MAX_SIZE_DIGITS = 15
_CRLF = b"\r\n"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
TRAILER_BYTES = 4096
"""The most that all trailer fields of a body may take."""


class FramingError(ValueError):
    """The body is not framed as HTTP/1.1 demands: the connection cannot be used any more."""


_Next: TypeAlias = Literal["size", "data", "data_end", "trailer"]
"""What comes next in a chunked body."""


class BodyReader(Protocol):
    """`done` is True once the body has ended; `left_over` then holds the bytes that follow it."""

    done: bool
    left_over: bytes

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`, unframed. Raises FramingError."""
        ...

    def eof(self) -> bool:
        """The peer closed its side: True when that ends the body properly."""
        ...


class LengthBody:
    """A body of exactly `length` bytes (Content-Length)."""

    __slots__ = ("_missing", "done", "left_over")

    def __init__(self, length: int) -> None:
        self._missing = length
        self.done = length == 0
        self.left_over = b""

    def feed(self, data: bytes) -> bytes:
        self._missing -= len(data)
        if self._missing > 0:
            return data
        self.done = True
        if self._missing == 0:
            return data
        cut = len(data) + self._missing
        self._missing = 0
        self.left_over = data[cut:]
        return data[:cut]

    def eof(self) -> bool:
        return self.done


class EofBody:
    """A response body that ends when the connection does (RFC 9112 6.3, rule 8)."""

    __slots__ = ("done", "left_over")

    def __init__(self) -> None:
        self.done = False
        self.left_over = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def eof(self) -> bool:
        self.done = True
        return True


class ChunkedBody:
    """A chunked body. Sizes are plain hex of at most 15 digits; no extensions; trailer fields are lawful lines of at
    most TRAILER_BYTES together, and nothing of them is kept."""

    __slots__ = ("_buffer", "_missing", "_next", "_trailer_bytes", "done", "left_over")

    def __init__(self) -> None:
        self._buffer = b""
        self._missing = 0
        self._next: _Next = "size"
        self._trailer_bytes = 0
        self.done = False
        self.left_over = b""

    def feed(self, data: bytes) -> bytes:
        """One pass by position: cutting off what is done would cost the square of it, in tiny chunks."""
        payload: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        at = 0
        while at < len(data) and not self.done:
            if self._next == "size":
                at = self._take_whole_chunks(data, at, payload)
                if at == len(data):
                    break
            match self._next:
                case "data":
                    at = self._take_data(data, at, payload)
                case "size":
                    at = self._take_size(data, at)
                case "data_end":
                    at = self._take_data_end(data, at)
                case "trailer":
                    at = self._take_trailer(data, at)
                case never:
                    assert_never(never)
        if self.done:
            self.left_over = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _take_whole_chunks(self, data: bytes, at: int, payload: list[bytes]) -> int:
        """Past every chunk that is all there: a body of tiny ones must not cost more than one of large ones can."""
        match = _SIZE.match
        while (size := match(data, at)) is not None:
            start = size.end()
            end = start + int(size[1], 16)
            if end == start or data[end : end + 2] != _CRLF:
                break  # the last one, one that is not all there, or a bad one: read step by step
            payload.append(data[start:end])
            at = end + 2
        return at

    def _take_data(self, data: bytes, at: int, payload: list[bytes]) -> int:
        part = data[at : at + self._missing]
        payload.append(part)
        self._missing -= len(part)
        if self._missing == 0:
            self._next = "data_end"
        return at + len(part)

    def _take_size(self, data: bytes, at: int) -> int:
        end = data.find(_CRLF, at, at + _MAX_SIZE_DIGITS + 2)
        digits = data[at:end] if end >= 0 else data[at : at + _MAX_SIZE_DIGITS + 2].removesuffix(b"\r")
        if len(digits) > _MAX_SIZE_DIGITS or not _HEX.issuperset(digits) or (end >= 0 and not digits):
            raise FramingError("bad chunk size")
        if end < 0:
            self._buffer = data[at:]
            return len(data)
        self._missing = int(digits, 16)
        self._next = "data" if self._missing else "trailer"
        return end + 2

    def _take_data_end(self, data: bytes, at: int) -> int:
        if not _CRLF.startswith(data[at : at + 2]):
            raise FramingError("chunk is longer than its size")
        if len(data) == at + 1:
            self._buffer = data[at:]
            return len(data)
        self._next = "size"
        return at + 2

    def _take_trailer(self, data: bytes, at: int) -> int:
        """One line after the last chunk: a field, or the empty one that ends the body."""
        end = data.find(_CRLF, at)
        if end == at:
            self.done = True
            return at + 2
        size = end - at if end >= 0 else len(data) - at - data.endswith(b"\r")
        if size and size + self._trailer_bytes > TRAILER_BYTES:
            raise FramingError("too many trailer fields")
        if end < 0:
            self._buffer = data[at:]
            return len(data)
        if not _TRAILER.fullmatch(data, at, end):
            raise FramingError("bad trailer field")
        self._trailer_bytes += size + 2
        return end + 2

    def eof(self) -> bool:
        return self.done


def as_chunk(payload: bytes) -> bytes:
    """`payload` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
