"""As much of a file as could be read: its sections one by one, and the names of all of them.

Pure. Read from the same tree as the `Document`, entry by entry, so that one bad entry does not hide the others from
the checks that hold the sections to each other. Made by `draft_of`, asked by the sections, `sidefiles` and `compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from scopegate.policy import text
from scopegate.policy.groups import ungrouped
from scopegate.policy.kinds import Shape
from scopegate.policy.tree import Fault, Loc, Scalar, Tree, plain

S = TypeVar("S", bound=Shape)

Way: TypeAlias = tuple[str | type[str] | type[int], ...]
"""Keys from the top of a file; `str` for every name in a section, `int` for every index of a list."""


def draft_of(raw: bytes, file: str, environ: Mapping[str, str], *, lenient: bool = False) -> Draft:
    """Never raises: what is wrong is in the faults of the tree. `file` is its name in problems. `lenient`: a secret
    that the environment lacks is a warning, and empty in the policy; ask that policy questions, never serve it."""
    tree = ungrouped(text.read(raw, file, environ, lenient=lenient))
    data = None if tree.root is None else plain(tree.root)
    return Draft(tree, data, data if isinstance(data, dict) else {})


@dataclass(frozen=True, slots=True)
class Draft:
    """`data` is the whole file as pydantic reads it, `sections` what stands in it by the words at the top. Entries with
    faults of their own are left out wherever shapes are given; `_read` keeps those that were read."""

    tree: Tree
    data: object
    sections: Mapping[str, Any]
    _read: dict[str, Any] = field(default_factory=dict, repr=False)

    def has(self, section: str) -> bool:
        return section in self.sections

    def one(self, section: str, shape: type[S]) -> S | None:
        """A section that stands once; with its defaults when it is left out. None for one with faults."""
        found: S | None = self._once(section, lambda: _shaped(shape, self.sections.get(section, {})))
        return found

    def named(self, section: str, shape: type[S]) -> Mapping[str, S]:
        """The entries of a section by their names."""
        found: Mapping[str, S] = self._once(section, lambda: self._all(shape, (section, str)))
        return found

    def listed(self, section: str, shape: type[S]) -> Mapping[int, S]:
        """The entries of a list by their indexes."""
        found: Mapping[int, S] = self._once(section, lambda: self._all(shape, (section, int)))
        return found

    def names(self, section: str) -> list[str]:
        """Every name in a section, also of entries with faults."""
        return [str(loc[-1]) for loc, _ in self.found((section, str))]

    def texts(self, way: Way) -> Iterator[tuple[Loc, str]]:
        """Those of `found` that are text."""
        return ((loc, value) for loc, value in self.found(way) if isinstance(value, str))

    def found(self, way: Way) -> list[tuple[Loc, object]]:
        """Every value that stands there, with its place, whatever else is wrong around it."""
        found: list[tuple[Loc, object]] = [((), self.sections)]
        for step in way:
            found = [((*loc, key), child) for loc, value in found for key, child in _children(value, step)]
        return found

    def said(self, loc: Loc) -> str:
        """See `Tree.said`."""
        return self.tree.said(loc)

    def is_faulty(self, loc: Loc) -> bool:
        """Whether a problem with the value there was already reported."""
        node = self.tree.locate(loc).node
        return isinstance(node, Scalar) and node.faulty

    def problem(self, loc: Loc, what: str, hint: str | None = None) -> Fault:
        return Fault(self.tree.at(loc), loc, what, hint)

    def problem_at_key(self, loc: Loc, what: str) -> Fault:
        return Fault(self.tree.at_key(loc), loc, what)

    def warning(self, loc: Loc, what: str) -> Fault:
        return Fault(self.tree.at(loc), loc, what, warning=True)

    def warning_at_key(self, loc: Loc, what: str) -> Fault:
        return Fault(self.tree.at_key(loc), loc, what, warning=True)

    def _all(self, shape: type[S], way: Way) -> dict[str | int, S]:
        return {loc[-1]: one for loc, entry in self.found(way) if (one := _shaped(shape, entry)) is not None}

    def _once(self, section: str, read: Callable[[], Any]) -> Any:
        if section not in self._read:
            self._read[section] = read()
        return self._read[section]


def _children(value: object, step: str | type) -> Iterable[tuple[str | int, object]]:
    if isinstance(value, list):
        return enumerate(value) if step is int else ()
    if not isinstance(value, Mapping):
        return ()
    if isinstance(step, str):
        return [(step, value[step])] if step in value else ()
    return value.items() if step is str else ()


def _shaped(shape: type[S], data: object) -> S | None:
    try:
        return shape.model_validate(data)
    except ValidationError:
        return None
