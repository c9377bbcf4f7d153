"""What a process and its children have used, out of /proc: CPU time and resident memory. Linux only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.M)


def family(pid: int) -> list[int]:
    """The process and its living children, theirs too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_s(pid: int) -> dict[int, float]:
    """User and system seconds of each member of the family, all threads."""
    return {member: _ticks(Path(f"/proc/{member}/stat").read_text()) / _TICK for member in family(pid)}


def _ticks(stat: str) -> int:
    fields = stat.rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def used_s(before: Mapping[int, float], after: Mapping[int, float]) -> dict[int, float]:
    """Seconds per member between two looks. A member that ended in between is not counted."""
    return {member: seconds - before.get(member, 0.0) for member, seconds in after.items()}


def rss_bytes(pid: int) -> int:
    """Resident memory of the family."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


def forget_peak(pid: int) -> None:
    """Let `peak_bytes` speak of the time from here on. Where the kernel forbids it, the peak is that since the start:
    never too low."""
    for member in family(pid):
        with suppress(OSError):
            Path(f"/proc/{member}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most resident memory since `forget_peak`: the members' peaks added up, which may lie at different times."""
    texts = [Path(f"/proc/{member}/status").read_text() for member in family(pid)]
    return sum(int(found[1]) * 1024 for text in texts if (found := _PEAK.search(text)))
