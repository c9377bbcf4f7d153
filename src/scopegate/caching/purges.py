"""What was taken back before its time: by URL, by the beginning of one, or by tag, softly or for good.

Pure. A purge is remembered with its number and held against what is kept when that is next asked for: answers that were
fetched before it, in whatever process, are found out then, and nothing has to be searched. Numbers grow; those of
purges that are no longer remembered are at most `floor`, and what is older than that counts as purged.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from scopegate.caching.stored import Stored

MAX_REMEMBERED = 10_000
MAX_PREFIXES = 256


class PurgeKind(StrEnum):
    URL = "url"
    PREFIX = "prefix"
    TAG = "tag"
    ALL = "all"
    CHANGE = "change"


class Purge(NamedTuple):
    """A `CHANGE` is that of a URL by a request, which ends what is kept of it at once. Else `what` is a URL without its
    scheme (host, path and query), the beginning of one, or a tag; one that begins with `/` is of any host. `soft`: it
    becomes stale, and may be used as stale answers may."""

    kind: PurgeKind
    what: bytes
    soft: bool = False


class PurgeStanding(Enum):
    KEPT = "kept"
    OUTDATED = "outdated"
    GONE = "gone"


class _Marks:
    """The last purge of one thing, of each kind."""

    __slots__ = ("hard", "soft")

    def __init__(self) -> None:
        self.hard = 0
        self.soft = 0


class Purges:
    """`last` is the number of the newest purge that is known."""

    __slots__ = ("_marks", "_prefixes", "floor", "last")

    def __init__(self) -> None:
        self.last = 0
        self.floor = 0
        self._marks: dict[tuple[PurgeKind, bytes], _Marks] = {}
        self._prefixes: dict[bytes, _Marks] = {}

    def add(self, number: int, purge: Purge) -> None:
        """`number` is greater than all before."""
        assert number > self.last, (number, self.last)
        self.last = number
        if purge.kind is PurgeKind.CHANGE:
            return
        if purge.kind is PurgeKind.ALL and not purge.soft:
            self.forget(number)
            return
        if purge.kind is PurgeKind.PREFIX or purge.kind is PurgeKind.ALL:
            self._mark(self._prefixes.setdefault(purge.what, _Marks()), number, purge.soft)
        else:
            self._mark(self._marks.setdefault((purge.kind, purge.what), _Marks()), number, purge.soft)
        if len(self._marks) > MAX_REMEMBERED or len(self._prefixes) > MAX_PREFIXES:
            self.forget(number)

    def forget(self, number: int) -> None:
        """Everything that was fetched up to this purge counts as purged."""
        self.floor = self.last = max(number, self.last)
        self._marks.clear()
        self._prefixes.clear()

    def restart(self, number: int) -> None:
        """Who counts them has begun anew: what was fetched before is for `Shelf.clear` to let go."""
        self.last, self.floor = number, 0
        self._marks.clear()
        self._prefixes.clear()

    def standing(self, stored: Stored) -> PurgeStanding:
        """What became of a stored answer by the purges since it was last held to them."""
        seen = stored.seen
        if seen < self.floor:
            return PurgeStanding.GONE
        hard = soft = 0
        url, path = stored.url, stored.url[stored.url.find(b"/") :]
        found = [self._marks.get((PurgeKind.URL, each)) for each in (url, path)]
        found += [self._marks.get((PurgeKind.TAG, tag)) for tag in stored.tags]
        found += [
            marks
            for prefix, marks in self._prefixes.items()
            if (path if prefix[:1] == b"/" else url).startswith(prefix)
        ]
        for marks in found:
            if marks is not None:
                hard, soft = max(hard, marks.hard), max(soft, marks.soft)
        if hard > seen:
            return PurgeStanding.GONE
        return PurgeStanding.OUTDATED if soft > seen else PurgeStanding.KEPT

    @staticmethod
    def _mark(marks: _Marks, number: int, soft: bool) -> None:
        if soft:
            marks.soft = number
        else:
            marks.hard = number
