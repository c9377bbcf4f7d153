"""What a policy may say, and hardly means: writes that nobody limits or signs in for, limits by a user whom nobody
proves, a port that answers to any name. Warnings for `scopegate check` alone; a start does not repeat them.

Pure. Called by `compile`.
"""

from __future__ import annotations

from collections.abc import Iterator

from scopegate.policy.draft import Draft
from scopegate.policy.sections.keys import KeyKind
from scopegate.policy.sections.routes import RouteShape
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.sections.tiers import NO_TIER, TierShape
from scopegate.policy.tree import Fault, Loc

_WRITING = ("DELETE", "PATCH", "POST", "PUT")
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - looked for, not bound


def advice(draft: Draft) -> Iterator[Fault]:
    """In no order."""
    yield from _any_name(draft)
    for index, route in draft.listed("routes", RouteShape).items():
        yield from _writes(route, ("routes", index), draft)
        yield from _users(route, ("routes", index), draft)


def _any_name(draft: Draft) -> Iterator[Fault]:
    server = draft.one("server", ServerShape)
    if server is not None and server.hosts is None and server.listen.host in _EVERYWHERE:
        what = "answers on every address and to any Host: name what is served in `server.hosts`"
        yield draft.warning(("server", "listen"), what)


def _writes(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    methods = route.match.methods
    writing = [method for method in _WRITING if methods is None or method in methods]
    if not writing:
        return
    said = "ANY" if methods is None else " and ".join(writing)
    if route.tier == [NO_TIER]:
        what = f"writes ({said}) are not limited: name a tier, or match writes on a route of their own"
        yield draft.warning((*loc, "tier"), what)
    if route.auth is None:
        yield draft.warning((*loc, "match"), f"anybody may write ({said}): the route has no `auth`")


def _users(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    """Of a route that signs nobody in."""
    if route.auth is not None:
        return
    tiers = draft.named("tiers", TierShape)
    for name in dict.fromkeys(route.tier_names()):
        if name not in tiers:
            continue
        tier = tiers[name]
        if any(part is not None and part.kind is KeyKind.USER for part in tier.key):
            what = f"tier {name} counts by user, and the route has no `auth`: no user is ever known"
            yield draft.warning((*loc, "tier"), what)
        for key, listed in (("allow", tier.allow), ("deny", tier.deny)):
            if any(one.part is not None and one.part.kind in {KeyKind.USER, KeyKind.CLAIM} for one in listed):
                what = f"tier {name} lists users in `{key}`, and the route has no `auth`: nobody is ever one of them"
                yield draft.warning((*loc, "tier"), what)
