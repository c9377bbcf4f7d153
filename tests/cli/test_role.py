"""What the process commands share: loading everything at once, stopping, telling that we serve."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from scopegate import settings as environment
from scopegate.cli import role
from scopegate.clock import SystemClock
from scopegate.errors import ConfigError
from scopegate.policy.policy import Policy
from scopegate.supervise import leash
from scopegate.supervise.supervisor import Child, Supervisor
from tests import policies

PLAIN = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: ANY /**, tier: none}]
"""
WITH_OFFLOAD = (
    PLAIN.replace(
        "match: ANY /**, tier: none", "match: POST /a, tier: none, body: {types: [application/json]}, offload: photos"
    )
    + """\
offloads:
  photos:
    lead_id: response.id
    photos: request.photos
    text: request.text
    photo_hosts: [127.0.0.1]
    deliver: {url: "http://127.0.0.1:3000/in", secret: "${SCOPEGATE_WEBHOOK_SECRET}"}
ai: {model: claude-haiku-5-5}
"""
)
SECRET = {"SCOPEGATE_WEBHOOK_SECRET": "a secret of the test"}


def compiled(tmp_path: Path, text: str, environ: Mapping[str, str] = SECRET) -> Policy:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return policies.load(path, environ)


@pytest.mark.parametrize(
    ("text", "environ", "roles", "missing"),
    [
        (PLAIN, {}, ["gateway", "worker", "admin"], []),
        (WITH_OFFLOAD, {}, ["gateway", "admin"], []),
        (WITH_OFFLOAD, {}, ["worker"], ["ANTHROPIC_API_KEY"]),
        (WITH_OFFLOAD, {"ANTHROPIC_API_KEY": "key"}, ["worker"], []),
        (PLAIN + "admin: {listen: 0.0.0.0:9900}\n", {}, ["gateway", "worker"], []),
        (PLAIN + "admin: {listen: 0.0.0.0:9900}\n", {}, ["admin"], ["SCOPEGATE_ADMIN_TOKEN"]),
        (
            WITH_OFFLOAD + "admin: {listen: 0.0.0.0:9900}\n",
            {},
            ["gateway", "worker", "admin"],
            ["ANTHROPIC_API_KEY", "SCOPEGATE_ADMIN_TOKEN"],
        ),
    ],
)
def test_each_role_says_what_it_needs(
    tmp_path: Path, text: str, environ: Mapping[str, str], roles: list[str], missing: list[str]
) -> None:
    problems = role.missing(environment.load(environ), compiled(tmp_path, text), roles)
    assert [problem.where for problem in problems] == missing


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    names = ("SCOPEGATE_", "ANTHROPIC_", "REDIS_URL", "DATABASE_URL")
    for name in [name for name in os.environ if name.startswith(names)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "state"))
    return monkeypatch


def test_problems_of_policy_and_environment_come_together(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("SCOPEGATE_LOG_FORMAT", "loud")
    path = tmp_path / "gateway.yaml"
    path.write_text(PLAIN.replace("tier: none", "tier: nine"))
    with pytest.raises(ConfigError) as caught:
        role.load(path, ["gateway"])
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres[0] == "SCOPEGATE_LOG_FORMAT"
    assert wheres[1].startswith(f"{path}:3:")


def test_every_problem_of_a_start_is_named_in_one_run(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    bare.setenv("SCOPEGATE_LOG_LEVEL", "loud")
    bare.setenv("SCOPEGATE_STATE_DIR", str(tmp_path / "file" / "state"))
    path = tmp_path / "gateway.yaml"
    path.write_text(WITH_OFFLOAD + "admin: {listen: 0.0.0.0:9900}\n")
    with pytest.raises(ConfigError) as caught:
        role.load(path, [role.GATEWAY, role.WORKER, role.ADMIN])
    level, state, secret, *needs = caught.value.problems
    assert (level.where, state.where) == ("SCOPEGATE_LOG_LEVEL", "SCOPEGATE_STATE_DIR")
    assert "SCOPEGATE_WEBHOOK_SECRET" in secret.what
    assert [one.where for one in needs] == ["ANTHROPIC_API_KEY", "SCOPEGATE_ADMIN_TOKEN"]


def test_a_variable_that_is_wrong_is_not_said_to_be_missing_too(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("ANTHROPIC_API_KEY", "two words")
    bare.setenv("SCOPEGATE_ADMIN_TOKEN", "short")
    bare.setenv("SCOPEGATE_WEBHOOK_SECRET", SECRET["SCOPEGATE_WEBHOOK_SECRET"])
    path = tmp_path / "gateway.yaml"
    path.write_text(WITH_OFFLOAD + "admin: {listen: 0.0.0.0:9900}\n")
    with pytest.raises(ConfigError) as caught:
        role.load(path, [role.GATEWAY, role.WORKER, role.ADMIN])
    assert [one.where for one in caught.value.problems] == ["ANTHROPIC_API_KEY", "SCOPEGATE_ADMIN_TOKEN"]


def test_a_policy_without_what_it_needs_is_refused(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("SCOPEGATE_WEBHOOK_SECRET", SECRET["SCOPEGATE_WEBHOOK_SECRET"])
    path = tmp_path / "gateway.yaml"
    path.write_text(WITH_OFFLOAD)
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY: not set, and offload photos needs it"):
        role.load(path, ["worker"])


def test_the_state_directory_is_ours_alone(tmp_path: Path) -> None:
    wanted = tmp_path / "deep" / "state"
    made = role.state_dir(environment.load({"SCOPEGATE_STATE_DIR": str(wanted)}))
    assert made == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = environment.load({"SCOPEGATE_STATE_DIR": str(tmp_path / "file" / "state")})
    with pytest.raises(ConfigError, match=r"SCOPEGATE_STATE_DIR: .*Not a directory"):
        role.state_dir(settings)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("uvloop", [False, True])
def test_a_signal_stops_a_role(number: signal.Signals, uvloop: bool) -> None:
    steps: list[str] = []

    async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
        ready()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
        steps.append("stopped")

    assert role.run(serve, None, 1.0, uvloop=uvloop) == 0
    assert steps == ["stopped"]


ROLE = """
import sys
from scopegate.cli import role
async def serve(stop, ready):
    ready()
    await stop.wait()
sys.exit(role.run(serve, int(sys.argv[sys.argv.index("--leash") + 1]), 1.0))
"""


def test_a_role_says_that_it_serves_and_ends_with_its_supervisor() -> None:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", ROLE, "--leash", str(theirs.fileno())]
    process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),))
    theirs.close()
    ours.settimeout(10)
    assert ours.recv(64) == leash.READY
    ours.close()
    assert process.wait(10) == 0


async def test_two_signals_stop_and_then_hurry() -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    role.stop_on_signals(loop, stop, hurry)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 5)
        assert not hurry.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(hurry.wait(), 5)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)


def test_a_supervisor_tells_its_own_supervisor_once_all_serve() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    child = Child("role", (sys.executable, "-c", ROLE), dict(os.environ))
    told: list[object] = []

    def watch() -> None:
        told.append(ours.recv(64))
        ours.close()  # the supervisor's supervisor goes away

    watching = threading.Thread(target=watch)
    watching.start()
    code = role.supervise(Supervisor([child], SystemClock(), 5), theirs.detach(), lambda: told.append("all serve"))
    watching.join(10)
    assert code == 0
    assert told == ["all serve", leash.READY]


def test_metrics_in_trouble_end_nothing(tmp_path: Path) -> None:
    role.sweeper(tmp_path / "absent")(1)


def test_nothing_starts_on_a_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(PLAIN + "promises: [{request: GET /x, tier: strict}]\n")
    monkeypatch.setattr(os, "environ", {"SCOPEGATE_STATE_DIR": str(tmp_path)})
    with pytest.raises(ConfigError) as caught:
        role.load(path, [role.GATEWAY])
    [problem] = caught.value.problems
    assert problem.where == f"{path}:4:12"
    assert "strict" in problem.what
