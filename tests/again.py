"""`make test`: every test, then what failed once more, alone. A busy machine must not decide, and must not hide much
either: what passed only alone is printed by name, and more than two such names are a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MOST_UNSTEADY = 2
_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def run(all_tests: Sequence[str], alone: Sequence[str], cwd: Path) -> int:
    """The exit code. `all_tests` and `alone` are pytest's arguments for the first and the second run."""
    pytest = [sys.executable, "-m", "pytest"]
    code = subprocess.run([*pytest, "--cache-clear", *all_tests], cwd=cwd).returncode
    failed = _names(cwd / _FAILED)
    if code != 1 or not failed:  # all passed, or nothing could run
        return code
    code = subprocess.run([*pytest, "--last-failed", *alone], cwd=cwd).returncode
    if code != 0:
        return code
    print("passed only when asked again, alone:", *failed, sep="\n  ", flush=True)
    return 1 if len(failed) > MOST_UNSTEADY else 0


def _names(cache: Path) -> list[str]:
    return sorted(json.loads(cache.read_text("utf-8"))) if cache.exists() else []


def bounds(more: Sequence[str]) -> list[str]:
    """What the time-out of a test cannot end (a wait in C, a clean-up that waits for ever) ends with its process: a
    failure with a name, not a hang. Full sizes take their time."""
    return [] if "--full" in more else ["-o", "faulthandler_timeout=240"]


if __name__ == "__main__":
    words = [*bounds(sys.argv[1:]), *sys.argv[1:]]
    sys.exit(run(["-n", "2", *words], words, Path.cwd()))
