"""One line of an access log as a request that was: ours, Caddy's JSON, nginx' JSON by its usual names, and the common
or combined format.

Pure. A line that cannot be read says why and stops nothing. Called by the commands `simulate` and `advise`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple

from scopegate import jsontext
from scopegate.types import Json

MAX_LINE_BYTES = 1 << 16
_NAMED_LINES = 5
_REORDERED = 10_000  # lines stand in the order of their ends; a request that took long began before others
_COMBINED = re.compile(
    r'(?P<client>\S+) \S+ [^\[]*\[(?P<time>[^\]]{1,40})\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?:\d+|-)',
    re.ASCII,
)
_CLOCK = re.compile(r"(\d{2})/(\w{3})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-]\d{2})(\d{2})", re.ASCII)
_BLUR_US = 1000  # times are written in milliseconds: begins that are closer stand in the order of their lines
_TIMES = ("msec", "time_iso8601", "time_local", "time", "timestamp", "@timestamp")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


class LogEntry(NamedTuple):
    """A request. `at_us`: Unix microseconds of its begin. `target`: as sent, with or without query. `route`, as a
    gateway of ours named it, and `host` are empty where the log does not tell."""

    at_us: int
    client: str
    method: str
    target: str
    status: int
    bytes_in: int = 0
    route: str = ""
    host: str = ""


class BadLine(ValueError):
    """Says what a line lacks; never quotes it."""


@dataclass(slots=True)
class LogReading:
    """What became of a log's lines. `named`: the first bad ones, as (line, why)."""

    lines: int = 0
    bad: int = 0
    named: list[tuple[int, str]] = field(default_factory=list)

    def entries(self, lines: Iterable[bytes]) -> Iterator[LogEntry]:
        """In the order of their begins, as far as that lies within 10,000 lines. Lines that are no requests are left
        out, bad ones counted."""
        ahead: list[tuple[int, int, LogEntry]] = []
        latest_us = 0
        for line in lines:
            self.lines += 1
            try:
                entry = parse_line(line)
            except BadLine as fault:
                self.bad += 1
                if len(self.named) < _NAMED_LINES:
                    self.named.append((self.lines, str(fault)))
                continue
            if entry is not None:
                at_us = latest_us if 0 < latest_us - entry.at_us < _BLUR_US else entry.at_us
                latest_us = max(latest_us, at_us)
                heapq.heappush(ahead, (at_us, self.lines, entry))
                if len(ahead) > _REORDERED:
                    yield _next(ahead)
        while ahead:
            yield _next(ahead)


def _next(ahead: list[tuple[int, int, LogEntry]]) -> LogEntry:
    at_us, _, entry = heapq.heappop(ahead)
    return entry._replace(at_us=at_us)


def parse_line(line: bytes) -> LogEntry | None:
    """None for a line that is no request: empty, or another event of ours. Raises BadLine."""
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES} bytes")
    line = line.strip()
    if not line:
        return None
    if not line.startswith(b"{"):
        return _combined(line)
    try:
        found = jsontext.parse(line, max_depth=8, repeated_keys=True)
    except jsontext.BadJson:
        raise BadLine("neither JSON nor the combined format") from None
    assert isinstance(found, dict)
    if "event" in found and "source" in found:
        return _ours(found) if found["event"] == "request" else None
    request = found.get("request")
    return _caddy(found, request) if isinstance(request, dict) else _nginx(found)


def _ours(found: Mapping[str, Json]) -> LogEntry:
    took_us = round(_number(found.get("seconds"), "seconds") * 1e6)
    return LogEntry(
        _iso_us(_text(found, "ts")) - took_us,
        _address(_text(found, "client")),
        _text(found, "method"),
        _text(found, "path"),
        _status(found.get("status")),
        int(_number(found.get("bytes_in", 0), "bytes_in")),
        _text(found, "route"),
    )


def _caddy(found: Mapping[str, Json], request: Mapping[str, Json]) -> LogEntry:
    """Written at the end; `duration` in seconds."""
    took_us = round(_number(found.get("duration", 0), "duration") * 1e6)
    return LogEntry(
        _moment_us(found.get("ts")) - took_us,
        _address(_first(request, "client_ip", "remote_ip")),
        _text(request, "method"),
        _text(request, "uri"),
        _status(found.get("status")),
        int(_number(found.get("bytes_read", 0), "bytes_read")),
        host=_host(request.get("host")),
    )


def _nginx(found: Mapping[str, Json]) -> LogEntry:
    """nginx has no JSON of its own: the names of its variables, as most configurations have them."""
    method, target = _request_line(found)
    time = next((found[name] for name in _TIMES if name in found), None)
    took_us = round(_number(found.get("request_time", 0), "request_time") * 1e6)
    return LogEntry(
        _moment_us(time) - took_us,
        _address(_first(found, "remote_addr", "client_ip", "client", "remote_ip", "ip")),
        method,
        target,
        _status(found.get("status")),
        host=_host(found.get("http_host", found.get("host"))),
    )


def _request_line(found: Mapping[str, Json]) -> tuple[str, str]:
    if isinstance(found.get("request"), str):
        return _split(_text(found, "request"))
    return _first(found, "request_method", "method"), _first(found, "request_uri", "uri", "path")


def _combined(line: bytes) -> LogEntry:
    match = _COMBINED.match(line.decode("utf-8", "replace"))
    if match is None:
        raise BadLine("neither JSON nor the combined format")
    method, target = _split(match["request"])
    return LogEntry(_clock_us(match["time"]), _address(match["client"]), method, target, int(match["status"]))


def _split(request: str) -> tuple[str, str]:
    words = request.split(" ")
    if len(words) < 2 or not words[0] or not words[1]:
        raise BadLine("its request line is none")
    return words[0], words[1]


def _text(found: Mapping[str, Json], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise BadLine(f"has no {name}")
    return value


def _first(found: Mapping[str, Json], *names: str) -> str:
    for name in names:
        if isinstance(found.get(name), str) and found[name]:
            return _text(found, name)
    raise BadLine(f"has no {names[0]}")


def _host(value: Json) -> str:
    """Empty where the log does not tell."""
    return value if isinstance(value, str) else ""


def _number(value: Json, name: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e18:
        raise BadLine(f"its {name} is no number")
    return number


def _status(value: Json) -> int:
    status = int(_number(value, "status"))
    if not 0 <= status <= 999:
        raise BadLine("its status is none")
    return status


def _address(text: str) -> str:
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        raise BadLine("its client is no address") from None


def _moment_us(value: Json) -> int:
    """Unix seconds, an ISO 8601 text, or a time as nginx writes it."""
    if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return _clock_us(value) if _CLOCK.fullmatch(value) else _iso_us(value)
    return round(_number(value, "time") * 1e6)


def _iso_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadLine("its time is none") from None
    if moment.tzinfo is None:
        raise BadLine("its time has no zone")
    return round(moment.timestamp() * 1e6)


def _clock_us(text: str) -> int:
    match = _CLOCK.fullmatch(text)
    month, rest = divmod(_MONTHS.find(match[2]) if match is not None else -1, 3)
    if match is None or rest or len(match[2]) != 3:
        raise BadLine("its time is none")
    day, _, year, hour, minute, second, zone, minutes = match.groups()
    return _iso_us(f"{year}-{month + 1:02}-{day}T{hour}:{minute}:{second}{zone}:{minutes}")
