"""What operators may ask of limits: how a client stands in the tiers that count it, and to let it begin anew, ban it or
free it.

A client is named by its address, or by its key as tiers count it: `user:AUTH:NAME`, `header:NAME:VALUE`,
`cookie:NAME:VALUE` (or `#HASH` for the value, as `top` shows it), `claim:AUTH:NAME:VALUE`, `route:NAME`, `all`; parts
of one key are joined by commas. Called by the admin port and by `scopegate limits`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from scopegate.edge.caller import is_trusted, limit_group
from scopegate.edge.cookies import meant
from scopegate.limits.barriers import Ban, ban_key, ban_of
from scopegate.limits.window import Window, counted_as, window_key
from scopegate.policy.policy import KeyKind, KeyPart, Policy, Tier, WhenMissing
from scopegate.stores.ports import LimitDesk
from scopegate.types import Json

MAX_KEY_CHARS = 1000


class BadKey(ValueError):
    """Says what is wrong with a key."""


class Stand(NamedTuple):
    """A client's windows in one tier, and its ban there. `is_proxy`: all visitors come from there, it is never
    banned."""

    tier: Tier
    windows: tuple[Window, ...]
    ban: Ban | None
    is_proxy: bool = False


def stands(policy: Policy, key: str, secret: bytes) -> list[Stand]:
    """In every tier of the policy that counts by such a key. Raises BadKey, also where none does."""
    if not key or len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise BadKey(f"a key is 1 to {MAX_KEY_CHARS} printable characters")
    parts = key.split(",")
    is_proxy = any(is_trusted(part.partition("/")[0], policy.server.trusted_proxies) for part in parts)
    texts = {tier.name: _text(tier, key, secret) for tier in policy.tiers.values()}
    fitting = [tier for tier in policy.tiers.values() if _counts_by(tier, parts)]
    if policy.tiers and not fitting:
        raise BadKey("is counted by no tier of the policy: write a part for each of a tier's `key`, in that order")
    return [_stand(tier, counted_as(texts[tier.name], secret), is_proxy) for tier in fitting]


def _counts_by(tier: Tier, parts: Sequence[str]) -> bool:
    """Whether the tier could count a visitor so: part by part, or by the address for one that is missing."""
    return len(parts) == len(tier.key) and all(map(partial(_is_part, tier), tier.key, parts))


def _is_part(tier: Tier, part: KeyPart, text: str) -> bool:
    kind = text.partition(":")[0]
    if kind in set(KeyKind) - {KeyKind.CLIENT_IP, KeyKind.GLOBAL}:
        return kind == part.kind
    if text == "all":
        return part.kind is KeyKind.GLOBAL
    has_fallback = part.kind not in (KeyKind.ROUTE, KeyKind.GLOBAL) and tier.when_missing is WhenMissing.CLIENT_IP
    return part.kind is KeyKind.CLIENT_IP or has_fallback


def _stand(tier: Tier, counted: str, is_proxy: bool) -> Stand:
    windows = tuple(
        Window(f"{tier.name}/{n}" if n > 1 else tier.name, window_key(tier.name, quota, counted), quota)
        for n, quota in enumerate(tier.quotas, 1)
    )
    rule = tier.ban
    ban = None if rule is None else ban_of(tier.name, ban_key(tier.name, rule, counted), rule, "", 0, len(windows))
    return Stand(tier, windows, ban, is_proxy)


def _text(tier: Tier, key: str, secret: bytes) -> str:
    return "\n".join(_part(tier, part, secret) for part in key.split(","))


def _part(tier: Tier, part: str, secret: bytes) -> str:
    try:
        return f"ip:{limit_group(str(ip_address(part.partition('/')[0])), tier.ipv6_prefix)}"
    except ValueError:
        kind, _, rest = part.partition(":")
    if kind in ("header", "cookie"):  # what a visitor sends is kept as a hash alone
        name, _, value = rest.partition(":")
        name = name.lower() if kind == "header" else name
        if known := re.fullmatch("#([0-9a-f]{32})", value):
            return f"{kind}:{name}:{known[1]}"
        said = meant(value.encode()) if kind == "cookie" else value.encode()
        return f"{kind}:{name}:{hashlib.blake2b(said, digest_size=16, key=secret).hexdigest()}"
    if part != "all" and kind not in ("user", "claim", "route"):
        raise BadKey("is neither an address nor a key: write user:AUTH:NAME, header:NAME:VALUE, route:NAME or all")
    return part


async def show(desk: LimitDesk, found: Sequence[Stand]) -> list[dict[str, Json]]:
    """Of each window {tier, window, counted, limit, reset_ms}; of each ban {tier, banned_ms}."""
    windows = [window for stand in found for window in stand.windows]
    bans = [stand.ban.sentence for stand in found if stand.ban is not None]
    if not windows:
        return []
    counted = await desk.look([*windows, *bans])
    rows: list[dict[str, Json]] = [
        {
            "tier": window.name.partition("/")[0],
            "window": window.name,
            "counted": each.counted,
            "limit": window.quota.most,
            "reset_ms": each.left_ms,
        }
        for window, each in zip(windows, counted, strict=False)
    ]
    rows += [
        {"tier": ban.name, "banned_ms": each.left_ms} for ban, each in zip(bans, counted[len(windows) :], strict=True)
    ]
    return rows


async def reset(desk: LimitDesk, found: Sequence[Stand]) -> int:
    """Windows and bans begin anew; how many of them counted anything."""
    return await desk.forget([window for stand in found for window in (*stand.windows, *_of_ban(stand))])


async def ban(desk: LimitDesk, found: Sequence[Stand]) -> list[str]:
    """In every tier that has a `ban`, for as long as it says; their names. Raises BadKey where none has, and for a
    trusted proxy."""
    if any(stand.is_proxy for stand in found):
        raise BadKey("is a trusted proxy, from which all visitors come: it is never banned")
    bans = [stand.ban for stand in found if stand.ban is not None]
    if not bans:
        raise BadKey("no tier of the policy has a `ban`, which says for how long")
    await desk.sentence([each.sentence for each in bans])
    return [each.name for each in bans]


async def unban(desk: LimitDesk, found: Sequence[Stand]) -> int:
    """Bans end and their strikes are forgotten; how many there were."""
    windows = [window for stand in found for window in _of_ban(stand)]
    return await desk.forget(windows) if windows else 0


def _of_ban(stand: Stand) -> list[Window]:
    return [] if stand.ban is None else [stand.ban.strikes, stand.ban.sentence]
