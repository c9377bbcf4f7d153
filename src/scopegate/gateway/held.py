"""The bytes of request bodies that this process holds back: how many, whose, and whether there is room for more."""

from __future__ import annotations

from scopegate.gateway.crowd import Crowd

MAX_HELD_BYTES = 64 * 1024 * 1024
"""All together."""
SHARE_OF_HELD = 8
"""One client holds at most an eighth of that."""


class Held:
    """`bytes` are held, of at most `most_bytes`; `holders` counts them by limit group."""

    __slots__ = ("bytes", "holders", "most_bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self.most_bytes = MAX_HELD_BYTES
        self.holders = Crowd()

    def add(self, group: str, amount: int) -> None:
        """Count `amount` more of this client, or fewer where it is negative."""
        self.bytes += amount
        self.holders.add(group, amount)

    def may_add(self, group: str, amount: int, own: int = 0) -> bool:
        """Whether there is room for `amount` more of a body of this client, `own` bytes of which are held already. One
        client has its share of it, but a single body may be as large as its route allows."""
        if self.bytes + amount > self.most_bytes:
            return False
        held = self.holders.of(group)
        return held == own or held + amount <= self.most_bytes // SHARE_OF_HELD
