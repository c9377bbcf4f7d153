"""Two hundred and more bad answers: each is refused by the id of the rule it breaks, and only by it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.leads import findings
from scopegate.leads.findings import RULES, Broken, restore
from scopegate.leads.questions import estimate as estimating
from scopegate.leads.questions import photo_analysis
from scopegate.leads.questions import scope as scoping
from scopegate.leads.questions.estimate import Estimate
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeOfWork

ANALYSIS: dict[str, Any] = {
    "summary": "Water came through the ceiling.",
    "photos": [{"photo": 1, "shows": "A stain < 2 ft wide & growing."}, {"photo": 2, "shows": "The attic above."}],
    "damages": [
        {
            "kind": "water stain",
            "place": "kitchen ceiling",
            "severity": "moderate",
            "description": "Brown rings.\nSoft to the touch.",
            "photos": [1, 2],
        }
    ],
    "trades": ["roofing", "drywall"],
    "urgency": "high",
    "confidence": 0.85,
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "leads.md"
SCOPE: dict[str, Any] = {
    "title": "Ceiling and roof repair",
    "summary": "Stop the leak, then close the ceiling.",
    "items": [
        {"id": "S1", "place": "roof", "trade": "roofing", "task": "Replace flashing.", "quantity": 12.5, "unit": "ft"},
        {"id": "S2", "place": "kitchen", "trade": "drywall", "task": "New board.", "quantity": 33.33, "unit": "sq_ft"},
    ],
    "assumptions": ["Joists are sound."],
    "exclusions": [],
    "confidence": 1,
}
ESTIMATE: dict[str, Any] = {
    "currency": "USD",
    "line_items": [
        {
            "scope_item": "S1",
            "trade": "roofing",
            "description": "Flashing",
            "quantity": 12.5,
            "unit": "ft",
            "unit_price_cents": 1_997,
            "amount_cents": 24_963,
        },
        {
            "scope_item": "S2",
            "trade": "drywall",
            "description": "Board",
            "quantity": 33.33,
            "unit": "sq_ft",
            "unit_price_cents": 385,
            "amount_cents": 12_832,
        },
    ],
    "total_cents": 37_795,
    "notes": [],
    "confidence": 0,
}
THE_SCOPE = restore(ScopeOfWork, SCOPE)

PARSE: dict[str, tuple[dict[str, Any], Callable[[str], object]]] = {
    "analysis": (ANALYSIS, lambda text: photo_analysis.parse(text, photos=2)),
    "scope": (SCOPE, scoping.parse),
    "estimate": (ESTIMATE, lambda text: estimating.parse(text, THE_SCOPE)),
}


def rules(shape: str, text: str) -> tuple[str, ...]:
    found = PARSE[shape][1](text)
    assert isinstance(found, Broken), "a bad answer was believed"
    assert set(found.rules) <= RULES | photo_analysis.RULES | scoping.RULES | estimating.RULES
    return found.rules


def changed(shape: str, path: str, value: Any) -> dict[str, Any]:
    """The good answer with one place set; the value `DROP` removes it."""
    answer = copy.deepcopy(PARSE[shape][0])
    at: Any = answer
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        at = at[part]
    if value is DROP:
        del at[last]
    else:
        at[last] = value
    return answer


DROP = object()


@pytest.mark.parametrize("shape", PARSE)
def test_a_good_answer_is_believed_and_survives_storage(shape: str) -> None:
    good, parse = PARSE[shape]
    found = parse(json.dumps(good))
    assert isinstance(found, PhotoAnalysis | ScopeOfWork | Estimate)
    stored = json.loads(json.dumps(found.to_json()))
    assert stored == good
    assert restore(type(found), stored) == found


# ── not JSON, or not strict JSON ────────────────────────────────────────────────────────────────────────────────────

GOOD = json.dumps(SCOPE)
NOT_STRICT = [
    ("", "json_syntax"),
    (" ", "json_syntax"),
    ("null and void", "json_syntax"),
    ("<html><body>502</body></html>", "json_syntax"),
    ("```json\n" + GOOD + "\n```", "json_syntax"),
    ("Here is the scope:\n" + GOOD, "json_syntax"),
    (GOOD + GOOD, "json_syntax"),
    (GOOD + " trailing", "json_syntax"),
    ("\ufeff" + GOOD, "json_syntax"),
    (GOOD.replace('"', "'"), "json_syntax"),
    (GOOD[:-1] + ",}", "json_syntax"),
    (GOOD.replace('"items"', '// items\n"items"'), "json_syntax"),
    (GOOD.replace("12.5", "012.5"), "json_syntax"),
    (GOOD.replace("12.5", "+12.5"), "json_syntax"),
    (GOOD.replace("12.5", "0x12"), "json_syntax"),
    (GOOD.replace("12.5", ".5"), "json_syntax"),
    (GOOD.replace("roof", "ro\nof"), "json_syntax"),
    (GOOD.replace("roof", "ro\x00of"), "json_syntax"),
    (GOOD.replace("roof", "ro\x1b[31mof"), "json_syntax"),
    (GOOD.replace("12.5", "NaN"), "json_number"),
    (GOOD.replace("12.5", "Infinity"), "json_number"),
    (GOOD.replace("12.5", "-Infinity"), "json_number"),
    (GOOD.replace("12.5", "1e999"), "json_number"),
    (GOOD.replace("12.5", "1e-999"), "json_number"),
    (GOOD.replace("12.5", "1E+31"), "json_number"),
    (GOOD.replace("12.5", "1" * 25), "json_number"),
    (GOOD.replace("12.5", "9" * 20_000), "json_number"),
    (GOOD.replace("12.5", "1." + "1" * 25), "json_number"),
    (GOOD.replace('"title":', '"title": "first", "title":'), "json_duplicate_key"),
    (GOOD.replace('"unit":', '"unit": "ft", "unit":'), "json_duplicate_key"),
    ("[" * 13 + "]" * 13, "json_depth"),
    ("[" * 30_000, "json_depth"),
    ("[" * 30_000 + "]" * 30_000, "json_depth"),
    ('{"a":' * 13 + "1" + "}" * 13, "json_depth"),
    ('"' + "x" * 70_000 + '"', "json_size"),
    ("é" * 40_000, "json_size"),
    ("x" * 10_000_000, "json_size"),
    ("null", "type"),
    ("true", "type"),
    ("3", "type"),
    ('"text"', "type"),
    ("[]", "type"),
    ("[" + GOOD + "]", "type"),
]


@pytest.mark.parametrize(("text", "rule"), NOT_STRICT, ids=range(len(NOT_STRICT)))
def test_only_strict_json_is_read(text: str, rule: str) -> None:
    assert rules("scope", text) == (rule,)


@pytest.mark.parametrize("shape", PARSE)
def test_an_answer_cut_anywhere_is_refused(shape: str) -> None:
    text = json.dumps(PARSE[shape][0])
    for end in range(len(text)):
        assert rules(shape, text[:end]) == ("json_syntax",)


# ── one place wrong ─────────────────────────────────────────────────────────────────────────────────────────────────

WRONG_PLACES: list[tuple[str, str, Any, str]] = [
    *[(shape, name, DROP, "field_missing") for shape, (good, _) in PARSE.items() for name in good],
    *[("estimate", f"line_items.0.{name}", DROP, "field_missing") for name in ESTIMATE["line_items"][0]],
    *[("scope", f"items.1.{name}", DROP, "field_missing") for name in SCOPE["items"][1]],
    *[("analysis", f"damages.0.{name}", DROP, "field_missing") for name in ANALYSIS["damages"][0]],
    *[(shape, "action", "delete", "field_unknown") for shape in PARSE],
    ("scope", "items.0.price", 3, "field_unknown"),
    ("estimate", "line_items.0.discount", -3, "field_unknown"),
    *[(shape, name, None, "type") for shape, (good, _) in PARSE.items() for name in good if name not in (
        "urgency", "currency")],
    ("scope", "title", 7, "type"),
    ("scope", "title", ["x"], "type"),
    ("scope", "items", {}, "type"),
    ("scope", "items.0", "S1", "type"),
    ("scope", "items.0.quantity", "12.5", "type"),
    ("scope", "items.0.quantity", True, "type"),
    ("scope", "confidence", "high", "type"),
    ("scope", "confidence", True, "type"),
    ("estimate", "line_items.0.unit_price_cents", 1_997.0, "type"),
    ("estimate", "line_items.0.unit_price_cents", 19.99, "type"),
    ("estimate", "line_items.0.unit_price_cents", "1997", "type"),
    ("estimate", "line_items.0.amount_cents", True, "type"),
    ("estimate", "total_cents", 37_795.5, "type"),
    ("analysis", "photos.0.photo", "1", "type"),
    ("scope", "items.0.quantity", 0, "quantity_range"),
    ("scope", "items.0.quantity", -1, "quantity_range"),
    ("scope", "items.0.quantity", -0.0, "quantity_range"),
    ("scope", "items.0.quantity", 100_000.01, "quantity_range"),
    ("scope", "items.0.quantity", 1e20, "quantity_range"),
    ("scope", "items.0.quantity", 12.505, "quantity_precision"),
    ("scope", "items.0.quantity", 0.001, "quantity_precision"),
    ("estimate", "line_items.0.unit_price_cents", 0, "price_range"),
    ("estimate", "line_items.0.unit_price_cents", -1_997, "price_range"),
    ("estimate", "line_items.0.unit_price_cents", 10_000_001, "price_range"),
    ("estimate", "line_items.0.amount_cents", 0, "amount_range"),
    ("estimate", "line_items.0.amount_cents", 1_000_000_001, "amount_range"),
    ("estimate", "total_cents", 0, "total_range"),
    ("estimate", "total_cents", -1, "total_range"),
    ("estimate", "total_cents", 10**11, "total_range"),
    ("estimate", "total_cents", 37_794, "total_sum"),
    ("estimate", "total_cents", 37_796, "total_sum"),
    *[(shape, "confidence", value, "confidence_range") for shape in PARSE for value in (-0.01, 1.01, 85, -1)],
    *[("scope", "items.0.unit", value, "unit_unknown") for value in ("m", "SQ_FT", "sq ft", "", "squares", 3)],
    *[("estimate", "line_items.0.unit", value, "unit_unknown") for value in ("metre", "feet", None)],
    *[("scope", "items.0.trade", value, "trade_unknown") for value in ("Roofing", "wizardry", "", None)],
    ("analysis", "trades", ["roofing", "magic"], "trade_unknown"),
    ("analysis", "urgency", "yesterday", "urgency_unknown"),
    ("analysis", "urgency", None, "urgency_unknown"),
    ("analysis", "damages.0.severity", "catastrophic", "severity_unknown"),
    ("estimate", "currency", "EUR", "currency_unknown"),
    ("estimate", "currency", "usd", "currency_unknown"),
    ("estimate", "currency", None, "currency_unknown"),
    ("analysis", "photos.0.photo", 0, "photo_range"),
    ("analysis", "photos.0.photo", 51, "photo_range"),
    ("analysis", "damages.0.photos", [-1], "photo_range"),
    ("analysis", "photos.0.photo", 3, "photo_unknown"),
    ("analysis", "damages.0.photos", [1, 3], "photo_unknown"),
    ("analysis", "photos.1.photo", 1, "photo_repeated"),
    ("analysis", "trades", ["roofing", "roofing"], "trade_repeated"),
    ("analysis", "trades", [], "list_length"),
    ("analysis", "damages", ANALYSIS["damages"] * 41, "list_length"),
    ("analysis", "photos", ANALYSIS["photos"] * 26, "list_length"),
    ("scope", "items", [], "list_length"),
    ("scope", "assumptions", ["Dry."] * 21, "list_length"),
    ("estimate", "line_items", [], "list_length"),
    ("estimate", "line_items", ESTIMATE["line_items"] * 61, "list_length"),
    ("estimate", "notes", ["Dry."] * 21, "list_length"),
    ("scope", "title", "x" * 81, "text_length"),
    ("scope", "summary", "x" * 3_001, "text_length"),
    ("scope", "items.0.task", "x" * 601, "text_length"),
    ("scope", "title", "", "text_blank"),
    ("scope", "title", "  \n ", "text_blank"),
    *[("scope", "items.0.id", value, "item_id") for value in ("s1", "S0", "S01", "1", "S100", "S1\n", "", "S1; DROP")],
    ("scope", "items.0.id", "S2", "item_order"),
    ("scope", "items.1.id", "S3", "item_order"),
    ("scope", "items", SCOPE["items"][::-1], "item_order"),
    ("estimate", "line_items.0.scope_item", "S", "item_id"),
    ("estimate", "line_items.0.trade", "drywall", "trade_mismatch"),
    ("estimate", "line_items.1.trade", "painting", "trade_mismatch"),
    ("estimate", "line_items.0.unit", "sq_ft", "unit_mismatch"),
    ("analysis", "damages.0.photos", [1, 2, 1], "damage_photo_repeated"),
    ("estimate", "line_items.0.unit_price_cents", 2_000, "line_amount"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "path", "value", "rule"), WRONG_PLACES, ids=range(len(WRONG_PLACES)))
def test_one_wrong_place_breaks_one_rule(shape: str, path: str, value: Any, rule: str) -> None:
    assert rules(shape, json.dumps(changed(shape, path, value))) == (rule,)


HOSTILE_TEXTS = [
    *[("text_markup", text) for text in (
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "see <b>this</b>", "</data-0000>", "<!-- x -->",
        "<?xml?>", "&lt;script&gt;", "&#60;script&#62;", "&#x3c;b", "[click](http://evil.example)",
        "![x](http://evil.example/p.png)", "```sh\nrm -rf /\n```", "JavaScript:alert(1)", "&nbsp;",
    )],
    *[("text_control", text) for text in (
        "bell\x07", "nul\x00", "red \x1b[31m", "c1 \x9b31m", "tab\there", "cr\rlf", "zero\u200bwidth",
        "soft\u00adhyphen",
        "join\u2060er", "bom\ufeff", "line\u2028sep", "para\u2029sep", "private\ue000", "tag\U000e0041", "none\uffff",
        "unassigned\u0378", "del\x7f",
    )],
    *[("text_bidi", text) for text in (
        "\u202egnp.exe", "a\u202ab", "a\u2066b\u2069", "\u200fx", "x\u200e", "\u061cx", "\u202dabc\u202c",
    )],
]  # fmt: skip
TEXT_PLACES = [
    ("analysis", "summary"),
    ("analysis", "photos.0.shows"),
    ("analysis", "damages.0.kind"),
    ("scope", "title"),
    ("scope", "items.0.task"),
    ("scope", "assumptions.0"),
    ("estimate", "line_items.1.description"),
]


@pytest.mark.parametrize(("rule", "text"), HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_text_is_words_and_nothing_else(rule: str, text: str) -> None:
    for shape, path in TEXT_PLACES:
        assert rules(shape, json.dumps(changed(shape, path, text))) == (rule,)


def test_a_lone_surrogate_is_no_text() -> None:
    assert rules("scope", json.dumps(changed("scope", "title", "x\ud800"))) == ("text_control",)


@pytest.mark.parametrize(
    "text", ["5 < 6 and 7 > 6", "R&D & more", "naïve café", "屋根の修理", "قرميد", "½ in. 🏠", "a\nb", "100 % (cash)"]
)
def test_ordinary_words_of_any_language_pass(text: str) -> None:
    for shape, path in TEXT_PLACES:
        assert not isinstance(PARSE[shape][1](json.dumps(changed(shape, path, text))), Broken)


# ── between scope and estimate ──────────────────────────────────────────────────────────────────────────────────────


def test_every_scope_item_is_priced_and_no_other() -> None:
    lines = ESTIMATE["line_items"]
    only_first = {**ESTIMATE, "line_items": lines[:1], "total_cents": 24_963}
    assert rules("estimate", json.dumps(only_first)) == ("scope_item_unpriced",)
    invented = {**lines[1], "scope_item": "S9"}
    more = {**ESTIMATE, "line_items": [*lines, invented], "total_cents": 37_795 + 12_832}
    assert rules("estimate", json.dumps(more)) == ("scope_item_unknown",)


def test_an_item_may_take_several_lines() -> None:
    lines = ESTIMATE["line_items"]
    twice = {**ESTIMATE, "line_items": [*lines, lines[0]], "total_cents": 37_795 + 24_963}
    assert isinstance(estimating.parse(json.dumps(twice), THE_SCOPE), Estimate)


def test_a_line_has_the_quantity_of_its_item() -> None:
    answer = changed("estimate", "line_items.0.quantity", 12.51)
    assert rules("estimate", json.dumps(answer)) == ("quantity_mismatch", "line_amount")
    answer["line_items"][0]["amount_cents"] = 24_982
    answer["total_cents"] = 24_982 + 12_832
    assert rules("estimate", json.dumps(answer)) == ("quantity_mismatch",)


def test_the_document_lists_every_rule() -> None:
    listed = re.findall(
        r"^\| `([a-z_]+)` \|", DOCUMENT.read_text("utf-8").partition("## What the model may say")[2], re.M
    )
    known = findings.RULES | photo_analysis.RULES | scoping.RULES | estimating.RULES
    assert sorted(listed) == sorted(known)


def test_all_broken_rules_are_named_once() -> None:
    answer = changed("estimate", "total_cents", 1)
    answer["line_items"][0] |= {"trade": "tile", "amount_cents": 5}
    answer["line_items"][1] |= {"trade": "tile", "amount_cents": 5}
    assert rules("estimate", json.dumps(answer)) == ("trade_mismatch", "line_amount", "total_sum")


@given(st.decimals("0.01", "100000", places=2), st.integers(1, 10_000))
def test_amounts_are_exact_to_the_cent(quantity: Decimal, cents: int) -> None:
    """The amount by integers only, half up, is the only one accepted."""
    hundredths = int(quantity * 100)
    amount = (hundredths * cents + 50) // 100
    if not 0 < amount <= 1_000_000_000:
        return
    scope = restore(ScopeOfWork, {**SCOPE, "items": [{**SCOPE["items"][0], "quantity": float(quantity)}]})
    line = {**ESTIMATE["line_items"][0], "quantity": float(quantity), "unit_price_cents": cents}
    for offered in (amount, amount + 1, amount - 1):
        answer = {**ESTIMATE, "line_items": [{**line, "amount_cents": offered}], "total_cents": offered}
        found = estimating.parse(json.dumps(answer), scope)
        assert isinstance(found, Estimate) == (offered == amount)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=9))
def test_no_answer_raises(value: Any) -> None:
    for shape in PARSE:
        rules(shape, json.dumps(value))


@given(st.text())
def test_no_text_raises(text: str) -> None:
    rules("scope", text)


def test_there_are_more_than_two_hundred_bad_answers() -> None:
    assert len(NOT_STRICT) + len(WRONG_PLACES) + len(HOSTILE_TEXTS) > 200


def test_a_stored_finding_that_breaks_its_schema_is_a_bug() -> None:
    with pytest.raises(ValueError, match="total_range"):
        restore(Estimate, {**ESTIMATE, "total_cents": 0})


@pytest.mark.parametrize("shape", [PhotoAnalysis, ScopeOfWork, Estimate])
def test_every_field_is_asked_for(shape: type[findings.Finding]) -> None:
    """The API leaves out what is not required."""
    schema = findings.schema(shape)
    for part in (schema, *schema["$defs"].values()):
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert sorted(part["required"]) == sorted(part["properties"])
