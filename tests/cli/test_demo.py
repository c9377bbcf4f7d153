"""How the demo command ends when its story cannot be told. The story itself is in `tests/flows/test_demo.py`."""

from __future__ import annotations

import argparse
import io
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from scopegate.cli import demo
from scopegate.demo.narrator import Narrator
from scopegate.demo.stage import RealAPI, Stage, free_addresses
from scopegate.errors import ConfigError
from scopegate.supervise.supervisor import Child


def stage(folder: Path) -> Stage:
    (folder / "logs").mkdir()
    log = folder / "logs" / "scopegate.log"
    log.write_text("what went wrong\n")
    child = Child("scopegate up", ("scopegate",), {}, output=log)
    return Stage(folder, "a:1", "b:2", "c:3", None, "token", (child,))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    return monkeypatch


class Model(BaseHTTPRequestHandler):
    """Answers as a server that may or may not name the simulation."""

    names_itself = True
    keys: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.keys.append(self.headers["x-api-key"])
        self.send_response(404)
        if self.names_itself:
            self.send_header("x-simulated-claude", "1")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return


@pytest.mark.parametrize("names_itself", [True, False])
def test_live_asks_what_is_there_for_its_name(key: pytest.MonkeyPatch, names_itself: bool) -> None:
    key.setattr(Model, "names_itself", names_itself)
    with HTTPServer(("127.0.0.1", 0), Model) as server:
        server.timeout = 10
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        url = f"http://127.0.0.1:{server.server_port}"
        key.setenv("ANTHROPIC_BASE_URL", url)
        assert demo._real_api() == RealAPI("key", url, is_simulated=names_itself)
        answering.join(10)
    assert set(Model.keys) == {None}


def test_live_with_nothing_there_claims_nothing(key: pytest.MonkeyPatch) -> None:
    assert demo._real_api().words == "the real API"
    url = f"http://{free_addresses(1)[0]}"
    key.setenv("ANTHROPIC_BASE_URL", url)
    assert demo._real_api().words == f"the API at {url}"
    key.setenv("ANTHROPIC_BASE_URL", "ftp://x")
    with pytest.raises(ConfigError, match="ANTHROPIC_BASE_URL: is not a URL that starts with http"):
        demo._real_api()


def test_where_it_stays_up_names_the_simulation(tmp_path: Path) -> None:
    told = io.StringIO()
    live = RealAPI("key", "http://127.0.0.1:9", is_simulated=True)
    demo._say_where(replace(stage(tmp_path), live=live), Narrator(told))
    assert "a simulated Claude at http://127.0.0.1:9" in told.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_story_is_1_with_the_logs_and_one_object(
    tmp_path: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo._fail(argparse.Namespace(json=as_json), stage(tmp_path), "no port") == 1
    printed = capsys.readouterr()
    assert "scopegate demo: no port" in printed.err
    assert "--- scopegate.log\nwhat went wrong" in printed.err
    assert printed.out == ('{"failed": ["no port"]}\n' if as_json else "")
    if as_json:
        assert json.loads(printed.out) == {"failed": ["no port"]}
