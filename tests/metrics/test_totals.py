"""Real child processes write, die and come back; the sums never fall."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from scopegate.metrics import totals

CHILD = """
import sys
from pathlib import Path
from scopegate.metrics import exposition
assert exposition.prepare(Path(sys.argv[1]), sys.argv[2])
from scopegate.metrics import catalogue as metrics
for line in iter(sys.stdin.readline, ""):
    exec(line)
    print("ok", flush=True)
"""


class Child:
    """One process of a role; `do` runs a line in it."""

    def __init__(self, directory: Path, role: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.do("pass")

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Children:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Child] = []

    def start(self, role: str) -> Child:
        self.started.append(Child(self.directory, role))
        return self.started[-1]


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    group = Children(tmp_path)
    yield group
    for child in group.started:
        child.close()


def value(directory: Path, sample: str, **labels: str) -> float | None:
    for family in totals.read(directory).families:
        for found in family.samples:
            if found.name == sample and found.labels == labels:
                return found.value
    return None


def requests(directory: Path) -> float | None:
    return value(directory, "scopegate_requests_total", route="r", status="200")


def test_counts_of_all_processes_add_up(children: Children) -> None:
    children.start("gateway").do("metrics.REQUESTS.labels('r', '200').inc(3)")
    children.start("gateway").do("metrics.REQUESTS.labels('r', '200').inc(4)")
    assert requests(children.directory) == 7


def test_a_killed_process_keeps_its_counts_and_loses_its_gauges_and_files(children: Children) -> None:
    victim, witness = children.start("gateway"), children.start("gateway")
    for child in (victim, witness):
        child.do("metrics.REQUESTS.labels('r', '200').inc(5); metrics.IN_FLIGHT.inc(2)")
    assert value(children.directory, "scopegate_requests_in_flight") == 4
    victim.kill()
    for _ in range(3):
        assert requests(children.directory) == 10
        assert value(children.directory, "scopegate_requests_in_flight") == 2
    owners = {path.stem.rpartition("_")[2] for path in children.directory.glob("*.db")}
    assert len(owners) == 1
    assert len(list(children.directory.glob("*.alive"))) == 1


def test_totals_never_fall_over_restarts_and_files_do_not_pile_up(children: Children) -> None:
    seen, expected = [0.0], 0
    for round_ in range(5):
        group = [children.start("worker") for _ in range(2)]
        for child in group:
            child.do("metrics.REQUESTS.labels('r', '200').inc(1); metrics.AI_COST_USD.labels('m', 's').inc(0.1)")
            expected += 1
            seen.append(requests(children.directory) or 0.0)
        group[0].process.send_signal(signal.SIGKILL if round_ % 2 else signal.SIGTERM)
        group[0].process.wait()
        seen.append(requests(children.directory) or 0.0)
        group[1].kill()
        seen.append(requests(children.directory) or 0.0)
    assert seen == sorted(seen)
    assert seen[-1] == expected
    assert {path.name for path in children.directory.iterdir()} == {"archive.json", "sweep.lock"}


def test_histograms_fold_without_adding_up_twice(children: Children) -> None:
    for _ in range(2):
        child = children.start("gateway")
        child.do("[metrics.REQUEST_SECONDS.labels('r').observe(s) for s in (0.002, 0.02, 20.0, 99.0)]")
        child.kill()
        totals.sweep(children.directory)
    living = children.start("gateway")
    living.do("metrics.REQUEST_SECONDS.labels('r').observe(0.0001)")
    [family] = [f for f in totals.read(children.directory).families if f.name == "scopegate_request_seconds"]
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert buckets["0.001"] == 1
    assert buckets["0.0025"] == 3
    assert buckets["0.025"] == 5
    assert buckets["10.0"] == 5
    assert buckets["30.0"] == 7
    assert buckets["+Inf"] == 9
    [count] = [s.value for s in family.samples if s.name.endswith("_count")]
    assert count == 9


def test_what_a_process_never_set_says_nothing(children: Children) -> None:
    children.start("gateway").do("metrics.LIMIT_STORE_UP.set(1); metrics.BREAKER_OPEN.labels('ai')")
    children.start("worker")
    children.start("admin")
    assert value(children.directory, "scopegate_limit_store_up") == 1
    assert value(children.directory, "scopegate_breaker_open", breaker="ai") is None


def test_gauge_modes_over_living_processes(children: Children) -> None:
    one, two = children.start("gateway"), children.start("gateway")
    one.do("metrics.LIMIT_STORE_UP.set(0); metrics.POLICY_LOADED.set(100); metrics.BREAKER_OPEN.labels('ai').set(1)")
    two.do("metrics.POLICY_LOADED.set(90); metrics.BREAKER_OPEN.labels('ai').set(0.5)")
    assert value(children.directory, "scopegate_limit_store_up") == 0
    assert value(children.directory, "scopegate_policy_loaded_timestamp_seconds") == 100
    assert value(children.directory, "scopegate_breaker_open", breaker="ai") == 0.5
    one.kill()
    assert value(children.directory, "scopegate_limit_store_up") == 1


def test_living_processes_are_counted_by_role(children: Children) -> None:
    gateways = [children.start("gateway") for _ in range(2)]
    children.start("worker")
    assert totals.read(children.directory).processes == {"gateway": 2, "worker": 1}
    gateways[0].kill()
    assert totals.read(children.directory).processes == {"gateway": 1, "worker": 1}


def test_a_crash_between_archive_and_clearing_counts_nobody_twice(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("metrics.REQUESTS.labels('r', '200').inc(5)")
    child.kill()
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.db")}
    assert requests(tmp_path) == 5
    for path, content in kept.items():
        path.write_bytes(content)
    assert requests(tmp_path) == 5
    assert not list(tmp_path.glob("*.db"))
    assert requests(tmp_path) == 5


def test_folding_is_exact_where_floats_are_not(children: Children, tmp_path: Path) -> None:
    """0.1 added ten times in ten processes, read after each death: a sum one bit lower would be a false reset."""
    seen = []
    for _ in range(6):
        child = children.start("worker")
        child.do("metrics.AI_COST_USD.labels('m', 's').inc(0.1)")
        seen.append(value(tmp_path, "scopegate_ai_cost_usd_total", model="m", step="s"))
        child.kill()
        seen.append(value(tmp_path, "scopegate_ai_cost_usd_total", model="m", step="s"))
    assert seen == sorted(v for v in seen if v is not None)
    assert seen[0::2] == seen[1::2]


def test_adding_without_rounding() -> None:
    partials: list[float] = []
    for number in [1e16, 1.0, -1e16, 0.1] * 100:
        totals._grow(partials, number)
    exact = sum((Fraction(number) for number in [1e16, 1.0, -1e16, 0.1] * 100), Fraction())
    assert math.fsum(partials) == float(exact)


def test_a_second_text_of_help_is_still_one_series(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("metrics.REQUESTS.labels('r', '200').inc(5)")
    child.kill()
    totals.sweep(tmp_path)
    archive = json.loads((tmp_path / "archive.json").read_text())
    archive["series"]["counter"] = {
        raw.replace("Requests answered", "An older text"): sums for raw, sums in archive["series"]["counter"].items()
    }
    archive["series"]["gauge"] = {json.dumps(["scopegate_orders", "scopegate_orders", {}, "was a gauge"]): [1.0]}
    (tmp_path / "archive.json").write_text(json.dumps(archive))
    children.start("gateway").do("metrics.REQUESTS.labels('r', '200').inc(1)")
    found = [s for f in totals.read(tmp_path).families for s in f.samples if s.name == "scopegate_requests_total"]
    assert [s.value for s in found] == [6]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"{", b"[]", b'{"series": 3}'])
def test_a_damaged_archive_starts_anew(children: Children, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "archive.json").write_bytes(damage)
    children.start("gateway").do("metrics.REQUESTS.labels('r', '200').inc(1)")
    assert requests(tmp_path) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x40\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00" + bytes(52)])
def test_a_damaged_data_file_of_a_dead_process_is_cleared_away(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counter_gateway-host-1-00000000.db").write_bytes(content)
    assert totals.read(tmp_path).families == ()
    assert not list(tmp_path.glob("*.db"))


def test_readers_at_the_same_time_agree(children: Children, tmp_path: Path) -> None:
    """Four readers while processes die: each reading is at least the one before and never more than the truth."""
    reader = (
        "import sys, json\nfrom pathlib import Path\nfrom scopegate.metrics import totals\nseen = []\n"
        "for _ in range(60):\n"
        "    try: families = totals.read(Path(sys.argv[1])).families\n"
        "    except totals.DirectoryBusy: continue\n"
        "    seen.append(sum(s.value for f in families for s in f.samples if s.name == 'scopegate_requests_total'))\n"
        "print(json.dumps(seen))"
    )
    alive = [children.start("gateway") for _ in range(4)]
    for child in alive:
        child.do("metrics.REQUESTS.labels('r', '200').inc(10)")
    readers = [
        subprocess.Popen([sys.executable, "-c", reader, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)
    ]
    for child in alive:
        time.sleep(0.1)
        child.kill()
    for process in readers:
        output, _ = process.communicate(timeout=30)
        seen = json.loads(output)
        assert seen == sorted(seen)
        assert set(seen) <= {40}
    assert requests(tmp_path) == 40


def test_a_stopped_reader_does_not_hang_a_scrape(tmp_path: Path) -> None:
    with (tmp_path / "sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(totals.DirectoryBusy):
            totals.read(tmp_path)


def test_a_directory_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        totals.read(tmp_path / "gone")


def test_a_full_disk_keeps_the_files_of_the_dead(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("metrics.REQUESTS.labels('r', '200').inc(5)")
    child.kill()
    (tmp_path / "archive.new").mkdir()  # what a write meets: IsADirectoryError, an OSError like ENOSPC
    assert requests(tmp_path) == 5
    assert list(tmp_path.glob("counter_*.db"))
    (tmp_path / "archive.new").rmdir()
    assert requests(tmp_path) == 5
    assert not list(tmp_path.glob("*.db"))


def test_a_forked_child_counts_as_itself(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("metrics.REQUESTS.labels('r', '200').inc(1)")
    child.do(
        "import os; pid = os.fork(); "
        "pid == 0 and (metrics.REQUESTS.labels('r', '200').inc(10), os._exit(0)); os.waitpid(pid, 0)"
    )
    assert requests(tmp_path) == 11
    child.kill()
    assert requests(tmp_path) == 11


def test_both_text_formats_can_be_parsed(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("metrics.REQUESTS.labels('r\"\\n\\\\', '200').inc(1); metrics.REQUEST_SECONDS.labels('r').observe(1)")
    snapshot = totals.read(tmp_path)
    plain = list(parse_text(generate_latest(snapshot).decode()))
    strict = list(parse_openmetrics(openmetrics_text(snapshot).decode()))
    assert {f.name for f in plain} == {f.name for f in strict} == {f.name for f in snapshot.families}


def test_prepare_after_the_catalogue_is_an_error(tmp_path: Path) -> None:
    code = (
        "from scopegate.metrics import catalogue, exposition; from pathlib import Path\n"
        "exposition.prepare(Path('x'), 'worker')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "before the import" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_directory_that_cannot_be_used_leaves_counting_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = (
        "from scopegate.metrics import exposition; from pathlib import Path; import os\n"
        "print(exposition.prepare(Path('file'), 'worker'))\n"
        "from scopegate.metrics import catalogue as metrics; metrics.REQUESTS.labels('r', '200').inc()\n"
        "exposition.reserve(); print(exposition.active_directory(), 'PROMETHEUS_MULTIPROC_DIR' in os.environ)\n"
        "from prometheus_client import generate_latest; print('requests_total' in generate_latest().decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "None", "False", "True"]
    assert "metrics.directory_unusable" not in done.stdout


def test_an_inherited_directory_is_entered_as_other(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from scopegate.metrics import catalogue, totals\n"
        "print(totals.read(Path('.')).processes)"
    )
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "{'other': 1}"


def test_files_have_their_blocks_before_anything_is_counted(children: Children, tmp_path: Path) -> None:
    child = children.start("gateway")
    child.do("[metrics.REQUEST_SECONDS.labels(f'route-{n}') for n in range(300)]; exposition.reserve()")
    sizes = [(path.stat().st_size, path.stat().st_blocks * 512) for path in tmp_path.glob("*.db")]
    assert max(size for size, _ in sizes) > 256 * 1024
    assert all(allocated >= size for size, allocated in sizes)
