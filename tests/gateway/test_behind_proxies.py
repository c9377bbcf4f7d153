"""Behind nginx, HAProxy and Caddy, set up as docs/security.md says: the visitor's address is the visitor's, whatever
the visitor says of it; Host is kept; trailer fields stay out."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.engines import missing
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs
from tests.gateway.test_dial import IP
from tests.ports import free_port

pytestmark = ON_ONE_LOOP

DOC = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
VISITOR = "127.0.0.2"
FORGED = b"X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Middleware-Subrequest: x\r\n"

AROUND = {
    "nginx": """daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1; events {{}}
http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; server {{ listen 127.0.0.1:{port}; {snippet} }} }}
""",
    "haproxy": """defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
{snippet}""",
    "caddy": "{{\n admin off\n auto_https off\n}}\n{snippet}",
}
COMMANDS = {
    "nginx": ["nginx", "-c", "{file}", "-p", "{folder}"],
    "haproxy": ["haproxy", "-db", "-f", "{file}"],
    "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", "{file}"],
}


Swap = tuple[str, str]


def configured(proxy: str, folder: Path, port: int, gateway: int, swaps: Sequence[Swap] = ()) -> Path:
    """The page's own lines with our ports in them, and `swaps` made."""
    found = re.search(rf"```{proxy}\n(.*?)```", DOC, re.DOTALL)
    assert found is not None
    snippet = found[1].replace("127.0.0.1:8080", f"127.0.0.1:{gateway}")
    snippet = snippet.replace("bind :80", f"bind 127.0.0.1:{port}")
    snippet = snippet.replace("http://:80 {", f"http://:{port} {{\n    bind 127.0.0.1")
    for old, new in swaps:
        assert old in snippet
        snippet = snippet.replace(old, new)
    file = folder / "proxy.conf"
    file.write_text(AROUND[proxy].format(snippet=snippet, port=port, folder=folder))
    return file


@asynccontextmanager
async def running(proxy: str, folder: Path, gateway: int, *swaps: Swap) -> AsyncIterator[int]:
    if shutil.which(proxy) is None:
        if proxy == "nginx":
            missing(proxy)
        pytest.skip(f"needs {proxy}")
    port = free_port()
    file = configured(proxy, folder, port, gateway, swaps)
    command = [word.format(file=file, folder=folder) for word in COMMANDS[proxy]]
    env = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(15):
            while True:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def ask(port: int, raw: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """One request from the visitor's address, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(VISITOR, 0), ssl=tls)
    writer.write(raw)
    async with asyncio.timeout(8):
        answer = await reader.read()
    writer.close()
    return answer


async def behind(gates: Rigs, proxy: str) -> Rig:
    told = {"client_address": "proxy-protocol"} if proxy == "haproxy" else {}
    return await gates.start(server={"trusted_proxies": ["127.0.0.1/32"], **told})


@pytest.mark.parametrize("proxy", AROUND)
async def test_behind_a_proxy_the_address_is_the_visitors(gates: Rigs, proxy: str, tmp_path: Path) -> None:
    rig = await behind(gates, proxy)
    async with running(proxy, tmp_path, rig.port) as port:
        get = b"GET /x/../y?z=%%2F HTTP/1.1\r\nHost: a.example:%d\r\nConnection: close\r\n" % port
        assert (await ask(port, get + b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await ask(port, get + FORGED + b"\r\n")).startswith(b"HTTP/1.1 200 ")
    assert len(rig.app.requests) == 2
    for request in rig.app.requests:
        assert request.get(b"x-real-ip") == [VISITOR.encode()]
        assert b"6.6.6.6" not in b" ".join(request.get(b"x-forwarded-for"))
        assert request.get(b"x-middleware-subrequest") == []
        assert request.get(b"host") == [b"a.example:%d" % port]
        assert request.target == b"/x/../y?z=%2F"


@pytest.mark.parametrize("proxy", AROUND)
async def test_behind_a_proxy_trailer_fields_stay_out(gates: Rigs, proxy: str, tmp_path: Path) -> None:
    rig = await behind(gates, proxy)
    async with running(proxy, tmp_path, rig.port) as port:
        post = b"POST /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await ask(port, post + b"3\r\nabc\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX-Late: 1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    (request,) = rig.app.requests
    assert request.body == b"abc"
    assert request.get(b"x-real-ip") == [VISITOR.encode()]
    assert request.get(b"x-late") == []


FORGED_SCHEMES = {"http": b"X-Forwarded-Proto: https\r\n", "https": b"X-Forwarded-Proto: http\r\n"}


@pytest.mark.parametrize("scheme", FORGED_SCHEMES)
@pytest.mark.parametrize("told_by", ["field", "header"])
async def test_behind_haproxy_with_tls_a_visitor_comes_by_https(
    gates: Rigs, tmp_path: Path, scheme: str, told_by: str
) -> None:
    """As the page shows it; and with the header that says it, where the field is the visitor's own."""
    swaps: list[Swap] = []
    tls: ssl.SSLContext | None = None
    if scheme == "https":
        authority = Authority(tmp_path)
        made = authority.identity("public", IP)
        (tmp_path / "both.pem").write_bytes(made.cert.read_bytes() + made.key.read_bytes())
        tls = ssl.create_default_context(cafile=str(authority.file))
        swaps.append(("\n    http-request", f" ssl crt {tmp_path}/both.pem\n    http-request"))
    if told_by == "header":
        swaps += [("send-proxy-v2", "send-proxy-v2-ssl"), ("http-request set-header X-Forwarded-Proto", "#")]
    rig = await behind(gates, "haproxy")
    async with running("haproxy", tmp_path, rig.port, *swaps) as port:
        get = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
        assert (await ask(port, get + FORGED_SCHEMES[scheme] + b"\r\n", tls)).startswith(b"HTTP/1.1 200 ")
    (request,) = rig.app.requests
    assert (request.get(b"x-forwarded-proto"), request.get(b"x-real-ip")) == ([scheme.encode()], [VISITOR.encode()])
