"""`scopegate limits`: a client's windows in Redis, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.gateway.top import TopKeys
from scopegate.process import board
from scopegate.wiring import TOP_FOLDER
from tests.valkey import Server

POLICY = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:1"]}}
tiers: {tight: {limit: 2 per 60s, ban: 15m after 3 refusals in 1m}}
routes: [{name: all, match: ANY /**, tier: tight}]
"""


@pytest.fixture
def words(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What follows the action."""
    (tmp_path / "gateway.yaml").write_text(POLICY)
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "state"))
    return ["192.0.2.1", "-c", str(tmp_path / "gateway.yaml")]


def test_ban_show_unban_and_reset(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limits", "ban", *words]) == 0
    assert capsys.readouterr().out == "banned in these tiers: tight\n"
    assert main(["limits", "show", *words, "--json"]) == 0
    window, banned = json.loads(capsys.readouterr().out)["limits"]
    assert (window["window"], window["counted"], window["limit"]) == ("tight", 0, 2)
    assert banned["banned_ms"] > 800_000
    assert main(["limits", "show", *words]) == 0
    assert "tight  banned" in capsys.readouterr().out
    assert main(["limits", "unban", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"unbanned": 1}
    assert main(["limits", "reset", *words]) == 0
    assert capsys.readouterr().out == "windows and bans begin anew: 0\n"


def test_a_key_that_is_none_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limits", "show", "nobody", *words[1:]]) == 1
    assert "neither an address nor a key" in capsys.readouterr().err


def test_without_redis_there_is_nothing_to_look_in(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REDIS_URL")
    assert main(["limits", "show", *words]) == 1
    assert "each gateway counts in its own memory" in capsys.readouterr().err


def test_a_redis_that_is_gone_is_told(words: list[str], server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.kill()
    assert main(["limits", "show", *words]) == 1
    assert "Redis cannot be asked now" in capsys.readouterr().err


def test_top_adds_up_what_living_gateways_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    keys = TopKeys()
    for _ in range(3):
        keys.refused("api", "ip:192.0.2.1")
    keys.refused("api", "user:jwt:\x1b[31m")
    with board.Note(tmp_path / TOP_FOLDER) as note:
        assert note.write(keys.told(0.0))
        assert main(["limits", "top", "--json"]) == 0
        first = json.loads(capsys.readouterr().out)["refused"][0]
        assert first == {"tier": "api", "key": "192.0.2.1", "times": 3, "over": 0}
        assert main(["limits", "top"]) == 0
        table = capsys.readouterr().out
        assert "\x1b" not in table
        assert "refused  api" in table
    assert main(["limits", "top", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"refused": [], "admitted": []}, "its writer is gone"
