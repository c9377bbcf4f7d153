"""A stored answer as text, for a store that others share, and back. The body stands elsewhere.

Pure. What cannot be read is no answer: who reads goes on as if nothing was there.
"""

from __future__ import annotations

import json

from scopegate.caching.freshness import Freshness
from scopegate.caching.stored import Stored
from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from scopegate.jsontext import BadJson, parse

VERSION = 1
MAX_PACKED_BYTES = 256 * 1024


def packed(stored: Stored) -> bytes:
    freshness = stored.freshness
    return json.dumps(
        {
            "version": VERSION,
            "url": _text(stored.url),
            "status": stored.status,
            "lines": [_text(line) for line in stored.notes.passed],
            "bytes": len(stored.body),
            "born_s": stored.born_s,
            "freshness": {
                "lifetime_s": freshness.lifetime_s,
                "is_said": freshness.is_said,
                "must_ask": freshness.must_ask,
                "is_strict": freshness.is_strict,
                "is_shared": freshness.is_shared,
                "while_revalidate_s": freshness.while_revalidate_s,
                "if_error_s": freshness.if_error_s,
            },
            "vary": [_text(name) for name in stored.vary],
            "selected": _text(stored.selected),
            "etag": _text(stored.etag),
            "modified": _text(stored.modified),
            "modified_s": stored.modified_s,
            "tags": [_text(tag) for tag in stored.tags],
            "is_implicit": stored.is_implicit,
            "seen": stored.seen,
        }
    ).encode()


def unpacked(text: bytes) -> tuple[Stored, int] | None:
    """The answer without its body, and how many bytes that has."""
    if len(text) > MAX_PACKED_BYTES:
        return None
    try:
        found = parse(text, max_depth=3)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            return None
        return _stored(found), _int(found["bytes"])
    except (BadJson, KeyError, TypeError, ValueError):
        return None


def _stored(found: dict[str, object]) -> Stored:
    told = found["freshness"]
    if not isinstance(told, dict):
        raise TypeError
    freshness = Freshness(
        _number(told["lifetime_s"]),
        is_said=told["is_said"] is True,
        must_ask=told["must_ask"] is not False,
        is_strict=told["is_strict"] is not False,
        is_shared=told["is_shared"] is True,
        while_revalidate_s=_number(told["while_revalidate_s"]),
        if_error_s=_number(told["if_error_s"]),
    )
    modified_s = found["modified_s"]
    return Stored(
        _bytes(found["url"]),
        _int(found["status"]),
        Noted(_list(found["lines"]), RESPONSE_RULES),
        b"",
        born_s=_number(found["born_s"]),
        freshness=freshness,
        vary=tuple(_list(found["vary"])),
        selected=_bytes(found["selected"]),
        etag=_bytes(found["etag"]),
        modified=_bytes(found["modified"]),
        modified_s=None if modified_s is None else _number(modified_s),
        tags=_list(found["tags"]),
        is_implicit=found["is_implicit"] is not False,
        seen=_int(found["seen"]),
    )


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return value.encode("latin-1")


def _list(value: object) -> list[bytes]:
    if not isinstance(value, list):
        raise TypeError
    return [_bytes(each) for each in value]


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)
