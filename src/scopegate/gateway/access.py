"""The access log: one JSON line per request, in the shape of `logs.JsonLines`, written in batches.

Every field is made by us or judged before (the path is printable, the id well-formed): nothing of the client's text
can break a line, and the query is left out since it may carry credentials.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TextIO

from scopegate.logs import timestamp

_FLUSH_AT = 256


class AccessLog:
    """`now_ms` gives Unix milliseconds. Lines wait until `flush`, or until 256 have gathered."""

    def __init__(self, now_ms: Callable[[], int], stream: TextIO | None = None) -> None:
        self._now_ms = now_ms
        self._stream = stream or sys.stderr
        self._lines: list[str] = []
        self._ms = 0
        self._stamp = ""

    def write(
        self,
        request_id: bytes,
        client: str,
        method: str,
        path: str,
        route: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        note: str,
    ) -> None:
        """`note` is the refusal's code, the upstream error's kind, how the cache answered, or empty."""
        if '"' in path or "\\" in path or not path.isprintable():
            path = json.dumps(path)[1:-1]
        now_ms = self._now_ms()
        if now_ms != self._ms:
            self._ms = now_ms
            self._stamp = f"{timestamp(now_ms // 1000)[:20]}{now_ms % 1000:03d}Z"
        micros = int(seconds * 1e6 + 0.5)
        self._lines.append(
            f'{{"ts":"{self._stamp}","level":"info","source":"gateway",'
            f'"event":"request","request_id":"{request_id.decode()}","client":"{client}","method":"{method}",'
            f'"path":"{path}","route":"{route}","status":{status},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
            f'"seconds":{micros // 1_000_000}.{_six_digits(micros % 1_000_000)},"note":"{note}"}}\n'
        )
        if len(self._lines) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write("".join(lines))
            self._stream.flush()


def _six_digits(number: int) -> str:
    return str(1_000_000 + number)[1:]  # a format with a width is looked up anew each time
