"""How the story reads: plain lines into a pipe, colours and a live table on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from scopegate.demo.narrator import Narrator, step_line, usd
from scopegate.demo.report import CallView, JobView, StepView

WAITING = JobView("j", "l", "running", None, (StepView("scope", "waiting", 0),), (), 0)
RUNNING = replace(WAITING, steps=(StepView("scope", "running", 1),))
DONE = replace(WAITING, steps=(StepView("scope", "done", 2, ("overloaded",)),))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_pipe_gets_one_plain_line_for_each_change() -> None:
    stream = io.StringIO()
    with Narrator(stream).following() as show:
        for job in (WAITING, RUNNING, RUNNING, DONE, DONE):
            show(job)
    assert stream.getvalue().splitlines() == ["  scope: running", "  scope: done after 2 attempts (overloaded)"]


def test_a_terminal_gets_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    colourful, plain = Terminal(), Terminal()
    Narrator(colourful).checked("ten accepted")
    monkeypatch.setenv("NO_COLOR", "1")
    Narrator(plain).checked("ten accepted")
    assert "\x1b[32m" in colourful.getvalue()
    assert plain.getvalue() == "  ✓ ten accepted\n"


def test_without_colour_there_is_no_escape_sequence_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    narrator = Narrator(stream)
    narrator.act("1  An act")
    narrator.ledger((CallView("scope", 1, "ok", 1, 1, 1, 1),), 1)
    with narrator.following() as show:
        for job in (WAITING, RUNNING, DONE):
            show(job)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines()[-2:] == ["  scope: running", "  scope: done after 2 attempts (overloaded)"]


def test_a_terminal_gets_a_table_that_fills() -> None:
    stream = Terminal()
    with Narrator(stream).following() as show:
        show(
            replace(
                DONE, calls=(CallView("scope", 1, "overloaded", 0, 0, 1, 0), CallView("scope", 2, "ok", 1, 1, 1, 1))
            )
        )
    assert "✗ overloaded ✓" in stream.getvalue()


def test_what_is_wrong_stands_below() -> None:
    stream = io.StringIO()
    Narrator(stream).checked("delivered", ["not there"])
    assert stream.getvalue().splitlines() == ["  ✗ delivered", "    not there"]


def test_text_is_never_markup() -> None:
    stream = Terminal()
    Narrator(stream).say("[red]a visitor's own words[/]")
    assert "[red]a visitor's own words[/]" in stream.getvalue()


def test_the_ledger_has_a_line_per_call_and_the_sum() -> None:
    stream = io.StringIO()
    calls = (CallView("scope", 1, "timeout", 0, 0, 60_000, 0), CallView("scope", 2, "ok", 1200, 80, 900, 160))
    Narrator(stream).ledger(calls, 160)
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert rows == [
        ["step", "call", "outcome", "input", "output", "ms", "USD"],
        ["scope", "1", "timeout", "0", "0", "60,000", "0.000000"],
        ["scope", "2", "ok", "1,200", "80", "900", "0.000160"],
        ["sum", "0.000160"],
    ]


def test_words_for_a_step() -> None:
    assert step_line(StepView("save", "failed", 3, ("unreachable", "timeout", "timeout"))) == (
        "save: failed after 3 attempts (unreachable, timeout, timeout)"
    )
    assert usd(1_234_567) == "1.234567"
