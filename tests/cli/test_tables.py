"""Tables: aligned where they are piped, drawn on a terminal, and safe to look at in both."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from scopegate.cli.tables import aligned, show, shown, usd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        ("plain ü 💧", "plain ü 💧"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\n\tb", "a\\x0d\\x0a\\x09b"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202e\u2066\u200b", "\\u202e\\u2066\\u200b"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_cell_cannot_do_anything(value: object, text: str) -> None:
    assert shown(value) == text
    shown(value).encode()


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "$0.000000"), (1, "$0.000001"), (1_234_567, "$1.234567"), (-5, "-$0.000005")]
)
def test_dollars_keep_every_digit(micros: int, text: str) -> None:
    assert usd(micros) == text


def test_columns_are_aligned_without_trailing_spaces() -> None:
    assert aligned(("A", "NUMBER"), [["long cell", "1"], ["b", "1000"]], frozenset({"NUMBER"})) == [
        "A          NUMBER",
        "long cell       1",
        "b            1000",
    ]


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(("A", "B"), [("[red]x[/red]", "done")])
    assert capsys.readouterr().out == "A             B\n[red]x[/red]  done\n"


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_gets_colour_unless_it_asks_not_to(no_colour: bool) -> None:
    script = "from scopegate.cli.tables import show; show(('A', 'B'), [('[red]x\\x1b[2J', 'failed')])"
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "80"}
    if no_colour:
        environ["NO_COLOR"] = "1"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run([sys.executable, "-c", script], stdout=theirs, env=environ, timeout=60, check=True)
        os.close(theirs)
        drawn = terminal.read(65536).decode()
    assert ("\x1b[31m" in drawn) is not no_colour
    assert "[red]x\\x1b[2J" in drawn
