"""What the simulated Claude sees and says. Deterministic: the same pictures and the same question, the same answer.

Pure apart from decoding pictures. It looks at real pixels (size, dominant colours, content), and answers in the shape
it is asked for: the three shapes of a lead in words that make sense, any other schema by its own rules.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

_FENCED = re.compile(r"<(data-[0-9a-f]+)>\n(.*?)\n</\1>", re.S)
_MEDIA_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
_MAX_PIXELS: Final = 50_000_000

_COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (180, 50, 40),
    "brown": (120, 80, 45),
    "yellow": (220, 200, 80),
    "green": (70, 130, 70),
    "blue": (60, 100, 180),
}

_SEEN: Final[Mapping[str, tuple[str, str, str]]] = {
    "black": ("scorched surface", "kitchen wall", "restoration"),
    "grey": ("worn shingles", "roof", "roofing"),
    "white": ("cracked plaster", "hallway wall", "drywall"),
    "red": ("broken brickwork", "outside wall", "masonry"),
    "brown": ("water stain", "ceiling", "drywall"),
    "yellow": ("wet insulation", "attic", "insulation"),
    "green": ("mould growth", "bathroom", "restoration"),
    "blue": ("leaking pipe", "utility room", "plumbing"),
}
"""Colour -> (damage, place, trade): a stand-in for eyesight."""

_UNITS: Final[Mapping[str, tuple[str, int]]] = {
    "roofing": ("square", 42_500),
    "drywall": ("sq_ft", 385),
    "masonry": ("sq_ft", 2_450),
    "insulation": ("sq_ft", 215),
    "restoration": ("sq_ft", 1_175),
    "plumbing": ("hour", 12_500),
    "cleanup": ("hour", 6_500),
    "general": ("hour", 8_500),
}
"""Trade -> (unit, cents per unit)."""


class UnreadablePicture(Exception):
    """Not a picture of a kind that the API takes."""


@dataclass(frozen=True, slots=True)
class SeenPicture:
    width_px: int
    height_px: int
    colours: tuple[str, ...]
    sha256: str

    def tokens(self) -> int:
        return max(1, self.width_px * self.height_px // 750)


@dataclass(frozen=True, slots=True)
class MessageRequest:
    model: str
    system: str
    text: str
    schema: Mapping[str, Any]
    max_tokens: int
    pictures: tuple[SeenPicture, ...]

    def input_tokens(self) -> int:
        """About a token per four bytes, and the pictures by their area."""
        size = sum(len(part.encode("utf-8", "replace")) for part in (self.system, self.text, json.dumps(self.schema)))
        return size // 4 + sum(picture.tokens() for picture in self.pictures)


def look(data: bytes, media_type: str) -> SeenPicture:
    """Decode the picture and see its colours, most frequent first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=list(_MEDIA_TYPES)) as image:
                if image.width * image.height > _MAX_PIXELS or _MEDIA_TYPES.get(image.format or "") != media_type:
                    raise UnreadablePicture(media_type)
                colours = _dominant(image.convert("RGB").resize((24, 24)))
                return SeenPicture(image.width, image.height, colours, hashlib.sha256(data).hexdigest())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise UnreadablePicture(type(fault).__name__) from None


def _dominant(image: Image.Image) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    pixels = image.tobytes()
    for start in range(0, len(pixels), 3):
        name = _nearest(pixels[start], pixels[start + 1], pixels[start + 2])
        counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))[:3]


def _nearest(red: int, green: int, blue: int) -> str:
    def distance(name: str) -> int:
        r, g, b = _COLOURS[name]
        return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2

    return min(_COLOURS, key=distance)


def answer(question: MessageRequest) -> str:
    """The answer's text: JSON of the asked schema, or a sentence when none is asked."""
    data = _fenced(question.text)
    match question.schema.get("title"):
        case "PhotoAnalysis":
            value: Any = _photo_analysis(question.pictures[: data.get("photos")], data)
        case "ScopeOfWork":
            value = _scope(data)
        case "Estimate":
            value = _estimate(data)
        case _ if question.schema:
            value = _by_schema(question.schema, question.schema.get("$defs", {}))
        case _:
            return f"I see {len(question.pictures)} pictures."
    return json.dumps(value)


def wrong_answer(question: MessageRequest) -> str:
    """Valid JSON that is not what was asked for."""
    return json.dumps({"unexpected": True, "title": str(question.schema.get("title", ""))})


def _fenced(text: str) -> Mapping[str, Any]:
    found = _FENCED.search(text)
    try:
        value = json.loads(found[2]) if found else {}
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def _photo_analysis(pictures: Sequence[SeenPicture], data: Mapping[str, Any]) -> dict[str, Any]:
    seen = [_SEEN[picture.colours[0]] for picture in pictures]
    first: dict[tuple[str, str, str], list[int]] = {}
    for number, sight in enumerate(seen, 1):
        first.setdefault(sight, []).append(number)
    words = ", ".join(f"{kind} ({place})" for kind, place, _ in first) or "no photo was sent"
    return {
        "summary": f"Simulated analysis of {len(pictures)} photos: {words}.",
        "photos": [
            {"photo": n, "shows": f"{kind} at the {place}, mostly {picture.colours[0]}, "
                                  f"{picture.width_px} by {picture.height_px} pixels."}
            for n, ((kind, place, _), picture) in enumerate(zip(seen, pictures, strict=True), 1)
        ],
        "damages": [
            {"kind": kind, "place": place, "severity": _severity(pictures[numbers[0] - 1]),
             "description": f"Simulated finding: {kind}.", "photos": numbers}
            for (kind, place, _), numbers in first.items()
        ],
        "trades": list(dict.fromkeys(trade for _, _, trade in first)) or ["general"],
        "urgency": "high" if any(kind in ("leaking pipe", "scorched surface") for kind, _, _ in first) else "normal",
        "confidence": round(min(0.95, 0.3 + 0.2 * len(pictures)), 2),
    }  # fmt: skip


def _severity(picture: SeenPicture) -> str:
    return ("minor", "moderate", "severe")[int(picture.sha256[:8], 16) % 3]


def _scope(data: Mapping[str, Any]) -> dict[str, Any]:
    analysis = data.get("photo_analysis", {})
    damages = analysis.get("damages", [])
    trades = analysis.get("trades", []) or ["general"]
    items = []
    for number, damage in enumerate(damages or [{"kind": "reported damage", "place": "site"}], 1):
        trade = next((trade for kind, _, trade in _SEEN.values() if kind == damage["kind"]), trades[0])
        area = 12 + int(hashlib.sha256(json.dumps(damage, sort_keys=True).encode()).hexdigest()[:4], 16) % 400 / 4
        unit = _UNITS.get(trade, _UNITS["general"])[0]
        items.append(_scope_item(number, damage["place"], trade, f"Repair {damage['kind']}.", area, unit))
    items.append(_scope_item(len(items) + 1, "site", "cleanup", "Protect, clean up and haul away debris.", 4.5, "hour"))
    return {
        "title": "Simulated scope of work",
        "summary": f"Repair of {len(damages)} findings in {', '.join(trades)}.",
        "items": items,
        "assumptions": ["The structure behind the visible damage is sound."],
        "exclusions": ["Permits and engineering."],
        "confidence": 0.75,
    }


def _scope_item(number: int, place: str, trade: str, task: str, quantity: float, unit: str) -> dict[str, Any]:
    return {"id": f"S{number}", "place": place, "trade": trade, "task": task, "quantity": quantity, "unit": unit}


def _estimate(data: Mapping[str, Any]) -> dict[str, Any]:
    lines = [_line(item) for item in data.get("scope", {}).get("items", [])]
    return {
        "currency": "USD",
        "line_items": lines,
        "total_cents": sum(line["amount_cents"] for line in lines),
        "notes": ["Simulated prices."],
        "confidence": 0.7,
    }


def _line(item: Mapping[str, Any]) -> dict[str, Any]:
    cents = _UNITS.get(item["trade"], _UNITS["general"])[1]
    hundredths = round(item["quantity"] * 100)
    return {
        "scope_item": item["id"],
        "trade": item["trade"],
        "description": item["task"],
        "quantity": item["quantity"],
        "unit": item["unit"],
        "unit_price_cents": cents,
        "amount_cents": (hundredths * cents + 50) // 100,
    }


def _by_schema(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """The smallest value that the schema admits, as far as the API's subset of JSON Schema goes."""
    if "$ref" in schema:
        return _by_schema(defs[str(schema["$ref"]).rsplit("/", 1)[-1]], defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _by_schema(schema["anyOf"][0], defs)
    match schema.get("type"):
        case "object":
            return {name: _by_schema(inner, defs) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [_by_schema(schema["items"], defs)] if "items" in schema else []
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "simulated"
