"""What tells that a file has changed, without reading it. Called by whoever reads a policy and by `reload`."""

from __future__ import annotations

import os
from collections.abc import Iterable

Stamp = dict[str, tuple[int, int, int, int] | None]
"""By path: (device, inode, mtime in ns, size) of what it leads to; None for what cannot be looked at."""


def stamp(files: Iterable[str]) -> Stamp:
    """Sees writes in place, renames over a file, and mounted folders whose link is swapped."""
    return {file: _stamp(file) for file in files}


def _stamp(file: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
