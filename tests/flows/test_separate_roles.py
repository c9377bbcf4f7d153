"""Gateway, worker and admin each on their own, as in containers: a reload reaches all three and costs no lead."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.flows.processes import Scopegate, posted, wait_until
from tests.flows.test_reload import BROKEN, STATE, Place, app  # noqa: F401 - a fixture
from tests.simulated import KEY, SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures


def offload(name: str, hook: str) -> dict[str, str]:
    """A policy's parts: an offload of this name, and the route that feeds it."""
    more = (
        f"offloads:\n  {name}:\n    lead_id: response.id\n    photos: request.photos\n    text: request.text\n"
        f"    photo_hosts: [127.0.0.1]\n    deliver: {{url: 'http://{hook}/in', secret: \"${{HOOK_SECRET}}\"}}\n"
        "ai: {model: claude-haiku-5-5}\n"
    )
    route = (
        f"  - {{name: leads, match: POST /leads, tier: none, body: {{types: [application/json]}}, offload: {name}}}\n"
    )
    return {"more": more, "routes": route}


class Roles:
    def __init__(self, place: Place, opened: ExitStack, claude: SimulatedClaude) -> None:
        self.place = place
        environ = {
            "HOOK_SECRET": "a webhook secret for tests",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": claude.url,
        }
        self.running: dict[str, Scopegate] = {
            name: opened.enter_context(place.run(name, environ=environ)) for name in ("gateway", "worker", "admin")
        }
        assert wait_until(lambda: place.status() == 200 and len(place.living()) == 3)

    def agree_on_another(self, text: str) -> str:
        """Put this policy in place and wait until all three serve it, whoever it is told by."""
        before = {one.digest for one in self.place.living()}
        self.place.replace(text)
        assert wait_until(lambda: len(self.digests() - before) == 1 and len(self.digests()) == 1)
        return self.digests().pop()

    def digests(self) -> set[str]:
        found = self.place.living()
        return {one.digest for one in found} if len(found) == 3 else set()

    def send(self) -> None:
        answer = posted(f"http://{self.place.gateway}/leads", {"text": "The roof leaks.", "photos": []})
        assert answer.status_code == 201

    def jobs(self) -> dict[str, tuple[str, str | None]]:
        """State and error code by offload."""
        with closing(sqlite3.connect(self.place.folder / STATE / "scopegate.db")) as database:
            rows = database.execute("SELECT offload, state, error_code FROM jobs").fetchall()
        return {name: (state, code) for name, state, code in rows}

    def metrics(self) -> str:
        return httpx.get(f"http://{self.place.admin}/metrics", trust_env=False).text


@pytest.fixture
def roles(tmp_path: Path, app: str, simulated_claude: SimulatedClaude) -> Iterator[Roles]:  # noqa: F811
    with ExitStack() as opened:
        yield Roles(Place(tmp_path, app), opened, simulated_claude)


def test_an_offload_that_comes_or_is_renamed_by_a_reload_has_its_jobs_done(roles: Roles) -> None:
    place, worker = roles.place, roles.running["worker"]
    assert len(worker.events("worker.idle")) == 1
    roles.agree_on_another(place.text(**offload("photos", place.app)))
    roles.send()
    assert wait_until(lambda: roles.jobs().get("photos") == ("done", None))
    digest = roles.agree_on_another(place.text(**offload("pictures", place.app)))
    roles.send()
    assert wait_until(lambda: roles.jobs().get("pictures") == ("done", None))
    assert f'policy="{digest}"' in roles.metrics()
    assert not worker.events("job.failed")
    assert {name: one.process.poll() for name, one in roles.running.items()} == dict.fromkeys(roles.running)
    assert [roles.running[name].stop() for name in ("gateway", "worker", "admin")] == [0, 0, 0]
    assert list((place.folder / STATE / "gateway").iterdir()) == []


def test_signal_and_command_reach_all_three_and_a_bad_file_changes_none(roles: Roles) -> None:
    place = roles.place
    [before] = roles.digests()
    for one in place.living():
        os.kill(one.pid, signal.SIGHUP)
        os.kill(one.pid, signal.SIGUSR2)
    assert wait_until(lambda: [one.heard for one in place.living()] == [1, 1, 1])
    assert {one.outcome for one in place.living()} == {"unchanged"}
    assert wait_until(lambda: all(one.events("process.not_replaced") for one in roles.running.values()))
    done = place.command()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"unchanged: 1 of 1 process serve policy {before}\n" * 3
    place.replace(place.text().replace("listen: " + place.admin, "listen: 127.0.0.1:1"))
    done = place.command()
    assert done.returncode == 0
    assert done.stdout.count("needs a restart to apply: admin.listen\n") == 1
    [before] = roles.digests()
    place.replace(BROKEN)
    assert place.command().returncode == 78
    assert roles.digests() == {before}
    assert "scopegate_policy_stale 1.0" in roles.metrics()
    place.replace(place.text())
    assert wait_until(lambda: "scopegate_policy_stale 0.0" in roles.metrics())
