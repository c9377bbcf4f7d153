"""What pydantic says about a file -> faults with places, in the words of whoever wrote the file.

Pure. Input values are never repeated: a fault quotes the text as written, before the environment was put in, and a
secret not at all. Called by `compile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scopegate.policy.text import SECRET_KEYS
from scopegate.policy.tree import Fault, Loc, Scalar, Tree

_KINDS = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a section of keys and values",
    "model_type": "must be a section of keys and values",
    "string_pattern_mismatch": "has characters that may not stand here",
}
_MISSING_ADVICE = {
    "version": "write version: 1 at the top",
    "upstreams": 'say where the app listens, like {web: {servers: ["http://127.0.0.1:3000"]}}',
    "routes": "say what is served, like [{name: all, match: ANY /**, tier: lenient}]",
    "tier": "name one of `tiers`, or strict, moderate, lenient, none",
}


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, or None when none is near."""
    folded = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def faults_of(error: ValidationError, shape: type[BaseModel], tree: Tree) -> list[Fault]:
    """One fault per error that reading the tree as `shape` gave, less those whose value was already reported."""
    return [fault for one in error.errors(include_url=False) if (fault := _fault(one, shape, tree)) is not None]


def _fault(error: ErrorDetails, shape: type[BaseModel], tree: Tree) -> Fault | None:
    loc: Loc = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        hint = closest(str(loc[-1]), known_keys(shape, loc[:-1]))
        return Fault(tree.at_key(loc), loc, "unknown key", hint)
    if error["type"] == "missing":
        return _missing(loc, tree)
    if loc[-1:] == ("[key]",):
        return _bad_key(loc[:-1], error, tree)
    found = tree.locate(loc)
    if isinstance(found.node, Scalar) and found.node.faulty:
        return None
    what, hint = _sentence(error, found.node.written if isinstance(found.node, Scalar) else "")
    if isinstance(found.node, Scalar) and not SECRET_KEYS.intersection(found.loc[-1:]):
        what = f"{tree.said(found.loc)} {what}"
    return Fault(found.node.place, found.loc, what, hint)


def _missing(loc: Loc, tree: Tree) -> Fault:
    owner = loc[:-1]
    advice = _MISSING_ADVICE.get(str(loc[-1]))
    return Fault(tree.at_key(owner), owner, f"`{loc[-1]}` is missing" + (f": {advice}" if advice else ""))


def _bad_key(loc: Loc, error: ErrorDetails, tree: Tree) -> Fault:
    what, _ = _sentence(error, "")
    return Fault(tree.at_key(loc), loc, f"the key {what}")


def _sentence(error: ErrorDetails, written: str) -> tuple[str, str | None]:
    """What is wrong, to be read after the value, and the word that was perhaps meant."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"]), None
    if kind in _KINDS:
        return _KINDS[kind], None
    if kind in {"enum", "literal_error"}:
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"must be {' or '.join(filter(None, (', '.join(choices[:-1]), choices[-1])))}", closest(written, choices)
    return _bound(kind, context), None


def _bound(kind: str, context: dict[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "too_short" | "string_too_short":
            return "may not be empty"
        case "too_long" | "string_too_long":
            return f"may have at most {context['max_length']} of them"
        case _:
            raise AssertionError(f"no sentence for {kind}")


def known_keys(shape: type[BaseModel], loc: Loc) -> Sequence[str]:
    """The keys that may stand in the section at `loc` of a file of that shape."""
    model: Any = shape
    for part in loc:
        model = _field_type(model, part)
        if model is None:
            return ()
    return tuple(_fields(model)) if _is_section(model) else ()


def _field_type(model: Any, part: str | int) -> Any:
    """What stands under a key of a section, a name of a mapping or an index of a list."""
    if _is_section(model):
        field = _fields(model).get(str(part))
        return None if field is None else _unwrapped(field.annotation)
    inner = get_args(model)
    return _unwrapped(inner[-1]) if inner else None


def _fields(model: Any) -> dict[str, Any]:
    """The fields of a section by the keys of the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _unwrapped(annotation: Any) -> Any:
    """`X` out of `X | None`."""
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    return choices[0] if type(None) in get_args(annotation) and choices else annotation


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)
