"""Signed addresses: what they allow, to whom, until when."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import pytest

from scopegate.demo import presign

SECRET = b"s" * 32
KEY = "0123456789abcdef0123456789abcdef.jpg"


def query_of(path: str) -> Mapping[str, str]:
    return dict(parse_qsl(urlsplit(path).query))


def test_a_signed_address_allows_its_one_thing_until_it_expires() -> None:
    path = presign.signed_path(SECRET, "PUT", KEY, 1_000)
    assert urlsplit(path).path == f"/photos/{KEY}"
    assert presign.refusal(SECRET, "PUT", KEY, query_of(path), 1_000) is None
    assert presign.refusal(SECRET, "PUT", KEY, query_of(path), 1_000.5) == "the address has expired"


@pytest.mark.parametrize(
    ("secret", "method", "key", "change"),
    [
        (b"t" * 32, "PUT", KEY, {}),
        (SECRET, "GET", KEY, {}),
        (SECRET, "PUT", KEY.replace("0", "1"), {}),
        (SECRET, "PUT", KEY, {"expires": "2000"}),
        (SECRET, "PUT", KEY, {"expires": ""}),
        (SECRET, "PUT", KEY, {"signature": ""}),
        (SECRET, "PUT", KEY, {"signature": "\u00e9" * 64}),
    ],
)
def test_nothing_else_is_allowed_by_it(secret: bytes, method: str, key: str, change: Mapping[str, str]) -> None:
    query = {**query_of(presign.signed_path(SECRET, "PUT", KEY, 1_000)), **change}
    assert presign.refusal(secret, method, key, query, 500) == "the signature does not fit"


@pytest.mark.parametrize("text", ["", "../app.db", KEY.upper(), KEY + "\n", "a.jpg", KEY.replace(".jpg", ".gif")])
def test_only_a_key_names_a_file(text: str) -> None:
    assert not presign.is_key(text)


@pytest.mark.parametrize(("media_type", "ending"), presign.TYPES.items())
def test_a_key_stands_for_its_type(media_type: str, ending: str) -> None:
    key = f"{'0' * 32}.{ending}"
    assert presign.is_key(key)
    assert presign.media_type(key) == media_type
