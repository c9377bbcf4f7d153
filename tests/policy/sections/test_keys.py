from __future__ import annotations

import pytest

from scopegate.policy.policy import KeyKind, KeyPart
from scopegate.policy.sections.keys import parse_api_key, parse_key


def test_where_an_api_key_is_read() -> None:
    assert parse_api_key("header:X-API-Key") == KeyPart(KeyKind.HEADER, "x-api-key")
    assert parse_api_key("cookie:Key") == KeyPart(KeyKind.COOKIE, "Key")


@pytest.mark.parametrize("text", ["user", "api_key", "claim:org"])
def test_where_it_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="is no place of an API key"):
        parse_api_key(text)


@pytest.mark.parametrize("name", ["X-Middleware-Subrequest", "x_forwarded.user", "X-Vercel-Id"])
def test_nobody_is_counted_by_what_is_taken_out(name: str) -> None:
    with pytest.raises(ValueError, match="taken out of every request"):
        parse_key(f"header:{name}")
