"""Every peer does the job it is measured at: forwarded fields, request id, limit, access log; and one turn of two."""

from __future__ import annotations

import http.client
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import peers
from bench.peers import Peer, Site
from bench.stage import running, stage
from tests.bench.recording import Head, recording
from tests.engines import missing

EVERY = (
    peers.SCOPEGATE,
    peers.SCOPEGATE_PURE,
    peers.NGINX,
    peers.HAPROXY,
    peers.CADDY,
    peers.FASTIFY,
    peers.EXPRESS,
    peers.SCOPEGATE_REDIS,
    peers.SCOPEGATE_PURE_REDIS,
    peers.NGINX_REDIS,
)
PROMISED = (peers.SCOPEGATE_PURE, peers.NGINX, peers.SCOPEGATE_PURE_REDIS)
WITHOUT_LIMIT_FIELDS = ("nginx", "haproxy", "caddy")
CLIENT = "6.6.6.6"  # told by the test, which plays a balancer on loopback
REQUESTS = 60  # enough to fill the buffers some peers log through


@dataclass(frozen=True)
class Seen:
    """What the app was sent and the client got for one request, and all that the peer wrote into its files."""

    head: Head
    status: int
    fields: dict[str, str]
    body: bytes
    written: str


@pytest.fixture(scope="module")
def seen() -> dict[str, Seen]:
    here = [peer for peer in EVERY if peer.is_here()]
    found: dict[str, Seen] = {}
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as name, recording() as app:
        folder = Path(name)
        folder.chmod(0o755)
        with stage(folder, redis=peers.has("redis-server")) as ground:
            site = Site(folder, f"127.0.0.1:{app.port}", ground.site.redis_port)
            with running(here, site, pinned=False) as started:
                answers = [(one, ask(one.port, one.peer.name)) for one in started]
            for one, (status, fields, body) in answers:
                head = next(head for head in app.heads if head.target == f"/{one.peer.name}/{REQUESTS - 1}")
                logs = [one.folder / name for name in ("access.log", "output.log")]
                written = "".join(log.read_text("utf-8") for log in logs if log.exists())
                found[one.peer.name] = Seen(head, status, fields, body, written)
    return found


def ask(port: int, name: str) -> tuple[int, dict[str, str], bytes]:
    """The last of several requests on one connection, which is alone in its path."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in range(REQUESTS):
        client.request("GET", f"/{name}/{number}", headers={"X-Forwarded-For": CLIENT})
        answer = client.getresponse()
        body = answer.read()
    client.close()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, body


def of(seen: dict[str, Seen], peer: Peer) -> Seen:
    if peer.name not in seen:
        missing(peer.name) if peer in PROMISED else pytest.skip(f"needs {peer.name}")
    return seen[peer.name]


each = pytest.mark.parametrize("peer", EVERY, ids=lambda peer: peer.name)


@each
def test_the_apps_answer_comes_through(seen: dict[str, Seen], peer: Peer) -> None:
    assert (of(seen, peer).status, of(seen, peer).body) == (200, b"x" * 200)


@each
def test_the_app_hears_who_asks_and_how(seen: dict[str, Seen], peer: Peer) -> None:
    fields = of(seen, peer).head.fields
    assert fields["x-forwarded-for"].split(",")[0] == CLIENT
    assert fields["x-forwarded-proto"] == "http"


@each
def test_app_and_client_are_told_the_same_request_id(seen: dict[str, Seen], peer: Peer) -> None:
    told = of(seen, peer)
    assert len(told.head.fields["x-request-id"]) >= 16
    assert told.fields["x-request-id"] == told.head.fields["x-request-id"]


@each
def test_the_access_log_is_json(seen: dict[str, Seen], peer: Peer) -> None:
    lines = [line for line in of(seen, peer).written.splitlines() if line.startswith("{")]
    assert any(f'/{peer.name}/7"' in json.dumps(json.loads(line)) for line in lines)


@each
def test_the_limit_counts(seen: dict[str, Seen], peer: Peer) -> None:
    fields = of(seen, peer).fields
    if peer.name in WITHOUT_LIMIT_FIELDS:
        assert "x-ratelimit-remaining" not in fields
    else:
        assert fields["x-ratelimit-limit"] == "100000"
        assert 0 < int(fields["x-ratelimit-remaining"]) < 100_000 - 1


def test_a_turn_of_scopegate_and_nginx(capsys: pytest.CaptureFixture[str]) -> None:
    if not peers.has("wrk", "nginx", "taskset"):
        missing("wrk")
    argv = ["--peers", "scopegate-pure", "nginx", "--rounds", "1", "--seconds", "1", "--warm-up", "0", "--goals"]
    assert command.main(argv) == 0
    shown = capsys.readouterr().out
    rows = [line.split(" | ") for line in shown.splitlines() if line.startswith("| real-32")]
    assert [row[1] for row in rows] == ["scopegate-pure", "nginx"]
    assert all(float(row[4].replace(",", "")) > 100 and 3 < float(row[2].split()[0]) < 5000 for row in rows)
    assert "real-32: at most 1.75 times nginx" in shown
