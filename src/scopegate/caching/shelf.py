"""The answers that one process keeps, by key: bounded in bytes, and who was not asked for longest goes first.

Pure. Under one key stand the variants that a Vary made, the newest first; how many is bounded, so that a field with ten
thousand values takes no other page's place. Beside them it is remembered which keys gave answers that cannot be kept.
"""

from __future__ import annotations

from collections import OrderedDict

from scopegate.caching.purges import Purges, PurgeStanding
from scopegate.caching.said import Said
from scopegate.caching.stored import Stored
from scopegate.caching.vary import selecting

MAX_VARIANTS = 64
MAX_SHUNNED = 10_000
KEPT_BEYOND_S = 86_400.0
"""How long a stale answer that the app can be asked about is kept."""


class Shelf:
    """`bytes` are taken, of at most `most_bytes`."""

    __slots__ = ("_keys", "_shunned", "_stacks", "bytes", "count", "most_bytes", "purges")

    def __init__(self, most_bytes: int, purges: Purges) -> None:
        self.most_bytes = most_bytes
        self.purges = purges
        self.bytes = 0
        self.count = 0
        self._stacks: OrderedDict[bytes, list[Stored]] = OrderedDict()
        self._keys: dict[bytes, list[bytes]] = {}
        """By URL."""
        self._shunned: OrderedDict[bytes, float] = OrderedDict()

    def find(self, key: bytes, request: Said) -> Stored | None:
        """The newest answer that this request may get by its Vary, unless it was purged."""
        stack = self._stacks.get(key)
        if stack is None:
            return None
        stored = _chosen(stack, request)
        if stored is None:
            return None
        if stored.seen != self.purges.last:
            standing = self.purges.standing(stored)
            if standing is PurgeStanding.GONE:
                self.drop(key, stored)
                return None
            stored.is_outdated = stored.is_outdated or standing is PurgeStanding.OUTDATED
            stored.seen = self.purges.last
        self._stacks.move_to_end(key)
        return stored

    def has(self, key: bytes) -> bool:
        """Whether anything is kept there, for whatever request."""
        return key in self._stacks

    def put(self, key: bytes, stored: Stored) -> bool:
        """In place of what had the same Vary values; False where it has no room of its own."""
        if stored.size_bytes > self.most_bytes:
            return False
        stack = self._stacks.get(key)
        if stack is None:
            stack = self._stacks[key] = []
            self._keys.setdefault(stored.url, []).append(key)
        for old in stack:
            if old.vary == stored.vary and old.selected == stored.selected:
                stack.remove(old)
                self._count_out(old)
                break
        stack.insert(0, stored)
        self.bytes += stored.size_bytes
        self.count += 1
        if len(stack) > MAX_VARIANTS:
            self._count_out(stack.pop())
        self._stacks.move_to_end(key)
        self._make_room()
        self._shunned.pop(key, None)
        return True

    def resize(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self.bytes > self.most_bytes:
            self._drop_stack(next(iter(self._stacks)))

    def drop(self, key: bytes, stored: Stored) -> None:
        stack = self._stacks.get(key)
        if stack is None or stored not in stack:
            return
        if len(stack) == 1:
            self._drop_stack(key)
        else:
            stack.remove(stored)
            self._count_out(stored)

    def drop_url(self, url: bytes) -> None:
        """Whatever is kept of it, in all variants."""
        for key in list(self._keys.get(url, ())):
            self._drop_stack(key)

    def clear(self) -> None:
        self._stacks.clear()
        self._keys.clear()
        self.bytes = self.count = 0

    def _drop_stack(self, key: bytes) -> None:
        stack = self._stacks.pop(key)
        for each in stack:
            self._count_out(each)
        url = stack[0].url
        keys = self._keys[url]
        keys.remove(key)
        if not keys:
            del self._keys[url]

    def _count_out(self, stored: Stored) -> None:
        self.bytes -= stored.size_bytes
        self.count -= 1

    # ── what cannot be kept ─────────────────────────────────────────────────────────────────────────────────────────

    def shun(self, key: bytes, until_s: float) -> None:
        """Nobody waits for another's answer to this until then: it would not be for them."""
        self._shunned[key] = until_s
        self._shunned.move_to_end(key)
        if len(self._shunned) > MAX_SHUNNED:
            self._shunned.popitem(last=False)

    def is_shunned(self, key: bytes, now_s: float) -> bool:
        until_s = self._shunned.get(key)
        if until_s is None:
            return False
        if until_s > now_s:
            return True
        del self._shunned[key]
        return False


def _chosen(stack: list[Stored], request: Said) -> Stored | None:
    """The first that the request matches by its Vary."""
    vary: tuple[bytes, ...] = ()
    mine = b""
    for stored in stack:
        if stored.vary != vary:
            vary, mine = stored.vary, selecting(stored.vary, request)
        if stored.selected == mine:
            return stored
    return None
