"""Which calls go through the environment's proxy, decided and on real sockets: a proxy that tunnels, TLS by an
authority of the tests' own, and the real SDK."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from pydantic import SecretStr

from scopegate.errors import AIError
from scopegate.worker.claude import PUBLIC_URL, ClaudeCaller
from scopegate.worker.proxy import proxy_for
from tests.authority import Authority
from tests.simulated import KEY, SimulatedClaude, _running_claude, simulated_claude
from tests.worker.test_claude import request

__all__ = ["_running_claude", "simulated_claude"]
PROXY = "http://proxy.internal:3128"


@pytest.mark.parametrize(
    "exempt",
    [
        *(
            None,
            "",
            " , ",
            "localhost,127.0.0.1,::1,fd00::/8,10.0.0.0/8",
            "pic.com",
            "xanthropic.com",
            "api.anthropic.com:80",
        ),
        *("[::1", "999.0.0.0/99", "http://api.anthropic.com", "*x", ":443", "."),
    ],
)
def test_what_names_somebody_else_keeps_the_proxy(exempt: str | None) -> None:
    assert proxy_for(PUBLIC_URL, PROXY, exempt) == PROXY


@pytest.mark.parametrize(
    "exempt",
    [
        "*",
        "anthropic.com",
        ".anthropic.com",
        "*.anthropic.com",
        "a.example, API.Anthropic.com",
        "anthropic.com:443",
        "com.",
    ],
)
def test_what_names_the_host_goes_straight(exempt: str) -> None:
    assert proxy_for(PUBLIC_URL, PROXY, exempt) is None


@pytest.mark.parametrize(
    ("url", "exempt", "straight"),
    [
        *(("https://10.1.2.3:8443", entry, True) for entry in ("10.0.0.0/8", "10.1.2.3", "10.1.2.3:8443")),
        *(("https://10.1.2.3:8443", entry, False) for entry in ("10.2.0.0/16", "10.1.2.3:443", "1.2.3", "fd00::/8")),
        *(("https://[fd00::1]", entry, True) for entry in ("fd00::/8", "[fd00::1]", "[fd00::1]:443", "fd00::1")),
        ("https://[fd00::1]", "10.0.0.0/8", False),
        ("http://127.0.0.1:9", None, True),
    ],
)
def test_addresses_networks_ports_and_plain_http(url: str, exempt: str | None, straight: bool) -> None:
    assert proxy_for(url, PROXY, exempt) == (None if straight else PROXY)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()
        await writer.wait_closed()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_pipe(reader, onward_writer), _pipe(onward_reader, writer))


@asynccontextmanager
async def _listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port; everybody who came is gone at the end."""
    tasks: list[asyncio.Task[None]] = []

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(serve(reader, writer)))

    async with await asyncio.start_server(came, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


@asynccontextmanager
async def tls_in_front(port: int, authority: Authority) -> AsyncIterator[int]:
    identity = authority.identity("claude", x509.IPAddress(ip_address("127.0.0.1")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    async with _listening(lambda reader, writer: _join(reader, writer, port), context) as listening:
        yield listening


@asynccontextmanager
async def tunnelling_proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its URL, and the first line of all that came."""
    seen: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await _join(reader, writer, int(head.split()[1].rpartition(b":")[2]))

    async with _listening(tunnel) as port:
        yield f"http://127.0.0.1:{port}", seen


@pytest.mark.parametrize("through", [True, False])
async def test_a_call_takes_the_way_it_was_given_and_no_other(
    through: bool, simulated_claude: SimulatedClaude, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says besides, and what it says wrongly, changes nothing."""
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "fd00::/8")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Planted: yes\nbroken")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "planted")
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.file)
    port = int(simulated_claude.url.rpartition(":")[2])
    async with tls_in_front(port, authority) as tls, tunnelling_proxy() as (proxy, seen):
        url = f"https://127.0.0.1:{tls}"
        caller = ClaudeCaller(SecretStr(KEY), url, proxy=proxy if through else None, trust=trust)
        assert "X-Planted" not in caller._client.default_headers
        assert (await caller.call(request())).stop_reason == "end_turn"
        await caller.close()
        assert seen == [f"CONNECT 127.0.0.1:{tls} HTTP/1.1".encode()] * through


async def test_an_authority_that_nobody_named_is_not_trusted(simulated_claude: SimulatedClaude, tmp_path: Path) -> None:
    async with tls_in_front(int(simulated_claude.url.rpartition(":")[2]), Authority(tmp_path)) as tls:
        caller = ClaudeCaller(SecretStr(KEY), f"https://127.0.0.1:{tls}")
        with pytest.raises(AIError):
            await caller.call(request())
        await caller.close()
