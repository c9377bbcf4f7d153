"""`scopegate doctor`: one line each, the exit code, and nothing hidden by another fault."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scopegate.cli.main import main
from tests.valkey import Server

POLICY = """\
version: 1
server: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:0"}}
upstreams: {{web: {{servers: ["http://127.0.0.1:{port}"]}}}}
routes: [{{name: all, match: ANY /**, tier: none}}]
"""


@pytest.fixture
def app() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: int) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.yaml").write_text(POLICY.format(port=app))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["diagnoses"]
    return found


@pytest.mark.usefixtures("folder")
def test_all_is_well(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    assert main(["doctor", "--json"]) == 0
    found = told(capsys)
    assert {one["of"] for one in found} == {
        *("policy", "environment", "extras", "disk", "worker", "ports", "proxies"),
        *("redis", "clock", "database", "upstream", "claude"),
    }
    assert {one["state"] for one in found} <= {"ok", "unasked"}, found
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found)
    assert lines[0].startswith("ok       policy ")


def test_no_fault_hides_another(
    folder: Path, app: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:PLANTED@127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:PLANTED@127.0.0.1:1/d")
    monkeypatch.setenv("SCOPEGATE_LOG_LEVEL", "loud")
    (folder / "gateway.yaml").write_text(POLICY.format(port=app).replace(f":{app}", ":1"))
    assert main(["doctor", "--json"]) == 1
    out = capsys.readouterr().out
    failed = [one for one in json.loads(out)["diagnoses"] if one["state"] == "failed"]
    assert Counter(one["of"] for one in failed) == Counter(["environment", "redis", "database", "upstream"])
    assert all(one["mend"] for one in failed)
    assert "PLANTED" not in out


@pytest.mark.parametrize(("text", "said"), [("version: 2\n", "gateway.yaml:1"), (None, "no such file")])
def test_without_a_policy_the_rest_is_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    if text is None:
        (folder / "gateway.yaml").unlink()
    else:
        (folder / "gateway.yaml").write_text(text)
    assert main(["doctor", "--json"]) == 1
    found = {one["of"]: one for one in told(capsys)}
    assert (found["policy"]["state"], said in found["policy"]["said"]) == ("failed", True), found["policy"]
    assert {"extras", "disk", "redis", "database"} <= found.keys()
