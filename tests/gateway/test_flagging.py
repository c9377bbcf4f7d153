"""Flags on real connections: what exists, where it goes, what is refused, and what the app is told."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import jwt
import pytest
from prometheus_client import REGISTRY

from tests.gateway.app import App, Received
from tests.gateway.rig import HOST, JWT_SECRET, ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

BETA = {"beta": {"targeting": [{"when": {"header:X-Beta": "yes", "path": "/**"}, "variant": "on"}]}}
ALL: dict[str, Any] = {"name": "all", "match": "ANY /**", "tier": "none"}


async def ask(rig: Rig, target: str = "/", *fields: str, method: str = "GET") -> Any:
    client = await rig.connect()
    head = "".join(f"{field}\r\n" for field in fields)
    return await client.ask(f"{method} {target} HTTP/1.1\r\n{head}".encode() + HOST + b"\r\n")


def told(received: Received, name: bytes = b"x-scopegate-flags") -> list[bytes]:
    return [value for sent, value in received.fields if sent.lower() == name]


def exposures(variant: str, flag: str = "beta") -> float:
    return REGISTRY.get_sample_value("scopegate_flag_exposures_total", {"flag": flag, "variant": variant}) or 0.0


async def test_the_app_is_told_what_no_client_can_say(gates: Rigs) -> None:
    rig = await gates.start(flags=BETA, routes=[{**ALL, "flags": ["beta"]}])
    before = exposures("on"), exposures("off")
    await ask(rig, "/", "X-Beta: yes")
    await ask(rig, "/", "X-Scopegate-Flags: beta=on", "X_Scopegate_Flags: beta=on")
    await ask(rig, "/", "X-Beta: yes", "X-Beta: no")
    assert [told(one) for one in rig.app.requests] == [[b"beta=on"], [b"beta=off"], [b"beta=off"]]
    assert not any(b"_" in name for one in rig.app.requests for name, _ in one.fields)
    rig.gateway.shared.rules.flush()
    assert (exposures("on") - before[0], exposures("off") - before[1]) == (1, 2)


async def test_what_the_app_is_told_is_signed_for_this_request(gates: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a key that the app knows too, 32 bytes"
    monkeypatch.setitem(__import__("tests.gateway.rig", fromlist=["ENVIRON"]).ENVIRON, "FLAG_KEY", key)
    rig = await gates.start(flags=BETA, routes=[{**ALL, "flags": ["beta"]}], server={"sign_with": "${FLAG_KEY}"})
    await ask(rig, "/a?b=c", "X-Beta: yes")
    [one] = rig.app.requests
    [signed] = told(one, b"x-scopegate-flags-signature")
    moment, given = (part.partition(b"=")[2] for part in signed.split(b","))
    [request_id] = told(one, b"x-request-id")
    text = b"\n".join([b"flags-v1", moment, request_id, b"GET", b"/a?b=c", b"beta=on"])
    assert given.decode() == hmac.digest(key.encode(), text, "sha256").hex()


async def test_a_route_that_a_flag_hides_gives_way_to_the_next(gates: Rigs) -> None:
    hidden = {"name": "beta", "match": "GET /beta/**", "tier": "none", "only_if": {"beta": "on"}}
    rig = await gates.start(flags=BETA, routes=[hidden])
    client = await rig.connect()
    for fields, status in ((b"", 404), (b"X-Beta: yes\r\n", 200), (b"", 404), (b"X-Beta: yes\r\n", 200)):
        answer = await client.ask(b"GET /beta/x HTTP/1.1\r\n" + fields + HOST + b"\r\n")
        assert answer.status == status
    both = await gates.start(flags=BETA, routes=[hidden, {**ALL, "flags": ["beta"]}])
    await ask(both, "/beta/x")
    await ask(both, "/beta/x", "X-Beta: yes")
    assert [told(one) for one in both.app.requests] == [[b"beta=off"], []]


async def test_a_flag_chooses_the_app_and_the_tier(gates: Rigs) -> None:
    canary = App()
    await canary.start()
    flags = {"pro": {"targeting": [{"when": {"claim:plan": "pro"}, "variant": "on"}]}}
    route = {
        "name": "all",
        "match": "ANY /**",
        "tier": "tight",
        "auth": "visitor",
        "upstream": "web",
        "by_flag": {"pro": {"on": {"upstream": "next", "tier": "none"}}},
    }
    app = App()
    await app.start()
    rig = await gates.start(
        app=app,
        flags=flags,
        routes=[route],
        tiers={"tight": {"limit": "1 per 1m", "key": "user", "on_store_error": "local"}},
        auth={"visitor": {"jwt": {"secret": "${JWT_SECRET}"}}},
        upstreams={"web": {"servers": [app.url]}, "next": {"servers": [canary.url]}},
    )

    def bearer(**claims: str) -> str:
        return f"Authorization: Bearer {jwt.encode({'exp': 4_000_000_000, **claims}, JWT_SECRET, algorithm='HS256')}"

    plain, pro = bearer(sub="alice"), bearer(sub="bob", plan="pro")
    assert [(await ask(rig, "/", plain)).status for _ in range(2)] == [200, 429]
    assert [(await ask(rig, "/", pro)).status for _ in range(3)] == [200, 200, 200]
    assert (len(app.requests), len(canary.requests)) == (1, 3)
    await canary.stop()


async def test_what_is_kept_for_one_variant_is_not_shown_to_another(gates: Rigs) -> None:
    cached: dict[str, Any] = {"flags": ["beta"], "cache": {"ttl": "1m"}}
    hidden = {"name": "beta", "match": "GET /b", "tier": "none", "only_if": {"beta": "on"}, "cache": {"ttl": "1m"}}
    rig = await gates.start(flags=BETA, routes=[hidden, {**ALL, **cached}])
    for target in ("/a", "/b"):
        for fields in ([], ["X-Beta: yes"], [], ["X-Beta: yes"]):
            assert (await ask(rig, target, *fields)).status == 200
    assert [(one.target, told(one)) for one in rig.app.requests] == [
        (b"/a", [b"beta=off"]),
        (b"/a", [b"beta=on"]),
        (b"/b", [b"beta=off"]),
        (b"/b", []),
    ]


async def test_maintenance_lets_testers_through(gates: Rigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "down.html").write_text("<!doctype html><title>Back at noon ü</title>")
    flags = {"down": {"targeting": [{"when": {"cookie:tester": "1"}, "variant": "off"}, {"variant": "on"}]}}
    shut = {"maintenance": {"flag": "down", "page": "down.html", "retry_after": "10m"}}
    rig = await gates.start(flags=flags, server=shut)
    machine = await ask(rig)
    assert (machine.status, machine.code, machine.get(b"retry-after")) == (503, "maintenance", [b"600"])
    browser = await ask(rig, "/", "Accept: text/html")
    assert browser.status == 503
    assert browser.body.decode() == "<!doctype html><title>Back at noon ü</title>"
    assert browser.get(b"cache-control") == [b"no-store"]
    assert (await ask(rig, "/", "Cookie: tester=1")).status == 200
    assert len(rig.app.requests) == 1


async def test_read_only_refuses_what_writes(gates: Rigs) -> None:
    flags = {"frozen": {"targeting": [{"variant": "on"}]}}
    rig = await gates.start(flags=flags, server={"read_only": {"flag": "frozen"}})
    found = {method: (await ask(rig, method=method)).status for method in ("GET", "DELETE", "POST", "PURGE")}
    assert found == {"GET": 200, "DELETE": 503, "POST": 503, "PURGE": 405} or found["DELETE"] == 503
    assert {method: status for method, status in found.items() if status == 200} == {"GET": 200}
