from __future__ import annotations

import pytest

from scopegate.caching.said import said_of
from scopegate.caching.storable import MAX_TAGS, Unstorable, judge, tags_of
from scopegate.caching.stored import Stored
from tests.caching.kept import DATE, NOW_S, RULE, asked, judged, notes, said, stored

OLD = "last-modified: Tue, 24 Nov 2026 07:00:00 GMT"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("cache-control: no-store, max-age=60", Unstorable.NO_STORE),
        ("cache-control: No-StOrE", Unstorable.NO_STORE),
        ("cache-control: max-age=60; no-store", Unstorable.NO_STORE),
        ("cache-control: max-age=60, no-store, must-understand", None),
        ("cache-control: private, max-age=60", Unstorable.PRIVATE),
        ('cache-control: private="x", max-age=60', None),
        ("cache-control: max-age=60\ncdn-cache-control: private", Unstorable.PRIVATE),
        ("cache-control: max-age=60\ncdn-cache-control: no-store", Unstorable.NO_STORE),
        ("cache-control: no-store\ncdn-cache-control: max-age=60", None),
        ("cache-control: max-age=60\nset-cookie: a=b", Unstorable.COOKIE),
        ('cache-control: max-age=60, no-cache="Set-Cookie"\nset-cookie: a=b', None),
        ("cache-control: max-age=60\nvary: *", Unstorable.VARY),
        ("cache-control: max-age=60\nvary: x-real-ip", Unstorable.VARY),
        ("cache-control: max-age=0", Unstorable.USELESS),
        ("cache-control: max-age=60\nage: 90", Unstorable.USELESS),
        ("", Unstorable.USELESS),
        (OLD, None),
        ('etag: "x"', None),
        ('cache-control: no-cache\netag: "x"', None),
        ("cache-control: no-cache", Unstorable.USELESS),
        ("cache-control: max-age=0, stale-if-error=5", None),
        ("cache-control: max-age=60", None),
    ],
)
def test_what_the_app_says_decides(answer: str, reason: Unstorable | None) -> None:
    found = judged(answer)
    assert (None if isinstance(found, Stored) else found) == reason


@pytest.mark.parametrize(
    ("status", "control", "reason"),
    [
        *[(status, "max-age=60", None) for status in (200, 203, 204, 299, 301, 302, 307, 404, 410, 499, 500, 503, 599)],
        (206, "max-age=60", Unstorable.STATUS),
        (304, "max-age=60", Unstorable.STATUS),
        (599, "max-age=60, no-store, must-understand", Unstorable.NO_STORE),
        (599, "max-age=60, must-understand", Unstorable.STATUS),
    ],
)
def test_any_final_status_may_be_kept_where_the_app_says_so(
    status: int, control: str, reason: Unstorable | None
) -> None:
    found = judged(f"cache-control: {control}", status=status, body=b"" if status in (204, 304) else b"ok")
    assert (None if isinstance(found, Stored) else found) == reason


@pytest.mark.parametrize(
    ("request_fields", "answer", "reason"),
    [
        ("authorization: x", "cache-control: max-age=60", Unstorable.AUTHORIZATION),
        ("authorization: x", "cache-control: max-age=60, public", None),
        ("authorization: x", "cache-control: s-maxage=60", None),
        ("authorization: x", "cache-control: max-age=60, must-revalidate", None),
        ("authorization: x", "cdn-cache-control: max-age=60", Unstorable.AUTHORIZATION),
        ("cookie: a=1", "cache-control: max-age=60", None),
        ("cookie: a=1", OLD, Unstorable.UNSAID),
        ("cookie: a=1", "", Unstorable.UNSAID),
    ],
)
def test_what_the_request_shows_of_a_person_counts(request_fields: str, answer: str, reason: Unstorable | None) -> None:
    found = judged(answer, request_fields, ttl_s=30.0)
    assert (None if isinstance(found, Stored) else found) == reason


@pytest.mark.parametrize(
    ("control", "is_kept"),
    [
        ("max-age=60", False),
        ("max-age=60, must-revalidate", False),
        ("public, max-age=60", True),
        ("s-maxage=60", True),
    ],
)
def test_a_route_with_sign_in_keeps_what_is_called_public(control: str, is_kept: bool) -> None:
    request = asked(signed_in=True)
    found = judge(request, 200, notes(f"cache-control: {control}"), 2, RULE, NOW_S, DATE)
    assert isinstance(found, Stored) is is_kept


@pytest.mark.parametrize(("status", "is_kept"), [(200, True), (404, True), (201, False), (502, False)])
def test_without_a_word_of_the_app_the_status_decides(status: int, is_kept: bool) -> None:
    assert isinstance(judged(OLD, status=status), Stored) is is_kept


def test_only_get_brings_something_to_keep() -> None:
    found = judge(asked(method="HEAD"), 200, notes("cache-control: max-age=60"), 0, RULE, NOW_S, DATE)
    assert found is Unstorable.METHOD


def test_a_body_that_is_said_to_be_too_large() -> None:
    assert judged("cache-control: max-age=60", body=b"x" * 1001) is Unstorable.SIZE
    assert isinstance(judged("cache-control: max-age=60", body=b"x" * 1000), Stored)


def test_what_is_kept_of_the_fields() -> None:
    answer = 'Cache-Control: max-age=60, no-cache="X-A", private="x-b"\nX-A: 1\nX-B: 2\nX-C: 3'
    answer += "\nAge: 7\nConnection: x-d\nX-D: 4"
    found = stored(answer)
    kept = said_of(found.notes.passed)
    assert kept.keys() == {b"cache-control", b"x-c", b"date"}
    assert kept[b"date"] == [DATE]
    assert found.age_s(NOW_S) == 7


def test_a_date_of_the_apps_own_stays() -> None:
    date = "Tue, 24 Nov 2026 07:59:30 GMT"
    found = stored(f"cache-control: max-age=60\ndate: {date}")
    assert said_of(found.notes.passed)[b"date"] == [date.encode()]
    assert (found.age_s(NOW_S), found.left_s(NOW_S)) == (30, 30)


def test_tags() -> None:
    assert tags_of(said("cache-tag: a, b\ncache-tag: a\nsurrogate-key: c d")) == [b"a", b"b", b"c", b"d"]
    many = "\n".join(f"cache-tag: t{n}" for n in range(MAX_TAGS + 50))
    assert len(tags_of(said(many + "\ncache-tag: " + "x" * 500))) == MAX_TAGS
