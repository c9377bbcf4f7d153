"""Hostile clients against a real gateway, from network namespaces of their own: deadlines hold, memory is bounded, and
a client with nothing to hide is served all the while.

The clients are processes (`hostile`), so is the app (`hostile_app`). Without `--full` fewer of them come. How long a
thing takes decides nothing here, for machines are noisy; with `--full` the figures are printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engines import missing
from tests.flows.processes import Scopegate, scopegate, wait_until

KIB, MIB = 1024, 1024 * 1024
EDGE, OUTSIDE, CANARY = "10.213.0.1", "10.213.0.2", "10.213.0.3"
ADDRESSES = [f"10.213.1.{n}" for n in range(1, 21)]
FILES = 20_000
HEAD_S = BODY_IDLE_S = 2.0
BODY_S = 4.0

POLICY = f"""\
version: 1
server:
  listen: "{EDGE}:8080"
  limits: {{body: 1MiB, connections: 8192, connections_per_client: 400, in_flight_per_client: 400}}
  timeouts: {{head: 2s, body_idle: 2s, body: 4s, keep_alive: 4s, drain: 1s}}
upstreams: {{web: {{servers: ["http://127.0.0.1:%s"]}}}}
routes:
  - {{name: upload, match: POST /upload, tier: none, body: {{max: 32MiB}}}}
  - {{name: all, match: ANY /**, tier: none}}
"""

pytestmark = pytest.mark.timeout(180)


def inside(namespace: str) -> list[str]:
    """The command that runs another one in a namespace, with room for many sockets."""
    return ["ip", "netns", "exec", namespace, "prlimit", f"--nofile={FILES}:{FILES}"]


class House:
    """The namespaces, the app and the gateway in one of them, clients in the other."""

    def __init__(self, edge: str, outside: str, folder: Path) -> None:
        self.edge, self.outside, self.folder = edge, outside, folder
        self.figures: list[tuple[str, str, str]] = []
        self.gateway: Scopegate

    def start(self, kind: str, **options: Any) -> subprocess.Popen[str]:
        asked = json.dumps({"host": EDGE, "port": 8080, **options})
        command = [*inside(self.outside), sys.executable, "-m", "tests.flows.hostile", kind, asked]
        root = Path(__file__).parents[2]
        return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, kind: str, **options: Any) -> dict[str, Any]:
        with self.running(kind, **options) as result:
            pass
        return result

    @contextmanager
    def running(self, kind: str, *, holds: bool = False, **options: Any) -> Iterator[dict[str, Any]]:
        """While it runs; what it saw is in the mapping afterwards. One that `holds` is let go at the end."""
        seen: dict[str, Any] = {}
        process = self.start(kind, **options)
        assert process.stdout is not None
        try:
            if holds:
                assert process.stdout.readline() == "ready\n"
            yield seen
            told, _ = process.communicate("", timeout=60)
            seen |= json.loads(told.splitlines()[-1])
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def is_up(self) -> bool:
        command = [
            *inside(self.outside),
            sys.executable,
            "-c",
            f"import socket; socket.create_connection(('{EDGE}', 8080))",
        ]
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0

    def rss_bytes(self, line: str = "VmRSS") -> int:
        status = Path(f"/proc/{self.gateway.process.pid}/status").read_text()
        (found,) = [each for each in status.splitlines() if each.startswith(line + ":")]
        return int(found.split()[1]) * KIB

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.gateway.process.pid}/fd"))

    @contextmanager
    def growth(self) -> Iterator[list[int]]:
        """How much the gateway's memory grew at its highest, in the list's only place afterwards."""
        grown: list[int] = []
        before = self.rss_bytes()
        Path(f"/proc/{self.gateway.process.pid}/clear_refs").write_text("5")  # the peak begins here
        yield grown
        grown.append(self.rss_bytes("VmHWM") - before)

    def note(self, part: str, promised: str, measured: str) -> None:
        self.figures.append((part, promised, measured))


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing("root and ip, for network namespaces")
    edge, outside = f"edge-{os.getpid()}", f"outside-{os.getpid()}"
    try:
        try:
            ip(f"netns add {edge}")
        except subprocess.CalledProcessError:
            missing("network namespaces")
        ip(f"netns add {outside}")
        ip(f"link add eth0 netns {edge} type veth peer name eth0 netns {outside}")
        ip(f"-n {edge} addr add {EDGE}/16 dev eth0")
        for address in (OUTSIDE, CANARY, *ADDRESSES):
            ip(f"-n {outside} addr add {address}/16 dev eth0")
        for namespace in (edge, outside):
            ip(f"-n {namespace} link set lo up")
            ip(f"-n {namespace} link set eth0 up")
        yield edge, outside
    finally:
        for namespace in (edge, outside):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


@contextmanager
def app_in(namespace: str) -> Iterator[int]:
    command = [*inside(namespace), sys.executable, "-m", "tests.flows.hostile_app"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, full: bool, request: pytest.FixtureRequest) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("hostile")
    with ExitStack() as stack:
        edge, outside = stack.enter_context(namespaces())
        port = stack.enter_context(app_in(edge))
        (folder / "gateway.yaml").write_text(POLICY % port)
        made = House(edge, outside, folder)
        made.gateway = stack.enter_context(scopegate(["gateway", "-c", "gateway.yaml"], folder, {}, inside(edge)))
        assert wait_until(made.is_up, 15.0), made.gateway.errors.read_text()
        app_says(made, "/small")  # the first of anything loads code
        yield made
    if full:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            for part, promised, measured in [("part", "promised", "measured"), *made.figures]:
                print(f"\n{part:<34} | {promised:<32} | {measured}", end="")  # noqa: T201
            print()  # noqa: T201


@pytest.fixture
def canary(house: House) -> Iterator[dict[str, Any]]:
    """A client that asks for small things all through the test, and must not notice."""
    before = house.descriptors()
    with house.running("canary", holds=True, source=CANARY) as seen:
        yield seen
    assert seen["failures"] == []
    assert seen["asked"] >= 1
    name = os.environ["PYTEST_CURRENT_TEST"].partition("::test_")[2].partition(" ")[0]
    house.note(f"  canary, {name[:24]}", "p99 < 250 ms, 0 failures", f"p99 {seen['p99_ms']} ms of {seen['asked']}")
    assert wait_until(lambda: house.descriptors() <= before + 5, 10.0)


def held(seen: dict[str, Any], deadline_s: float, status: int) -> None:
    """It was ended, and not before its time."""
    assert seen["status"] == status, seen
    assert seen["seconds"] >= deadline_s - 0.3, seen


# ── too much (first: the memory that crowds leave behind would hide what these take) ──────────────────────────────────


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("kind", ["upload", "upload_chunked"])
def test_a_large_upload_passes_through(house: House, kind: str) -> None:
    with house.growth() as grown:
        seen = house.run(kind)
    house.note(f"25 MiB {kind.replace('_', ', ')}", "passes, <= +4 MiB", f"{seen}, +{grown[0] / MIB:.2f} MiB")
    assert seen == {"status": 200, "taken": 25 * MIB}
    assert grown[0] <= 8 * MIB


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(
    ("kind", "statuses", "bound_mib"),
    [
        ("endless_head", {431, 408}, 2),
        ("endless_fields", {431, 408}, 2),
        ("endless_target", {414, 408}, 2),
        ("endless_chunks", {413, 408}, 8),
        ("endless_tiny_chunks", {413, 408}, 8),
    ],
)
def test_what_never_ends_is_refused_and_not_kept(house: House, kind: str, statuses: set[int], bound_mib: int) -> None:
    """By its size, or by its time where the machine is slow."""
    with house.growth() as grown:
        seen = house.run(kind)
    house.note(kind.replace("_", " "), f"{max(statuses)}, <= +{bound_mib} MiB", f"{seen}, +{grown[0] / MIB:.2f} MiB")
    assert seen["status"] in statuses | {0}  # 0: cut off while it went on sending, the answer was lost with the rest
    assert seen["stopped"] != "all sent"
    assert grown[0] <= 2 * bound_mib * MIB


@pytest.mark.usefixtures("canary")
def test_pipelined_requests_that_nobody_reads_are_not_kept(house: House) -> None:
    with house.growth() as grown, house.running("pipelined", holds=True) as seen:
        time.sleep(0.5)
    house.note("20 MiB pipelined", "<= +2 MiB", f"{seen['sent_mib']} MiB went out, +{grown[0] / MIB:.2f} MiB")
    assert grown[0] <= 4 * MIB


# ── slow ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("canary")
def test_a_slow_head_ends_at_its_deadline(house: House) -> None:
    seen = house.run("slow_heads")
    held(seen["idle"], HEAD_S, 0)
    for kind in ("half", "dripping", "field by field"):
        held(seen[kind], HEAD_S, 408)
    worst = max(each["seconds"] for each in seen.values())
    house.note("slow head: 4 kinds", f"ends within {HEAD_S} s + 1 s", f"{worst} s")


@pytest.mark.usefixtures("canary")
def test_a_slow_body_ends_at_its_deadline(house: House) -> None:
    seen = house.run("slow_bodies")
    held(seen["stalled"], BODY_IDLE_S, 408)
    held(seen["stalled, chunked"], BODY_IDLE_S, 408)
    held(seen["below the rate"], BODY_IDLE_S, 408)
    held(seen["at a fair rate for ever"], BODY_S, 408)
    idle = max(seen[kind]["seconds"] for kind in ("stalled", "stalled, chunked", "below the rate"))
    house.note("slow body: stalled, < 240 B/s", f"408 within {BODY_IDLE_S} s + 1 s", f"{idle} s")
    house.note("slow body: fair rate, no end", f"408 within {BODY_S} s + 1 s", f"{seen['at a fair rate for ever']}")


@pytest.mark.usefixtures("canary")
def test_slow_readers_cost_little_and_the_app_waits_for_them(house: House, full: bool) -> None:
    count = 200 if full else 40
    written = int(app_says(house, "/written"))
    with house.growth() as grown, house.running("slow_readers", holds=True, count=count, seconds=8.0 if full else 3.0):
        pushed = (int(app_says(house, "/written")) - written) / count
    each = grown[0] / count
    house.note(f"slow reader: {count} at 1 KiB/s", "<= 256 KiB each", f"{each / KIB:.0f} KiB each")
    house.note("  what the app got rid of", "upstream reading paused", f"{pushed / KIB:.0f} KiB of 10240 each")
    assert each <= 512 * KIB
    assert pushed < 4 * MIB


@pytest.mark.usefixtures("canary")
def test_thousands_of_slow_sockets_keep_nobody_out(house: House, full: bool) -> None:
    count = 5_000 if full else 1_000
    seconds = 12.0 if full else 3.0
    asked = {"count": count, "addresses": ADDRESSES, "seconds": seconds}
    with house.growth() as grown, house.running("slow_sockets", holds=True, **asked) as seen:
        held_now = house.descriptors()
    house.note(f"slow sockets: {count}, 20 addresses", "all held or cut, nobody kept out", f"{held_now} open")
    house.note("  memory", "-", f"+{grown[0] / MIB:.1f} MiB, {grown[0] / count / KIB:.1f} KiB each")
    assert seen["made"] > count * 3 // 4
    assert held_now > count // 3
    assert grown[0] < count * 64 * KIB


@pytest.mark.usefixtures("canary")
def test_one_client_has_its_share_of_connections_and_no_more(house: House) -> None:
    seen = house.run("crowd", count=600)
    house.note("600 connections of one client", "200 over 400 turned away", f"{seen['turned_away']} turned away")
    assert 190 <= seen["turned_away"] <= 210


def app_says(house: House, path: str) -> str:
    """The body of a GET through the gateway."""
    asking = f"import urllib.request as r; print(r.urlopen('http://{EDGE}:8080{path}').read().decode())"
    command = [*inside(house.outside), sys.executable, "-c", asking]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
