"""How the demo tells its story: a table that fills while one watches on a terminal, plain lines anywhere else.

The only file of the demo that names rich, which honours TERM by itself. With NO_COLOR rich would still write bold and
dim, so a terminal is then spoken to like a pipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scopegate.demo.report import CallView, JobView, StepView

_STATES = {"done": "green", "failed": "red", "running": "yellow", "queued": "yellow", "held": "yellow"}


class Narrator:
    """Speaks on one stream. Text is never read as markup: it may come from anywhere."""

    def __init__(self, stream: TextIO) -> None:
        terminal = False if os.environ.get("NO_COLOR") else None
        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True, force_terminal=terminal)

    def act(self, title: str) -> None:
        self._console.print()
        self._console.print(title, style="bold")

    def say(self, text: str) -> None:
        self._console.print(f"  {text}")

    def checked(self, text: str, problems: Sequence[str] = ()) -> None:
        """A thing that should be so, and what is wrong with it."""
        mark, style = ("✗", "red") if problems else ("✓", "green")
        self._console.print(f"  {mark} {text}", style=style)
        for problem in problems:
            self._console.print(f"    {problem}", style="red")

    @contextmanager
    def following(self) -> Iterator[Callable[[JobView], None]]:
        """Show a job while it runs: call what this gives with each new view of it."""
        if not self._console.is_terminal:
            yield _PlainSteps(self.say)
            return
        with Live(console=self._console, refresh_per_second=8) as live:
            yield lambda job: live.update(_steps_table(job))

    def ledger(self, calls: Sequence[CallView], total_usd_micros: int) -> None:
        """Every model call with its price, and the sum."""
        table = Table("step", "call", "outcome", box=None, pad_edge=False)
        for name in ("input", "output", "ms", "USD"):
            table.add_column(name, justify="right")
        for call in calls:
            table.add_row(
                call.step,
                str(call.call_n),
                Text(call.outcome, style="green" if call.outcome == "ok" else "red"),
                f"{call.input_tokens:,}",
                f"{call.output_tokens:,}",
                f"{call.duration_ms:,}",
                usd(call.cost_usd_micros),
            )
        table.add_row("sum", "", "", "", "", "", usd(total_usd_micros), style="bold")
        self._console.print(table)


def usd(micros: int) -> str:
    """Dollars to the last micro-dollar."""
    return f"{micros / 1_000_000:.6f}"


def step_line(step: StepView) -> str:
    """One step in words: `scope: done after 2 attempts (overloaded)`."""
    tries = f" after {step.attempts} attempts" if step.attempts > 1 else ""
    errors = f" ({', '.join(step.errors)})" if step.errors else ""
    return f"{step.name}: {step.state}{tries}{errors}"


class _PlainSteps:
    """One line for each change of a step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, str] = {}

    def __call__(self, job: JobView) -> None:
        for step in job.steps:
            line = step_line(step)
            if step.state != "waiting" and self._said.get(step.name) != line:
                self._said[step.name] = line
                self._say(line)


def _steps_table(job: JobView) -> Table:
    table = Table("step", "state", "attempts", "model calls", box=None, pad_edge=False)
    for step in job.steps:
        calls = " ".join(
            "✓" if call.outcome == "ok" else f"✗ {call.outcome}" for call in job.calls if call.step == step.name
        )
        table.add_row(step.name, step.state, str(step.attempts), calls, style=_STATES.get(step.state, "dim"))
    return table
