"""Problems as GitHub's workflow commands, which show them beside the lines of a pull request.

Escaped as GitHub's runner reads them back (actions/toolkit, `packages/core/src/command.ts`): a value can neither end
its command nor begin another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from scopegate.errors import Problem

_PLACE = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+)", re.DOTALL)


def commands(problems: Iterable[Problem], warnings: Iterable[Problem]) -> Iterator[str]:
    yield from (_command("error", one) for one in problems)
    yield from (_command("warning", one) for one in warnings)


def _command(level: str, problem: Problem) -> str:
    place = _PLACE.fullmatch(problem.where)
    if place is None:
        return f"::{level}::{_data(str(problem))}"
    where = f"file={_property(place['file'])},line={place['line']},col={place['column']}"
    said = str(problem).removeprefix(problem.where).lstrip(": ")
    return f"::{level} {where}::{_data(said)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
