"""What the C library keeps of freed memory. A gateway frees a buffer for every read: glibc would give the top of the
heap back to the kernel each time and fetch it again, page by page (measured: a quarter of the CPU time of a 1 MB
answer). What is kept without use is what a start leaves behind: holes that serving never fills.

Called when a gateway process starts. Elsewhere than on glibc nothing happens.
"""

from __future__ import annotations

import sys
from typing import Any

KEPT_BYTES = 8 * 1024 * 1024
"""The most that stays at the top of the heap."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_MIB = 1024 * 1024


def keep_freed_memory() -> bool:
    """Whether the C library was told."""
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    settings = {_M_TRIM_THRESHOLD: KEPT_BYTES, _M_TOP_PAD: _MIB, _M_MMAP_THRESHOLD: _MIB}
    told = [mallopt(name, value) for name, value in settings.items()]
    return told == [1] * len(settings)


def give_back() -> bool:
    """Return whole free pages, also from between what is in use, to the kernel. Whether there were any. Takes
    milliseconds, and the pages that serving needs are fetched once more: not for the hot path."""
    trim = _function("malloc_trim")
    return trim is not None and trim(0) == 1


def _function(name: str) -> Any:
    """Of the C library, or None where it has no such function, as musl."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), name, None)
