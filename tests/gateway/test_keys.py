"""Whom a tier counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import product

import pytest

from scopegate.edge.field_rules import REQUEST_RULES
from scopegate.edge.headers import Noted
from scopegate.edge.lines import lines_of
from scopegate.edge.verdict import Caller, Refusal, RequestHead
from scopegate.gateway.keys import KEY_AMBIGUOUS, KEY_MISSING, Counted, key_of
from scopegate.limits.window import Quota
from scopegate.policy.policy import KeyKind, KeyPart, OnStoreError, Tier, WhenMissing
from scopegate.types import Fields

SECRET = b"this installation's own"
IP, USER = KeyPart(KeyKind.CLIENT_IP), KeyPart(KeyKind.USER)
ROUTE, ALL = KeyPart(KeyKind.ROUTE), KeyPart(KeyKind.GLOBAL)
TENANT, SESSION = KeyPart(KeyKind.HEADER, "x-tenant"), KeyPart(KeyKind.COOKIE, "sid")
ORG = KeyPart(KeyKind.CLAIM, "org")

NOBODY = Caller("192.0.2.1", "192.0.2.1")
SOMEBODY = Caller("192.0.2.1", "192.0.2.1", "u", (("role", "x"), ("org", "acme")), "a")
FAR = Caller("2001:db8:1:2::1", "2001:db8:1:2::/64")


@dataclass
class Request:
    caller: Caller
    fields: Fields = field(default_factory=list)
    length: int = 0

    def __post_init__(self) -> None:
        self.head = RequestHead(b"GET", b"/", "1.1", lines_of(self.fields))
        self.notes = Noted([], REQUEST_RULES)
        self.notes.length = self.length


def tier(
    *key: KeyPart, when_missing: WhenMissing = WhenMissing.CLIENT_IP, ipv6_prefix: int = 64, name: str = "strict"
) -> Tier:
    return Tier(name, (Quota(1, 1000),), key, OnStoreError.LOCAL, ipv6_prefix, when_missing)


def read(counted_by: Tier, caller: Caller, *fields: tuple[bytes, bytes]) -> Counted | Refusal | None:
    return key_of(counted_by, "the-route", SECRET)(Request(caller, list(fields)))


@pytest.mark.parametrize(
    ("key", "caller", "text", "origin"),
    [
        ([IP], NOBODY, "ip:192.0.2.1", "192.0.2.1"),
        ([IP], FAR, "ip:2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ([USER], SOMEBODY, "user:a:u", ""),
        ([USER], Caller("192.0.2.1", "192.0.2.1", "u", SOMEBODY.claims, "b"), "user:b:u", ""),
        ([USER], NOBODY, "ip:192.0.2.1", "192.0.2.1"),
        ([USER], Caller("192.0.2.1", "192.0.2.1", "ip:192.0.2.1", SOMEBODY.claims, "a"), "user:a:ip:192.0.2.1", ""),
        ([ALL], SOMEBODY, "all", ""),
        ([ROUTE], SOMEBODY, "route:the-route", ""),
        ([ORG], SOMEBODY, "claim:a:org:acme", ""),
        ([ORG], NOBODY, "ip:192.0.2.1", "192.0.2.1"),
        ([ROUTE, USER], SOMEBODY, "route:the-route\nuser:a:u", ""),
        ([ROUTE, USER], NOBODY, "route:the-route\nip:192.0.2.1", "192.0.2.1"),
        ([IP, USER], SOMEBODY, "ip:192.0.2.1\nuser:a:u", "192.0.2.1"),
    ],
)
def test_whom_a_tier_counts_and_who_pays(key: list[KeyPart], caller: Caller, text: str, origin: str) -> None:
    assert read(tier(*key), caller) == Counted(text, origin)


@pytest.mark.parametrize(
    ("prefix", "group"), [(64, "2001:db8:1:2::/64"), (56, "2001:db8:1::/56"), (48, "2001:db8:1::/48")]
)
def test_a_site_may_be_one_client(prefix: int, group: str) -> None:
    assert read(tier(IP, ipv6_prefix=prefix), FAR) == Counted(f"ip:{group}", FAR.group)
    assert read(tier(IP, ipv6_prefix=prefix), NOBODY) == Counted("ip:192.0.2.1", NOBODY.group)


@pytest.mark.parametrize(
    ("part", "name", "value"), [(TENANT, b"X-Tenant", b"acme"), (SESSION, b"Cookie", b"a=1; sid=acme")]
)
def test_of_what_a_visitor_sends_a_hash_is_kept(part: KeyPart, name: bytes, value: bytes) -> None:
    found = read(tier(part), NOBODY, (name, value))
    assert isinstance(found, Counted)
    assert re.fullmatch(f"{part.kind}:{part.name}:[0-9a-f]{{32}}", found.key)
    assert found.origin == NOBODY.group  # whoever makes up values pays for them
    assert read(tier(part), FAR, (name, value)) == Counted(found.key, FAR.group)
    other = read(tier(part), NOBODY, (name, value + b"x"))
    assert isinstance(other, Counted)
    assert other.key != found.key
    elsewhere = key_of(tier(part), "the-route", b"another")(Request(NOBODY, [(name, value)]))
    assert isinstance(elsewhere, Counted)
    assert elsewhere.key != found.key


def test_a_cookie_of_eight_kibibytes_is_a_key_like_any_other() -> None:
    keys = {
        found.key
        for last in (b"x", b"y")
        if isinstance(found := read(tier(SESSION), NOBODY, (b"cookie", b"sid=" + b"a" * 8192 + last)), Counted)
    }
    assert {len(key) for key in keys} == {len("cookie:sid:") + 32}
    assert len(keys) == 2


@pytest.mark.parametrize("fields", [[], [(b"x-tenant", b"")], [(b"x-tenant", b" ")], [(b"x-other", b"acme")]])
def test_a_missing_part_is_what_the_tier_says_and_never_one_key_for_all(fields: Fields) -> None:
    def told(when_missing: WhenMissing, caller: Caller) -> Counted | Refusal | None:
        return read(tier(ROUTE, TENANT, when_missing=when_missing), caller, *fields)

    assert told(WhenMissing.CLIENT_IP, NOBODY) == Counted("route:the-route\nip:192.0.2.1", NOBODY.group)
    assert told(WhenMissing.CLIENT_IP, FAR) == Counted("route:the-route\nip:2001:db8:1:2::/64", FAR.group)
    assert told(WhenMissing.REFUSE, NOBODY) is KEY_MISSING
    assert told(WhenMissing.EXEMPT, NOBODY) is None


@pytest.mark.parametrize("when_missing", WhenMissing)
def test_a_field_that_says_two_things_is_refused_and_one_that_repeats_itself_is_not(when_missing: WhenMissing) -> None:
    for part, name, values in ((TENANT, b"X-Tenant", [b"a", b"b"]), (SESSION, b"Cookie", [b"sid=a", b"x=1; sid=b"])):
        by = tier(part, when_missing=when_missing)
        assert read(by, NOBODY, *[(name, value) for value in values]) is KEY_AMBIGUOUS
        assert isinstance(read(by, NOBODY, (name, values[0]), (name.lower(), values[0])), Counted)


def test_no_two_keys_meet() -> None:
    """Whatever visitors are called, and whatever the parts are."""
    names = ["u", "a:u", "ip:192.0.2.1", "all", "route:the-route", "claim:a:org:acme"]
    callers = [NOBODY, *(Caller("192.0.2.1", "192.0.2.1", user, (), auth) for user, auth in product(names, "ab"))]
    parts = [[IP], [USER], [ALL], [ROUTE], [ROUTE, USER], [IP, USER], [ROUTE, IP]]
    keys = {
        (tuple(key), found.key)
        for key, caller in product(map(tuple, parts), callers)
        if isinstance(found := read(tier(*key), caller), Counted)
    }
    by_kind = {found for key, found in keys if key == (USER,)}
    assert len(by_kind) == len(callers)
    assert len({found for key, found in keys if key == (ROUTE, USER)}) == len(callers)
