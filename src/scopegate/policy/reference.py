"""The policy file told to editors and to people: its JSON Schema and its reference, both made from `Document`.

Pure. Called by `scopegate schema`; what it gives is kept in `docs/`, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from scopegate.policy.document import Document

TITLE: Final = "scopegate policy (gateway.yaml)"
_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_REF: Final = "#/definitions/"
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_ABOUT: Final = ("description", "default", "examples")
_EXPANDED: Final = {
    "type": "string",
    "pattern": r"\$\{\w+(:-[^}]*)?\}",
    "description": "${NAME} or ${NAME:-default}, from the environment.",
}

Schema = dict[str, Any]


def schema() -> Schema:
    """What editors know of the file, in words of draft-07 (the newest that yaml-language-server reads whole). Every
    scalar may come from the environment instead."""
    whole = Document.model_json_schema(ref_template=_REF + "{model}")
    definitions = whole.pop("$defs")
    told = {"$schema": _DRAFT, **_open(whole), "title": TITLE}
    told["definitions"] = {name: _open(one) for name, one in definitions.items()} | {"FromEnvironment": _EXPANDED}
    return told


def _open(part: Any) -> Any:
    """With the environment as another source of each scalar, and without titles, which repeat the names."""
    if isinstance(part, list):
        return [_open(one) for one in part]
    if not isinstance(part, dict):
        return part
    if _is_scalar(part):
        about = {word: part[word] for word in _ABOUT if word in part}
        return {**about, "anyOf": [_bare(part), {"$ref": _REF + "FromEnvironment"}]}
    found = {word: _inside(word, one) for word, one in part.items() if word not in ("title", "propertyNames")}
    return found | ({"additionalProperties": False} if "patternProperties" in part else {})


def _inside(word: str, part: Any) -> Any:
    match word:
        case "properties" | "patternProperties":
            return {key: _open(one) for key, one in part.items()}
        case "enum" | "const" | "default" | "examples" | "required":
            return part
        case _:
            return _open(part)


def _is_scalar(part: Mapping[str, Any]) -> bool:
    """Secrets come from the environment in any case."""
    return part.get("type") in _SCALARS and not str(part.get("pattern", "")).startswith(r"^\$")


def _bare(part: Mapping[str, Any]) -> Schema:
    """What a value has to be. pydantic keeps its own words for bounds behind a validator of ours."""
    return {_BOUNDS.get(word, word): value for word, value in part.items() if word not in (*_ABOUT, "title")}


# ── for people ──────────────────────────────────────────────────────────────────────────────────────────────────────


def reference() -> str:
    """Every section and option of the file, in Markdown."""
    whole = Document.model_json_schema(ref_template=_REF + "{model}")
    return "\n".join(_lines(whole)) + "\n"


def _lines(whole: Schema) -> Iterator[str]:
    yield "# The policy file"
    yield ""
    yield "<!-- Made by `scopegate schema --markdown` from the shapes in `policy/sections/`; a test compares. -->"
    yield ""
    yield f"{_cell(whole['description'])} `scopegate schema` prints the same as JSON Schema, for editors."
    yield ""
    yield from _table(whole, "")
    for path, one in _sections(whole, whole["$defs"], ""):
        yield f"## {path}"
        yield ""
        yield from _table(one, path)


def _sections(part: Schema, definitions: Mapping[str, Schema], path: str) -> Iterator[tuple[str, Schema]]:
    """Every section below this one with its path, in the order of the file."""
    for name, option in part["properties"].items():
        for suffix, found in _shapes(option, definitions):
            inside = f"{path}.{name}".lstrip(".") + suffix
            yield inside, found
            yield from _sections(found, definitions, inside)


def _shapes(option: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """The sections that an option may hold, and how its path goes on to them."""
    for one in option.get("anyOf", [option]):
        if "$ref" in one:
            found = definitions[one["$ref"].removeprefix(_REF)]
            if "properties" in found:
                yield "", found
        elif "items" in one:
            yield from (("[]" + suffix, found) for suffix, found in _shapes(one["items"], definitions))
        for named in one.get("patternProperties", {}).values():
            yield from ((".NAME" + suffix, found) for suffix, found in _shapes(named, definitions))


def _table(part: Schema, path: str) -> Iterator[str]:
    yield "| option | default | what it says |"
    yield "|---|---|---|"
    for name, option in part["properties"].items():
        yield f"| `{name}` | {_default(name, option, part)} | {_cell(option.get('description', ''))} |"
    yield ""


def _default(name: str, option: Mapping[str, Any], part: Schema) -> str:
    if name in part.get("required", ()):
        return "needed"
    default = option.get("default")
    return f"`{_written(default)}`" if default not in (None, [], {}) else ""


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return _cell(str(value))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
