"""An answer that is kept: its fields and body as they are given again, and how long that may be done.

Pure. Made by `storable` and `update`; never changed but for what is learnt of it: that it was purged softly, and up to
which purge it was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from scopegate.caching.freshness import Freshness
from scopegate.edge.headers import Noted

OVERHEAD_BYTES = 1500
"""What an entry takes in this process beside its bytes: objects, places in tables (measured)."""


class Stored:
    """`born_s` is when its age was 0, Unix seconds. `url` is host, path and query as a purge names them, `vary` the
    request fields it was chosen by and `selected` what its request had in them. `etag` and `modified` are as sent,
    empty where there is none; `modified_s` is None for what is no date. `seen` is the last purge it was held to.
    `is_implicit`: nobody said how long it may be kept, so only who shows no cookie beside the key gets it."""

    __slots__ = (
        "body",
        "born_s",
        "etag",
        "freshness",
        "is_implicit",
        "is_outdated",
        "modified",
        "modified_s",
        "notes",
        "seen",
        "selected",
        "status",
        "tags",
        "url",
        "vary",
    )

    def __init__(
        self,
        url: bytes,
        status: int,
        notes: Noted,
        body: bytes,
        *,
        born_s: float,
        freshness: Freshness,
        vary: tuple[bytes, ...],
        selected: bytes,
        etag: bytes,
        modified: bytes,
        modified_s: float | None,
        tags: Sequence[bytes],
        is_implicit: bool,
        seen: int,
    ) -> None:
        self.url = url
        self.status = status
        self.notes = notes
        self.body = body
        self.born_s = born_s
        self.freshness = freshness
        self.vary = vary
        self.selected = selected
        self.etag = etag
        self.modified = modified
        self.modified_s = modified_s
        self.tags = tuple(tags)
        self.is_implicit = is_implicit
        self.is_outdated = False
        """Purged softly: stale from then on."""
        self.seen = seen

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.born_s)

    def left_s(self, now_s: float) -> float:
        """How long it is fresh from now on; negative for how long it is stale."""
        if self.is_outdated:
            return min(0.0, self.freshness.lifetime_s - self.age_s(now_s))
        return self.freshness.lifetime_s - self.age_s(now_s)

    def is_askable(self) -> bool:
        """Whether the app can be asked if it is still the answer."""
        return bool(self.etag or self.modified)

    def ends_s(self, patience_s: float) -> float:
        """When nothing can be done with it any more, Unix seconds: `patience_s` is how long one that can be asked
        after is kept beyond its time."""
        freshness = self.freshness
        more_s = max(freshness.while_revalidate_s, freshness.if_error_s, patience_s if self.is_askable() else 0.0)
        return self.born_s + freshness.lifetime_s + more_s

    @property
    def size_bytes(self) -> int:
        lines = sum(map(len, self.notes.passed))
        return len(self.body) + lines * 3 + len(self.url) * 3 + len(self.selected) + OVERHEAD_BYTES
