"""The limit store while Redis is gone, hung, locked, read-only, full, flushed, loading or lying; and after."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scopegate.errors import StoreUnavailable
from scopegate.limits.window import Quota, Window
from scopegate.stores.redis_limits import RedisLimits
from tests.valkey import Server

TIMEOUT_S = 0.25  # where the server hangs; elsewhere a slow machine must not look like an outage


def window(limit: int = 1_000) -> Window:
    return Window("strict", uuid.uuid4().hex, Quota(limit, 60_000))


Opener = Callable[..., RedisLimits]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    stores: list[RedisLimits] = []

    def open_one(url: str, timeout_s: float = 10.0) -> RedisLimits:
        stores.append(RedisLimits(url, timeout_s=timeout_s))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(server: Server, opened: Opener) -> RedisLimits:
    """Connected."""
    store = opened(server.url)
    await back(store)
    return store


async def outage(store: RedisLimits) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.spend([window()])
    return caught.value.kind


async def back(store: RedisLimits, within_s: float = 2.0) -> None:
    """The store admits again."""
    give_up_s = time.monotonic() + within_s
    while True:
        try:
            assert (await store.spend([window()])).admitted
            return
        except StoreUnavailable:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.01)


def crashes_of_the_loop() -> list[dict[str, object]]:
    crashes: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: crashes.append(context))
    return crashes


async def test_refused(server: Server, opened: Opener) -> None:
    server.kill()
    store = opened(server.url)
    assert await outage(store) == "connect"
    server.start()
    await back(store)


async def test_killed_with_checks_in_flight(server: Server, store: RedisLimits) -> None:
    server.pause()
    checks = [store.spend([window()]) for _ in range(50)]
    await asyncio.sleep(0.01)
    server.kill()
    kinds = [error.kind for error in await asyncio.gather(*checks, return_exceptions=True)]  # type: ignore[union-attr]
    assert kinds == ["reset"] * 50
    assert await outage(store) == "connect"
    server.start()
    await back(store)


async def test_a_restart_between_checks_is_not_noticed(server: Server, store: RedisLimits) -> None:
    server.kill()
    server.start()
    await asyncio.sleep(0.01)
    assert (await store.spend([window()])).admitted


async def test_hung_costs_the_timeout_once(server: Server, opened: Opener) -> None:
    store = opened(server.url, TIMEOUT_S)
    await back(store)
    server.pause()
    errors = await asyncio.gather(*[store.spend([window()]) for _ in range(200)], return_exceptions=True)
    assert {error.kind for error in errors} == {"timeout"}  # type: ignore[union-attr]
    for _ in range(20):  # from now on nobody waits, through several attempts to connect
        refused = asyncio.create_task(outage(store))
        for _ in range(10):
            await asyncio.sleep(0)
        assert refused.done(), "within turns of the loop"
        assert refused.result() == "timeout"
        await asyncio.sleep(0.03)
    server.resume()
    await back(store)


async def test_hung_before_the_first_check(server: Server, opened: Opener) -> None:
    server.pause()
    store = opened(server.url, TIMEOUT_S)
    assert await outage(store) == "timeout"
    server.resume()
    await back(store)


async def test_wrong_password(server: Server, opened: Opener) -> None:
    crashes = crashes_of_the_loop()
    server.run("CONFIG", "SET", "requirepass", "right")
    for url in (server.url, server.url.replace("redis://", "redis://:hunter2@")):
        with pytest.raises(StoreUnavailable) as caught:
            await opened(url).spend([window()])
        assert caught.value.kind == "connect"
        assert "hunter2" not in str(caught.value)
    assert (await opened(server.url.replace("redis://", "redis://:right@")).spend([window()])).admitted
    gc.collect()
    assert crashes == []  # also none that nobody waited for


async def test_read_only_and_promoted_again(server: Server, store: RedisLimits) -> None:
    server.run("REPLICAOF", "127.0.0.1", "1")
    with server.client() as outside:
        before = {client["id"] for client in outside.client_list()}
    assert await outage(store) == "readonly"
    server.run("REPLICAOF", "NO", "ONE")
    await back(store)
    # A connection of its own: the address may name another server by now.
    with server.client() as outside:
        assert before.isdisjoint(client["id"] for client in outside.client_list())


async def test_full(server: Server, store: RedisLimits) -> None:
    server.run("CONFIG", "SET", "maxmemory", "1")
    assert await outage(store) == "full"
    server.run("CONFIG", "SET", "maxmemory", "0")
    await back(store)


async def test_flushed_scripts_are_loaded_once_and_nothing_is_lost(server: Server, store: RedisLimits) -> None:
    shared = window(50)
    await store.spend([shared])
    server.run("CONFIG", "RESETSTAT")
    server.run("SCRIPT", "FLUSH")
    verdicts = await asyncio.gather(*[store.spend([shared]) for _ in range(80)])
    assert sum(verdict.admitted for verdict in verdicts) == 49
    stats = server.run("INFO", "commandstats")
    assert stats["cmdstat_script|load"]["calls"] == 1
    assert stats["cmdstat_evalsha"]["calls"] == 160


async def test_everything_flushed_starts_anew(server: Server, store: RedisLimits) -> None:
    one = window(1)
    assert (await store.spend([one])).admitted
    server.run("FLUSHALL")
    assert (await store.spend([one])).admitted


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_stood_still_is_not_an_outage(
    server: Server, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The link counts on it: these loops read their sockets before they run their timers."""

    async def stand_still() -> bool:
        store = RedisLimits(server.url, timeout_s=TIMEOUT_S)
        await back(store)
        check = store.spend([window()])
        await asyncio.sleep(0)
        time.sleep(TIMEOUT_S * 2)
        try:
            return (await check).admitted
        finally:
            await store.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(stand_still())


async def test_closing_fails_what_waits(server: Server, store: RedisLimits) -> None:
    server.pause()
    check = store.spend([window()])
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await check
    assert await outage(store) == "connect"


async def test_closing_while_connecting(server: Server, opened: Opener) -> None:
    server.pause()
    store = opened(server.url)
    check = store.spend([window()])
    await asyncio.sleep(0.01)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await check


# ── servers that are none ───────────────────────────────────────────────────────────────────────────────────────────

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOADED = (b"$40\r\n" + b"a" * 40 + b"\r\n") * 4
BEATEN = b"*3\r\n:1\r\n$1\r\nm\r\n:0\r\n"


def says(greeting: bytes, then: bytes | None) -> Answer:
    """Answers the first read with `greeting`, the beat well, and the next with `then`; None hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(greeting)
        await reader.read(65_536)
        writer.write(BEATEN)
        await reader.read(65_536)
        if then is not None:
            writer.write(then)
            await reader.read()
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("greeting", "then", "kind"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", b"", "connect"),
        (b"-ERR max number of clients reached\r\n", None, "other"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", "other"),
        (LOADED, None, "reset"),
        (LOADED, b"-LOADING Redis is loading the dataset in memory\r\n", "connect"),
        (LOADED, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "full"),
        (LOADED, b"-MISCONF Redis is configured to save RDB snapshots\r\n", "full"),
        (LOADED, b"-NOSCRIPT No matching script.\r\n" + LOADED[:47] + b"-NOSCRIPT No matching script.\r\n", "other"),
        (LOADED, b"?what\r\n", "other"),
        (LOADED, b"*5\r\n:0\r\n:1\r\n:9\r\n", "timeout"),
        (LOADED, b"", "timeout"),
    ],
)
async def test_odd_servers(opened: Opener, greeting: bytes, then: bytes | None, kind: str) -> None:
    fake = await asyncio.start_server(says(greeting, then), "127.0.0.1", 0)
    port = fake.sockets[0].getsockname()[1]
    store = opened(f"redis://127.0.0.1:{port}", TIMEOUT_S if kind == "timeout" else 10.0)
    assert await outage(store) == kind
    await store.close()
    fake.close()


async def test_answers_nobody_asked_for_end_the_connection(opened: Opener) -> None:
    crashes = crashes_of_the_loop()
    fake = await asyncio.start_server(says(LOADED, b"*5\r\n:0\r\n:1\r\n:9\r\n:5\r\n:5\r\n:1\r\n:2\r\n"), "127.0.0.1", 0)
    store = opened(f"redis://127.0.0.1:{fake.sockets[0].getsockname()[1]}")
    assert (await store.spend([window()])).standings[0].remaining == 9
    assert (await store.spend([window()])).standings[0].remaining == 9  # on a second connection
    assert crashes == []
    await store.close()
    fake.close()


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def certificate(folder: Path, host: str) -> Path:
    """A self-signed certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{host}.pem"
    file.write_bytes(text)
    return file


async def tls_server(file: Path) -> asyncio.Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return await asyncio.start_server(
        says(LOADED, b"*5\r\n:0\r\n:1\r\n:9\r\n:5\r\n:5\r\n"), "localhost", 0, ssl=context
    )


@pytest.mark.parametrize(
    ("host", "query", "works"),
    [
        ("localhost", "?ssl_ca_certs={file}", True),
        ("localhost", "", False),
        ("elsewhere", "?ssl_ca_certs={file}", False),
        ("elsewhere", "?ssl_ca_certs={file}&ssl_check_hostname=false", True),
        ("elsewhere", "?ssl_cert_reqs=none", True),
    ],
)
async def test_tls_checks_the_certificate_and_its_name(
    opened: Opener, tmp_path: Path, host: str, query: str, works: bool
) -> None:
    file = certificate(tmp_path, host)
    fake = await tls_server(file)
    store = opened(f"rediss://localhost:{fake.sockets[0].getsockname()[1]}/0" + query.format(file=file))
    if works:
        assert (await store.spend([window()])).standings[0].remaining == 9
    else:
        assert await outage(store) == "connect"
    await store.close()
    fake.close()
