"""Intake: what the expressions find, and every way in which an exchange cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from scopegate.leads.intake import (
    CUT_MARK,
    MAX_PHOTOS,
    MAX_SAFE_NUMBER,
    MAX_TEXT_CHARS,
    MAX_URL_CHARS,
    judge_request,
    read_lead,
)
from scopegate.leads.job import Lead, Unreadable
from scopegate.leads.photos import PhotoCode, PhotoRefusal, judge_url
from scopegate.policy.policy import Deliver, Offload
from scopegate.types import Json

OFFLOAD = Offload(
    name="lead-photos",
    when_status=frozenset({200, 201}),
    lead_id="response.id",
    contractor="request.contractorSlug",
    photos="request.photos[].url",
    text="request.projectDescription",
    photo_hosts=("*.s3.amazonaws.com",),
    deliver=Deliver("http://127.0.0.1:3000/hook", (SecretStr("secret"),)),
    starts=None,
)
REQUEST: dict[str, Json] = {
    "contractorSlug": "roofers-inc",
    "projectDescription": "The roof leaks.",
    "photos": [{"url": "https://b.s3.amazonaws.com/1.jpg"}, {"url": "https://b.s3.amazonaws.com/2.jpg"}],
}


def test_a_whole_exchange_gives_a_lead() -> None:
    assert read_lead(OFFLOAD, REQUEST, {"id": "lead_1"}) == Lead(
        lead_id="lead_1",
        contractor="roofers-inc",
        text="The roof leaks.",
        photos=("https://b.s3.amazonaws.com/1.jpg", "https://b.s3.amazonaws.com/2.jpg"),
    )


def _lead(**changes: Json) -> Lead | Unreadable:
    return read_lead(OFFLOAD, {**REQUEST, **changes}, {"id": "lead_1"})


@pytest.mark.parametrize(
    ("given", "lead_id"),
    [(17, "17"), (0, "0"), (-3, "-3"), ("ü-1", "ü-1"), ("a" * 200, "a" * 200), (10**30, str(10**30))],
)
def test_a_lead_id_is_text_or_a_whole_number(given: Json, lead_id: str) -> None:
    found = read_lead(OFFLOAD, REQUEST, {"id": given})
    assert isinstance(found, Lead)
    assert found.lead_id == lead_id


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        True,
        False,
        1.5,
        [],
        ["a"],
        {},
        {"a": 1},
        "a" * 201,
        "a\nb",
        "a\x00",
        "a\x1b[31m",
        "a\u202eb",
        "\ud800",
    ],
)
def test_any_other_lead_id_is_unreadable_and_not_quoted(given: Json) -> None:
    found = read_lead(OFFLOAD, REQUEST, {"id": given})
    assert isinstance(found, Unreadable)
    assert "lead id" in found.reason


@pytest.mark.parametrize("response", [None, {}, {"ID": "x"}, {"id": None}])
def test_an_answer_without_the_id_is_unreadable(response: Json) -> None:
    assert read_lead(OFFLOAD, REQUEST, response) == Unreadable("no lead id")


@pytest.mark.parametrize(
    ("given", "photos"),
    [
        (None, ()),
        ([], ()),
        ([{"no": "url"}], ()),
        ([{"url": "https://a"}], ("https://a",)),
        ([{"url": "https://a"}, {"url": None}], ("https://a",)),
    ],
)
def test_a_lead_without_photos_is_a_lead(given: Json, photos: tuple[str, ...]) -> None:
    found = _lead(photos=given)
    assert isinstance(found, Lead)
    assert found.photos == photos


def test_every_photo_is_kept_and_a_flood_is_not_read() -> None:
    found = _lead(photos=[{"url": f"https://a/{n}"} for n in range(MAX_PHOTOS)])
    assert isinstance(found, Lead)
    assert found.photos == tuple(f"https://a/{n}" for n in range(MAX_PHOTOS))
    assert _lead(photos=[{"url": "https://a"}] * (MAX_PHOTOS + 1)) == Unreadable("more than 100 photos")


@pytest.mark.parametrize("given", ["https://a", {"url": "https://a"}, 5, ["https://a"], [[5]], [{"url": "x"}, True]])
def test_photos_of_another_kind_are_not_no_photos(given: Json) -> None:
    assert _lead(photos=given) == Unreadable("an expression goes through a value of another kind")


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_side_that_cannot_be_read_is_not_an_absent_one(side: str) -> None:
    """With nothing of the request the job would be paid for, and the contractor's budget would not know."""
    bodies: dict[str, Json | Unreadable] = {"request": REQUEST, "response": {"id": 1}}
    bodies[side] = Unreadable("it is not JSON in UTF-8", b"{")
    assert read_lead(OFFLOAD, **bodies) == Unreadable(f"the {side} cannot be read: it is not JSON in UTF-8")


def test_a_side_that_nobody_asks_for_need_not_be_read() -> None:
    answered = replace(OFFLOAD, contractor="response.c", photos="response.photos", text="response.text")
    answer: dict[str, Json] = {"id": 1, "text": "The roof leaks."}
    assert read_lead(answered, Unreadable("it is compressed"), answer) == Lead("1", None, "The roof leaks.", ())


@pytest.mark.parametrize("given", [{"projectDescription": " \n"}, {}])
def test_nobody_is_paid_for_reading_nothing(given: dict[str, Json]) -> None:
    assert read_lead(OFFLOAD, given, {"id": 1}) == Unreadable("neither words nor photos")


def test_an_endless_photo_address_is_refused_by_name_later() -> None:
    found = _lead(photos=[{"url": "https://b.s3.amazonaws.com/" + "x" * 100_000}])
    assert isinstance(found, Lead)
    assert len(found.photos[0]) == MAX_URL_CHARS + 1
    refusal = judge_url(found.photos[0], OFFLOAD.photo_hosts)
    assert isinstance(refusal, PhotoRefusal)
    assert refusal.code is PhotoCode.BAD_URL


@pytest.mark.parametrize("given", [[{"url": 5}], [{"url": ["https://a"]}], [{"url": {"x": 1}}]])
def test_a_photo_that_is_no_address_is_unreadable(given: Json) -> None:
    assert _lead(photos=given) == Unreadable("a photo is not an address")


def test_photos_may_be_one_address_but_not_a_number() -> None:
    one = replace(OFFLOAD, photos="request.photo")
    found = read_lead(one, {**REQUEST, "photo": "https://a"}, {"id": 1})
    assert isinstance(found, Lead)
    assert found.photos == ("https://a",)
    assert read_lead(one, {**REQUEST, "photo": 7}, {"id": 1}) == Unreadable("photos is not a list")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, ""),
        ("", ""),
        ("a\r\nb\tc", "a\nb\tc"),
        ("nul\x00esc\x1b[2Jbidi\u202etag\U000e0041", "nul esc [2Jbidi tag "),
        ("half an emoji \ud83d", "half an emoji  "),
        ("👩‍🔧 می‌خواهم", "👩‍🔧 می‌خواهم"),
    ],
)
def test_text_keeps_its_words_and_loses_its_controls(given: Json, text: str) -> None:
    found = _lead(projectDescription=given)
    assert isinstance(found, Lead)
    assert found.text == text
    found.text.encode()


def test_long_text_is_cut_with_a_mark() -> None:
    found = _lead(projectDescription="x" * (MAX_TEXT_CHARS + 1))
    assert isinstance(found, Lead)
    assert len(found.text) == MAX_TEXT_CHARS
    assert found.text.endswith(CUT_MARK)
    exact = _lead(projectDescription="x" * MAX_TEXT_CHARS)
    assert isinstance(exact, Lead)
    assert not exact.text.endswith(CUT_MARK)


@pytest.mark.parametrize("given", [5, True, ["a"], {"a": 1}])
def test_text_of_another_type_is_unreadable(given: Json) -> None:
    assert _lead(projectDescription=given) == Unreadable("text is not a string")


@pytest.mark.parametrize(("given", "contractor"), [(None, None), ("x", "x"), (12, "12")])
def test_a_contractor_may_be_missing(given: Json, contractor: str | None) -> None:
    found = _lead(contractorSlug=given)
    assert isinstance(found, Lead)
    assert found.contractor == contractor


@pytest.mark.parametrize(
    "given",
    [
        *(True, {}, ["x"], "", "x" * 201, "x\ny", "x\x00", 1.0, " roofers", "roofers\u3000", "roofers\ufffd"),
        *(MAX_SAFE_NUMBER + 1, -MAX_SAFE_NUMBER - 1),
    ],
)
def test_a_contractor_of_another_kind_is_unreadable(given: Json) -> None:
    found = _lead(contractorSlug=given)
    assert isinstance(found, Unreadable)
    assert "contractor" in found.reason


@pytest.mark.parametrize("given", ["acme", ["acme"], 7])
def test_a_contractor_that_is_not_where_it_belongs_is_not_nobody(given: Json) -> None:
    nested = replace(OFFLOAD, contractor="request.contractor.slug")
    found = read_lead(nested, {**REQUEST, "contractor": given}, {"id": 1})
    assert found == Unreadable("an expression goes through a value of another kind")
    either = replace(OFFLOAD, contractor="request.contractor.slug || request.contractor")
    found = read_lead(either, {**REQUEST, "contractor": "acme"}, {"id": 1})
    assert isinstance(found, Lead)
    assert found.contractor == "acme"


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        (REQUEST, None),
        ({}, None),
        (Unreadable("it is compressed"), "the request cannot be read: it is compressed"),
        ({**REQUEST, "photos": "x"}, "an expression goes through a value of another kind"),
        ({**REQUEST, "contractorSlug": 1.5}, "contractor is neither text nor a whole number"),
        ({**REQUEST, "projectDescription": 7}, "text is not a string"),
    ],
)
def test_a_request_can_be_judged_before_the_app_hears_it(request_body: Json | Unreadable, reason: str | None) -> None:
    found = judge_request(OFFLOAD, request_body)
    assert (None if found is None else found.reason) == reason


def test_what_the_answer_holds_is_not_asked_of_the_request() -> None:
    answered = replace(OFFLOAD, contractor="response.contractor")
    assert judge_request(answered, REQUEST) is None
    assert judge_request(answered, {**REQUEST, "projectDescription": 7}) == Unreadable("text is not a string")


def test_an_offload_without_a_contractor_has_none() -> None:
    found = read_lead(replace(OFFLOAD, contractor=None), REQUEST, {"id": 1})
    assert isinstance(found, Lead)
    assert found.contractor is None


def test_an_expression_that_does_not_fit_is_unreadable() -> None:
    joined = replace(OFFLOAD, text="join(' ', request.words)")
    assert read_lead(joined, {**REQUEST, "words": [1, 2]}, {"id": 1}) == Unreadable(
        "an expression does not fit this exchange"
    )
