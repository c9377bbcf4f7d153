from __future__ import annotations

import pytest

from scopegate.caching.validation import is_not_modified, opaque, questions
from tests.caching.kept import NOW_S, said, stored

THEN = "Tue, 24 Nov 2026 07:00:00 GMT"
FRESH = "cache-control: max-age=60\n"


@pytest.mark.parametrize(
    ("answer", "request_fields", "is_known"),
    [
        ('etag: "a"', 'if-none-match: "a"', True),
        ('etag: "a"', 'if-none-match: W/"a"', True),
        ('etag: W/"a"', 'if-none-match: "a"', True),
        ('etag: "a"', 'if-none-match: "b"', False),
        ('etag: "a"', 'if-none-match: "b", "a"', True),
        ('etag: "a"', 'if-none-match: "b"\nif-none-match: "a"', True),
        ('etag: "a,b"', 'if-none-match: "x", "a,b"', True),
        ('etag: "a"', "if-none-match: *", True),
        ("", "if-none-match: *", True),
        ('etag: "a"', "if-none-match: a", False),
        ("etag: a", "if-none-match: a", False),
        ('etag: "a"', 'if-none-match: garbage "a"', False),
        ('etag: "ü"', 'if-none-match: "ü"', True),
        (f"last-modified: {THEN}", f"if-modified-since: {THEN}", True),
        (f"last-modified: {THEN}", "if-modified-since: Tuesday, 24-Nov-26 07:00:00 GMT", True),
        (f"last-modified: {THEN}", "if-modified-since: Tue, 24 Nov 2026 07:00:01 GMT", True),
        (f"last-modified: {THEN}", "if-modified-since: Tue, 24 Nov 2026 06:59:59 GMT", False),
        (f"last-modified: {THEN}", "if-modified-since: x", False),
        ("", f"if-modified-since: {THEN}", False),
        (f'etag: "a"\nlast-modified: {THEN}', f'if-none-match: "b"\nif-modified-since: {THEN}', False),
        (f'etag: "a"\nlast-modified: {THEN}', 'if-none-match: "a"\nif-modified-since: x', True),
        ('etag: "a"', "", False),
    ],
)
def test_what_a_visitor_has(answer: str, request_fields: str, is_known: bool) -> None:
    assert is_not_modified(stored(FRESH + answer), said(request_fields), NOW_S) is is_known


def test_an_answer_that_is_none_of_a_page_is_given_whole() -> None:
    found = stored(FRESH + 'etag: "a"', status=404)
    assert not is_not_modified(found, said('if-none-match: "a"'), NOW_S)


def test_a_long_tag_and_many_tags() -> None:
    tag = '"' + "x" * 8190 + '"'
    found = stored(FRESH + f"etag: {tag}")
    assert is_not_modified(found, said(f"if-none-match: {tag}"), NOW_S)
    assert not is_not_modified(found, said("if-none-match: " + ",".join(['"a"'] * 5000) + f",{tag}"), NOW_S)
    assert not is_not_modified(found, said('if-none-match: "' + "\\" * 32_000), NOW_S)


def test_what_the_app_is_asked() -> None:
    assert questions(stored(FRESH)) == []
    assert questions(stored(FRESH + f'etag: W/"a"\nlast-modified: {THEN}')) == [
        b'if-none-match: W/"a"\r\n',
        b"if-modified-since: %b\r\n" % THEN.encode(),
    ]
    assert opaque(b'W/"a"') == b'"a"'
    assert opaque(b"a") == opaque(b"") == opaque(b'"') == b""
