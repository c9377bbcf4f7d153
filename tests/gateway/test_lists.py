"""Who is on a list."""

from __future__ import annotations

import hashlib

import pytest

from scopegate.edge.verdict import Caller
from scopegate.gateway.lists import holder
from scopegate.policy.policy import ClientList
from scopegate.policy.sections.keys import KeyKind, KeyPart
from scopegate.policy.sections.lists import clients, parse_entry
from scopegate.types import Fields
from tests.gateway.test_keys import FAR, NOBODY, SOMEBODY, Request

KEY = hashlib.sha256(b"k").hexdigest()
API_KEY = KeyPart(KeyKind.HEADER, "x-api-key")


@pytest.mark.parametrize(
    ("entries", "caller", "fields", "listed"),
    [
        (["192.0.2.0/24"], NOBODY, [], True),
        (["192.0.2.1"], NOBODY, [], True),
        (["192.0.2.0/32", "192.0.2.2/31", "10.0.0.0/8"], NOBODY, [], False),
        (["2001:db8:1::/48"], FAR, [], True),
        (["2001:db8:1:2::2"], FAR, [], False),
        (["192.0.2.0/24"], FAR, [], False),
        (["192.0.2.0/24"], Caller("unknown", "unknown"), [], False),
        (["user=u"], SOMEBODY, [], True),
        (["user=u"], NOBODY, [(b"user", b"u")], False),
        (["user=U"], SOMEBODY, [], False),
        (["claim:org=acme"], SOMEBODY, [], True),
        (["claim:role=acme"], SOMEBODY, [], False),
        (["header:X-A=1"], NOBODY, [(b"x-a", b" 1 ")], True),
        (["header:X-A=1"], NOBODY, [(b"X-A", b"2"), (b"X-A", b"1")], True),
        (["cookie:a=1"], NOBODY, [(b"Cookie", b"b=2; a=1")], True),
        (["cookie:a=1"], NOBODY, [(b"Cookie", b"a=2; b=1")], False),
        ([f"api_key=sha256:{KEY}"], NOBODY, [(b"X-API-Key", b"k")], True),
        ([f"api_key=sha256:{KEY}"], NOBODY, [(b"X-API-Key", KEY.encode())], False),
    ],
)
def test_who_is_listed(entries: list[str], caller: Caller, fields: Fields, listed: bool) -> None:
    holds = holder(clients(map(parse_entry, entries), API_KEY))
    assert holds is not None
    assert holds(Request(caller, fields)) is listed


def test_an_empty_list_is_not_looked_at() -> None:
    assert holder(ClientList()) is None


def test_a_long_list_is_one_look_a_width() -> None:
    entries = [f"10.{n >> 8 & 255}.{n & 255}.0/24" for n in range(20_000)]
    holds = holder(clients(map(parse_entry, entries), API_KEY))
    assert holds is not None
    assert holds(Request(Caller("10.70.7.9", ""), []))
    assert not holds(Request(Caller("10.99.7.9", ""), []))
