"""Use a real Next.js app in Chromium: through a balancer that writes a Host of its own and a gateway, and by https with
nothing in front of the gateway.

    python -m tests.gateway.browse_next FOLDER [VERSION]

Needs node, npm, nginx and chromium; FOLDER (kept, so that a second run is quick) gets Next.js and the app. Exit 0 when
everything that a visitor does comes out well; each line also says so of the same without the gateway. Not part of the
tests: what it has shown is held by `gateway/test_events.py`, `gateway/test_incoming.py`, `gateway/test_keeping.py` and
`gateway/test_public_host.py`.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.authority import Authority
from tests.edge.spellings.next_app import build, serving
from tests.gateway.chromium import Page, browsing
from tests.gateway.rig import Rigs
from tests.gateway.test_behind_proxies import running

HOST = "www.example.com"
KEPT_MS = 1000
"""For so long the app keeps an idle connection."""
APP = {
    "next.config.js": 'module.exports = { experimental: { serverActions: { bodySizeLimit: "8mb" } } };\n',
    "proxy.js": """import { NextResponse } from "next/server";
export function proxy(request) {
  const { pathname } = request.nextUrl;
  if (pathname === "/moved") return NextResponse.redirect(new URL("/about", request.url));
  if (pathname === "/alias") return NextResponse.rewrite(new URL("/about", request.url));
  return NextResponse.next();
}
""",
    "app/layout.js": """import Link from "next/link";
export default function Layout({ children }) {
  return <html><body><nav><Link id="home" href="/">home</Link> <Link id="about" href="/about">about</Link>{" "}
    <Link id="moved" href="/moved">moved</Link> <Link id="alias" href="/alias">alias</Link></nav>
    {children}</body></html>;
}
""",
    "app/page.js": """import Image from "next/image";
export default function Page() {
  return <main><h1>start</h1><Image id="photo" src="/photo.png" width={64} height={64} alt="" priority /></main>;
}
""",
    "app/about/page.js": """import { headers } from "next/headers";
export const dynamic = "force-dynamic";
export default async function Page() {
  return <main><h1>about</h1><p>{(await headers()).get("x-forwarded-host")}</p></main>;
}
""",
    "app/slow/page.js": """import { Suspense } from "react";
export const dynamic = "force-dynamic";
async function Late() { await new Promise((done) => setTimeout(done, 1000)); return <p id="late">late</p>; }
export default function Page() {
  return <main><h1>soon</h1><Suspense fallback={<p>wait</p>}><Late /></Suspense></main>;
}
""",
    "app/form/page.js": """import Form from "./form";
async function act(_before, form) {
  "use server";
  const file = form.get("file");
  return `${form.get("word")} ${file.size}`;
}
export const dynamic = "force-dynamic";
export default function Page() { return <Form act={act} />; }
""",
    "app/form/form.js": """"use client";
import { useActionState } from "react";
export default function Form({ act }) {
  const [said, send] = useActionState(act, "nothing");
  return <form action={send}><input name="word" defaultValue="hello" /><input type="file" name="file" />
    <button>send</button><output>{said}</output></form>;
}
""",
    "app/api/upload/route.js": """export async function POST(request) {
  const file = (await request.formData()).get("file");
  return Response.json({ size: file.size, name: file.name });
}
""",
    "app/api/echo/route.js": """export async function POST(request) {
  return Response.json({ size: (await request.arrayBuffer()).byteLength });
}
""",
    "app/api/events/route.js": """export const dynamic = "force-dynamic";
export function GET() {
  const write = async (to) => {
    for (let n = 1; n <= 3; n++) {
      to.enqueue(new TextEncoder().encode(`id: ${n}\\ndata: ${Date.now()}\\n\\n`));
      await new Promise((done) => setTimeout(done, 300));
    }
  };
  return new Response(new ReadableStream({ start: (to) => void write(to) }), {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
""",
    "pages/old.js": """import Link from "next/link";
export async function getServerSideProps({ query }) { return { props: { n: Number(query.n ?? 0) } }; }
export default function Old({ n }) {
  return <main><h1>old {n}</h1><Link id="next" href={`/old?n=${n + 1}`}>next</Link></main>;
}
""",
}
BALANCED = {"trusted_proxies": ["127.0.0.0/8"], "forwarded_host": ["hosts", "app"], "hosts": [HOST]}
POLICY: dict[str, Any] = {
    "tiers": {"strict": {"limit": "200 per 10s", "key": "client_ip"}},
    "routes": [
        {"name": "upload", "match": "POST /api/upload", "tier": "strict",
         "body": {"max": "8MiB", "buffer": "off", "multipart": {"file": "6MiB"}}},
        {"name": "events", "match": "GET /api/events", "tier": "strict", "events": {"idle": "30s"}},
        {"name": "images", "match": "GET /_next/image", "tier": "strict"},
        {"name": "page-data", "match": "ANY /_next/data/**", "tier": "strict"},
        {"name": "rest", "match": "ANY /**", "tier": "strict", "body": {"max": "8MiB"}},
    ],
}  # fmt: skip
OWN_HOST = """proxy_set_header Host internal:8080;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_buffering off;
    proxy_request_buffering off;
    client_max_body_size 16m;"""


def png(side: int = 256) -> bytes:
    """A picture of one colour."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + b"\x20\x80\xc0" * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def is_same(found: object, wanted: object) -> None:
    assert found == wanted, f"{found!r}, not {wanted!r}"


async def pages_and_images(page: Page) -> None:
    await page.open(f"http://{HOST}/")
    is_same(await page.run("document.querySelector('h1').textContent"), "start")
    await page.until("document.querySelector('#photo').naturalWidth > 0")
    assert any(status == 200 and "/_next/image" in url for status, url in page.statuses)


async def navigation(page: Page) -> None:
    """By RSC, without loading the page anew; a redirect and a rewrite of the app's proxy on the way."""
    await page.open(f"http://{HOST}/")
    await page.run("window.kept = true")
    for link, path in (("about", "/about"), ("home", "/"), ("moved", "/about"), ("home", "/"), ("alias", "/alias")):
        await page.run(f"document.querySelector('#{link}').click()")
        await page.until(f"location.pathname === '{path}'")
        heading = "start" if path == "/" else "about"
        await page.until(f"document.querySelector('h1').textContent === '{heading}'")
        if path == "/about":
            is_same(await page.run("document.querySelector('p').textContent"), HOST)
    is_same(await page.run("window.kept"), True)


async def data_of_pages(page: Page) -> None:
    await page.open(f"http://{HOST}/old")
    await page.run("window.kept = true")
    for n in range(1, 4):
        await page.run("document.querySelector('#next').click()")
        await page.until(f"document.querySelector('h1').textContent === 'old {n}'")
    is_same(await page.run("window.kept"), True)
    assert any("/_next/data/" in url for _, url in page.statuses)


async def streaming(page: Page) -> None:
    """The page is there before its slow part is."""
    script = """(async () => {
      const reader = (await fetch("/slow")).body.getReader(), text = new TextDecoder();
      const first = text.decode((await reader.read()).value), began = Date.now();
      let rest = "";
      for (let more; !(more = await reader.read()).done; ) rest += text.decode(more.value);
      const slept = Date.now() - began > 500;
      return [first.includes("soon"), first.includes('id="late"'), rest.includes('id="late"'), slept];
    })()"""
    is_same(await page.run(script), [True, False, True, True])


async def a_server_action(page: Page) -> None:
    await page.open(f"http://{HOST}/form")
    await page.run("""(() => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(3_000_000)], "photo.jpg", { type: "image/jpeg" }));
      document.querySelector("[type=file]").files = files.files;
    })()""")
    await page.run("document.querySelector('button').click()")
    await page.until("document.querySelector('output').textContent !== 'nothing'")
    is_same(await page.run("document.querySelector('output').textContent"), "hello 3000000")


async def uploads(page: Page) -> None:
    script = """(async () => {
      const send = async (size) => {
        const form = new FormData();
        form.append("file", new File([new Uint8Array(size)], 'a "b" \u00e4.jpg', { type: "image/jpeg" }));
        const answer = await fetch("/api/upload", { method: "POST", body: form });
        return answer.ok ? await answer.json() : answer.status;
      };
      return [await send(5_000_000), await send(6_000_000)];
    })()"""
    is_same(await page.run(script), [{"size": size, "name": 'a "b" ä.jpg'} for size in (5_000_000, 6_000_000)])


async def event_streams(page: Page) -> None:
    script = """new Promise((done) => {
      const late = [], source = new EventSource("/api/events");
      source.onmessage = (event) => {
        late.push(Date.now() - Number(event.data) < 200);
        if (late.length === 3) { source.close(); done(late); }
      };
    })"""
    is_same(await page.run(script), [True, True, True])


async def posts_around_the_apps_patience(page: Page) -> None:
    """The app closes what idles at about the moment the next one comes."""
    script = f"""(async () => {{
      const statuses = [];
      for (let n = 0; n < 20; n++) {{
        await new Promise((done) => setTimeout(done, {KEPT_MS} - 20 + 2 * n));
        const post = (body) => fetch("/api/echo", {{ method: "POST", body }});
        statuses.push(...(await Promise.all([post("x"), post("y")])).map((answer) => answer.status));
      }}
      return statuses;
    }})()"""
    is_same(await page.run(script), [200] * 40)


DOES: list[Callable[[Page], Awaitable[None]]] = [
    pages_and_images,
    navigation,
    data_of_pages,
    streaming,
    a_server_action,
    uploads,
    event_streams,
    posts_around_the_apps_patience,
]


async def browse(app_port: int) -> int:
    """How many things fail through the gateway, behind a balancer and with nothing in front, where http leads to https.
    What the balancer and the app do alone is told beside it."""
    servers = [f"http://127.0.0.1:{app_port}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rigs = Rigs(folder)
        through = await rigs.start(servers=servers, server=BALANCED, **POLICY)
        https = await rigs.start(servers=servers, server=alone(Authority(folder)), **POLICY)
        swap = ("proxy_set_header Host $http_host;", OWN_HOST)
        async with running("nginx", folder, app_port, swap) as port, browsing(HOST, port) as page:
            await visit(page, "without")
        async with running("nginx", folder, through.port, swap) as port, browsing(HOST, port) as page:
            failed = await visit(page, "through")
        async with browsing(HOST, https.redirect_port, https.port) as page:
            failed += await visit(page, "https")
        await rigs.stopped()
    return failed


def alone(authority: Authority) -> dict[str, Any]:
    identity = authority.issue(HOST)
    certificate = {"cert": str(identity.cert), "key": str(identity.key)}
    return {"hosts": [HOST], "tls": [certificate], "redirect": {"listen": "127.0.0.1:0"}}


async def visit(page: Page, way: str) -> int:
    """How many things fail."""
    verdicts = {each.__name__: await does(page, each) for each in DOES}
    for name, verdict in verdicts.items():
        sys.stdout.write(f"{way:8} {name:36} {verdict or 'fine'}\n")
    return sum(map(bool, verdicts.values()))


async def does(page: Page, what: Callable[[Page], Awaitable[None]]) -> str:
    """What is wrong with it; nothing when all is well."""
    page.logged.clear()
    page.statuses.clear()
    try:
        await what(page)
    except (AssertionError, RuntimeError, TimeoutError) as error:
        return f"{type(error).__name__} {error} {page.logged} {[each for each in page.statuses if each[0] >= 400]}"
    return ""


def main(folder: Path, version: str) -> int:
    (folder / "public").mkdir(parents=True, exist_ok=True)
    (folder / "public/photo.png").write_bytes(png())
    build(folder, version, APP)
    with serving(folder, options=["--keepAliveTimeout", str(KEPT_MS)]) as port:
        return asyncio.run(browse(port))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "latest"))
