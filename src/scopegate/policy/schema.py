"""A JSON Schema that routes may hold bodies to: whether it is one, and its compiled form.

Pure, and the policy's only door to the library that knows JSON Schema, which is loaded when a file asks for it. A
schema is whole in itself: nothing is fetched, and patterns run in linear time whatever a visitor sends. Called by
`sections/bodies` and, for the requests themselves, by `edge/bodies`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from scopegate.policy.tree import quoted
from scopegate.types import Json

if TYPE_CHECKING:
    from jsonschema_rs import Validator


def compile_schema(schema: Json) -> Validator:
    """Draft 2020-12 unless `$schema` names another. ValueError, with a sentence to be read after the file's name, for
    what is no schema, refers to another document, or holds a pattern with look-around or a back-reference."""
    import jsonschema_rs

    if not isinstance(schema, dict | bool):
        raise ValueError("is not a JSON Schema: it must be an object")
    try:
        return _compiled(schema)
    except jsonschema_rs.ValidationError as error:
        raise ValueError(_sentence(error)) from None
    except ValueError:
        raise ValueError("is not a JSON Schema: it is nested too deeply") from None


def _compiled(schema: dict[str, Any] | bool) -> Validator:
    import jsonschema_rs

    validator: Validator = jsonschema_rs.validator_for(
        schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )
    return validator


_ELSEWHERE = re.compile(r"Resource '([^']{1,200})' is not present")


def _sentence(error: Any) -> str:
    """The library's words, where they do not speak of its own insides."""
    where = "".join(f"/{part}" for part in error.instance_path)
    if error.kind.name == "format" and error.kind.format == "regex":
        return f"is not a JSON Schema: {where} is no pattern, or one with look-around or a back-reference"
    if where:
        return f"is not a JSON Schema: {where} cannot stand there"
    elsewhere = _ELSEWHERE.match(error.message)
    if elsewhere is not None:
        return f"refers to {quoted(elsewhere[1])}: nothing is fetched, write that schema into this one"
    if error.message.startswith("Unknown meta-schema"):
        return "is not a JSON Schema: no draft is known by the name in its $schema"
    return f"is not a JSON Schema: {error.message}"
