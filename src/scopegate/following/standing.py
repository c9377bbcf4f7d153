"""What each process says of the policy it serves, in a folder of the state directory, for `scopegate reload` to read.

A process holds a lock on its file while it lives, so that a pid that was given to somebody else is never taken for one
of ours; what dead processes left is swept by whoever reads. Containers may share the folder: a pid means something
among the processes of one host only, and every word says of which. Knows nothing of what a policy is.
"""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from scopegate import jsontext
from scopegate.process import lockfile

FOLDER = "gateway"
_MAX_PROBLEMS = 50
_MAX_CHARS = 500


def here() -> str:
    """Names the processes among which a pid of ours means us: the host, and the container on it if there is one."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{socket.gethostname()[:64]} {space}").strip("-")


@dataclass(frozen=True, slots=True)
class Standing:
    """`leader` is the pid of the process that reads the file and hears SIGHUP: a gateway's supervisor, or itself.
    `heard` is how many requests to reload it had got when its last reload began; `outcome` is empty before the first.
    `processes` is how many processes serve for a leader that serves nothing itself, when all of them do; 0 for another.
    """

    pid: int
    leader: int
    config: str
    digest: str
    at_ms: int
    heard: int = 0
    outcome: str = ""
    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    processes: int = 0
    host: str = field(default_factory=here)


class Post:
    """This process's place in the folder, from `enter` to `leave`. Raises OSError where the folder is unusable."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._path = self._folder / f"{here()}-{os.getpid()}.json"
        self._lock = self._path.with_suffix(".lock")
        self._handle = -1

    def __enter__(self) -> Post:
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

    def say(self, standing: Standing) -> bool:
        """Replaces what was said before; a reader sees the one or the other. False when the disk refuses it: a process
        serves all the same."""
        bounded = asdict(standing) | {"problems": [text[:_MAX_CHARS] for text in standing.problems[:_MAX_PROBLEMS]]}
        fresh = self._path.with_suffix(".fresh")
        try:
            fresh.write_text(json.dumps(bounded), "utf-8")
            fresh.rename(self._path)
        except OSError:
            return False
        return True


def living(state_dir: Path) -> list[Standing]:
    """What the living processes last said. Those that have said nothing yet are left out."""
    found = (_read(lock) for lock in sorted((state_dir / FOLDER).glob("*.lock")) if not _swept(lock))
    return [standing for standing in found if standing is not None]


def _swept(lock: Path) -> bool:
    """Whether nobody holds it; what it belonged to is gone then."""
    with lockfile.abandoned(lock) as free, suppress(OSError):
        for path in (lock.with_suffix(".json"), lock.with_suffix(".fresh"), lock) if free else ():
            path.unlink(missing_ok=True)
    return free


def _read(lock: Path) -> Standing | None:
    try:
        said: Any = jsontext.parse(lock.with_suffix(".json").read_bytes(), max_depth=2)
        return Standing(**said | {name: tuple(said[name]) for name in ("problems", "needs_restart")})
    except (OSError, ValueError, TypeError, KeyError):
        return None
