"""This process's place among those that count together: an identity, a lock that ends with it, files of its own.

Every process of every role (and container, over a shared volume) writes prometheus_client files into one directory and
holds a lock on a file named like itself while it lives; `totals` adds them up. The catalogue (`metrics`) chooses its
storage when it is imported: therefore `prepare` comes first, in `cli/{gateway,worker,admin}`, before `wiring` is
imported. Without it metrics count in this process only.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import sys
from pathlib import Path

from prometheus_client import values

from scopegate import logs
from scopegate.process import lockfile

log = logs.get("metrics")

_FILES = ("counter", "histogram", "gauge_livesum", "gauge_livemin", "gauge_livemax", "gauge_livemostrecent")
_FILE_BYTES = {"counter": 256 * 1024, "histogram": 256 * 1024}
ALIVE_SUFFIX = ".alive"
_ROLE = re.compile(r"[a-z]+")


class _Presence:
    """This process in the directory: an identity no other process has or had, and a lock that ends with it."""

    def __init__(self, directory: Path, role: str) -> None:
        self.directory, self.role = directory, role
        self.enter()

    def enter(self) -> None:
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
        self.identity = f"{self.role}-{host}-{os.getpid()}-{secrets.token_hex(4)}"  # no "_": file names are split there
        self.lock = lockfile.create(self.directory / (self.identity + ALIVE_SUFFIX), 0o660)
        try:
            for kind in _FILES:
                _allocate(self.directory / f"{kind}_{self.identity}.db", _FILE_BYTES.get(kind, 64 * 1024))
        except OSError:
            os.close(self.lock)  # a reader will clear away what is there
            raise

    def after_fork(self) -> None:
        """A child holds no lock of its parent's, and enters only when it counts something."""
        os.close(self.lock)
        self.identity = ""


_presence: _Presence | None = None


def prepare(directory: Path, role: str) -> bool:
    """Make this process one of `role` in `directory` (created when absent). False, with a warning logged, when the
    directory cannot be used: metrics then count in this process only. Comes before `scopegate.metrics` is imported."""
    if "scopegate.metrics.catalogue" in sys.modules:
        raise RuntimeError("exposition.prepare comes before the import of the catalogue")
    return _enter(directory, role)


def _enter(directory: Path, role: str) -> bool:
    global _presence
    assert _ROLE.fullmatch(role), "a role is one lower-case word"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o770)
        _presence = _Presence(directory, role)
    except OSError as unusable:
        log.warning("metrics.directory_unusable", directory=str(directory), error_code=_errno_name(unusable))
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        values.ValueClass = values.MutexValue
        return False
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    os.register_at_fork(after_in_child=_presence.after_fork)
    values.ValueClass = values.MultiProcessValue(process_identifier=_identity)
    return True


def adopt() -> None:
    """For a process that inherited `PROMETHEUS_MULTIPROC_DIR` and did not `prepare`: it counts there as role `other`.
    Called by the catalogue when it is imported."""
    if _presence is None and (inherited := os.environ.get("PROMETHEUS_MULTIPROC_DIR")):
        _enter(Path(inherited), "other")


def _identity() -> str:
    assert _presence is not None
    if not _presence.identity:
        _presence.enter()
    return _presence.identity


def active_directory() -> Path | None:
    """The directory given to `prepare`, None while metrics count in this process only."""
    return _presence.directory if _presence else None


def reserve() -> None:
    """Give every page of this process's files its disk block now: a write to a mapped page without one, on a disk that
    has become full, would kill the process (SIGBUS). Called after all series of a policy have been made."""
    if _presence is None or not hasattr(os, "posix_fallocate"):
        return
    for path in _presence.directory.glob(f"*_{_presence.identity}.db"):
        handle = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(handle, 0, os.fstat(handle).st_size)
        finally:
            os.close(handle)


def _allocate(path: Path, size_bytes: int) -> None:
    """A file of real zeros, not a hole (see `reserve`)."""
    with path.open("xb") as file:
        file.write(bytes(size_bytes))


def _errno_name(fault: OSError) -> str:
    return errno.errorcode.get(fault.errno or 0, "OSError")
