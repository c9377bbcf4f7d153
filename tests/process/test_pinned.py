"""The parser and the server: installed, in the proven range, and the same range everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scopegate.process import pinned

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_range_is_the_one_of_the_package() -> None:
    declared = {}
    for line in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]:
        found = re.fullmatch(r"(\w+)>=(\d+)\.(\d+),<(\d+)", line)
        if found is not None:
            declared[found[1]] = ((int(found[2]), int(found[3])), (int(found[4]), 0))
    assert {name: declared[name] for name in pinned.RANGES} == pinned.RANGES


def test_what_is_installed_is_in_it() -> None:
    pinned.check()


def test_another_version_is_named() -> None:
    said = pinned.fault("httptools", (99, 0), (100, 0))
    assert said is not None
    assert re.fullmatch(r"version [0-9.]+ is installed, and the gateway is proven from 99\.0 to below 100\.0", said)
    assert pinned.fault("httptools", (0, 1), (0, 2)) is not None


def test_a_library_that_is_absent_is_named() -> None:
    said = pinned.fault("a_parser_nobody_has", (0, 1), (1, 0))
    assert said == "not installed: the gateway serves with this library and with no other in its place"


def test_one_that_does_not_load_is_named() -> None:
    assert pinned.broken("httptools", ["HttpRequestParser", "NoSuchParser"]) == "installed without NoSuchParser"
    assert pinned.broken("httptools", ["HttpRequestParser"]) is None
    assert pinned.broken("a_parser_nobody_has", []) == (
        "cannot be loaded: ModuleNotFoundError: No module named 'a_parser_nobody_has'"
    )


POLICY = """\
version: 1
server: {listen: "127.0.0.1:1"}
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: ANY /**, tier: none}]
"""


@pytest.mark.parametrize("command", ["up", "gateway", "admin"])
def test_a_start_with_a_broken_parser_is_refused_in_one_line(tmp_path: Path, command: str) -> None:
    """The distribution is there, and its code is not what it says: nothing starts, so nothing is started again."""
    (tmp_path / "gateway.yaml").write_text(POLICY)
    (tmp_path / "httptools.py").write_text('raise ImportError("libllhttp.so:\\n wrong ELF class")\n')
    environ = {"PYTHONPATH": f"{tmp_path}:{PYPROJECT.parent / 'src'}", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "scopegate", command],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "httptools: cannot be loaded: ImportError: libllhttp.so: wrong ELF class\n"
