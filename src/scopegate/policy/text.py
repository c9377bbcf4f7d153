"""The text of a policy file -> a tree of values that know where they stand.

Reads YAML events itself, so that what plain YAML loaders hide is a named problem: duplicate keys, anchors, tags, merge
keys, several documents, and the 1.1 traps (`no`, `010`, `1:30` stay text). Expands `${NAME}` and `${NAME:-default}`
from a mapping. Knows nothing of what the keys mean, but for two words: `secret` and `sign_with`. Called by `draft`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import yaml

from scopegate.policy.tree import Entries, Entry, Expanded, Fault, Items, Loc, Node, Place, Plain, Scalar, Tree

MAX_FILE_BYTES = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 20

SECRET_KEYS = frozenset({"previous_secret", "secret", "sign_with"})
"""Values under these keys are never quoted; one that the environment lacks can be a warning."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}", re.ASCII)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)
_SHAPES = (
    ("letters", r"[^\W\d_]"),
    ("digits", r"\d"),
    ("spaces", r"\s"),
    ("signs", r"[^\w\s]|_"),
)
_WHOLE_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", re.ASCII)


def read(raw: bytes, file: str, environ: Mapping[str, str], *, lenient: bool = False) -> Tree:
    """Never raises: what is wrong is in `faults`. `lenient` turns a secret the environment lacks into a warning."""
    digest = hashlib.sha256(raw).hexdigest()[:12]
    try:
        text = _decode(raw)
        builder = _Builder(environ, lenient)
        root = builder.document(iter(yaml.parse(text, Loader=_LOADER)))
    except _Unreadable as stop:
        return Tree(file, digest, None, (stop.fault,))
    except yaml.YAMLError as error:
        return Tree(file, digest, None, (_syntax_fault(error, text),))
    return Tree(file, digest, root, tuple(builder.faults))


class _Unreadable(Exception):
    """Reading cannot go on."""

    def __init__(self, place: Place, what: str) -> None:
        self.fault = Fault(place, (), what)
        super().__init__(what)


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_FILE_BYTES:
        raise _Unreadable(Place(1, 1), f"the file is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        raise _Unreadable(_place_after(before), "not UTF-8 text") from None
    bad = _FORBIDDEN.search(text)
    if bad is not None:
        raise _Unreadable(_place_after(text[: bad.start()]), f"the character U+{ord(bad[0]):04X} may not stand here")
    return text


def _place_after(before: str) -> Place:
    return Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _syntax_fault(error: yaml.YAMLError, text: str) -> Fault:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or "cannot be read as YAML"
    context = getattr(error, "context", None)
    if mark is None:
        return Fault(Place(1, 1), (), str(said))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""  # it may stand behind the last one
    what = f"YAML: {said}" + (f" ({context})" if context else "")
    return Fault(Place(mark.line + 1, mark.column + 1), (), what + _syntax_advice(line, mark.column, context))


def _syntax_advice(line: str, column: int, context: str | None) -> str:
    found = line[column : column + 1]
    if found == "\t":
        return ": indent with spaces, not tabs"
    if "${" in line and context == "while parsing a flow mapping":
        return ': inside {...} write "${NAME}" with quotes'
    if context == "while scanning an alias":
        return ": put quotes around a text that starts with *"
    if found in {"@", "`", "%"}:
        return f": put quotes around a text that starts with {found}"
    return ""


class _Builder:
    """Turns events into nodes; bounded in depth and number, so that no file can exhaust the reader."""

    def __init__(self, environ: Mapping[str, str], lenient: bool) -> None:
        self.faults: list[Fault] = []
        self._environ = environ
        self._lenient = lenient
        self._nodes = 0

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self.faults.append(Fault(_place(event), (), "a second document starts here: a policy is one document"))
                break
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, ())
        if root is None:
            raise _Unreadable(Place(1, 1), "the file is empty")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> Node:
        self._bound(event, loc)
        match event:
            case yaml.AliasEvent():
                self._fault(event, loc, "aliases (*) are not read here: write the value out")
                return Scalar(_place(event), None, "*", faulty=True)
            case yaml.ScalarEvent():
                self._refuse_decoration(event, loc)
                return self._scalar(event, loc)
            case yaml.SequenceStartEvent():
                self._refuse_decoration(event, loc)
                return self._items(event, events, loc)
            case yaml.MappingStartEvent():
                self._refuse_decoration(event, loc)
                return self._entries(event, events, loc)
            case _:
                raise AssertionError(f"no node starts with {event!r}")

    def _bound(self, event: yaml.Event, loc: Loc) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Unreadable(_place(event), f"more than {MAX_NODES} values in one file")
        if len(loc) > MAX_DEPTH:
            raise _Unreadable(_place(event), f"nested deeper than {MAX_DEPTH} levels")

    def _refuse_decoration(
        self, event: yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent, loc: Loc
    ) -> None:
        if event.anchor is not None:
            self._fault(event, loc, "anchors (&) are not read here: write the value out")
        if event.tag is not None:
            self._fault(event, loc, "tags (!) are not read here")

    def _fault(self, event: yaml.Event, loc: Loc, what: str) -> None:
        self.faults.append(Fault(_place(event), loc, what))

    def _items(self, start: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> Items:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, (*loc, len(items))))
        return Items(_place(start), tuple(items))

    def _entries(self, start: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> Entries:
        entries: dict[str, Entry] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, events, loc)
            node = self._node(next(events), events, (*loc, key or "?"))
            if key is None:
                continue
            if key in entries:
                line = entries[key].key_place.line
                self._fault(event, (*loc, key), f"the key is here twice: first on line {line}")
                continue
            entries[key] = Entry(_place(event), node)
        return Entries(_place(start), entries)

    def _key(self, event: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> str | None:
        """The key's text, or None when it cannot be one."""
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, events, loc)
            self._fault(event, loc, "a key must be a word")
            return None
        self._refuse_decoration(event, loc)
        key: str = event.value
        if key == "<<":
            self._fault(event, loc, "merge keys (<<) are not read here: write the values out")
            return None
        return key

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc) -> Scalar:
        text: str = event.value
        if "${" in text:
            return self._expand(event, text, loc)
        value = resolve(text) if event.implicit[0] else text
        if value is None:
            self._fault(event, loc, "has no value: give it one, or leave the key out")
        return Scalar(_place(event), value, text, faulty=value is None)

    def _expand(self, event: yaml.ScalarEvent, text: str, loc: Loc) -> Scalar:
        """`$${` is a plain `${`; a value of the environment is never read for further `${`."""
        faults: list[Fault] = []
        told: dict[str, str] = {}
        is_secret = bool(SECRET_KEYS.intersection(loc[-1:]))

        def value_of(match: re.Match[str]) -> str:
            if match[1] is None:
                return "${"
            name = _NAME.fullmatch(match[1])
            if name is None or not match[2]:
                faults.append(Fault(_place(event), loc, "a variable is written ${NAME} or ${NAME:-default}"))
                return ""
            value = self._environ.get(name[1], "")
            told[name[1]] = f"{name[1]} {shape_of(value) if value or name[2] is None else 'is left to its default'}"
            if name[2] is not None:
                return value or name[2]
            if name[1] not in self._environ:
                warning = self._lenient and is_secret
                faults.append(Fault(_place(event), loc, _missing(name[1], warning), warning=warning))
            return value

        expanded = _VARIABLE.sub(value_of, text)
        self.faults += faults
        whole = _WHOLE_VARIABLE.fullmatch(text) is not None
        said = "" if faults or is_secret else ", ".join(told.values())
        value = Expanded.of("" if faults else expanded, whole=whole, missing=bool(faults), told=said)
        return Scalar(_place(event), value, text, faulty=any(not fault.warning for fault in faults))


def shape_of(value: str) -> str:
    """What a value of the environment looks like, for who has to find the fault in it and must not see it: it may be a
    secret in the wrong place."""
    if not value:
        return "is empty"
    if value != value.strip():
        return f"has {len(value)} characters, with space around them"
    kinds = [kind for kind, pattern in _SHAPES if re.search(pattern, value)]
    return f"has {len(value)} character{'' if len(value) == 1 else 's'}: {', '.join(kinds)}"


def _missing(name: str, warning: bool) -> str:
    said = f"the environment has no {name}"
    return f"{said}: it is needed at start" if warning else said


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None, "both loaders mark every event"
    return Place(mark.line + 1, mark.column + 1)


def resolve(text: str) -> Plain:
    """An unquoted word as the YAML 1.2 core schema reads it, less its octal and hex numbers: `no`, `on`, `010`,
    `1:30` and dates are text."""
    match text:
        case "" | "~" | "null" | "Null" | "NULL":
            return None
        case "true" | "True" | "TRUE":
            return True
        case "false" | "False" | "FALSE":
            return False
        case _ if _INT.fullmatch(text):
            return int(text)
        case _:
            return float(text) if _FLOAT.fullmatch(text) else text
