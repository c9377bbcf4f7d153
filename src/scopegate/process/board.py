"""A folder in which each process keeps one file of what it has to say, for others to read.

A process holds a lock beside its file while it lives, so that a pid that was given to somebody else is never taken for
one of ours; what dead processes left is swept by whoever reads. Containers may share the folder: a pid means something
among the processes of one host only, and every file's name says of which.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from scopegate.process import lockfile


def here() -> str:
    """Names the processes among which a pid of ours means us: the host, and the container on it if there is one."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{socket.gethostname()[:64]} {space}").strip("-")


class Note:
    """This process's file in `folder`, from `enter` to `leave`. Raises OSError where the folder is unusable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{here()}-{os.getpid()}.json"
        self._lock = self._path.with_suffix(".lock")
        self._handle = -1

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._handle = lockfile.create(self._lock, 0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in (self._path, self._lock):
            with suppress(OSError):
                path.unlink()
        os.close(self._handle)

    def write(self, text: str) -> bool:
        """Replaces what was written before; a reader sees the one or the other. False when the disk refuses it."""
        fresh = self._path.with_suffix(".fresh")
        try:
            fresh.write_text(text, "utf-8")
            fresh.rename(self._path)
        except OSError:
            return False
        return True


def living(folder: Path) -> Iterator[bytes]:
    """What the living processes last wrote. Those that have written nothing yet are left out."""
    for lock in sorted(folder.glob("*.lock")):
        if not _swept(lock):
            with suppress(OSError):
                yield lock.with_suffix(".json").read_bytes()


def _swept(lock: Path) -> bool:
    """Whether nobody holds it; what it belonged to is gone then."""
    with lockfile.abandoned(lock) as free, suppress(OSError):
        for path in (lock.with_suffix(".json"), lock.with_suffix(".fresh"), lock) if free else ():
            path.unlink(missing_ok=True)
    return free
