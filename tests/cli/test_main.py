"""The command line's own behaviour: help, version, exit codes. Commands are tested in their own files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scopegate import __version__, build
from scopegate.cli.main import COMMANDS, main


def test_help_names_every_command_and_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    listed = re.findall(r"^    ([\w-]+)(?:  |$)", text, re.M)
    assert listed == list(COMMANDS)
    assert "examples:" in text
    assert "exit codes:" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: scopegate {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"scopegate {__version__} ({build.kind()})\n"


@pytest.mark.parametrize("words", [[], ["upp"], ["up", "--nothing"], ["--nothing"]])
def test_wrong_usage_is_2_and_shows_the_usage(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage: scopegate" in capsys.readouterr().err


HEAVY = (
    "asyncio",
    "logging",
    "anthropic",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "redis",
    "arq",
    "pydantic",
    "prometheus_client",
    "rich",
)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom scopegate.cli.main import main\nmain(['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[]\n"


def test_every_problem_is_printed_and_the_code_is_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCOPEGATE_LOG_LEVEL", "loud")
    monkeypatch.setenv("SCOPEGATE_STAT_DIR", str(tmp_path))
    config = tmp_path / "gateway.yaml"
    config.write_text("version: 1\nupstream: {}\n")
    assert main(["up", "-c", str(config)]) == 78
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert any(line.startswith("SCOPEGATE_LOG_LEVEL: ") for line in lines)
    assert any("SCOPEGATE_STAT_DIR" in line and "SCOPEGATE_STATE_DIR" in line for line in lines)
    assert any(line.startswith(f"{config}:2:1 upstream") and "upstreams" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]


def test_a_reader_that_had_enough_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "scopegate", "up", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 141
    assert err == b""
