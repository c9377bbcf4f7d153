"""What reading a policy file leaves: a tree of values that know where they stand, and the faults found so far.

Pure values and ways to find one's place; nothing here reads YAML or knows what a key means. Made by `text`, asked by
`faults`, `draft` and `compile`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from scopegate.errors import Problem

Loc: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and list indexes from the root."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem before it knows its file's name. A `warning` is shown and stops nothing."""

    place: Place
    loc: Loc
    what: str
    hint: str | None = None
    warning: bool = False

    def problem(self, file: str) -> Problem:
        return Problem(f"{file}:{self.place.line}:{self.place.column}", path_of(self.loc), self.what, self.hint)


class Expanded(str):
    """Text that holds a value of the environment. `whole` when it is one `${NAME}` and nothing else; `missing` when
    the environment has no such name, and the text is then empty. `told` says of each name what its value looks like,
    without repeating it."""

    __slots__ = ("missing", "told", "whole")
    whole: bool
    missing: bool
    told: str

    @classmethod
    def of(cls, text: str, *, whole: bool, missing: bool, told: str = "") -> Expanded:
        made = cls(text)
        made.whole, made.missing, made.told = whole, missing, told
        return made


Plain: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """`written` is the text in the file, before `${...}`: the only form that is ever shown. `faulty` when a problem
    with it was already reported."""

    place: Place
    value: Plain
    written: str
    faulty: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    key_place: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Entries:
    place: Place
    entries: Mapping[str, Entry]


Node: TypeAlias = Scalar | Items | Entries


@dataclass(frozen=True, slots=True)
class Located:
    """As far as the tree goes along a path: the deepest node, the part of the path that led there, and the place of
    the key it stands under (its own place in a list)."""

    node: Node
    loc: Loc
    key_place: Place


@dataclass(frozen=True, slots=True)
class Tree:
    """One file as read. `root` is None when it is no YAML at all; `digest` as in `Policy`."""

    file: str
    digest: str
    root: Node | None
    faults: tuple[Fault, ...]

    def locate(self, loc: Loc) -> Located:
        assert self.root is not None, "only a readable file has places"
        node, key_place = self.root, self.root.place
        for depth, part in enumerate(loc):
            if isinstance(node, Entries) and part in node.entries:
                entry = node.entries[str(part)]
                node, key_place = entry.node, entry.key_place
            elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
                node = node.items[part]
                key_place = node.place
            else:
                return Located(node, loc[:depth], key_place)
        return Located(node, loc, key_place)

    def at(self, loc: Loc) -> Place:
        """Where the value at `loc` starts, or its nearest parent."""
        return self.locate(loc).node.place

    def at_key(self, loc: Loc) -> Place:
        """Where the key of `loc` stands."""
        return self.locate(loc).key_place

    def said(self, loc: Loc) -> str:
        """The scalar at `loc` as written in the file, fit to be shown between quotes; where it holds values of the
        environment, with what these look like."""
        node = self.locate(loc).node
        if not isinstance(node, Scalar):
            return "the value"
        told = node.value.told if isinstance(node.value, Expanded) else ""
        return quoted(node.written) + (f" ({told})" if told else "")


def path_of(loc: Loc) -> str:
    """`routes[2].tier`; a key that is no plain word is quoted in brackets."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part, re.ASCII):
            path += f".{part}" if path else part
        else:
            path += f"[{quoted(part)}]"
    return path


def quoted(text: str) -> str:
    """The text between quotes on one line, control characters escaped, at most 60 characters, without the user name
    and password of a URL."""
    text = re.sub(r"://[^/\s]*@", "://...@", text)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def plain(node: Node) -> object:
    """The tree as dicts, lists and scalars, for pydantic. `Expanded` texts stay what they are."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Entries():
            return {key: plain(entry.node) for key, entry in node.entries.items()}
        case _:
            assert_never(node)
