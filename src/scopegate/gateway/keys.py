"""Whom a tier counts: its key, read out of a request.

A part's text begins with its kind, and parts are joined by a line break, which none of them can hold: no two keys meet.
What a visitor sends in a field or cookie is kept as a hash alone. Called by `counting`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, assert_never

from scopegate.edge.caller import limit_group
from scopegate.edge.cookies import meant, values_of
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Caller, Refusal
from scopegate.policy.policy import KeyKind, KeyPart, Tier, WhenMissing
from scopegate.types import Fields

KEY_MISSING = Refusal(400, "key_missing", "The request lacks a field that it is counted by.")
KEY_AMBIGUOUS = Refusal(400, "key_ambiguous", "A field that the request is counted by stands in it twice.")

_make = tuple.__new__  # what a named tuple's constructor calls, without the Python frame around it
_CLAIMED = frozenset({KeyKind.CLIENT_IP, KeyKind.HEADER, KeyKind.COOKIE})
"""What any stranger can have as many of as they like."""


class FieldLines(Protocol):
    @property
    def fields(self) -> Fields: ...


class Countable(Protocol):
    """What of a request may be counted by, and what it may cost by: its fields and its sender, never its method or
    target, for what is counted is kept with the fields (`section.HeaderSection`)."""

    @property
    def head(self) -> FieldLines: ...

    notes: Noted
    caller: Caller


class Counted(NamedTuple):
    """Whom a request counts for. `origin`: see `limits.window.Window`."""

    key: str
    origin: str


KeyOf = Callable[[Countable], Counted | Refusal | None]
"""None: the tier does not count this request."""


def key_of(tier: Tier, route: str, secret: bytes) -> KeyOf:
    """How a tier's key is read on a route. `secret`, at most 64 bytes: what fields and cookies are hashed with."""
    if tier.key == (KeyPart(KeyKind.CLIENT_IP),) and tier.ipv6_prefix == 64:
        return _by_group  # the usual one: this runs for every request whose fields are new
    readers = [(part.kind, _reader(part, tier, route, secret)) for part in tier.key]

    def read(asked: Countable) -> Counted | Refusal | None:
        texts: list[str] = []
        origin = ""
        for kind, reader in readers:
            text = reader(asked)
            if text is None:
                match tier.when_missing:
                    case WhenMissing.CLIENT_IP:
                        kind, text = KeyKind.CLIENT_IP, _address(asked, tier.ipv6_prefix)
                    case WhenMissing.REFUSE:
                        return KEY_MISSING
                    case WhenMissing.EXEMPT:
                        return None
                    case never:
                        assert_never(never)
            if isinstance(text, Refusal):
                return text
            if kind in _CLAIMED:
                origin = asked.caller.group
            texts.append(text)
        return Counted("\n".join(texts), origin)

    return read


def _by_group(asked: Countable) -> Counted:
    group = asked.caller.group
    return _make(Counted, (f"ip:{group}", group))


_Reader = Callable[[Countable], str | Refusal | None]
"""A part's text; None for a request that lacks it."""


def _reader(part: KeyPart, tier: Tier, route: str, secret: bytes) -> _Reader:
    name = part.name
    sent = name.encode()
    kind = part.kind
    match kind:
        case KeyKind.CLIENT_IP:
            return lambda asked: _address(asked, tier.ipv6_prefix)
        case KeyKind.USER:
            return _user
        case KeyKind.ROUTE:
            return lambda asked: f"route:{route}"
        case KeyKind.GLOBAL:
            return lambda asked: "all"
        case KeyKind.CLAIM:
            return lambda asked: _claim(asked, name)
        case KeyKind.HEADER:
            return lambda asked: _hashed(f"header:{name}", values_sent(asked, kind, sent), secret)
        case KeyKind.COOKIE:
            return lambda asked: _hashed(f"cookie:{name}", set(map(meant, values_sent(asked, kind, sent))), secret)
        case never:
            assert_never(never)


def _address(asked: Countable, ipv6_prefix: int) -> str:
    caller = asked.caller
    return f"ip:{caller.group if ipv6_prefix == 64 else limit_group(caller.address, ipv6_prefix)}"


def _user(asked: Countable) -> str | None:
    caller = asked.caller
    return None if caller.user is None else f"user:{caller.auth}:{caller.user}"


def _claim(asked: Countable, name: str) -> str | None:
    caller = asked.caller
    for claim, value in caller.claims:
        if claim == name:
            return f"claim:{caller.auth}:{name}:{value}"
    return None


def _lines(asked: Countable, name: bytes) -> Sequence[bytes]:
    return [value for sent, value in asked.head.fields if sent.lower() == name]


def values_sent(asked: Countable, kind: KeyKind, name: bytes) -> set[bytes]:
    """What a request says in a header (of this name in lower case) or a cookie."""
    if kind is KeyKind.COOKIE:
        return values_of(name, _lines(asked, b"cookie"))
    return {value.strip(b" \t") for value in _lines(asked, name)}


def _hashed(prefix: str, values: set[bytes], secret: bytes) -> str | Refusal | None:
    """An empty value is none. Of two the app may take either: whoever sends both would be counted as somebody else."""
    if len(values) > 1:
        return KEY_AMBIGUOUS
    value = values.pop() if values else b""
    return f"{prefix}:{hashlib.blake2b(value, digest_size=16, key=secret).hexdigest()}" if value else None
