"""Security fields: what a route adds to an answer, what of the app's own stays, and what our own pages say."""

from __future__ import annotations

import pytest

from scopegate.edge.answer_fields import NO_ROUTE, SecurityLines
from scopegate.edge.headers import Noted, read_response
from scopegate.policy.policy import AnswerFields

ALWAYS = (("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"))
NOSNIFF = b"x-content-type-options: nosniff\r\n"
FRAME = b"x-frame-options: DENY\r\n"
HSTS = b"strict-transport-security: max-age=60\r\n"
OUR_CSP = b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"

WITHOUT = SecurityLines(AnswerFields("a", ALWAYS))
WITH = SecurityLines(AnswerFields("b", ALWAYS, hsts="max-age=60"))
OVERRIDING = SecurityLines(AnswerFields("c", ALWAYS, hsts="max-age=60", override=True))


def answer(*fields: tuple[bytes, bytes]) -> Noted:
    return read_response(list(fields), 200, "GET")


def lines(*fields: tuple[bytes, bytes]) -> list[bytes]:
    return [b"%b: %b\r\n" % field for field in fields]


def test_an_app_that_sets_none_gets_all() -> None:
    notes = answer((b"Content-Type", b"text/html"))
    passing, added = WITH.for_answer(notes, is_https=True)
    assert added == NOSNIFF + FRAME + HSTS
    assert passing.passed == lines((b"Content-Type", b"text/html"))


@pytest.mark.parametrize("security", [WITH, OVERRIDING])
def test_strict_transport_security_is_said_over_https_only(security: SecurityLines) -> None:
    assert security.for_answer(answer(), is_https=False)[1] == NOSNIFF + FRAME
    assert security.for_answer(answer(), is_https=True)[1] == NOSNIFF + FRAME + HSTS
    assert HSTS not in security.for_refusal(is_https=False)
    assert HSTS in security.for_refusal(is_https=True)


def test_a_rule_without_it_never_says_it() -> None:
    assert WITHOUT.for_answer(answer(), is_https=True)[1] == NOSNIFF + FRAME


OWN = [
    ((b"X-Frame-Options", b"SAMEORIGIN"), NOSNIFF + HSTS),
    ((b"x-frame-options", b"ALLOWALL"), NOSNIFF + HSTS),
    ((b"X-FRAME-options", b""), NOSNIFF + HSTS),
    ((b"X-Content-Type-Options", b"nosniff"), FRAME + HSTS),
    ((b"Strict-Transport-Security", b"max-age=1"), NOSNIFF + FRAME),
    ((b"Content-Security-Policy", b"default-src *"), NOSNIFF + FRAME + HSTS),
    ((b"Referrer-Policy", b"origin"), NOSNIFF + FRAME + HSTS),
]


@pytest.mark.parametrize(("own", "added"), OWN)
def test_what_the_app_says_itself_stays(own: tuple[bytes, bytes], added: bytes) -> None:
    notes = answer(own, (b"X", b"y"))
    passing, ours = WITH.for_answer(notes, is_https=True)
    assert ours == added
    assert passing.passed == lines(own, (b"X", b"y"))


def test_a_field_that_the_app_sets_twice_stays_twice() -> None:
    own = ((b"X-Frame-Options", b"DENY"), (b"x-frame-options", b"SAMEORIGIN"))
    notes = answer(*own)
    passing, added = WITH.for_answer(notes, is_https=False)
    assert added == NOSNIFF
    assert passing.passed == lines(*own)


def test_override_takes_the_apps_fields_of_its_names_out() -> None:
    notes = answer(
        (b"X-Frame-Options", b"ALLOWALL"),
        (b"x-frame-options", b"ALLOWALL"),
        (b"Strict-Transport-Security", b"max-age=1"),
        (b"Referrer-Policy", b"origin"),
    )
    passing, added = OVERRIDING.for_answer(notes, is_https=False)
    assert added == NOSNIFF + FRAME
    assert passing.passed == lines((b"Referrer-Policy", b"origin"))


def test_a_field_that_connection_names_does_not_reach_the_client_and_does_not_count() -> None:
    notes = answer((b"Connection", b"X-Frame-Options"), (b"X-Frame-Options", b"ALLOWALL"))
    passing, added = WITH.for_answer(notes, is_https=False)
    assert added == NOSNIFF + FRAME
    assert passing.passed == []


def test_a_route_without_any_adds_nothing() -> None:
    bare = SecurityLines(None)
    notes = answer((b"X-Frame-Options", b"DENY"))
    passing, added = bare.for_answer(notes, is_https=True)
    assert added == b""
    assert passing.passed == lines((b"X-Frame-Options", b"DENY"))


def test_our_own_pages_always_say_what_they_are() -> None:
    assert NO_ROUTE.for_refusal(is_https=True) == NOSNIFF + OUR_CSP
    assert SecurityLines(None).for_refusal(is_https=False) == NOSNIFF + OUR_CSP
    assert WITHOUT.for_refusal(is_https=False) == NOSNIFF + FRAME + OUR_CSP
    assert WITH.for_refusal(is_https=True) == NOSNIFF + FRAME + HSTS + OUR_CSP


def test_the_routes_word_stands_before_ours() -> None:
    csp = SecurityLines(AnswerFields("d", (("content-security-policy", "default-src 'self'"),)))
    assert csp.for_refusal(is_https=False) == b"content-security-policy: default-src 'self'\r\n" + NOSNIFF


def test_a_field_that_answers_are_not_searched_for_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="not noted"):
        SecurityLines(AnswerFields("e", (("x-unknown", "1"),)))
