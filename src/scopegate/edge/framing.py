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
        payload: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        while data and not self.done:
            if self._state == "data":
                data = self._take_data(data, payload)
            elif self._state == "size":
                data = self._take_size(data)
            else:
                data = self._take_line_end(data)
        if self.done:
            self.left_over = data
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _take_data(self, data: bytes, payload: list[bytes]) -> bytes:
        part = data[: self._missing]
        payload.append(part)
        self._missing -= len(part)
        if self._missing == 0:
            self._state = "data_end"
        return data[len(part) :]

    def _take_size(self, data: bytes) -> bytes:
        end = data.find(_CRLF)
        digits = data[:end] if end >= 0 else data.removesuffix(b"\r")
        if len(digits) > _MAX_SIZE_DIGITS or not _HEX.issuperset(digits) or (end >= 0 and not digits):
            raise FramingError("bad chunk size")
        if end < 0:
            self._buffer = data
            return b""
        self._missing = int(digits, 16)
        self._state = "data" if self._missing else "last_end"
        return data[end + 2 :]

    def _take_line_end(self, data: bytes) -> bytes:
        if not _CRLF.startswith(data[:2]):
            raise FramingError("trailers are refused" if self._state == "last_end" else "chunk is longer than its size")
        if len(data) == 1:
            self._buffer = data
            return b""
        self.done = self._state == "last_end"
        self._state = "size"
        return data[2:]

    def eof(self) -> bool:
        return self.done


def as_chunk(payload: bytes) -> bytes:
    """`payload` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
