"""Names in a policy file: one that nothing has, and one that two have.

Pure. Called by the sections in which names stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from scopegate.policy.draft import Draft, Way
from scopegate.policy.faults import closest
from scopegate.policy.tree import Fault, Loc


def unknown(way: Way, kind: str, known: Set[str], draft: Draft) -> Iterator[Fault]:
    """Names there that nothing of that kind has."""
    for loc, name in draft.texts(way):
        if name not in known and not draft.is_faulty(loc):
            yield draft.problem(loc, f"no {kind} is named {draft.said(loc)}", closest(name, known))


def twice(names: Iterable[tuple[Loc, str]], kind: str, draft: Draft) -> Iterator[Fault]:
    """Names that one before them has."""
    first: dict[str, Loc] = {}
    for loc, name in names:
        if first.setdefault(name, loc) != loc:
            line = draft.tree.at(first[name]).line
            yield draft.problem(loc, f"another {kind} is named {draft.said(loc)}, on line {line}")
