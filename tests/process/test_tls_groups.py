"""What a server agrees to, asked by OpenSSL's own client one group at a time."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from scopegate.process import tls_groups
from tests.authority import Authority


async def agrees(context: ssl.SSLContext, *options: str) -> bool:
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await client.communicate()
    server.close()
    assert b"Cipher is " in told, told
    return b"Cipher is (NONE)" not in told


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    identity = Authority(tmp_path).issue("a.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    tls_groups.restrict(context)
    return context


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384", "X25519:ffdhe8192", "ffdhe8192:P-384"])
async def test_those_of_the_profile_are_agreed_to(context: ssl.SSLContext, group: str) -> None:
    assert await agrees(context, "-groups", group, "-tls1_3")


@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048", "ffdhe3072", "ffdhe8192"])
async def test_no_other_is_however_it_is_asked_for(context: ssl.SSLContext, group: str) -> None:
    assert not await agrees(context, "-groups", group, "-tls1_3")


async def test_so_for_tls_1_2(context: ssl.SSLContext) -> None:
    assert await agrees(context, "-groups", "X25519:P-256", "-tls1_2")
    assert not await agrees(context, "-groups", "P-521", "-tls1_2")


async def test_where_openssl_cannot_be_called_one_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tls_groups, "_set_groups", _cannot)
    identity = Authority(tmp_path).issue("a.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    tls_groups.restrict(context)
    assert await agrees(context, "-groups", "X25519:P-256", "-tls1_3")
    if not hasattr(context, "set_groups"):
        assert not await agrees(context, "-groups", "X25519", "-tls1_3")
    assert not await agrees(context, "-groups", "ffdhe8192", "-tls1_3")


def _cannot(_context: ssl.SSLContext) -> None:
    raise AttributeError("SSL_CTX_ctrl")
