"""A real Prometheus scrapes real processes through the real admin port: every panel has data, every rule loads."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admin import house
from tests.engines import missing
from tests.grafana import queries
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


def start(scene: ExitStack, role: str, directory: Path) -> subprocess.Popen[str]:
    """A process of the scene; its first line says that it is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.grafana.scene", role, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    scene.callback(process.communicate)
    return process


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class Prometheus:
    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        address = f"{self.base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)["data"]

    def samples(self, expr: str) -> list[float]:
        """The finite values now."""
        found = self.get("/api/v1/query", query=expr)["result"]
        return [float(each["value"][1]) for each in found if math.isfinite(float(each["value"][1]))]

    def wait_for(self, expr: str, patience_s: float = 5) -> bool:
        """Whether the expression has data, now or soon."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with suppress(OSError):
                if self.samples(expr):
                    return True
            time.sleep(0.2)
        return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary = shutil.which("prometheus") or missing("Prometheus")
    home = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as scene:
        started = [start(scene, role, home / "metrics") for role in ("admin", "gateway", "gateway", "worker")]
        admin, *ready = [first_line(process) for process in started]
        assert ready == ["ready"] * 3
        config = yaml.safe_load((queries.GRAFANA / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{admin}"]}]
        job["authorization"]["credentials_file"] = str(home / "token")
        (home / "token").write_text(house.TOKEN)
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(queries.GRAFANA / "prometheus" / "alerts.yml", home)
        port = free_port()
        command = [binary, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        log = scene.enter_context((home / "log").open("wb"))
        server = subprocess.Popen(command, cwd=home, stderr=log)
        scene.callback(server.wait)
        scene.callback(server.terminate)
        watched = Prometheus(port)
        assert watched.wait_for("scopegate_build_info offset 3s", 60), (home / "log").read_text()
        yield watched


def test_a_real_prometheus_sees_everything(prometheus: Prometheus, subtests: pytest.Subtests) -> None:
    """One test, so that one scene serves all of it."""
    for title, expr in queries.panel_queries():
        with subtests.test(title, expr=expr):
            assert prometheus.wait_for(queries.filled(expr)), queries.filled(expr)
    with subtests.test("the numbers are the ones that were counted"):
        assert prometheus.samples("sum(scopegate_requests_in_flight)")[0] >= 4
        assert prometheus.samples('scopegate_processes{role="gateway"}') == [2]
        assert prometheus.samples('scopegate_processes{role="worker"}') == [1]
        assert prometheus.samples('scopegate_jobs{state="failed"}') == [1]
        assert prometheus.samples('scopegate_budget_spent_usd{budget="day"}') == [0.5]
        assert prometheus.samples("max(scopegate_limit_store_up)") == [1]
    with subtests.test("a scrape is small and complete"):
        assert 100 < min(prometheus.samples("scrape_samples_scraped")) < 2_000
        assert prometheus.samples("max(scopegate_scrape_errors_total)") == [0]
    with subtests.test("the alert rules load and evaluate"):
        groups = prometheus.get("/api/v1/rules")["groups"]
        loaded = [rule for group in groups for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in queries.rules()}
        assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}
