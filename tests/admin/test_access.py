"""Who may use the admin port: each way in, and each way that must stay shut."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from scopegate.admin import access
from scopegate.admin.access import admin_problems, is_loopback
from scopegate.admin.app import create_admin
from scopegate.admin.credentials import Credentials
from scopegate.clock import ManualClock
from scopegate.policy.addresses import parse_network
from scopegate.policy.policy import IdentityProxy
from tests.admin import house
from tests.admin.conftest import House

BEARER = {"authorization": f"Bearer {house.TOKEN}"}


def basic(password: str, user: str = "admin") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bare_app(token: str | None, clock: ManualClock | None = None) -> access.Access:
    async def page(request: object) -> PlainTextResponse:
        return PlainTextResponse("in")

    inner = Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST", "DELETE"])])
    return access.Access(inner, Credentials(SecretStr(token) if token else None, clock or ManualClock()))


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("scopegate_admin_refusals_total", {"reason": reason}) or 0.0


# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert admin_problems(None, house.policy(listen=host)) == []


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "admin.internal", "127.0.0.1.example.com", "", "2130706433"]
)
def test_any_other_address_needs_one(host: str) -> None:
    [found] = admin_problems(None, house.policy(listen=host))
    assert found.where == "SCOPEGATE_ADMIN_TOKEN"
    assert "loopback" in found.what
    assert admin_problems(SecretStr(house.TOKEN), house.policy(listen=host)) == []


@pytest.mark.parametrize(
    ("token", "read_token", "what"),
    [(None, "r" * 16, "without SCOPEGATE_ADMIN_TOKEN"), ("t" * 16, "t" * 16, "the same as SCOPEGATE_ADMIN_TOKEN")],
)
def test_a_token_for_results_alone_stands_beside_another_one(token: str | None, read_token: str, what: str) -> None:
    [found] = admin_problems(SecretStr(token) if token else None, house.policy(), SecretStr(read_token))
    assert found.where == "SCOPEGATE_READ_TOKEN"
    assert what in found.what
    assert admin_problems(SecretStr(house.TOKEN), house.policy(), SecretStr(read_token)) == []


# ── with a token ────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_every_route_of_the_table_refuses_without_a_credential(home: House) -> None:
    app = create_admin(home.sources(), SecretStr(house.TOKEN))
    shut = {}
    async with house.client(app) as client:
        for route in app.routes:
            assert isinstance(route, Route | Mount)
            path = route.path.replace("{job_id}", "job_1") + ("/console.css" if isinstance(route, Mount) else "")
            if path in ("/signin", "/static/console.css"):
                continue  # what a browser needs to sign in
            for method in (getattr(route, "methods", None) or {"GET"}) | {"PUT", "OPTIONS"}:
                answer = await client.request(method, path)
                shut[method, path] = answer.status_code
    opened = {path for (_, path), status in shut.items() if status != 401}
    assert opened == {"/livez", "/readyz"}
    assert len(shut) > 60


@pytest.mark.parametrize("fields", [BEARER, {"authorization": f"bearer  {house.TOKEN}"}, basic(house.TOKEN)])
async def test_the_token_opens(fields: dict[str, str]) -> None:
    async with house.client(bare_app(house.TOKEN), peer="203.0.113.9", host="admin.example.com") as client:
        assert (await client.get("/", headers=fields)).text == "in"


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {house.TOKEN}x"},
        {"authorization": f"Bearer {house.TOKEN[:-1]}"},
        {"authorization": f"Token {house.TOKEN}"},
        {"authorization": house.TOKEN},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
        {"authorization": "Basic " + base64.b64encode(house.TOKEN.encode()).decode()},
        basic("", house.TOKEN),
        {"x-token": house.TOKEN},
        {"cookie": f"token={house.TOKEN}"},
    ],
)
async def test_anything_else_does_not(fields: dict[str, str]) -> None:
    async with house.client(bare_app(house.TOKEN)) as client:
        answer = await client.get("/", headers=fields, params={"token": house.TOKEN})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Bearer" in answer.headers["www-authenticate"]
    assert house.TOKEN not in answer.text


async def test_ten_wrong_tries_a_minute_then_the_right_token_waits_too() -> None:
    clock = ManualClock()
    async with house.client(bare_app(house.TOKEN, clock)) as client:
        for _ in range(10):
            assert (await client.get("/", headers={"authorization": "Bearer no"})).status_code == 401
        shut = await client.get("/", headers=BEARER)
        assert shut.status_code == 429
        assert shut.headers["retry-after"] == "61"
        clock.advance(59.9)
        assert (await client.get("/", headers=BEARER)).status_code == 429
        clock.advance(0.2)
        assert (await client.get("/", headers=BEARER)).status_code == 200


async def test_tries_are_counted_per_address_and_probes_stay_open() -> None:
    app = bare_app(house.TOKEN)
    async with house.client(app, peer="203.0.113.9") as attacker, house.client(app, peer="203.0.113.10") as owner:
        for _ in range(12):
            await attacker.get("/", headers={"authorization": "Bearer no"})
        assert (await attacker.get("/", headers=BEARER)).status_code == 429
        assert (await attacker.get("/livez")).status_code == 200
        assert (await owner.get("/", headers=BEARER)).status_code == 200


async def test_a_request_without_any_token_is_no_try() -> None:
    async with house.client(bare_app(house.TOKEN)) as client:
        for _ in range(30):
            await client.get("/")
        assert (await client.get("/", headers=BEARER)).status_code == 200


async def test_one_ipv6_network_is_one_address() -> None:
    app = bare_app(house.TOKEN)
    for n in range(10):
        async with house.client(app, peer=f"2001:db8::{n}") as client:
            await client.get("/", headers={"authorization": "Bearer no"})
    async with house.client(app, peer="2001:db8::ffff") as client:
        assert (await client.get("/", headers=BEARER)).status_code == 429
    async with house.client(app, peer="2001:db8:0:1::1") as client:
        assert (await client.get("/", headers=BEARER)).status_code == 200


# ── without a token ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_served(peer: str) -> None:
    async with house.client(bare_app(None), peer=peer) as client:
        assert (await client.get("/")).text == "in"


@pytest.mark.parametrize("peer", ["203.0.113.9", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "nonsense"])
async def test_nobody_else_is(peer: str) -> None:
    before = refusals("not_loopback")
    async with house.client(bare_app(None), peer=peer) as client:
        assert (await client.get("/")).status_code == 403
        assert (await client.get("/livez")).status_code == 200
    assert refusals("not_loopback") == before + 1


async def test_a_peer_without_an_address_is_not_this_machine() -> None:
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "http.request"}

    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", b"localhost")], "client": None}
    await bare_app(None)(scope, receive, send)
    assert sent[0]["status"] == 403  # type: ignore[index]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9900",
        "0.0.0.0:9900",
        "[::2]",
        "localhost:80x",
        "",
    ],
)
async def test_a_rebound_name_is_refused(host: str) -> None:
    async with house.client(bare_app(None)) as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9900", "127.0.0.1:1", "[::1]:9900", "[::1]", "127.1.2.3"])
async def test_a_loopback_name_is_served(host: str) -> None:
    async with house.client(bare_app(None)) as client:
        assert (await client.get("/", headers={"host": host})).status_code == 200


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────
CROSS_SITE = [
    {},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9901"},
    {"origin": "https://127.0.0.1:9900"},
    {"origin": "http://127.0.0.1:9900.evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:9900"},
    {"content-type": "text/plain", "origin": "https://evil.example"},
]


@pytest.mark.parametrize("fields", CROSS_SITE)
@pytest.mark.parametrize("token", [None, house.TOKEN])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_no_other_site_can_change_anything(fields: dict[str, str], token: str | None, method: str) -> None:
    credentials = basic(house.TOKEN) if token else {}
    async with house.client(bare_app(token)) as client:
        answer = await client.request(method, "/api/jobs/x/replay", headers={**credentials, **fields})
    assert answer.status_code == 403


@pytest.mark.parametrize("fields", [{"origin": "http://127.0.0.1:9900"}, {"sec-fetch-site": "same-origin"}])
@pytest.mark.parametrize("token", [None, house.TOKEN])
async def test_our_own_page_can(fields: dict[str, str], token: str | None) -> None:
    credentials = basic(house.TOKEN) if token else {}
    async with house.client(bare_app(token)) as client:
        assert (await client.post("/", headers={**credentials, **fields})).status_code == 200


async def test_a_script_with_the_token_can() -> None:
    async with house.client(bare_app(house.TOKEN)) as client:
        assert (await client.post("/", headers=BEARER)).status_code == 200


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_every_answer_carries_the_fixed_fields(home: House) -> None:
    app = create_admin(home.sources(), None)
    async with house.client(app) as client, house.client(app, peer="10.0.0.1") as outsider:
        answers = [
            await client.get("/jobs"),
            await client.get("/livez"),
            await client.get("/metrics"),
            await client.get("/nowhere"),
            await client.get("/static/console.css"),
            await client.put("/api/jobs", headers={"sec-fetch-site": "same-origin"}),
            await client.get("/api/jobs?limit=x"),
            await outsider.get("/"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 200, 405, 400, 403]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for answer in answers[-3:]:
        assert answer.json()["status"] == answer.status_code


def test_no_websocket_is_served() -> None:
    from starlette.websockets import WebSocketDisconnect

    client = TestClient(bare_app(house.TOKEN))
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/", headers=BEARER):
        pass


def test_loopback_is_decided_without_looking_up_names() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("localhost.localdomain")


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────────────
VIEWER = "the-token-of-a-viewer"


async def test_a_viewer_sees_everything_and_changes_nothing(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    app = create_admin(home.sources(), SecretStr(house.TOKEN), None, SecretStr(VIEWER))
    async with house.client(app, token=VIEWER) as client:
        assert (await client.get("/api/jobs")).status_code == 200
        page = await client.get(f"/jobs/{job.job_id}", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "Another go" not in page.text
        for route in app.routes:
            if isinstance(route, Route) and "POST" in (route.methods or ()) and not route.path.startswith("/sign"):
                answer = await client.post(route.path.replace("{job_id}", job.job_id))
                assert (answer.status_code, answer.json()["code"]) == (403, "viewer"), route.path
    assert (await home.jobs.counts())["queued"] == 0


@pytest.mark.parametrize(
    ("read_token", "viewer_token", "where", "what"),
    [
        (None, "v" * 16, "SCOPEGATE_VIEWER_TOKEN", "without SCOPEGATE_ADMIN_TOKEN"),
        ("v" * 16, "v" * 16, "SCOPEGATE_VIEWER_TOKEN", "the same as SCOPEGATE_READ_TOKEN"),
    ],
)
def test_a_viewers_token_stands_beside_others(read_token: str | None, viewer_token: str, where: str, what: str) -> None:
    token = SecretStr("t" * 16) if read_token else None
    read = SecretStr(read_token) if read_token else None
    found = admin_problems(token, house.policy(), read, SecretStr(viewer_token))
    assert [(one.where, what in one.what) for one in found] == [(where, True)]


# ── a proxy that vouches ────────────────────────────────────────────────────────────────────────────────────────────
PROXY = "10.1.2.3"
IDENTITY = IdentityProxy("x-forwarded-user", (parse_network("10.1.0.0/16"),), frozenset({"anna"}), frozenset({"boris"}))


def behind_proxy(path: str = "/") -> access.Access:
    async def page(request: Request) -> PlainTextResponse:
        who = request.state.who
        return PlainTextResponse(f"{who.name} {who.role.value}")

    inner = Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])])
    credentials = Credentials(SecretStr(house.TOKEN), ManualClock())
    return access.Access(inner, credentials, lambda: IDENTITY)


@pytest.mark.parametrize(
    ("peer", "names", "said"),
    [
        (PROXY, ["anna"], "anna operator"),
        (PROXY, ["boris"], "boris viewer"),
        (PROXY, ["carla"], None),
        (PROXY, ["anna", "anna"], None),
        (PROXY, [""], None),
        (PROXY, ["x" * 81], None),
        (PROXY, [], None),
        ("10.2.0.1", ["anna"], None),
        ("127.0.0.1", ["anna"], None),
    ],
)
async def test_whom_the_proxy_names(peer: str, names: list[str], said: str | None) -> None:
    async with house.client(behind_proxy(), peer=peer, host="console.example.com") as client:
        answer = await client.get("/", headers=[("x-forwarded-user", name) for name in names])
    assert (answer.text if answer.status_code == 200 else None) == said


async def test_another_site_cannot_use_the_proxys_word() -> None:
    field = {"x-forwarded-user": "anna"}
    async with house.client(behind_proxy(), peer=PROXY, host="console.example.com", headers=field) as client:
        assert (await client.post("/jobs/act", headers={"origin": "https://evil.example"})).status_code == 403
        assert (await client.post("/api/jobs/x/replay", headers={"sec-fetch-site": "same-origin"})).json()[
            "code"
        ] == "form"
        assert (await client.post("/jobs/act", headers={"sec-fetch-site": "same-origin"})).text == "anna operator"


def test_a_proxys_word_needs_the_token_that_seals_it() -> None:
    policy = house.policy()
    named = replace(policy, admin=replace(policy.admin, identity=IDENTITY))
    [found] = admin_problems(None, named)
    assert "admin.identity" in found.what
    assert admin_problems(SecretStr(house.TOKEN), named) == []


# ── the app's own token ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_the_token_of_the_app_reads_results_and_nothing_else(home: House) -> None:
    reader = "the-token-of-the-app"
    app = create_admin(home.sources(), SecretStr(house.TOKEN), SecretStr(reader))
    paths = {route.path for route in app.routes if isinstance(route, Route)} - access.PROBES - {access.SIGN_IN}
    before = refusals("results_only")
    async with house.client(app, token=reader) as client:
        answers = {path: (await client.get(path)).status_code for path in sorted(paths)}
        assert (await client.post("/api/results/lead-1")).status_code == 403
    assert {path for path, status in answers.items() if status != 403} == {"/api/results/{lead_id:path}"}
    assert refusals("results_only") - before == len(paths)
    basic_words = basic(reader)
    async with house.client(app, headers=basic_words) as client:
        assert (await client.get("/api/results/lead-1")).status_code == 401
