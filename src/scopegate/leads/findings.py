"""What the model may say of a lead, whatever it was asked: strict JSON, plain words, bounded numbers, rules by id.

Pure. What a question asks and which shape and rules its answer has is its own file in `questions`. The JSON Schemas
sent to the API come from here; what comes back is believed only after `parse`. Nothing else is stored, shown or
delivered. A refused answer is `Broken`: a value with the ids of the rules, never the answer's text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from scopegate import jsontext
from scopegate.types import Json

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 12
_MAX_RULES: Final = 20
_MAX_NUMBER_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer that is not used. `rules` are ids from a closed set, each once, in the order met; at least one."""

    rules: tuple[str, ...]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trade(StrEnum):
    GENERAL = "general"
    DEMOLITION = "demolition"
    ROOFING = "roofing"
    PLUMBING = "plumbing"
    ELECTRICAL = "electrical"
    HVAC = "hvac"
    INSULATION = "insulation"
    DRYWALL = "drywall"
    PAINTING = "painting"
    FLOORING = "flooring"
    TILE = "tile"
    CARPENTRY = "carpentry"
    MASONRY = "masonry"
    SIDING = "siding"
    WINDOWS_DOORS = "windows_doors"
    LANDSCAPING = "landscaping"
    RESTORATION = "restoration"
    CLEANUP = "cleanup"


class Unit(StrEnum):
    """`lot` is one sum for a whole task; lengths and areas are US customary, as estimates in dollars are."""

    EACH = "each"
    HOUR = "hour"
    DAY = "day"
    FOOT = "ft"
    SQUARE_FOOT = "sq_ft"
    SQUARE_YARD = "sq_yd"
    CUBIC_YARD = "cu_yd"
    ROOFING_SQUARE = "square"
    GALLON = "gal"
    POUND = "lb"
    LOT = "lot"


class Urgency(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    EMERGENCY = "emergency"


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_MARKUP = re.compile(r"<[A-Za-z/!?]|&#?\w{1,31};|```|\]\(|javascript:|\x1b", re.I)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _plain(text: str) -> str:
    """Words only: what is shown to people must not be able to be anything else."""
    if not text.strip():
        raise PydanticCustomError("text_blank", "only white space")
    if _BIDI.intersection(text):
        raise PydanticCustomError("text_bidi", "a direction mark")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in text if char != "\n"):
        raise PydanticCustomError("text_control", "a control or invisible character")
    if _MARKUP.search(text):
        raise PydanticCustomError("text_markup", "markup")
    return text


def _decimal(value: object) -> Decimal:
    """Strict JSON gives int or Decimal, never a float."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise PydanticCustomError("type", "not a number")


def _hundredths(value: Decimal) -> Decimal:
    if value != value.quantize(Decimal("0.01")):
        raise PydanticCustomError("quantity_precision", "more than two decimals")
    return value


Word = Annotated[str, Field(strict=True, min_length=1, max_length=80), AfterValidator(_plain)]
Sentence = Annotated[str, Field(strict=True, min_length=1, max_length=600), AfterValidator(_plain)]
Paragraph = Annotated[str, Field(strict=True, min_length=1, max_length=3000), AfterValidator(_plain)]

Quantity = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(gt=0, le=100_000),
    AfterValidator(_hundredths),
    PlainSerializer(float, return_type=float),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 100_000, "multipleOf": 0.01}),
]
Confidence = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(ge=0, le=1),
    PlainSerializer(float, return_type=float),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
Price = Annotated[int, Field(strict=True, gt=0, le=10_000_000)]
Amount = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
PhotoNumber = Annotated[int, Field(strict=True, ge=1, le=50)]
ItemId = Annotated[str, Field(strict=True, pattern=r"^S[1-9][0-9]?$")]


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Finding(BaseModel):
    """Base of all answers and their parts: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> dict[str, Json]:
        """Plain JSON values, for storage and delivery; `restore` reads them back."""
        return self.model_dump(mode="json")


Found = TypeVar("Found", bound=Finding)


# ── reading an answer ───────────────────────────────────────────────────────────────────────────────────────────────


def restore(shape: type[Found], stored: Json) -> Found:
    """A finding from what `to_json` gave. Raises ValueError: a stored row that breaks its schema is our bug."""
    found = parse(json.dumps(stored), shape, lambda _: ())
    if isinstance(found, Broken):
        raise ValueError(f"stored {shape.__name__} breaks {', '.join(found.rules)}")
    return found


def schema(shape: type[Finding]) -> dict[str, Any]:
    """The JSON Schema of a shape, with its bounds."""
    return shape.model_json_schema()


def parse(text: str, shape: type[Found], rules: Callable[[Found], Iterable[str]]) -> Found | Broken:
    """The finding that the text is, when it has the shape and keeps the rules."""
    value = _strict_json(text)
    if isinstance(value, Broken):
        return value
    try:
        found = shape.model_validate(value)
    except ValidationError as error:
        return _broken(_rule_id(fault) for fault in error.errors(include_url=False, include_input=False))
    broken = tuple(rules(found))
    return _broken(broken) if broken else found


def _broken(rules: Iterable[str]) -> Broken:
    return Broken(tuple(dict.fromkeys(rules))[:_MAX_RULES])


# ── strict JSON (RFC 8259, with I-JSON's unique names, RFC 7493 2.3) ────────────────────────────────────────────────


def _strict_json(text: str) -> Any | Broken:
    if len(text) > MAX_ANSWER_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_ANSWER_BYTES:
        return Broken(("json_size",))
    try:
        return jsontext.parse_as_written(text.encode(), max_depth=MAX_DEPTH, real=_real, whole=_whole)
    except jsontext.TooDeep:
        return Broken(("json_depth",))
    except jsontext.BadNumber:
        return Broken(("json_number",))
    except jsontext.RepeatedKey:
        return Broken(("json_duplicate_key",))
    except ValueError:
        return Broken(("json_syntax",))


def _real(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER_CHARS or not -30 <= Decimal(text).adjusted() <= 30:
        raise jsontext.BadNumber("a number is too long, too large or too small")
    return Decimal(text)


def _whole(text: str) -> int:
    if len(text) > _MAX_NUMBER_CHARS:
        raise jsontext.BadNumber("a number is too long")
    return int(text)


# ── rules ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_BY_FIELD: Final[Mapping[str, str]] = {
    "quantity": "quantity_range",
    "unit_price_cents": "price_range",
    "amount_cents": "amount_range",
    "total_cents": "total_range",
    "confidence": "confidence_range",
    "photo": "photo_range",
    "photos": "photo_range",
}
_ENUM_FIELDS: Final[Mapping[str, str]] = {
    "unit": "unit_unknown",
    "trade": "trade_unknown",
    "trades": "trade_unknown",
    "severity": "severity_unknown",
    "urgency": "urgency_unknown",
    "currency": "currency_unknown",
}
_BY_TYPE: Final[Mapping[str, str]] = {
    "missing": "field_missing",
    "extra_forbidden": "field_unknown",
    "string_too_long": "text_length",
    "string_too_short": "text_blank",
    "too_long": "list_length",
    "too_short": "list_length",
    "string_pattern_mismatch": "item_id",
    "text_blank": "text_blank",
    "text_bidi": "text_bidi",
    "text_control": "text_control",
    "text_markup": "text_markup",
    "quantity_precision": "quantity_precision",
    "string_unicode": "text_control",
}


def _rule_id(fault: ErrorDetails) -> str:
    """The rule id of one fault found by pydantic. Anything not named here is `type`: the wrong kind of value."""
    name = next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "")
    kind = fault["type"]
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return _BY_FIELD[name]
    if kind in ("enum", "literal_error"):
        return _ENUM_FIELDS[name]
    return _BY_TYPE.get(kind, "type")


RULES: Final = frozenset({
    *("json_size", "json_syntax", "json_duplicate_key", "json_number", "json_depth", "type"),
    *_BY_TYPE.values(), *_BY_FIELD.values(), *_ENUM_FIELDS.values(),
})  # fmt: skip
"""Every rule id of what is the same for all questions."""
