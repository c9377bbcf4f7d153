"""What others answer `scopegate doctor`: real engines, well and broken, and no secret in what is said of them."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from scopegate import settings as environment
from scopegate.cli import outside
from scopegate.cli.diagnosis import Diagnosis, State
from scopegate.policy.policy import Policy
from scopegate.settings import Settings
from tests.authority import Authority
from tests.cli.records import within
from tests.policies import ENVIRON, EXAMPLE, compiled, compiled_with
from tests.simulated import KEY, SimulatedClaude, _running_claude, simulated_claude
from tests.valkey import Server

__all__ = ["_running_claude", "simulated_claude"]
RELEASED = Path(__file__).parents[1] / "stores/releases/0.1.0.sql"


def settings(folder: Path, **environ: str) -> Settings:
    return environment.load({"SCOPEGATE_STATE_DIR": str(folder), **environ})


def redis(found: Settings) -> Mapping[str, Diagnosis]:
    return {one.of: one for one in asyncio.run(outside.redis(found))}


def test_a_redis_that_answers(tmp_path: Path, server: Server) -> None:
    found = redis(settings(tmp_path, REDIS_URL=server.url))
    assert {one.state for one in found.values()} == {State.OK}, found
    assert "noeviction" in found["redis"].said


def test_a_redis_that_forgets_windows(tmp_path: Path) -> None:
    with Server(tmp_path, "valkey", "--maxmemory-policy", "allkeys-lru") as forgetful:
        found = redis(settings(tmp_path, REDIS_URL=forgetful.url))
    assert found["redis"].state is State.WARNING
    assert "maxmemory-policy noeviction" in found["redis"].mend


def test_a_redis_that_is_gone_or_wants_another_password(tmp_path: Path, server: Server) -> None:
    url = f"redis://:PLANTED@127.0.0.1:{server.port}/0"
    for _ in range(2):
        found = redis(settings(tmp_path, REDIS_URL=url))["redis"]
        assert (found.state, "PLANTED" in found.said + found.mend) == (State.FAILED, False)
        server.kill()


def test_no_redis_is_no_fault(tmp_path: Path) -> None:
    assert {one.state for one in redis(settings(tmp_path)).values()} == {State.UNASKED}


@pytest.mark.parametrize(
    ("ahead_s", "state", "said"),
    [(0.2, State.OK, "200 ms behind"), (-3.0, State.WARNING, "3000 ms before"), (3.0, State.WARNING, "3000 ms behind")],
)
def test_two_clocks(ahead_s: float, state: State, said: str) -> None:
    found = outside.clock(ahead_s)
    assert (found.state, found.said.startswith(said)) == (state, True)


def database(found: Settings) -> Diagnosis:
    return asyncio.run(outside.database(found))


def test_a_database_by_its_schema(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert "no tables yet" in database(found).said
    assert not (tmp_path / "scopegate.db").exists(), "looking makes none"

    async def nothing(_: object) -> None:
        return None

    within(tmp_path, nothing)
    assert (database(found).state, "0 jobs" in database(found).said) == (State.OK, True)


def test_a_database_of_an_older_release_says_how_it_is_migrated(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "scopegate.db") as made:
        made.executescript(RELEASED.read_text())
    made.close()
    found = database(settings(tmp_path))
    assert (found.state, found.mend) == (State.FAILED, "`scopegate migrate`"), found


def test_a_database_that_is_away(tmp_path: Path) -> None:
    found = database(settings(tmp_path, DATABASE_URL="postgresql://u:PLANTED@127.0.0.1:1/d"))
    assert found.state is State.FAILED
    assert "DATABASE_URL" in found.mend
    assert "PLANTED" not in found.said + found.mend


def upstreams(policy: Policy) -> list[Diagnosis]:
    return asyncio.run(outside.upstreams(policy))


def test_an_app_that_is_there_and_one_that_is_not() -> None:
    with socket.socket() as app, socket.socket() as gone:
        app.bind(("127.0.0.1", 0))
        app.listen()
        gone.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in (app, gone)]
        found = upstreams(compiled_with(upstreams={"web": {"servers": [*urls, "unix:/nowhere.sock"]}}))
    assert [one.state for one in found] == [State.OK, State.FAILED, State.FAILED]
    assert "upstreams.web.servers" in found[1].mend
    assert "No such file" in found[2].said


def test_an_app_whose_certificate_is_of_nobody_we_know(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("127.0.0.1")
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(identity.cert, identity.key)

    async def looked() -> Diagnosis:
        serving = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0, ssl=ours)
        async with serving:
            port = serving.sockets[0].getsockname()[1]
            policy = compiled_with(upstreams={"web": {"servers": [f"https://127.0.0.1:{port}"]}})
            return (await outside.upstreams(policy))[0]

    found = asyncio.run(looked())
    assert (found.state, "tls.ca" in found.mend) == (State.FAILED, True), found


@pytest.fixture
def asking() -> Policy:
    return compiled(EXAMPLE.read_bytes(), ENVIRON)


def claude(found: Settings, policy: Policy) -> list[Diagnosis]:
    return asyncio.run(outside.claude(found, policy))


def test_a_key_that_is_taken_costs_nothing(tmp_path: Path, simulated_claude: SimulatedClaude, asking: Policy) -> None:
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": simulated_claude.url}
    found = claude(settings(tmp_path, **environ), asking)
    assert {one.state for one in found} == {State.OK}, found
    assert simulated_claude.calls == []


def test_a_key_that_is_refused_is_not_shown(tmp_path: Path, simulated_claude: SimulatedClaude, asking: Policy) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-ant-PLANTED", "ANTHROPIC_BASE_URL": simulated_claude.url}
    found = claude(settings(tmp_path, **environ), asking)
    assert {one.state for one in found} == {State.FAILED}, found
    assert all("ANTHROPIC_API_KEY" in one.mend and "PLANTED" not in one.said for one in found)


def test_no_key_and_no_need_of_one(tmp_path: Path, asking: Policy) -> None:
    assert claude(settings(tmp_path), asking)[0].state is State.FAILED
    assert claude(settings(tmp_path), compiled_with())[0].state is State.OK


def test_an_api_that_is_busy_is_no_fault_of_ours(tmp_path: Path, asking: Policy) -> None:
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    assert {one.state for one in claude(settings(tmp_path, **environ), asking)} == {State.WARNING}
