"""Claims of a proven token: each is judged by itself, none of it shows in a refusal, and little of it travels on."""

from __future__ import annotations

from typing import Any

import pytest

from scopegate.edge import claims
from scopegate.edge.claims import Identity, Proven, json_object, judge_claims
from scopegate.edge.verdict import Refusal

GOOD: dict[str, Any] = {"sub": "ada", "exp": 2000, "nbf": 1000, "iat": 900}


def proven(given: dict[str, Any], audience: str | None = None, require: dict[str, str] | None = None) -> Proven:
    found = judge_claims(given, None, audience, require or {})
    assert isinstance(found, Proven), found
    return found


def detail(found: object) -> str:
    assert isinstance(found, Refusal)
    assert found.status == 401
    assert found.fields == ((b"www-authenticate", b'Bearer error="invalid_token"'),)
    return found.detail


@pytest.mark.parametrize(
    "change",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 256},
        {"sub": "a\nb"},
        {"sub": "a\u2028b"},
        {"exp": None},
        {"exp": "2000"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": 1e12},
        {"nbf": "now"},
        {"iat": -1e13},
    ],
)
def test_a_claim_in_a_wrong_form(change: dict[str, Any]) -> None:
    assert "lacks a claim" in detail(judge_claims(GOOD | change, None, None, {}))


def test_the_longest_user_passes() -> None:
    assert proven(GOOD | {"sub": "é" * 255}).identity.user == "é" * 255


@pytest.mark.parametrize(
    ("issuer", "audience", "given", "refused"),
    [
        ("us", None, {"iss": "us"}, None),
        ("us", None, {"iss": "them"}, "another issuer"),
        ("us", None, {}, "another issuer"),
        (None, None, {"iss": "them"}, None),
        (None, "app", {"aud": "app"}, None),
        (None, "app", {"aud": ["other", "app"]}, None),
        (None, "app", {"aud": "application"}, "another audience"),
        (None, "app", {}, "another audience"),
        (None, None, {"aud": "app"}, "another audience"),
    ],
)
def test_who_issued_it_and_for_whom(
    issuer: str | None, audience: str | None, given: dict[str, Any], refused: str | None
) -> None:
    found = judge_claims(GOOD | given, issuer, audience, {})
    if refused is None:
        assert isinstance(found, Proven)
    else:
        assert refused in detail(found)


@pytest.mark.parametrize(
    ("now_s", "leeway_s", "refused"),
    [
        (1000, 0, None),
        (999.9, 0, "not valid yet"),
        (999.9, 1, None),
        (1999.9, 0, None),
        (2000, 0, "has expired"),
        (2000, 1, None),
        (2001, 1, "has expired"),
    ],
)
def test_it_is_valid_from_the_later_beginning_and_dead_in_the_second_it_names(
    now_s: float, leeway_s: float, refused: str | None
) -> None:
    found = proven(GOOD).at(now_s, leeway_s)
    if refused is None:
        assert found == Identity("ada", ())
    else:
        assert refused in detail(found)


@pytest.mark.parametrize(
    ("given", "require", "meets"),
    [
        ({"role": "admin"}, {"role": "admin"}, True),
        ({"role": ["user", "admin"]}, {"role": "admin"}, True),
        ({"role": "administrator"}, {"role": "admin"}, False),
        ({}, {"role": "admin"}, False),
        ({"role": {"admin": True}}, {"role": "admin"}, False),
        ({"paid": True}, {"paid": "true"}, True),
        ({"level": 3}, {"level": "3"}, True),
        ({"scope": "read write"}, {"scope": "write"}, True),
        ({"scope": "read-write"}, {"scope": "write"}, False),
        ({"role": "admin"}, {"role": "admin", "paid": "true"}, False),
    ],
)
def test_what_a_rule_requires(given: dict[str, Any], require: dict[str, str], meets: bool) -> None:
    found = proven(GOOD | given, require=require).at(1500, 0)
    if meets:
        assert isinstance(found, Identity)
    else:
        assert isinstance(found, Refusal)
        assert (found.status, found.code) == (403, "forbidden")
        assert found.fields == ((b"www-authenticate", b'Bearer error="insufficient_scope"'),)


def test_an_expired_token_is_401_whatever_it_lacks() -> None:
    assert "expired" in detail(proven(GOOD, require={"role": "admin"}).at(2000, 0))


def test_scalars_about_the_visitor_travel_on_as_json_writes_them() -> None:
    given = GOOD | {"email": "ada@example.com", "paid": True, "level": 3, "share": 0.5, "jti": "x", "iss": "us"}
    given |= {"list": [1], "object": {}, "none": None, "endless": float("inf"), "line": "a\nb", "na\0me": "x"}
    assert proven(given).identity.claims == (
        ("email", "ada@example.com"),
        ("paid", "true"),
        ("level", "3"),
        ("share", "0.5"),
        ("iss", "us"),
    )


def test_claims_are_bounded_one_by_one_in_number_and_together() -> None:
    long = proven(GOOD | {"long": "x" * 257, "n" * 257: "x", "edge": "x" * 256}).identity.claims
    assert [name for name, _ in long] == ["edge"]
    assert len(proven(GOOD | {f"c{n}": n for n in range(100)}).identity.claims) == claims.MAX_CLAIMS
    together = proven(GOOD | {f"c{n}": "x" * 254 for n in range(20)}).identity.claims
    assert sum(len(name + value) for name, value in together) == claims.MAX_CLAIMS_CHARACTERS


@pytest.mark.parametrize(
    "text",
    [b"[]", b"1", b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "a": 2}}', b"[" * 100_000],
)
def test_what_is_no_json_object_with_single_names(text: bytes) -> None:
    with pytest.raises(ValueError):
        json_object(text)


def test_an_object_is_read() -> None:
    assert json_object('{"sub": "é", "a": {"a": 1}}'.encode()) == {"sub": "é", "a": {"a": 1}}
