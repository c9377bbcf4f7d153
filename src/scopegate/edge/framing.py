"""Where a message body ends: RFC 9112 sections 6 and 7, read strictly, for both directions.

Pure: bytes in, payload out. A reader is fed what arrived after the head and says what is payload, whether the body has
ended, and what was left over. Chunk extensions and trailers are refused: nobody in front of an app needs them, and
they are where readers disagree.
"""

from __future__ import annotations

from typing import Protocol

_HEX = frozenset(b"0123456789abcdefABCDEF")
_MAX_SIZE_DIGITS = 15
_CRLF = b"\r\n"


class FramingError(ValueError):
    """The body is not framed as HTTP/1.1 demands: the connection cannot be used any more."""


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
    """A chunked body. Sizes are plain hex of at most 15 digits; no extensions; the last chunk is followed by an empty
    trailer section."""

    __slots__ = ("_buffer", "_missing", "_state", "done", "left_over")

    def __init__(self) -> None:
        self._buffer = b""
        self._missing = 0
        self._state = "size"
        self.done = False
        self.left_over = b""

    def feed(self, data: bytes) -> bytes:
        """One pass by position: cutting off what is done would cost the square of it, in tiny chunks."""
        payload: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        at = 0
        while at < len(data) and not self.done:
            if self._state == "data":
                at = self._take_data(data, at, payload)
            elif self._state == "size":
                at = self._take_size(data, at)
            else:
                at = self._take_line_end(data, at)
        if self.done:
            self.left_over = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _take_data(self, data: bytes, at: int, payload: list[bytes]) -> int:
        part = data[at : at + self._missing]
        payload.append(part)
        self._missing -= len(part)
        if self._missing == 0:
            self._state = "data_end"
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
        self._state = "data" if self._missing else "last_end"
        return end + 2

    def _take_line_end(self, data: bytes, at: int) -> int:
        if not _CRLF.startswith(data[at : at + 2]):
            raise FramingError("trailers are refused" if self._state == "last_end" else "chunk is longer than its size")
        if len(data) == at + 1:
            self._buffer = data[at:]
            return len(data)
        self.done = self._state == "last_end"
        self._state = "size"
        return at + 2

    def eof(self) -> bool:
        return self.done


def as_chunk(payload: bytes) -> bytes:
    """`payload` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
