"""What the simulated Claude sees in a picture, and the answers it makes of it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from scopegate.demo.answers import MessageRequest, SeenPicture, UnreadablePicture, answer, look, wrong_answer
from scopegate.leads import findings
from scopegate.leads.findings import Broken
from scopegate.leads.questions import estimate as estimating
from scopegate.leads.questions import photo_analysis
from scopegate.leads.questions import scope as scoping
from scopegate.leads.questions.estimate import Estimate
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeOfWork

ROOF = SeenPicture(640, 480, ("grey",), "00000002" + "0" * 56)
PIPE = SeenPicture(64, 48, ("blue", "white"), "0" * 64)


def question(
    text: str = "", schema: dict[str, Any] | None = None, pictures: tuple[SeenPicture, ...] = ()
) -> MessageRequest:
    return MessageRequest("claude-haiku-5-5", "Answer.", text, schema or {}, 2048, pictures)


def fenced(value: object) -> str:
    return f"Look at this.\n<data-0a1b>\n{json.dumps(value)}\n</data-0a1b>\nAnswer."


def drawn(kind: str, size: tuple[int, int] = (60, 40)) -> bytes:
    """Two thirds blue, one third white."""
    image = Image.new("RGB", size, (60, 100, 180))
    image.paste((240, 240, 240), (0, 0, size[0] // 3, size[1]))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_looked_at(kind: str) -> None:
    seen = look(drawn(kind), f"image/{kind.lower()}")
    assert (seen.width_px, seen.height_px) == (60, 40)
    assert seen.colours[:2] == ("blue", "white"), "the most frequent first"
    assert seen.tokens() == 60 * 40 // 750


def test_the_same_bytes_are_the_same_picture() -> None:
    assert look(drawn("PNG"), "image/png") == look(drawn("PNG"), "image/png")
    assert look(drawn("PNG"), "image/png").sha256 != look(drawn("PNG", (61, 40)), "image/png").sha256


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"no picture", "image/png"),
        (drawn("PNG"), "image/jpeg"),
        (drawn("PNG")[:60], "image/png"),
        (drawn("BMP"), "image/bmp"),
        (b"", "image/png"),
    ],
)
def test_what_is_no_picture_of_its_kind(data: bytes, media_type: str) -> None:
    with pytest.raises(UnreadablePicture):
        look(data, media_type)


def test_one_with_more_pixels_than_the_api_takes_is_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("1", (10_000, 5_001)).save(out, "PNG")
    with pytest.raises(UnreadablePicture):
        look(out.getvalue(), "image/png")


def test_the_smallest_picture_still_costs_a_token() -> None:
    assert SeenPicture(1, 1, ("red",), "").tokens() == 1


def test_input_is_counted_by_bytes_and_by_area() -> None:
    assert question("x" * 4000).input_tokens() - question().input_tokens() == 1000
    assert question("é" * 2000).input_tokens() - question().input_tokens() == 1000
    assert question(pictures=(ROOF, PIPE)).input_tokens() - question().input_tokens() == ROOF.tokens() + PIPE.tokens()
    assert question("\ud800").input_tokens() > 0, "half a pair is counted like any sign"


def analysis(*pictures: SeenPicture) -> PhotoAnalysis:
    said = answer(question(schema=findings.schema(PhotoAnalysis), pictures=pictures))
    found = photo_analysis.parse(said, photos=len(pictures))
    assert not isinstance(found, Broken), found
    return found


def test_a_photo_analysis_tells_what_the_colours_stand_for() -> None:
    found = analysis(ROOF, PIPE)
    assert [(one.kind, one.place) for one in found.damages] == [
        ("worn shingles", "roof"),
        ("leaking pipe", "utility room"),
    ]
    assert found.urgency == "high", "water runs"
    assert found.trades == ["roofing", "plumbing"]


def test_one_sight_on_two_photos_is_one_damage() -> None:
    [damage] = analysis(ROOF, ROOF).damages
    assert damage.photos == [1, 2]
    assert damage.severity == "severe", "by the picture's digest"


def test_a_scope_and_an_estimate_follow_from_what_is_fenced() -> None:
    seen = {"photo_analysis": analysis(ROOF, PIPE).to_json()}
    scope = scoping.parse(answer(question(fenced(seen), findings.schema(ScopeOfWork))))
    assert not isinstance(scope, Broken), scope
    assert [(item.trade, item.place) for item in scope.items] == [
        ("roofing", "roof"),
        ("plumbing", "utility room"),
        ("cleanup", "site"),
    ]
    said = answer(question(fenced({"scope": scope.to_json()}), findings.schema(Estimate)))
    estimate = estimating.parse(said, scope=scope)
    assert not isinstance(estimate, Broken), estimate
    assert estimate.total_cents == sum(line.amount_cents for line in estimate.line_items)


@pytest.mark.parametrize(
    "text", ["no fence", "<data-0a>\nno json\n</data-0a>", fenced([1]), "<data-0a>\n{}\n</data-0b>"]
)
def test_without_data_there_is_still_an_answer_in_shape(text: str) -> None:
    scope = scoping.parse(answer(question(text, findings.schema(ScopeOfWork))))
    assert not isinstance(scope, Broken), scope
    assert [item.trade for item in scope.items] == ["general", "cleanup"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": "x"}, "x"),
        ({"enum": [3, 4]}, 3),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "boolean"}, True),
        ({"type": "integer"}, 1),
        ({"type": "string"}, "simulated"),
        ({"type": "array"}, []),
        ({"type": "array", "items": {"type": "number"}}, [1]),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "null"}}}, {"a": None}),
    ],
)
def test_any_other_schema_is_answered_by_its_own_rules(schema: dict[str, Any], value: object) -> None:
    assert json.loads(answer(question(schema=schema))) == value


def test_without_a_schema_it_is_a_sentence() -> None:
    assert answer(question(pictures=(ROOF, PIPE))) == "I see 2 pictures."


def test_a_wrong_answer_is_json_that_breaks_every_shape() -> None:
    for shape, parse in ((PhotoAnalysis, photo_analysis.parse), (ScopeOfWork, scoping.parse)):
        said = wrong_answer(question(schema=findings.schema(shape)))
        assert json.loads(said)
        parsed = parse(said, photos=1) if parse is photo_analysis.parse else scoping.parse(said)
        assert isinstance(parsed, Broken)
