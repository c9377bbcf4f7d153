"""A share of a core for each of some processes, by control groups: how more workers can be measured on few cores.

When every process is held to the same small share, app and load have CPU to spare, and what is left is the question
whether twice the processes do twice the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 10_000


def possible() -> bool:
    """Whether this machine lets us make such a group."""
    group = None
    try:
        group = _group(f"scopegate-bench-{os.getpid()}")
        _cap(group, _PERIOD_US)
    except OSError:
        return False
    finally:
        if group is not None:
            _release(group)
    return True


@contextmanager
def capped(pids: Sequence[int], cores: float) -> Iterator[None]:
    """Each of `pids` may use `cores` of a core. Raises OSError where that is not `possible`."""
    groups: list[Path] = []
    try:
        for pid in pids:
            groups.append(_group(f"scopegate-bench-{os.getpid()}-{pid}"))
            _cap(groups[-1], round(cores * _PERIOD_US))
            (groups[-1] / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            _release(group)


def _parent() -> Path:
    return _ROOT if (_ROOT / "cgroup.controllers").exists() else _ROOT / "cpu"


def _group(name: str) -> Path:
    group = _parent() / name
    group.mkdir()
    return group


def _cap(group: Path, quota_us: int) -> None:
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))
    else:
        with (group / "cpu.max").open("r+") as file:  # never create it: a plain folder caps nothing
            file.write(f"{quota_us} {_PERIOD_US}")


def _release(group: Path) -> None:
    """Hand its processes back to the parent and remove it."""
    with suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (_parent() / "cgroup.procs").write_text(pid)
        group.rmdir()
