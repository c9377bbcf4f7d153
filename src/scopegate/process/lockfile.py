"""Locks that live with their process: the kernel lets go of one when its holder ends, however it ends (flock(2)).

A lock belongs to an open file. Who holds one keeps the descriptor and closes it to let go; a fork without exec would
share it, which is why descriptors are closed on exec and by whoever forks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Lock the open file or folder for its process alone. False while another holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def create(path: Path, mode: int) -> int:
    """A file that is locked before anybody sees it under its name, in place of what a dead process left there. The
    descriptor that holds the lock. Raises OSError."""
    entering = path.with_suffix(".entering")
    entering.unlink(missing_ok=True)
    descriptor = os.open(entering, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        entering.rename(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of this file. A file that we may not open counts as held."""
    with abandoned(path) as free:
        return not free


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of this file, or the file is gone; until the end of the block nobody can take it.
    Readers share it, so that none takes another for the holder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except PermissionError:
        yield False
        return
    try:
        yield _is_free(descriptor) and not _was_replaced(path, descriptor)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _was_replaced(path: Path, descriptor: int) -> bool:
    """Whether a process that lives has created the file anew since it was opened."""
    try:
        return os.stat(path).st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
