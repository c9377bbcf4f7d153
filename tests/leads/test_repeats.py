"""Which requests are the same lead sent again, and what the later one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.leads.job import Claim, Earlier, KeptAnswer, OrderState, Unreadable
from scopegate.leads.repeats import MAX_KEPT_BYTES, Repeat, claim_of, judge, kept, read_key
from tests.worker.house import offload

KEYED = replace(offload("127.0.0.1:9"), same_key_ms=86_400_000)
BOTH = replace(KEYED, same_body_ms=30_000)
REQUEST = (b"POST", b"/leads", b"application/json", b'{"text": "leaks"}')


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([b'"8e03978e-40d5-43e8-bc93-6894a57f9324"'], "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ([b"8e03978e-40d5-43e8-bc93-6894a57f9324"], "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ([b'"a \\"b\\" \\\\c, d"'], 'a "b" \\c, d'),
        ([b"a" * 255], "a" * 255),
    ],
)
def test_a_key_is_taken_quoted_and_bare(values: list[bytes], key: str | None) -> None:
    assert read_key(values) == key


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b'""'],
        [b"a", b"a"],
        [b"a" * 256],
        [b'"' + b"a" * 256 + b'"'],
        [b"a" * 60_000],
        [b"a,b"],
        [b"a b"],
        [b'"a'],
        [b'a"'],
        [b'"a";p=1'],
        [b'"a\\n"'],
        [b"a\\b"],
        [b"\xc3\xa4"],
        [b'"\x7f"'],
    ],
)
def test_any_other_key_is_unreadable(values: list[bytes]) -> None:
    assert isinstance(read_key(values), Unreadable)


def test_the_same_request_claims_the_same() -> None:
    first = claim_of(KEYED, "user main ann", "k-1", REQUEST, 1_000)
    assert first is not None
    assert first.until_ms == 1_000 + 86_400_000
    again = claim_of(KEYED, "user main ann", "k-1", REQUEST, 5_000)
    assert again is not None
    assert (again.key, again.body) == (first.key, first.body)


def test_a_claim_belongs_to_its_sender_its_offload_and_its_kind() -> None:
    claims = [
        claim_of(KEYED, "user main ann", "k-1", REQUEST, 0),
        claim_of(KEYED, "user main bob", "k-1", REQUEST, 0),
        claim_of(KEYED, "user other ann", "k-1", REQUEST, 0),
        claim_of(KEYED, "address 192.0.2.1", "k-1", REQUEST, 0),
        claim_of(KEYED, "user main ann", "k-2", REQUEST, 0),
        claim_of(replace(KEYED, name="others"), "user main ann", "k-1", REQUEST, 0),
        claim_of(BOTH, "user main ann", None, REQUEST, 0),
    ]
    assert len({claim.key for claim in claims if claim is not None}) == len(claims)


def test_another_request_with_the_same_key_is_told_apart() -> None:
    bodies = {
        claim.body
        for n in range(len(REQUEST))
        for changed in [[*REQUEST[:n], REQUEST[n] + b"x", *REQUEST[n + 1 :]]]
        if (claim := claim_of(KEYED, "a", "k", changed, 0))
    }
    assert len(bodies) == len(REQUEST)


def test_without_a_key_the_body_claims_where_the_policy_says_so() -> None:
    assert claim_of(KEYED, "a", None, REQUEST, 0) is None
    found = claim_of(BOTH, "a", None, REQUEST, 0)
    assert found is not None
    assert found.until_ms == 30_000
    assert claim_of(replace(BOTH, same_key_ms=None), "a", "k", REQUEST, 0) is None, "a key says that it is another lead"


CLAIM = Claim("k", "b", 10)
ANSWER = KeptAnswer(201, b"", b"{}")


@pytest.mark.parametrize(
    ("earlier", "told"),
    [
        (Earlier("o", OrderState.ACCEPTED, CLAIM, ANSWER), Repeat.ANSWERED),
        (Earlier("o", OrderState.UNREADABLE, CLAIM, ANSWER), Repeat.ANSWERED),
        (Earlier("o", OrderState.ACCEPTED, CLAIM, None), Repeat.TAKEN),
        (Earlier("o", OrderState.PENDING, CLAIM, None), Repeat.UNDER_WAY),
        (Earlier("o", OrderState.UNKNOWN, CLAIM, None), Repeat.UNDER_WAY),
        (Earlier("o", OrderState.ACCEPTED, replace(CLAIM, body="c"), ANSWER), Repeat.OTHER),
        (Earlier("o", OrderState.PENDING, replace(CLAIM, body="c"), None), Repeat.OTHER),
    ],
)
def test_what_the_later_one_is_told(earlier: Earlier, told: Repeat) -> None:
    assert judge(CLAIM, earlier) is told


def test_of_an_answer_no_cookie_is_kept() -> None:
    lines = [b"Content-Type: application/json\r\n", b"Set-Cookie: sid=1\r\n", b"LOCATION: /leads/1\r\n", b"X: 1\r\n"]
    answer = kept(201, lines, b"{}")
    assert answer == KeptAnswer(201, b"Content-Type: application/json\r\nLOCATION: /leads/1\r\n", b"{}")


def test_an_answer_that_is_too_long_is_not_kept() -> None:
    assert kept(201, [], b"x" * MAX_KEPT_BYTES) is not None
    assert kept(201, [], b"x" * (MAX_KEPT_BYTES + 1)) is None
