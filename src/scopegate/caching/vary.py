"""Which of several answers of one URL a request gets: by the fields that the answer's Vary names (RFC 9111 4.1).

Pure. Values that mean the same are told as the same, so that browsers which spell alike lists differently share one
answer: codings and languages as sets with their weights, other lists without the space between members.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from scopegate.caching.said import Said, members_of, values_of

MAX_VARY_NAMES = 20
_TOO_LONG = 256
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")
_OURS = frozenset(b"x-forwarded-for x-real-ip x-request-id traceparent tracestate via forwarded range if-range".split())
"""What we write for each request, or never let an answer that is kept depend on: naming one is as good as `*`."""
_OUR_PREFIX = b"x-scopegate-"
_WEIGHT = re.compile(rb"[ \t]*;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_NO_LISTS = frozenset([b"authorization", b"cookie", b"user-agent", b"referer"])
_ABSENT, _HASHED = b"\x00", b"\x01"
"""No value of a field begins with one of these."""


def vary_names(said: Said) -> tuple[bytes, ...] | None:
    """The names that an answer's Vary lists, in lower case and sorted; None where no later request can match."""
    names = {name.lower() for name in members_of(said, b"vary")}
    if len(names) > MAX_VARY_NAMES or any(
        _NAME.fullmatch(name) is None or name == b"*" or name in _OURS or name.startswith(_OUR_PREFIX) for name in names
    ):
        return None
    return tuple(sorted(names))


def selecting(names: Sequence[bytes], request: Said) -> bytes:
    """What a request has in these fields, spelt so that requests with the same meaning have the same."""
    return b"\n".join([_told(name, request) for name in names])


def _told(name: bytes, request: Said) -> bytes:
    if name not in request:
        return _ABSENT
    if name in (b"accept-encoding", b"accept-language"):
        value = b",".join(_weighted(members_of(request, name)))
    else:
        values = values_of(request, name)
        is_list = name not in _NO_LISTS and not any(b'"' in each for each in values)
        value = b",".join(members_of(request, name)) if is_list else b", ".join(values)
    return value if len(value) <= _TOO_LONG else _HASHED + hashlib.sha256(value).hexdigest().encode()


def _weighted(members: Sequence[bytes]) -> list[bytes]:
    """In lower case, by weight and name: the order in which equals are listed means nothing (RFC 9110 12.4.2)."""
    return sorted({_canonical(member) for member in members})


def _canonical(member: bytes) -> bytes:
    name, _, rest = member.partition(b";")
    weight = _WEIGHT.fullmatch(b";" + rest) if rest else None
    if rest and weight is None:
        return member.lower()
    told = b"1" if weight is None else weight[1].rstrip(b"0").rstrip(b".") or b"0"
    return name.strip(b" \t").lower() if told == b"1" else b"%b;q=%b" % (name.strip(b" \t").lower(), told)
