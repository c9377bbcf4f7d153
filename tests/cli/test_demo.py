"""How the demo command ends when its story cannot be told. The story itself is in `tests/flows/test_demo.py`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from scopegate.cli import demo
from scopegate.cli.supervisor import Child
from scopegate.demo.stage import Stage


def stage(folder: Path) -> Stage:
    (folder / "logs").mkdir()
    log = folder / "logs" / "scopegate.log"
    log.write_text("what went wrong\n")
    child = Child("scopegate up", ("scopegate",), {}, output=log)
    return Stage(folder, "a:1", "b:2", "c:3", None, "token", (child,))


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
