"""The parser and the server: installed, in the proven range, and the same range everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from scopegate import pinned

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


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
