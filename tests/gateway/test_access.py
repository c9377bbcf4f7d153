"""The access log: whatever a client sends, every line is one JSON object that says what happened."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.headers import Noted, read_request, request_id
from scopegate.edge.lines import lines_of
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Target
from scopegate.gateway.access import AccessLog

NOW_MS = 1_795_507_200_123


def log(now_ms: int = NOW_MS) -> tuple[AccessLog, io.StringIO]:
    stream = io.StringIO()
    return AccessLog(lambda: now_ms, stream), stream


def write(access: AccessLog, path: str = "/x", given_id: bytes = b"r-1", note: str = "") -> None:
    access.write(given_id, "192.0.2.1", "GET", path, "all", 200, 3, 5, 0.0123456, note)


def test_a_line() -> None:
    access, stream = log()
    write(access, note="rate_limited")
    assert stream.getvalue() == ""
    access.flush()
    access.flush()
    assert json.loads(stream.getvalue()) == {
        "ts": "2026-11-24T08:00:00.123Z", "level": "info", "source": "gateway", "event": "request",
        "request_id": "r-1", "client": "192.0.2.1", "method": "GET", "path": "/x", "route": "all", "status": 200,
        "bytes_in": 3, "bytes_out": 5, "seconds": 0.012346, "note": "rate_limited",
    }  # fmt: skip


def test_lines_wait_until_they_are_many() -> None:
    access, stream = log()
    for n in range(300):
        write(access, f"/{n}")
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == [f"/{n}" for n in range(256)]
    access.flush()
    assert len(stream.getvalue().splitlines()) == 300


def test_the_time_moves_with_the_clock() -> None:
    times = iter([NOW_MS, NOW_MS + 900, NOW_MS + 60_000])
    stream = io.StringIO()
    access = AccessLog(lambda: next(times), stream)
    for _ in range(3):
        write(access)
    access.flush()
    stamps = [json.loads(line)["ts"] for line in stream.getvalue().splitlines()]
    assert stamps == ["2026-11-24T08:00:00.123Z", "2026-11-24T08:00:01.023Z", "2026-11-24T08:01:00.123Z"]


@given(st.text(max_size=40), st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True))
def test_any_path_makes_one_line(path: str, given_id: str) -> None:
    access, stream = log()
    write(access, path, given_id.encode())
    access.flush()
    (line,) = stream.getvalue().split("\n")[:-1]
    assert "\r" not in line
    entry = json.loads(line)
    assert (entry["path"], entry["request_id"]) == (path, given_id)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_what_a_client_sends_cannot_break_a_line(raw: bytes, sent_id: bytes) -> None:
    notes = read_request(lines_of([(b"X-Request-Id", sent_id)]), "1.1")
    assert isinstance(notes, Noted)
    target = judge_target(b"GET", b"/" + raw, [b"a.example"], None)
    path = target.path if isinstance(target, Target) else ""
    access, stream = log()
    write(access, path, request_id(notes, b"fresh"))
    access.flush()
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["path"] == path
    assert "?" not in path
