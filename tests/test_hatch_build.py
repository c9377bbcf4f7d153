"""The compiled build: what is asked for, what is decided, what is compiled. `make test-compiled` runs the result."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import hatch_build
from hatch_build import BuildError, Wish, decide, sources, wish
from tests.test_deployment import ROOT


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Wish.PURE),
        ({"SCOPEGATE_COMPILE": ""}, Wish.PURE),
        ({"SCOPEGATE_COMPILE": "0"}, Wish.PURE),
        ({"SCOPEGATE_COMPILE": "1"}, Wish.IF_POSSIBLE),
        ({"SCOPEGATE_COMPILE": "require"}, Wish.REQUIRED),
    ],
)
def test_the_environment_says_what_is_wished(environ: dict[str, str], expected: Wish) -> None:
    assert wish(environ) is expected


@pytest.mark.parametrize("word", ["yes", "2", "Require", " 1"])
def test_any_other_word_is_an_error_that_names_the_variable(word: str) -> None:
    with pytest.raises(BuildError, match=r"SCOPEGATE_COMPILE is .*: it may be 1, require, 0 or nothing"):
        wish({"SCOPEGATE_COMPILE": word})


def test_without_a_compiler_the_build_is_pure_unless_it_must_not_be() -> None:
    assert decide(Wish.IF_POSSIBLE, None)
    assert decide(Wish.REQUIRED, None)
    assert not decide(Wish.IF_POSSIBLE, "no cc")
    assert not decide(Wish.PURE, None)
    with pytest.raises(BuildError, match="no cc"):
        decide(Wish.REQUIRED, "no cc")


def test_the_rooms_of_the_hot_path_are_compiled_but_for_what_has_its_reason() -> None:
    package = ROOT / "src" / "scopegate"
    names = [path.relative_to(package).as_posix() for path in sources(package)]
    assert names == sorted(names)
    assert {"edge/target.py", "gateway/protocol.py", "limits/window.py", "stores/memory.py"} <= set(names)
    assert not hatch_build.INTERPRETED.keys() & set(names)
    assert not any(name.endswith("__init__.py") for name in names)
    assert all((package / name).exists() for name in hatch_build.INTERPRETED), "take out of INTERPRETED what is gone"


def test_what_compiling_needs_is_the_same_wherever_it_is_said() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    development = {Requirement(text).name: text for text in project["optional-dependencies"]["dev"]}
    lock = (ROOT / "requirements-build.lock").read_text()
    locked = {line.split("==")[0]: line.split("==")[1].split()[0] for line in lock.splitlines() if "==" in line}
    for need in map(Requirement, hatch_build.NEEDS):
        assert Requirement(development[need.name]) == need
        assert need.specifier.contains(locked[need.name])
    assert "://" not in lock


# ── a wheel, made for real ──────────────────────────────────────────────────────────────────────────────────────────
def wheel(tmp_path: Path, **environ: str) -> tuple[list[str], str, int]:
    """The names in the wheel, the builder's words, and its exit code."""
    code = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    env: dict[str, Any] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100
    )
    made = sorted(tmp_path.glob("*.whl"))
    return (zipfile.ZipFile(made[0]).namelist() if made else []), done.stdout + done.stderr, done.returncode


def test_a_wheel_is_pure_unless_another_is_asked_for(tmp_path: Path) -> None:
    names, _, code = wheel(tmp_path)
    assert code == 0
    assert "scopegate/gateway/protocol.py" in names
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert [path.name.endswith("-py3-none-any.whl") for path in tmp_path.glob("*.whl")] == [True]


def test_without_a_compiler_the_wheel_is_pure_and_says_so(tmp_path: Path) -> None:
    names, words, code = wheel(tmp_path, SCOPEGATE_COMPILE="1", CC="/nonexistent/cc")
    assert code == 0
    assert "pure Python: no C compiler that can build for this Python" in words
    assert not [name for name in names if name.endswith((".so", ".pyd"))]


@pytest.mark.parametrize(
    ("word", "expected"), [("require", "no C compiler"), ("maybe", "SCOPEGATE_COMPILE is 'maybe'")]
)
def test_what_must_not_be_pure_is_not_built_at_all(tmp_path: Path, word: str, expected: str) -> None:
    names, words, code = wheel(tmp_path, SCOPEGATE_COMPILE=word, CC="/nonexistent/cc")
    assert code != 0
    assert expected in words
    assert names == []
