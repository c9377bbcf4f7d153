"""Who may take how much of a memory that is short: nobody's flood leaves the others without.

A network holds at most what is still free after it: one that takes all it can gets half, two get a third each, k of
them 1/(k+1), and as much is left for everybody else (dynamic thresholds, Choudhury and Hahne 1998). Small networks are
measured so (/24, /48), and large ones (/16, /32) by four times what is free, so that many small ones of one owner leave
a fifth. Pure. Used by `stores/memory`; the reasoning stands in `docs/limits.md`.
"""

from __future__ import annotations

from array import array

_SMALL = 1 << 16  # counters; networks whose hashes meet share one, and what they hold adds up
_LARGE = 1 << 14
_LARGE_SHARE = 4
COUNTERS_BYTES = 4 * (_SMALL + _LARGE)


def networks(origin: str) -> tuple[int, int]:
    """The small and the large network of an address, or of an IPv6 prefix of /48 or longer, in canonical text, each as
    the number of its counter, from 1. (0, 0) for an empty text: no network pays."""
    if not origin:
        return 0, 0
    if ":" in origin:
        groups = [*origin.partition("::")[0].split(":"), "0", "0"]
        small, large = ":".join(groups[:3]), ":".join(groups[:2])
    else:
        small = origin.rpartition(".")[0]
        large = small.rpartition(".")[0]
    return hash(small) % (_SMALL - 1) + 1, hash(large) % (_LARGE - 1) + 1


class Shares:
    """`max_bytes` to give away, less than 4 GiB; `used_bytes` of it are taken."""

    __slots__ = ("_large", "_small", "max_bytes", "used_bytes")

    def __init__(self, max_bytes: int) -> None:
        assert 0 < max_bytes < 1 << 32
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._small = array("I", bytes(4 * _SMALL))
        self._large = array("I", bytes(4 * _LARGE))

    def has_room(self, small: int, large: int, held_bytes: int, wanted_bytes: int) -> bool:
        """Whether these networks may take so much. What no network pays for is measured by what it holds itself."""
        free = self.max_bytes - self.used_bytes - wanted_bytes
        if not small:
            return held_bytes <= free
        return self._small[small] <= free and self._large[large] <= _LARGE_SHARE * free

    def take(self, small: int, large: int, taken_bytes: int) -> None:
        """`taken_bytes` is negative for what is given back."""
        self.used_bytes += taken_bytes
        if small:
            self._small[small] += taken_bytes
            self._large[large] += taken_bytes
