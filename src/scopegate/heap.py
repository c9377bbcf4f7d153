"""What the C library keeps of freed memory. A gateway frees a buffer for every read: glibc would give the top of the heap
back to the kernel each time and fetch it again, page by page (measured: a quarter of the CPU time of a 1 MB answer).

Called once, when a gateway process starts. Elsewhere than on glibc nothing happens.
"""

from __future__ import annotations

import sys

KEPT_BYTES = 8 * 1024 * 1024
"""The most that stays at the top of the heap."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_MIB = 1024 * 1024


def keep_freed_memory() -> bool:
    """Whether the C library was told."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    settings = {_M_TRIM_THRESHOLD: KEPT_BYTES, _M_TOP_PAD: _MIB, _M_MMAP_THRESHOLD: _MIB}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
