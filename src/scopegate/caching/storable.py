"""Whether an answer may be kept for others (RFC 9111 3), and what is kept of it.

Pure. The first reason against it is told; what no rule speaks of is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from scopegate.caching.dates import only_date
from scopegate.caching.directives import Directives
from scopegate.caching.freshness import HEURISTIC_STATUSES, Freshness, directives_of, freshness_of, initial_age_s
from scopegate.caching.said import Said, lines_without, members_of, said_of, values_of
from scopegate.caching.stored import Stored
from scopegate.caching.vary import selecting, vary_names
from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from scopegate.policy.policy import CacheRule

MAX_TAGS = 100
MAX_TAG_BYTES = 256
UNDERSTOOD = frozenset([200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501])
"""Statuses of which we know what a cache has to know (`must-understand`, RFC 9111 5.2.2.3)."""
_NEVER_KEPT = frozenset([b"age", b"cache-status", b"content-length"])
"""Made anew for each who gets it."""


class Unstorable(StrEnum):
    """Why an answer is not kept."""

    METHOD = "method"
    STATUS = "status"
    NO_STORE = "no_store"
    PRIVATE = "private"
    COOKIE = "set_cookie"
    VARY = "vary"
    AUTHORIZATION = "authorization"
    UNSAID = "unsaid"
    USELESS = "useless"
    SIZE = "size"
    LENGTH = "length"


class CacheRequest:
    """What of a request matters for its answer: `url` as a purge names it, `said` are its fields as the app sees them,
    `is_signed_in` on a route with sign-in, `is_covered` where every cookie stands in the key. `asked_s` is when it
    left for the app, and `seen` the last purge known then."""

    __slots__ = ("asked_s", "is_covered", "is_signed_in", "method", "no_store", "said", "seen", "url")

    def __init__(
        self,
        url: bytes,
        method: str,
        said: Said,
        *,
        is_signed_in: bool,
        is_covered: bool,
        no_store: bool,
        asked_s: float,
        seen: int,
    ) -> None:
        self.url = url
        self.method = method
        self.said = said
        self.is_signed_in = is_signed_in
        self.is_covered = is_covered
        self.no_store = no_store
        self.asked_s = asked_s
        self.seen = seen

    @property
    def is_personal(self) -> bool:
        """Whether its answer is for others only if the app says so."""
        return self.is_signed_in or b"authorization" in self.said


def judge(
    asked: CacheRequest, status: int, notes: Noted, length: int, rule: CacheRule, now_s: float, date: bytes
) -> Stored | Unstorable:
    """What is kept of an answer that came at `now_s` (Unix seconds), without its body, or why nothing is. `length` is
    the body's where it was told, else negative; `date` is for an answer without one (RFC 9110 6.6.1)."""
    said = said_of(notes.passed)
    directives = directives_of(said)
    vary = vary_names(said)
    freshness = freshness_of(status, said, directives, rule, now_s)
    reason = _forbidden(asked, status, said, directives, freshness, rule)
    if reason is not None:
        return reason
    if vary is None:
        return Unstorable.VARY
    if length > rule.max_object_bytes:
        return Unstorable.SIZE
    modified = _only(values_of(said, b"last-modified"))
    date_s = only_date(values_of(said, b"date"), now_s)
    kept = lines_without(notes.passed, _NEVER_KEPT | directives.names(b"no-cache") | directives.names(b"private"))
    if not values_of(said, b"date"):
        kept.append(b"date: %b\r\n" % date)
    stored = Stored(
        asked.url,
        status,
        Noted(kept, RESPONSE_RULES),
        b"",
        born_s=now_s - initial_age_s(values_of(said, b"age"), date_s, asked.asked_s, now_s),
        freshness=freshness,
        vary=vary,
        selected=selecting(vary, asked.said),
        etag=_only(values_of(said, b"etag")),
        modified=modified,
        modified_s=only_date([modified], now_s),
        tags=tags_of(said),
        is_implicit=not freshness.is_said,
        seen=asked.seen,
    )
    useful = stored.left_s(now_s) > 0 or stored.is_askable() or freshness.while_revalidate_s or freshness.if_error_s
    return stored if useful else Unstorable.USELESS


def _forbidden(
    asked: CacheRequest, status: int, said: Said, directives: Directives, freshness: Freshness, rule: CacheRule
) -> Unstorable | None:
    """The first rule against keeping it."""
    if asked.method != "GET":
        return Unstorable.METHOD
    if status < 200 or status in (206, 304):
        return Unstorable.STATUS
    understood = directives.has(b"must-understand") and status in UNDERSTOOD
    if asked.no_store or directives.is_doubtful or (directives.has(b"no-store") and not understood):
        return Unstorable.NO_STORE
    if directives.has(b"must-understand") and status not in UNDERSTOOD:
        return Unstorable.STATUS
    if directives.forbids_whole(b"private"):
        return Unstorable.PRIVATE
    left_out = directives.names(b"no-cache") | directives.names(b"private")
    if b"set-cookie" in said and b"set-cookie" not in left_out:
        return Unstorable.COOKIE
    if asked.is_personal and not _is_for_others(asked, directives, freshness):
        return Unstorable.AUTHORIZATION
    if not freshness.is_said and status not in HEURISTIC_STATUSES:
        return Unstorable.STATUS
    if not freshness.is_said and not asked.is_covered:
        return Unstorable.UNSAID
    return None


def _is_for_others(asked: CacheRequest, directives: Directives, freshness: Freshness) -> bool:
    """RFC 9111 3.5; on a route with sign-in only what the app calls public, or names a time of shared caches for."""
    if asked.is_signed_in:
        return directives.has(b"public") or directives.has(b"s-maxage")
    return freshness.is_shared


def tags_of(said: Said) -> list[bytes]:
    """The tags that the app gave an answer, for purges: Cache-Tag's members, Surrogate-Key's words."""
    tags = [*members_of(said, b"cache-tag")]
    tags += [word for value in values_of(said, b"surrogate-key") for word in value.split()]
    return [tag for tag in dict.fromkeys(tags) if len(tag) <= MAX_TAG_BYTES][:MAX_TAGS]


def _only(values: Sequence[bytes]) -> bytes:
    return values[0] if len(values) == 1 else b""
