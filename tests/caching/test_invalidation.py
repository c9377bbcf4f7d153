from __future__ import annotations

import pytest

from scopegate.caching.invalidation import changed_urls, changes
from tests.caching.kept import said

URL = b"a.example/dir/x?q=1"


@pytest.mark.parametrize(
    ("method", "status", "does"),
    [
        ("POST", 200, True),
        ("PUT", 204, True),
        ("DELETE", 302, True),
        ("LOCK", 200, True),
        ("POST", 400, False),
        ("POST", 500, False),
        ("GET", 200, False),
        ("HEAD", 200, False),
        ("OPTIONS", 200, False),
    ],
)
def test_what_changes_something(method: str, status: int, does: bool) -> None:
    assert changes(method, status) is does


@pytest.mark.parametrize(
    ("fields", "urls"),
    [
        ("", []),
        ("location: /y", [b"a.example/y"]),
        ("location: y?z=1", [b"a.example/dir/y?z=1"]),
        ("content-location: http://A.example/y", [b"a.example/y"]),
        ("location: https://a.example/y\ncontent-location: /z", [b"a.example/y", b"a.example/z"]),
        ("location: http://b.example/y", []),
        ("location: //b.example/y", []),
        ("location: http://a.example:81/y", []),
        ("location: /y\nlocation: /z", []),
        ("location: /dir/x?q=1", []),
        ("location: http://[", []),
        ("location: mailto:a@a.example", []),
    ],
)
def test_what_is_changed(fields: str, urls: list[bytes]) -> None:
    assert list(changed_urls(URL, said(fields))) == [URL, *urls]
