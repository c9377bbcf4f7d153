"""How a value of `gateway.yaml` enters: text -> its parsed value, with the JSON Schema that says so.

What the shapes of the sections are made of: the kinds of value that several of them share, and the means to make one's
own. Values arrive as `tree.plain` gives them; what their words mean is for `quantities`, `spelling` and `addresses`.
Called by the sections.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, WithJsonSchema

from scopegate.limits.window import Quota
from scopegate.policy import addresses, quantities, spelling
from scopegate.policy.addresses import Address
from scopegate.policy.text import resolve
from scopegate.policy.tree import Expanded

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Shape(BaseModel):
    """How a section stands in the file. Unknown keys are problems, and text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def required(description: str, **bounds: Any) -> Any:
    """A field that may not be left out."""
    return Field(description=description, **bounds)


def option(default: object, description: str, **bounds: Any) -> Any:
    """A field that may be left out; its default is spelt as in the file and read by the same rules."""
    return Field(default, validate_default=True, description=description, **bounds)


def section(shape: type[Shape], description: str) -> Any:
    """A section that may be left out, with the defaults of its fields."""
    return Field(default_factory=shape, description=description)


def parsed(parse: Callable[[str], T]) -> PlainValidator:
    """A field whose text `parse` turns into its value. A bare number is text without its unit."""

    def validate(value: object) -> T:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("must be text")
        return parse(str(value))

    return PlainValidator(validate)


def written(example: str, pattern: str | None = None) -> WithJsonSchema:
    """How such a text looks, for editors."""
    schema: dict[str, Any] = {"type": "string", "examples": [example]}
    return WithJsonSchema(schema | ({"pattern": pattern} if pattern else {}))


def unexpanded(value: object) -> object:
    """Numbers and yes/no may come from the environment, where everything is text."""
    return resolve(value) if isinstance(value, Expanded) else value


def as_list(value: object) -> object:
    """One value where a list of them may stand."""
    return value if isinstance(value, list) else [value]


def duration_s(text: str) -> float:
    return quantities.parse_duration_ms(text) / 1000


def size_up_to(most: str) -> Callable[[str], int]:
    """Reads a size; more than `most`, which is spelt as in the file, is a problem."""

    def parse(text: str) -> int:
        size = quantities.parse_size(text)
        if size > quantities.parse_size(most):
            raise ValueError(f"is more than {most}")
        return size

    return parse


def secret(value: object) -> SecretStr:
    """One `${NAME}` and nothing else. Empty when the environment has no such name, which is said elsewhere."""
    if not isinstance(value, Expanded) or not value.whole:
        raise ValueError('must come from the environment alone, write it like "${NAME}"')
    if not value and not value.missing:
        raise ValueError("is empty in the environment")
    return SecretStr(str(value))


def written_secret(example: str) -> WithJsonSchema:
    return written(example, r"^\$\{\w+\}$")


Choice: TypeAlias = Annotated[E, Field(strict=False)]
"""A word out of an enum."""
Whole: TypeAlias = Annotated[int, BeforeValidator(unexpanded)]
Count: TypeAlias = Annotated[Whole, Field(ge=1)]
Flag: TypeAlias = Annotated[bool, BeforeValidator(unexpanded)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Name: TypeAlias = Annotated[str, parsed(spelling.parse_name), written("strict", spelling.NAME_PATTERN)]
Names: TypeAlias = Annotated[list[Name], BeforeValidator(as_list, json_schema_input_type=Name | list[Name])]
Duration: TypeAlias = Annotated[float, parsed(duration_s), written("10s", quantities.DURATION_PATTERN)]
Size: TypeAlias = Annotated[int, parsed(quantities.parse_size), written("256KiB", quantities.SIZE_PATTERN)]
Limit: TypeAlias = Annotated[Quota, parsed(quantities.parse_quota), written("10 per 10s", quantities.QUOTA_PATTERN)]
PacedLimit: TypeAlias = Annotated[
    Quota,
    parsed(lambda text: quantities.parse_quota(text, quantities.MAX_PACED_LIMIT)),
    written("10 per 10s", quantities.QUOTA_PATTERN),
]
"""One that may be larger, where it is paced."""
Listen: TypeAlias = Annotated[Address, parsed(addresses.parse_listen), written("0.0.0.0:8080")]
Url: TypeAlias = Annotated[str, parsed(addresses.parse_url), written("https://leads.example.com/hook")]
FieldName: TypeAlias = Annotated[str, parsed(spelling.parse_field_name), written("Authorization")]
FileName: TypeAlias = Annotated[str, parsed(spelling.parse_side_file), written("schemas/lead.json")]
"""A file that the policy file names; see `sidefiles`."""
