"""The whole: `scopegate demo --once --json` plays its story on real processes and it comes true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.demo.stage import clean
from scopegate.stores.embedded import known_binaries
from tests.engines import missing
from tests.flows.processes import is_running, left_running, scopegate, wait_until

KEYS = ["leads", "job", "ai", "accept_ms", "delivered", "metrics_families"]


@pytest.fixture(autouse=True)
def valkey() -> None:
    if next(iter(known_binaries()), None) is None:
        missing("Valkey")


@pytest.mark.timeout(180)
def test_the_story_comes_true(tmp_path: Path) -> None:
    env = clean(os.environ) | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "scopegate", "demo", "--once", "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == KEYS
    assert report["leads"] == {"sent": 15, "accepted": 10, "limited": 5}
    assert report["job"]["state"] == "done"
    assert [step["name"] for step in report["job"]["steps"]] == ["photo_analysis", "scope", "estimate", "save", "score"]
    assert {step["state"] for step in report["job"]["steps"]} == {"done"}
    assert (report["ai"]["calls"], report["ai"]["failed"]) == (5, 2)
    assert report["ai"]["cost_usd"] > 0
    assert report["delivered"] is True
    assert report["metrics_families"] > 20
    assert "simulated Claude" in done.stderr
    assert "\x1b[" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def children_of(pid: int) -> list[int]:
    """Every process below this one."""
    direct = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [below for child in direct for below in children_of(child)]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, {130}), (signal.SIGKILL, {-signal.SIGKILL})])
def test_nothing_outlives_the_demo(tmp_path: Path, number: signal.Signals, codes: set[int]) -> None:
    with scopegate(["demo"], tmp_path, {"TMPDIR": str(tmp_path)}) as demo:
        pids: list[int] = wait_until(lambda: found if len(found := children_of(demo.process.pid)) >= 7 else [])
        assert len(pids) >= 7, demo.errors.read_text()
        assert demo.stop(number) in codes
        assert left_running(pids, 15) == []
    assert not any(map(is_running, pids))


def test_live_without_a_key_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with scopegate(["demo", "--live", "--once"], tmp_path, {}) as demo:
        assert demo.process.wait(20) == 78
        assert demo.errors.read_text() == "ANTHROPIC_API_KEY: not set, and --live calls the real API with it\n"
