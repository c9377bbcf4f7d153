"""A JSON Schema that routes may hold bodies to: whether it is one, and its compiled form.

Pure, and the policy's only door to the library that knows JSON Schema, which is loaded when a file asks for it. A
schema is whole in itself: nothing is fetched, and patterns run in linear time whatever a visitor sends. Called by
`sidefiles` and, for the requests themselves, by `edge/bodies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def _sentence(error: Any) -> str:
    where = "".join(f"/{part}" for part in error.instance_path)
    if where:
        return f"is not a JSON Schema: {where} cannot stand there"
    return f"is not a JSON Schema: {error.message}"
