"""What the command asks for, and its exit codes: tools that fail are played by scripts of their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import configs, peers
from bench.load import LOADS
from bench.sections import SECTIONS
from tests.engines import missing

FIGURES = (
    '{"requests": 10, "bytes": 4000, "duration_us": 1000000, "p50_us": 100, "p99_us": 200, '
    '"connect": 0, "read": 0, "write": 0, "timeout": 0, "status": 4}'
)
Place = Callable[[str, str], None]
ONE_TURN = ["--peers", "nginx", "--rounds", "1", "--seconds", "1", "--warm-up", "0"]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Puts a script before the real tool of that name."""

    def place(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return place


def test_failed_requests_show_and_make_the_exit_code_1(tool: Place, capsys: pytest.CaptureFixture[str]) -> None:
    if not peers.has("nginx", "taskset"):
        missing("nginx")
    tool("wrk", f"echo 'figures {FIGURES}'")
    assert command.main(ONE_TURN) == 1
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("| 4 |")
    assert "4 FAILED" in shown.err


def test_a_process_that_does_not_start_is_quoted_and_the_exit_code_is_2(
    tool: Place,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool("nginx", "echo no such module; exit 1")
    tool("wrk", "exit 1")
    assert command.main(ONE_TURN) == 2
    assert "does not listen. Its last words:\nno such module" in capsys.readouterr().err


def test_missing_tools_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main([]) == 2
    assert "bench needs wrk and nginx and taskset on PATH" in capsys.readouterr().err


def test_all_is_everything_and_quick_is_a_turn_of_each() -> None:
    everything = command._parse(["--all"])
    assert everything.sections == [section.name for section in SECTIONS]
    assert everything.loads == [load.name for load in LOADS]
    quick = command._parse(["--quick", "--rounds", "9"])
    assert (quick.rounds, quick.seconds, quick.loads) == (1, 1, ["real-32"])
    assert set(quick.sections) < set(everything.sections)


def test_every_peer_has_a_rival_in_its_section() -> None:
    for section in SECTIONS:
        names = [peer.name for peer in section.peers]
        assert len(set(names)) == len(names)
        assert {peer.rival for peer in section.peers} <= set(names)


def test_routes_alternate_and_end_with_the_one_that_is_asked_for() -> None:
    assert configs.routes(1, "/last/items") == ["/last/items"]
    many = configs.routes(1000, configs.LAST_PATTERN)
    assert len(set(many)) == 1000
    assert many[-1] == "/last/*/detail"
    assert sum("*" in pattern for pattern in many) == 500


def test_nginx_gets_each_pattern_in_its_own_words(tmp_path: Path) -> None:
    text = configs.nginx("127.0.0.1:1", 2, tmp_path, ["/**", "/api/items", "/api/*/detail"])
    for place in ("location / {", "location = /api/items {", "location ~ ^/api/[^/]+/detail$ {"):
        assert f"    {place} proxy_pass http://app; }}" in text


def test_two_nginx_workers_each_get_connections_of_their_own(tmp_path: Path) -> None:
    alone, two = (configs.nginx("127.0.0.1:1", 2, tmp_path, workers=workers) for workers in (1, 2))
    assert "reuseport" not in alone
    assert "worker_processes 2;" in two
    assert "listen 127.0.0.1:2 backlog=2048 reuseport;" in two
