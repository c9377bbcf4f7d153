"""Problems as a pull request shows them; nothing in them can end a command or begin one."""

from __future__ import annotations

from scopegate.cli.annotations import commands
from scopegate.errors import Problem


def test_a_problem_stands_at_its_line() -> None:
    found = commands([Problem("a/b.yaml:3:7", "tiers.x", "wrong", "y")], [Problem("a/b.yaml:1:1", "", "odd")])
    assert list(found) == [
        "::error file=a/b.yaml,line=3,col=7::tiers.x: wrong, did you mean y?",
        "::warning file=a/b.yaml,line=1,col=1::odd",
    ]


def test_a_variable_has_no_line() -> None:
    assert list(commands([Problem("REDIS_URL", "", "no URL")], [])) == ["::error::REDIS_URL: no URL"]


def test_nothing_ends_a_command_or_begins_one() -> None:
    hostile = Problem("a,b:c\n::error::x.yaml:1:1", "", "100%\r\n::stop-commands::x")
    (said,) = commands([hostile], [])
    assert said == "::error file=a%2Cb%3Ac%0A%3A%3Aerror%3A%3Ax.yaml,line=1,col=1::100%25%0D%0A::stop-commands::x"
