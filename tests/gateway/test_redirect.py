"""The port that sends visitors to https, and serves the challenges of an ACME client."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from scopegate.gateway.redirect import MAX_CHALLENGE_BYTES, read_challenge
from tests.authority import Authority
from tests.gateway.client import Client, Reply
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually, policy_of

pytestmark = ON_ONE_LOOP

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # RFC 8555 8.3
KEY = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def webroot(tmp_path: Path) -> Path:
    (tmp_path / ".well-known/acme-challenge").mkdir(parents=True)
    return tmp_path


def server(authority: Authority, **redirect: Any) -> dict[str, Any]:
    identity = authority.issue("a.example")
    return {
        "hosts": ["a.example", "b.example:8443"],
        "tls": [{"cert": str(identity.cert), "key": str(identity.key)}],
        "redirect": {"listen": "127.0.0.1:0", **redirect},
    }


@pytest_asyncio.fixture(loop_scope="module")
async def rig(gates: Rigs, authority: Authority, webroot: Path) -> AsyncIterator[Rig]:
    (webroot / ".well-known/acme-challenge" / TOKEN).write_text(KEY)
    yield await gates.start(server=server(authority, webroot=str(webroot)), limits={"head": "2KiB"})


async def visitor(rig: Rig) -> Client:
    client = await Client.connect(rig.redirect_port)
    rig.clients.append(client)
    return client


async def ask(rig: Rig, line: str, *fields: str, host: str = "a.example", body: bytes = b"") -> Reply:
    client = await visitor(rig)
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    reply = await client.ask("\r\n".join(lines).encode() + body)
    assert reply.get(b"connection") == [b"close"]
    assert await client.ends() == b""
    return reply


async def test_a_visitor_finds_the_same_page_by_https(rig: Rig, authority: Authority) -> None:
    reply = await ask(rig, "GET /a%2Fb?c=d")
    assert (reply.status, reply.get(b"location"), reply.body) == (301, [b"https://a.example/a%2Fb?c=d"], b"")
    assert reply.get(b"strict-transport-security") == []
    trusting = ssl.create_default_context(cafile=authority.file)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusting, server_hostname="a.example")
    writer.write(b"GET /a%2Fb?c=d HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    assert [each.target for each in rig.app.requests] == [b"/a%2Fb?c=d"]


async def test_what_is_posted_is_not_read_and_keeps_its_method(rig: Rig) -> None:
    for framing, body in [("Content-Length: 300000", b"x" * 300_000), ("Transfer-Encoding: chunked", b"1\r\nx\r\n")]:
        reply = await ask(rig, "POST /x", framing, body=body)
        assert (reply.status, reply.get(b"location")) == (308, [b"https://a.example/x"])
    assert rig.app.requests == []


@pytest.mark.parametrize(
    ("line", "host", "status", "code"),
    [
        ("GET /", "evil.example", 421, "misdirected_request"),
        ("GET /", "a.example@evil.example", 400, "bad_host"),
        ("GET /", "a.example/evil.example", 400, "bad_host"),
        ("GET /", "", 400, "bad_host"),
        ("GET http://evil.example/", "a.example", 400, "bad_host"),
        ("GET @evil.example/", "a.example", 400, "bad_syntax"),
        ("GET *", "a.example", 400, "bad_target"),
        ("GET /%zz", "a.example", 400, "bad_path"),
        ("CONNECT evil.example:443", "a.example", 501, "method_not_implemented"),
        ("TRACE /", "a.example", 501, "method_not_implemented"),
        ("GET /" + "x" * 4000, "a.example", 431, "head_too_large"),
        ("GET /\rx", "a.example", 400, "bad_syntax"),
    ],
)
async def test_what_no_page_could_be_is_refused(rig: Rig, line: str, host: str, status: int, code: str) -> None:
    reply = await ask(rig, line, host=host)
    assert reply.status == status
    assert reply.code == code
    assert reply.get(b"location") == []


async def test_the_port_of_a_host_is_not_told_on(rig: Rig) -> None:
    assert (await ask(rig, "GET /", host="b.example:8080")).get(b"location") == [b"https://b.example/"]


async def test_a_challenge_is_answered(rig: Rig) -> None:
    reply = await ask(rig, f"GET /.well-known/acme-challenge/{TOKEN}")
    assert (reply.status, reply.body.decode(), reply.framing) == (200, KEY, "length")
    assert reply.get(b"content-type") == [b"application/octet-stream"]
    reply = await ask(rig, f"HEAD /.well-known/acme-challenge/{TOKEN}")
    assert (reply.status, reply.body, reply.get(b"content-length")) == (200, b"", [b"%d" % len(KEY)])
    assert (await ask(rig, f"GET /.well-known/acme-challenge/{TOKEN}", host="evil.example")).status == 421


@pytest.mark.parametrize("name", ["absent", "..%2f..%2fsecret", f"{TOKEN}/", f"x/../{TOKEN}", ""])
async def test_a_challenge_that_is_none_is_sent_on_like_any_page(rig: Rig, webroot: Path, name: str) -> None:
    (webroot / "secret").write_text("secret")
    reply = await ask(rig, f"GET /.well-known/acme-challenge/{name}")
    assert (reply.status, reply.body) == (301, b"")


async def test_without_a_webroot_none_is_answered(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=server(authority, port=8443))
    reply = await ask(rig, f"GET /.well-known/acme-challenge/{TOKEN}")
    at = f"https://a.example:8443/.well-known/acme-challenge/{TOKEN}"
    assert (reply.status, reply.get(b"location")) == (301, [at.encode()])


async def test_a_policy_that_redirects_no_more_serves_nothing_there(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=server(authority))
    without = server(authority)
    del without["redirect"]
    await rig.gateway.adopt(policy_of([rig.app.url], server=without))
    assert (await ask(rig, "GET /")).code == "no_route"


async def test_who_comes_there_counts_among_connections_and_has_a_head_s_time(
    gates: Rigs, authority: Authority
) -> None:
    limits = {"connections": 4, "connections_per_client": 2}
    rig = await gates.start(server=server(authority), limits=limits, timeouts={"head": "200ms"})
    slow, waiting, more = await visitor(rig), await visitor(rig), await visitor(rig)
    assert (await more.answer()).code == "too_many_connections"
    slow.send(b"GET / HT")
    assert (await slow.answer()).code == "head_timeout"
    assert await waiting.ends() == b""


async def test_a_stop_closes_both_ports(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=server(authority))
    idle = await visitor(rig)
    rig.stop.set()
    assert await idle.ends() == b""
    await eventually(lambda: rig._serving is not None and rig._serving.done())
    for port in (rig.port, rig.redirect_port):
        with pytest.raises(OSError):
            await Client.connect(port)


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_is_read_whole_or_not_at_all(webroot: Path) -> None:
    challenges = webroot / ".well-known/acme-challenge"
    for name, content, found in [
        ("whole", b"x" * MAX_CHALLENGE_BYTES, b"x" * MAX_CHALLENGE_BYTES),
        ("large", b"x" * (MAX_CHALLENGE_BYTES + 1), None),
        ("empty", b"", None),
    ]:
        (challenges / name).write_bytes(content)
        assert read_challenge(str(webroot), name) == found
    assert read_challenge(str(webroot), "absent") is None
    assert read_challenge(str(webroot / "absent"), "whole") is None


async def test_a_link_leads_nowhere(webroot: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret").write_text("secret")
    challenges = webroot / ".well-known/acme-challenge"
    (challenges / "linked").symlink_to(elsewhere / "secret")
    assert read_challenge(str(webroot), "linked") is None
    challenges.joinpath("linked").unlink()
    challenges.rmdir()
    challenges.symlink_to(elsewhere)
    assert read_challenge(str(webroot), "secret") is None


async def test_what_is_no_plain_file_is_not_waited_for(webroot: Path) -> None:
    challenges = webroot / ".well-known/acme-challenge"
    os.mkfifo(challenges / "pipe")
    (challenges / "folder").mkdir()
    assert read_challenge(str(webroot), "pipe") is None
    writer = os.open(challenges / "pipe", os.O_RDWR)
    os.write(writer, b"secret")
    assert read_challenge(str(webroot), "pipe") is None
    os.close(writer)
    assert read_challenge(str(webroot), "folder") is None


async def test_no_descriptor_is_left_open(webroot: Path) -> None:
    (webroot / ".well-known/acme-challenge/here").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_challenge(str(webroot), "here")
        read_challenge(str(webroot), "absent")
    assert len(os.listdir("/proc/self/fd")) == before
