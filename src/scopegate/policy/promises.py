"""What the file promises about requests, and whether it holds.

Pure. What the gateway would do with a request is asked of `decide`, which the edge provides (`edge/foresee`): these
two live on different layers and meet in `scopegate check` and before every reload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scopegate.errors import Problem
from scopegate.policy.sections.promises import Promise


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a request meets. `route` is None when it gets to none; `tiers` are names, `none` alone on a route without
    limit, empty without a route. `answers` is the status of the gateway's own refusal, None when it would pass to the
    app."""

    route: str | None
    tiers: tuple[str, ...]
    answers: int | None


Decide = Callable[[str, str, tuple[str, ...], str | None], Forecast]
"""(method, target, lower-case names of the fields the request comes without, its host or None for the usual one) ->
what it meets."""


def broken(promises: Sequence[Promise], decide: Decide, file: str) -> list[Problem]:
    """One problem for each thing promised that is not so, in file order; `file` as it is to be shown."""
    return [problem for index, promise in enumerate(promises) for problem in _broken(promise, index, decide, file)]


def _broken(promise: Promise, index: int, decide: Decide, file: str) -> Iterator[Problem]:
    found = decide(promise.method, promise.path, promise.without, promise.host)
    request = f"{promise.method} {promise.path}" + (f" of {promise.host}" if promise.host else "")
    missing = [name for name in promise.tiers if name not in found.tiers]
    for part, promised, met, holds in (
        ("route", promise.route, found.route or "no route", promise.route == found.route),
        ("tier", _listed(missing), _listed(found.tiers) or "no route", not missing),
        ("answers", promise.answers, found.answers or "what the app answers", promise.answers == found.answers),
    ):
        if promised and not holds:
            what = f"{request} meets {_said(part, met)}, not {promised}"
            yield Problem(f"{file}:{promise.line}:{promise.column}", f"promises[{index}].{part}", what)


def _listed(tiers: Sequence[str]) -> str:
    return " and ".join(tiers)


def _said(part: str, met: str | int) -> str:
    if met == "no route" or part == "answers":
        return str(met)
    return f"{part} {met}"
