"""What a tier counts by: the words of `key`. How each is read out of a request is for the gateway's `keys`.

Pure. Called by `tiers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator

from scopegate.policy.faults import closest
from scopegate.policy.inner import is_inner
from scopegate.policy.kinds import as_list, parsed, written
from scopegate.policy.spelling import parse_field_name

MAX_CLAIM_CHARACTERS = 256


class KeyKind(StrEnum):
    """What of a request may be counted by. `header`, `cookie` and `claim` are of a name."""

    CLIENT_IP = "client_ip"
    USER = "user"
    ROUTE = "route"
    GLOBAL = "global"
    HEADER = "header"
    COOKIE = "cookie"
    CLAIM = "claim"


_NAMED = frozenset({KeyKind.HEADER, KeyKind.COOKIE, KeyKind.CLAIM})
_API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One thing that a tier counts by. `name` is that of the header field (lower case), cookie or claim."""

    kind: KeyKind
    name: str = ""


CLIENT_IP = (KeyPart(KeyKind.CLIENT_IP),)
USER = (KeyPart(KeyKind.USER),)


def parse_key(text: str) -> KeyPart | None:
    """None for `api_key`: what that is, the tier says beside it."""
    if text == _API_KEY:
        return None
    word, colon, name = text.partition(":")
    if word not in set(KeyKind):
        near = closest(word, [_API_KEY, *KeyKind])
        meant = "" if near is None else f", did you mean {near}?"
        raise ValueError(f"is nothing to count by, write one of {', '.join(_words())}{meant}")
    kind = KeyKind(word)
    if kind not in _NAMED:
        if colon:
            raise ValueError(f"has a name after {kind}, which takes none")
        return KeyPart(kind)
    if not name:
        raise ValueError(f"lacks a name, write it like {kind}:NAME")
    return KeyPart(kind, _claim_name(name) if kind is KeyKind.CLAIM else _field_name(name, kind))


def _words() -> Iterator[str]:
    yield from (f"{kind}:NAME" if kind in _NAMED else kind for kind in KeyKind)
    yield _API_KEY


def _field_name(name: str, kind: KeyKind) -> str:
    try:
        parsed_name = parse_field_name(name)
    except ValueError:
        raise ValueError(f"names no {kind}") from None
    if kind is KeyKind.HEADER and is_inner(parsed_name.lower().encode()):
        raise ValueError("names a field that is taken out of every request, whoever sent it: nobody is counted by it")
    return parsed_name.lower() if kind is KeyKind.HEADER else parsed_name


def _claim_name(name: str) -> str:
    if not name.isprintable() or len(name) > MAX_CLAIM_CHARACTERS:
        raise ValueError("names no claim")
    return name


def parse_api_key(text: str) -> KeyPart:
    part = parse_key(text)
    if part is None or part.kind not in {KeyKind.HEADER, KeyKind.COOKIE}:
        raise ValueError("is no place of an API key, write it like header:X-API-Key or cookie:NAME")
    return part


KeyWord: TypeAlias = Annotated[KeyPart | None, parsed(parse_key), written("header:X-Tenant")]
Keys: TypeAlias = Annotated[list[KeyWord], BeforeValidator(as_list, json_schema_input_type=KeyWord | list[KeyWord])]
