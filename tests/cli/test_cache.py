"""`scopegate cache purge`, heard in Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scopegate.caching.purges import Purge, PurgeKind
from scopegate.cli.main import main
from scopegate.clock import SystemClock
from scopegate.stores.redis_answers import RedisAnswers
from tests.valkey import Server


def heard(server: Server) -> list[Purge]:
    async def ask() -> list[Purge]:
        desk = RedisAnswers(server.url, SystemClock())
        try:
            return [purge for _, purge in (await desk.purges_after(0))[1]]
        finally:
            await desk.close()

    return asyncio.run(ask())


def test_a_purge_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "state"))
    assert main(["cache", "purge", "https://A.example/x?q=1"]) == 0
    assert capsys.readouterr().out == "purge 1: gateways hear of it within a second\n"
    assert main(["cache", "purge", "--tag", "news", "--soft"]) == 0
    assert main(["cache", "purge", "--prefix", "/blog/"]) == 0
    assert heard(server) == [
        Purge(PurgeKind.URL, b"a.example/x?q=1"),
        Purge(PurgeKind.TAG, b"news", soft=True),
        Purge(PurgeKind.PREFIX, b"/blog/"),
    ]
    assert main(["cache", "purge", "nothing"]) == 1
    assert "a URL has a path" in capsys.readouterr().err


def test_without_redis_nobody_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "state"))
    assert main(["cache", "purge", "/x"]) == 1
    assert "no embedded Valkey runs" in capsys.readouterr().err
