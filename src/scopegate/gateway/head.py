"""A request's head: cut out of the bytes of its connection, measured, and parsed by httptools.

One `HeadReader` per connection. What stands between two requests and what a head may not be are answered without a
parser; a section of fields that the connection repeats byte for byte is not parsed again. Used by `protocol`.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from scopegate.edge.verdict import Refusal, RequestHead
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.section import MAX_KEPT_BYTES, HeaderSection
from scopegate.policy.policy import ServerLimits

HEAD_END = b"\r\n\r\n"
_CONTROLS = bytes(set(range(32)) - set(b"\t\r\n")) + b"\x7f"
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
"""Ignored before a request line (RFC 9112 2.2), each a whole CRLF."""
_BARE_LF = re.compile(rb"(?<!\r)\n")
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_LINE_EXTRA_BYTES = 40  # the method, the version and the spaces around the target
_UNREAD = RequestHead(b"", b"", "", [])
_PLAIN_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1")


class HeadReader:
    """`section` is what is known of the fields of the head that was read last; None while nobody has judged them, and
    where they are longer than an idle connection may hold."""

    __slots__ = ("_head", "_is_head", "_parser", "_read", "_section_bytes", "section")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._is_head = False
        self._head = b""
        self._read = _UNREAD
        """What was read of it."""
        self._section_bytes = b""
        self.section: HeaderSection | None = None

    def on_headers_complete(self) -> None:
        self._is_head = True

    def read(self, head: bytes, rules: Ruleset) -> RequestHead | Refusal:
        """A whole head, its empty line included. In the last one once more, and in one with the same fields, byte for
        byte, and a plain request line, the parser could find nothing new."""
        section = self.section
        if section is not None and section.rules is not rules:
            section = None
        if section is not None and head == self._head:
            return self._read
        line_end = head.find(b"\r\n")
        fields = head[line_end + 2 : -2]
        if section is not None and fields == self._section_bytes:
            line = _PLAIN_LINE.fullmatch(head, 0, line_end)
            if line is not None and line_end <= rules.limits.target_bytes:
                return self._keep(head, RequestHead(line[1], line[2], "1.1", self._read.lines))
        self.section, self._head, self._read, self._section_bytes = None, b"", _UNREAD, b""
        read = self._parsed(head, head[:line_end], fields, rules.limits)
        if isinstance(read, Refusal):
            return read
        if len(head) <= MAX_KEPT_BYTES:
            self._section_bytes = fields
        return self._keep(head, read)

    def _keep(self, head: bytes, read: RequestHead) -> RequestHead:
        if len(head) <= MAX_KEPT_BYTES:
            self._head, self._read = head, read
        return read

    def keep(self, section: HeaderSection) -> None:
        """What the fields of the head that was read last mean, unless they are too long to be kept."""
        if self._section_bytes:
            self.section = section

    def restart(self) -> None:
        """A body was read past the parser, which still waits for it if it was shown the head."""
        if self._is_head:
            self._is_head = False
            self._parser = httptools.HttpRequestParser(self)

    def _parsed(self, head: bytes, line: bytes, fields: bytes, limits: ServerLimits) -> RequestHead | Refusal:
        """The parser says whether it is a head: to have it tell every field costs more than to cut what it took."""
        parser = self._feed(head)
        # One that believed `Proxy-Connection: close` takes no further request, and one that waits for a body takes the
        # head for it. What a fresh one takes for no head is the preface of HTTP/2.
        if parser is None or not self._is_head:
            self._parser = httptools.HttpRequestParser(self)
            parser = self._feed(head)
            if parser is None:
                return bad_syntax()
        words = line.split(b" ")
        version = _VERSIONS.get(words[-1])
        if version is None:  # llhttp also reads RTSP and ICE
            return bad_syntax() if parser.get_http_version() in _VERSIONS.values() else _bad_version()
        if (
            not self._is_head or len(words) != 3 or b"\n" in line
        ):  # the parser takes any number of spaces, and after CONNECT half a line
            return bad_syntax()
        lines = fields.splitlines(keepends=True)
        if len(lines) > limits.fields:
            return Refusal(431, "too_many_fields", "The request has too many fields.", close=True)
        target = words[1]
        if len(target) > limits.target_bytes:
            return Refusal(414, "target_too_long", "The request target is too long.", close=True)
        return RequestHead(words[0], target, version, lines)

    def _feed(self, head: bytes) -> Any:
        """The parser that has read this head, or more than half of one; None when it cannot."""
        parser = self._parser
        self._is_head = False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)  # a parser is no use after it has seen an upgrade
        except httptools.HttpParserError:
            return None
        return parser


def without_empty_lines(data: bytes) -> bytes | Refusal:
    """Bytes that begin with a line's end, without the empty lines that may stand before a head. Half of one stays."""
    rest = _EMPTY_LINES.sub(b"", data, 1)
    return bad_syntax() if rest != b"\r" and rest[:1] in (b"\r", b"\n") else rest


def why_never(data: bytes, checked: int, limits: ServerLimits) -> Refusal | None:
    """Why these bytes cannot become a head, whatever follows. The first `checked` of them were looked at before."""
    fresh = data[max(0, checked - 1) :]
    if _BARE_LF.search(fresh, 1 if checked else 0) or len(fresh.translate(None, _CONTROLS)) != len(fresh):
        return bad_syntax()
    line_bytes = limits.target_bytes + _LINE_EXTRA_BYTES
    if len(data) >= line_bytes and b"\r\n" not in data[:line_bytes]:
        return Refusal(414, "target_too_long", "The request target is too long.", close=True)
    if len(data) > limits.head_bytes:
        return Refusal(431, "head_too_large", "The request's fields are too large.", close=True)
    return None


def bad_syntax() -> Refusal:
    return Refusal(400, "bad_syntax", "This is not a valid HTTP/1.1 request.", close=True)


def _bad_version() -> Refusal:
    return Refusal(505, "version_not_supported", "Speak HTTP/1.1.", close=True)
