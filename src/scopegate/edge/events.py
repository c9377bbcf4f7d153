"""Server-sent events, measured in passing: how large the event is that an answer is in the midst of (WHATWG HTML 9.2).

Pure: the bytes themselves are not touched. Events end with a blank line; lines end with LF, CR or CRLF.
Called by `gateway/events`.
"""

from __future__ import annotations

import re

_BLANK = re.compile(rb"(?<=\n)[\r\n]|(?<=\r)\r")
"""The byte that makes a line blank: the second of LF LF, CR CR or LF CR (as in CRLF CRLF), for CR LF is one end."""


class EventMeter:
    """Whether every event of one stream keeps to `max_bytes`, counted since the last blank line."""

    __slots__ = ("_last", "_max_bytes", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._last = b""

    def feed(self, payload: bytes) -> bool:
        """Measure more of the stream: False once an event is larger than it may be. The same at every split."""
        if not payload:
            return True
        data = self._last + payload
        began = len(self._last) - self._size  # where the present event begins, as a position in `data`
        self._last = data[-1:]
        for match in _BLANK.finditer(data, len(data) - len(payload)):
            if match.end() - began > self._max_bytes:
                return False
            began = match.end()
        self._size = len(data) - began
        return self._size <= self._max_bytes
