"""What each client has of what is bounded: connections, requests in flight, streams, bytes held. Exact counts by limit
group, in this process.

Called when one begins and once when it is over. A group that has none is not remembered, so what is kept is bounded by
what is open.
"""

from __future__ import annotations


class Crowd:
    """Counts by limit group (an IPv4 address, an IPv6 /64)."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, group: str, most: int) -> bool:
        """Count one more, unless the group has `most` already. Who was let in must `leave`, exactly once."""
        count = self._open.get(group, 0)
        if count >= most:
            return False
        self._open[group] = count + 1
        return True

    def leave(self, group: str) -> None:
        count = self._open[group] - 1
        if count:
            self._open[group] = count
        else:
            del self._open[group]

    def add(self, group: str, amount: int) -> None:
        """Count `amount` more, or fewer where it is negative. It has to be taken back by its end."""
        count = self.of(group) + amount
        if count:
            self._open[group] = count
        else:
            self._open.pop(group, None)

    def of(self, group: str) -> int:
        return self._open.get(group, 0)

    def __len__(self) -> int:
        """How many groups have any."""
        return len(self._open)
