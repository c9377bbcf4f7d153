from __future__ import annotations

import pytest

from scopegate.caching.said import said_of
from scopegate.caching.storable import Unstorable
from scopegate.caching.update import is_about, updated
from tests.caching.kept import DATE, NOW_S, RULE, asked, notes, stored

ANSWER = 'cache-control: max-age=2\netag: "a"\nx-test: 1\nx-other: 2\ncontent-type: text/html\ncontent-encoding: gzip'


def test_fields_are_replaced_and_the_body_stays() -> None:
    kept = stored(ANSWER, body=b"body")
    fresh = notes('etag: "a"\ncache-control: max-age=3600\nX-Test: 7\nx-test: 8', 304)
    found, reason = updated(kept, asked(), fresh, RULE, NOW_S, DATE)
    said = said_of(found.notes.passed)
    assert reason is None
    assert (said[b"x-test"], said[b"x-other"], said[b"cache-control"]) == ([b"7", b"8"], [b"2"], [b"max-age=3600"])
    assert (found.body, found.status, found.left_s(NOW_S)) == (b"body", 200, 3600)
    assert kept.left_s(NOW_S) == 2


def test_what_tells_how_the_bytes_are_read_stays() -> None:
    fresh = notes("content-encoding: br\ncontent-range: bytes 0-1/2", 304, b"x" * 99)
    found, _ = updated(stored(ANSWER), asked(), fresh, RULE, NOW_S, DATE)
    said = said_of(found.notes.passed)
    assert said[b"content-encoding"] == [b"gzip"]
    assert b"content-range" not in said
    assert b"content-length" not in said


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("cache-control: no-store", Unstorable.NO_STORE),
        ("cache-control: private", Unstorable.PRIVATE),
        ("set-cookie: a=b", Unstorable.COOKIE),
    ],
)
def test_a_304_may_end_its_keeping(fields: str, reason: Unstorable) -> None:
    found, why = updated(stored(ANSWER), asked(), notes(fields, 304), RULE, NOW_S, DATE)
    assert why is reason
    assert found.body == b"ok"


@pytest.mark.parametrize(
    ("kept", "fresh", "is_meant"),
    [
        ('etag: "a"', "", True),
        ('etag: "a"', 'etag: "a"', True),
        ('etag: "a"', 'etag: W/"a"', True),
        ('etag: "a"', 'etag: "b"', False),
        ('etag: "a"', 'etag: "a"\netag: "b"', False),
        ("", 'etag: "b"', True),
    ],
)
def test_a_304_of_another_tag_is_not_about_it(kept: str, fresh: str, is_meant: bool) -> None:
    assert is_about(stored(f"cache-control: max-age=2\n{kept}"), notes(fresh, 304)) is is_meant
