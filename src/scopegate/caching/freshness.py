"""How long an answer is fresh, and how long it may be used after that (RFC 9111 4.2, RFC 5861).

Pure. The app's word counts before the policy's; a word that cannot be read makes an answer stale.
"""

from __future__ import annotations

from collections.abc import Sequence

from scopegate.caching.dates import only_date
from scopegate.caching.directives import MAX_SECONDS, Directives, read_directives, read_targeted
from scopegate.caching.said import Said, values_of
from scopegate.policy.policy import CacheRule

MAX_HEURISTIC_S = 86_400.0
HEURISTIC_STATUSES = frozenset([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
"""Those whose answers may be kept where the app says nothing (RFC 9110 15.1); parts of one are not kept here."""


class Freshness:
    """`lifetime_s` counts from the answer's age 0. `is_said`: the app has said how it may be kept. `must_ask`: never
    used without asking (`no-cache`). `is_strict`: never used stale, whatever the policy says. `is_shared`: the app has
    said that others may have it (RFC 9111 3.5)."""

    __slots__ = ("if_error_s", "is_said", "is_shared", "is_strict", "lifetime_s", "must_ask", "while_revalidate_s")

    def __init__(
        self,
        lifetime_s: float,
        *,
        is_said: bool,
        must_ask: bool,
        is_strict: bool,
        is_shared: bool,
        while_revalidate_s: float,
        if_error_s: float,
    ) -> None:
        self.lifetime_s = lifetime_s
        self.is_said = is_said
        self.must_ask = must_ask
        self.is_strict = is_strict
        self.is_shared = is_shared
        self.while_revalidate_s = while_revalidate_s
        self.if_error_s = if_error_s


def directives_of(said: Said) -> Directives:
    """Those that hold for us: CDN-Cache-Control where there is one that can be read, alone (RFC 9213 2.2)."""
    targeted = read_targeted(values_of(said, b"cdn-cache-control"))
    return read_directives(values_of(said, b"cache-control")) if targeted is None else targeted


def freshness_of(status: int, said: Said, directives: Directives, rule: CacheRule, now_s: float) -> Freshness:
    """Of an answer that came at `now_s`, Unix seconds."""
    told_s = _told(said, directives, now_s)
    must_ask = directives.forbids_whole(b"no-cache") or directives.is_doubtful
    is_shared = any(directives.has(name) for name in (b"public", b"s-maxage", b"must-revalidate"))
    is_strict = must_ask or directives.has(b"must-revalidate") or directives.has(b"proxy-revalidate")
    is_said = told_s is not None or must_ask or directives.has(b"public")
    if told_s is None and (status in HEURISTIC_STATUSES or directives.has(b"public")):
        told_s = _assumed(said, rule, now_s)
    own = not is_strict and not directives.has(b"s-maxage")
    return Freshness(
        0.0 if told_s is None or must_ask else told_s,
        is_said=is_said,
        must_ask=must_ask,
        is_strict=is_strict or not own,
        is_shared=is_shared,
        while_revalidate_s=_window(
            directives, b"stale-while-revalidate", rule.stale_while_revalidate_s, is_strict=is_strict, own=own
        ),
        if_error_s=_window(directives, b"stale-if-error", rule.stale_if_error_s, is_strict=is_strict, own=own),
    )


def _told(said: Said, directives: Directives, now_s: float) -> float | None:
    """What the app says (RFC 9111 4.2.1)."""
    for name in (b"s-maxage", b"max-age"):
        seconds = directives.seconds(name)
        if seconds is not None:
            return float(seconds)
    expires = values_of(said, b"expires")
    if not expires:
        return None
    ends_s = only_date(expires, now_s)
    if ends_s is None:
        return 0.0
    date_s = only_date(values_of(said, b"date"), now_s)
    return min(max(0.0, ends_s - (now_s if date_s is None else date_s)), float(MAX_SECONDS))


def _assumed(said: Said, rule: CacheRule, now_s: float) -> float | None:
    """What the policy says where the app does not."""
    if rule.ttl_s:
        return rule.ttl_s
    changed_s = only_date(values_of(said, b"last-modified"), now_s)
    if not rule.heuristic or changed_s is None:
        return None
    date_s = only_date(values_of(said, b"date"), now_s)
    return min(max(0.0, ((now_s if date_s is None else date_s) - changed_s) * rule.heuristic), MAX_HEURISTIC_S)


def _window(directives: Directives, name: bytes, policy_s: float, *, is_strict: bool, own: bool) -> float:
    """How long after its end an answer may be used. The app's word counts also beside `s-maxage`, as every CDN reads
    it; the policy's does not (RFC 9111 5.2.2.10)."""
    if is_strict:
        return 0.0
    told_s = directives.seconds(name)
    if told_s is not None:
        return float(told_s)
    return policy_s if own else 0.0


def initial_age_s(ages: Sequence[bytes], date_s: float | None, asked_s: float, answered_s: float) -> float:
    """How old an answer was when it came (RFC 9111 4.2.3): by the first member of Age that is a number, and by its
    Date. `asked_s` and `answered_s` are when the request left and the answer came."""
    told = b",".join(ages).split(b",")[0].strip(b" \t")
    told_s = float(min(int(told), MAX_SECONDS)) if told.isdigit() and len(told) <= 15 else 0.0
    if told.isdigit() and len(told) > 15:
        told_s = float(MAX_SECONDS)
    apparent_s = 0.0 if date_s is None else max(0.0, answered_s - date_s)
    return max(apparent_s, told_s + max(0.0, answered_s - asked_s))
