"""Intake: what the expressions find, and every way in which an exchange cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from scopegate.leads.intake import (
    CUT_MARK,
    MAX_PHOTOS,
    MAX_TEXT_CHARS,
    MAX_URL_CHARS,
    Unreadable,
    parse_body,
    read_lead,
)
from scopegate.leads.job import Lead
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
    deliver=Deliver("http://127.0.0.1:3000/hook", SecretStr("secret")),
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


@pytest.mark.parametrize("response", [None, "id", 5, [], {}, {"ID": "x"}, [{"id": "x"}]])
def test_an_answer_without_the_id_is_unreadable(response: Json) -> None:
    assert read_lead(OFFLOAD, REQUEST, response) == Unreadable("no lead id")


@pytest.mark.parametrize(
    ("given", "photos"),
    [
        (None, ()),
        ([], ()),
        ("not a list", ()),
        ([{"no": "url"}], ()),
        ([{"url": "https://a"}], ("https://a",)),
        ([{"url": "https://a"}, {"url": None}], ("https://a",)),
    ],
)
def test_a_lead_without_photos_is_a_lead(given: Json, photos: tuple[str, ...]) -> None:
    found = _lead(photos=given)
    assert isinstance(found, Lead)
    assert found.photos == photos


def test_the_first_photos_are_kept() -> None:
    found = _lead(photos=[{"url": f"https://a/{n}"} for n in range(MAX_PHOTOS + 5)])
    assert isinstance(found, Lead)
    assert found.photos == tuple(f"https://a/{n}" for n in range(MAX_PHOTOS))


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


@pytest.mark.parametrize("given", [True, {}, ["x"], "", "x" * 201, "x\ny"])
def test_a_contractor_of_another_kind_is_unreadable(given: Json) -> None:
    found = _lead(contractorSlug=given)
    assert isinstance(found, Unreadable)
    assert "contractor" in found.reason


def test_an_offload_without_a_contractor_has_none() -> None:
    found = read_lead(replace(OFFLOAD, contractor=None), REQUEST, {"id": 1})
    assert isinstance(found, Lead)
    assert found.contractor is None


def test_an_expression_that_does_not_fit_is_unreadable() -> None:
    joined = replace(OFFLOAD, text="join(' ', request.words)")
    assert read_lead(joined, {**REQUEST, "words": [1, 2]}, {"id": 1}) == Unreadable(
        "an expression does not fit this exchange"
    )


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b' {"a": [1, 2.5, "\xc3\xbc"]} ', {"a": [1, 2.5, "ü"]}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"cut \\ud83d"', "cut \ufffd"),
        (b'"\\ude00 cut, \xc3\xbc"', "\ufffd cut, ü"),
        (b'{"\\ud800": "\\udfff"}', {"\ufffd": "\ufffd"}),
        (b"[" * 64 + b"]" * 64, eval("[" * 64 + "]" * 64)),
    ],
)
def test_a_body_is_read_as_the_app_reads_it(body: bytes, value: Json) -> None:
    assert parse_body(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"[1] x",
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"-1e999",
        b"[" + b"9" * 5000 + b"]",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'"line\nbreak"',
        b'"nul\x00"',
        b"\x00",
    ],
)
def test_a_body_that_readers_disagree_about_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        parse_body(body)
    assert len(str(refused.value)) < 120
