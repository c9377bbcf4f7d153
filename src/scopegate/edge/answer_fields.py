"""Security fields of answers: what a route adds to the app's answers and to our own refusals.

Pure. Built once per route by `gateway/ruleset`, asked once per answer: the lines are ready, and the usual app, which
sets none of these fields, costs one comparison. What the fields say is the policy's (`policy.AnswerFields`).
"""

from __future__ import annotations

from collections.abc import Iterable

from scopegate.edge.field_rules import SECURITY_FIELDS
from scopegate.edge.headers import Noted
from scopegate.policy.policy import AnswerFields

HSTS = b"strict-transport-security"

_Field = tuple[bytes, bytes]

_OF_OUR_PAGES: tuple[_Field, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""What a refusal says of itself: a text that loads nothing and stands in no frame."""


def _lines(fields: Iterable[_Field]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)


class SecurityLines:
    """The field lines of one route. `is_https` tells how the visitor came: Strict-Transport-Security is sent over https
    only (RFC 6797 7.2)."""

    __slots__ = ("_fields", "_names", "_override", "_plain", "_refused", "_secure")

    def __init__(self, rule: AnswerFields | None) -> None:
        """None for a route without any: its refusals still say what they are."""
        always = tuple((name.encode(), value.encode()) for name, value in rule.always) if rule is not None else ()
        hsts = ((HSTS, rule.hsts.encode()),) if rule is not None and rule.hsts is not None else ()
        self._fields = {False: always, True: always + hsts}
        self._names = frozenset(name for name, _ in always + hsts)
        assert self._names <= set(SECURITY_FIELDS), "a field that is not noted in answers cannot be told from the app's"
        self._override = rule is not None and rule.override
        self._plain, self._secure = _lines(always), _lines(always + hsts)
        own = tuple(field for field in _OF_OUR_PAGES if field[0] not in self._names)
        self._refused = {False: _lines(always + own), True: _lines(always + hsts + own)}

    def for_answer(self, notes: Noted, *, is_https: bool) -> tuple[Noted, bytes]:
        """What of the app's answer goes on, and the lines to add. A field that the app set stays and ours is left out;
        with `override` it is the other way round."""
        if self._names.isdisjoint(notes.noted):
            return notes, self._secure if is_https else self._plain
        if self._override:
            return notes.without(tuple(self._names)), self._secure if is_https else self._plain
        return notes, _lines(field for field in self._fields[is_https] if field[0] not in notes.noted)

    def for_refusal(self, *, is_https: bool, own: bool = True) -> bytes:
        """The lines of an answer that we make: the route's, and where it says nothing, what suits a page of our own."""
        if own:
            return self._refused[is_https]
        return self._secure if is_https else self._plain


NO_ROUTE = SecurityLines(None)
"""For refusals that met no route."""
