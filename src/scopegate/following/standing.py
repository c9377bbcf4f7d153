"""What each process says of the policy it serves, in a folder of the state directory, for `scopegate reload` to read.

A process holds a lock on its file while it lives, so that a pid that was given to somebody else is never taken for one
of ours; what dead processes left is swept by whoever reads. Containers may share the folder: a pid means something
among the processes of one host only, and every word says of which. Knows nothing of what a policy is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

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
        entering = self._path.with_suffix(".entering")
        with suppress(FileNotFoundError):
            entering.unlink()
        self._handle = os.open(entering, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._path.unlink(missing_ok=True)
        entering.rename(self._lock)  # seen only once locked
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
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == os.stat(lock).st_ino:
            for path in _of(lock):
                path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
    return True


def _of(lock: Path) -> Iterable[Path]:
    return (lock.with_suffix(".json"), lock.with_suffix(".fresh"), lock)


def _read(lock: Path) -> Standing | None:
    try:
        said = json.loads(lock.with_suffix(".json").read_text("utf-8"))
        return Standing(**said | {name: tuple(said[name]) for name in ("problems", "needs_restart")})
    except (OSError, ValueError, TypeError, KeyError):
        return None
