"""Which other origins may use a route from a browser: preflights answered, answers opened (Fetch standard, 3.2).

Pure. This is no access control: a request from another origin is served as any other, and only its browser is told
whether a page may read the answer. So that a page can read a 401 or a 429 too, refusals get the same lines. What the
app says in these fields is replaced. Built once per route by `gateway/ruleset`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scopegate.edge.field_rules import CORS_FIELDS
from scopegate.edge.headers import Noted
from scopegate.policy.policy import Cors

_PREFLIGHT_VARY = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
_VARY = b"vary: origin\r\n"
_SPACE = b" \t"
_METHOD = re.compile(rb"[A-Z][A-Z-]{0,31}")


def asked_method(origins: Sequence[bytes], methods: Sequence[bytes]) -> str | None:
    """The method that a preflight asks about, by the values of Origin and Access-Control-Request-Method; None for an
    OPTIONS request that is none (Fetch 3.2.2). Methods are compared as written, in upper case."""
    if len(origins) != 1 or len(methods) != 1:
        return None
    method = methods[0].strip(_SPACE)
    return method.decode() if _METHOD.fullmatch(method) else None


class CrossOrigin:
    """The CORS rule of one route. Origins are compared byte for byte, as browsers write them; `null` is nobody's."""

    __slots__ = ("_any", "_fields", "_max_age", "_methods", "_opened", "_shared", "_vary")

    def __init__(self, rule: Cors, more: Sequence[bytes] = ()) -> None:
        """`more`: fields in lower case that scripts may read beyond those of the rule."""
        assert not (rule.any_origin and rule.credentials), "any origin with credentials is every page as the visitor"
        credentials = b"access-control-allow-credentials: true\r\n" if rule.credentials else b""
        names = [name.encode() for name in rule.expose]
        names += sorted(set(more).difference([name.lower() for name in names]))
        exposed = b"access-control-expose-headers: %b\r\n" % b", ".join(names) if names else b""
        named = {origin.encode(): b"access-control-allow-origin: %b\r\n" % origin.encode() for origin in rule.origins}
        self._any = b"access-control-allow-origin: *\r\n" if rule.any_origin else b""
        self._shared = {origin: line + credentials for origin, line in named.items()}
        self._opened = {origin: lines + exposed for origin, lines in self._shared.items()}
        if self._any:
            self._opened = {b"*": self._any + exposed}
        self._vary = b"" if self._any else _VARY
        self._methods = rule.methods
        self._fields = frozenset(name.encode() for name in rule.fields)
        self._max_age = b"access-control-max-age: %d\r\n" % int(rule.max_age_s)

    def preflight(self, origins: Sequence[bytes], method: str, fields: Sequence[bytes]) -> bytes:
        """The lines of the answer to a preflight for `method` with these Access-Control-Request-Headers. Only what was
        asked for is allowed: a browser remembers it for the whole URL, whatever route another method meets there."""
        origin = self._any or self._shared.get(_origin(origins))
        names = _names(fields)
        if not origin or method not in self._methods or not self._fields.issuperset(names):
            return _PREFLIGHT_VARY
        allowed = b"access-control-allow-headers: %b\r\n" % b", ".join(names) if names else b""
        methods = b"access-control-allow-methods: %b\r\n" % method.encode()
        return origin + methods + allowed + self._max_age + _PREFLIGHT_VARY

    def for_answer(self, notes: Noted, origins: Sequence[bytes]) -> tuple[Noted, bytes]:
        """What of the app's answer goes on, its own CORS fields taken out and its Vary completed, and the lines to
        add."""
        notes = notes.without(CORS_FIELDS)
        if not self._vary:
            return notes, self._opened[b"*"]
        opened = self._opened.get(_origin(origins), b"")
        said = notes.get(b"vary")
        if not said:
            return notes, _VARY + opened
        names = [name.strip(_SPACE).lower() for value in said for name in value.split(b",")]
        if b"origin" not in names and b"*" not in names:
            notes = notes.replacing(b"vary", b", ".join([*said, b"origin"]))
        return notes, opened

    def for_refusal(self, origins: Sequence[bytes]) -> bytes:
        """The lines of an answer that we make."""
        if not self._vary:
            return self._opened[b"*"]
        return _VARY + self._opened.get(_origin(origins), b"")


def _origin(origins: Sequence[bytes]) -> bytes:
    """The one origin of a request; empty, which no rule names, for none or several."""
    return origins[0].strip(_SPACE) if len(origins) == 1 else b""


def _names(fields: Sequence[bytes]) -> list[bytes]:
    """The field names in lower case, each once, in the order asked."""
    names = [name.strip(_SPACE).lower() for value in fields for name in value.split(b",")]
    return list(dict.fromkeys(name for name in names if name))
