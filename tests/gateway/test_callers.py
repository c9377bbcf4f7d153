"""Who is asking and how they came, across the whole gateway: the PROXY protocol, and a socket for IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scopegate.gateway.app import state_of
from scopegate.gateway.protocol import ClientConnection
from tests.gateway.client import Client
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST
TOLD = {"trusted_proxies": ["127.0.0.0/8"], "client_address": "proxy-protocol"}
HARD: dict[str, Any] = {"hard": {"hsts": {}}}
ROUTES = [{"name": "all", "match": "ANY /**", "tier": "none", "headers": "hard"}]
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
HTTPS, BOTH, HTTP = (
    b"X-Forwarded-Proto: HTTPS\r\n",
    b"X-Forwarded-Proto: https, http\r\n",
    b"X-Forwarded-Proto: http\r\n",
)


def v2(*extensions: bytes, command: int = 0x21) -> bytes:
    rest = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + b"\x9c\x40\x01\xbb" + b"".join(extensions)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, 0x11, len(rest)) + rest


def by_ssl(client: int) -> bytes:
    return struct.pack("!BHBI", 0x20, 5, client, 0)


@pytest.mark.parametrize(
    ("header", "said", "is_https"),
    [
        (V1, b"", False),
        (V1, HTTPS, True),
        (V1, HTTP, False),
        (V1, BOTH, False),
        (V1, HTTPS + HTTP, False),
        (V1, b"Forwarded: proto=https\r\n", False),
        (v2(), b"", False),
        (v2(), HTTPS, True),
        (v2(by_ssl(1)), b"", True),
        (v2(by_ssl(7)), HTTP, True),
        (v2(by_ssl(0)), b"", False),
        (v2(by_ssl(0)), HTTPS, False),
        (v2(by_ssl(6)), HTTPS, False),
        (b"PROXY UNKNOWN\r\n", HTTPS, True),
        (v2(by_ssl(1), command=0x20), b"", False),
        (v2(command=0x20), HTTPS, True),
    ],
)
async def test_behind_the_proxy_protocol_a_visitor_comes_by_https_as_the_proxy_says(
    gates: Rigs, header: bytes, said: bytes, is_https: bool
) -> None:
    rig = await gates.start(server=TOLD, headers=HARD, routes=ROUTES)
    client = await rig.connect()
    replies = [await client.ask(header + GET + said + b"\r\n"), await client.ask(GET + said + b"\r\n")]
    assert [bool(reply.get(b"strict-transport-security")) for reply in replies] == [is_https] * 2
    told = {(*request.get(b"x-forwarded-proto"), *request.get(b"x-scheme")) for request in rig.app.requests}
    assert told == {(b"https" if is_https else b"http",)}


async def test_whom_nobody_introduced_does_not_say_how_they_came(gates: Rigs) -> None:
    rig = await gates.start(server={**TOLD, "trusted_proxies": ["203.0.113.0/24"]}, headers=HARD, routes=ROUTES)
    client = await rig.connect()
    reply = await client.ask(GET + HTTPS + b"\r\n")
    assert (reply.status, reply.get(b"strict-transport-security")) == (200, [])
    assert rig.app.requests[0].get(b"x-forwarded-proto") == [b"http"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs a socket for both IPv4 and IPv6")
@pytest.mark.parametrize("trusted", [False, True])
async def test_on_a_socket_for_both_a_visitor_of_ipv4_has_one_address(gates: Rigs, trusted: bool) -> None:
    rig = await gates.start(server={"trusted_proxies": ["127.0.0.1/32"]} if trusted else {})
    state = SimpleNamespace(connections=set())

    def serve() -> ClientConnection:
        return ClientConnection(cast(Any, None), cast(Any, state), state_of(rig.gateway))

    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    async with await asyncio.get_running_loop().create_server(serve, sock=sock):
        client = await Client.connect(sock.getsockname()[1])
        assert (await client.ask(GET + b"X-Forwarded-For: 203.0.113.7\r\n\r\n")).status == 200
        (connection,) = state.connections
        assert connection.peer == "127.0.0.1"
        await client.close()
        await eventually(lambda: not state.connections)
    (request,) = rig.app.requests
    visitor, chain = (b"203.0.113.7", b"203.0.113.7, 127.0.0.1") if trusted else (b"127.0.0.1", b"127.0.0.1")
    assert (request.get(b"x-real-ip"), request.get(b"x-forwarded-for")) == ([visitor], [chain])
