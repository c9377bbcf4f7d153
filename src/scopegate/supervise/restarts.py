"""What to do after a child process has ended: start it again after a while, or give up.

Pure: how the child lived is a value, waiting happens in `supervisor`, its only caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scopegate.errors import EXIT_CONFIG


@dataclass(frozen=True, slots=True)
class RestartRule:
    """Delays double from `first_delay_s` up to `max_delay_s`, or up to `served_max_delay_s` after a run that had
    become ready; a run of `healthy_s` after becoming ready starts the count anew. `start_failures` runs in a row that
    never became ready end it all."""

    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    served_max_delay_s: float = 30.0
    healthy_s: float = 60.0
    start_failures: int = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a child. `code` as subprocess gives it: negative for a signal; `lived_s` from start to end."""

    code: int
    lived_s: float
    was_ready: bool


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """What is remembered of a child between its runs."""

    crashes: int = 0
    failed_starts: int = 0


@dataclass(frozen=True, slots=True)
class Restart:
    delay_s: float


@dataclass(frozen=True, slots=True)
class ShutDown:
    """End all children. `code` is never 0: it becomes the supervisor's own exit code."""

    code: int


def next_move(rule: RestartRule, history: RestartHistory, run: Run) -> tuple[Restart | ShutDown, RestartHistory]:
    """The move after `run`, and the history to bring along next time. A child that ends with 0 unasked has crashed."""
    history = _remember(rule, history, run)
    if run.code == EXIT_CONFIG:
        return ShutDown(EXIT_CONFIG), history
    if history.failed_starts >= rule.start_failures:
        return ShutDown(exit_code(run.code) or 1), history
    doublings = min(history.crashes - 1, 32)
    longest_s = min(rule.max_delay_s, rule.served_max_delay_s) if run.was_ready else rule.max_delay_s
    return Restart(min(rule.first_delay_s * 2**doublings, longest_s)), history


def _remember(rule: RestartRule, history: RestartHistory, run: Run) -> RestartHistory:
    if not run.was_ready:
        return replace(history, crashes=history.crashes + 1, failed_starts=history.failed_starts + 1)
    if run.lived_s >= rule.healthy_s:
        return RestartHistory(crashes=1)
    return RestartHistory(crashes=history.crashes + 1)


def exit_code(code: int) -> int:
    """As a shell says it: 128 + n for a child ended by signal n."""
    return 128 - code if code < 0 else code
