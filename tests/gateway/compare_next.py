"""Ask a real Next.js app the same things directly and through a gateway: the answers must not differ.

    python -m tests.gateway.compare_next FOLDER [VERSION]

Needs node and npm; FOLDER (kept, so that a second run is quick) gets Next.js and an app of both routers with a proxy
(its middleware). Asked is what its client code asks: pages, the data of pages, prefetches, navigation by RSC, a server
action, the last also behind a balancer that writes a Host of its own. Not part of the tests: `gateway/test_fields.py`
and `gateway/test_public_host.py` hold what this has shown.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.edge.spellings.next_app import build, serving
from tests.gateway.rig import Rigs

HOST = "www.example.com"
APP = {
    "next.config.js": 'module.exports = { generateBuildId: async () => "build" };\n',
    "proxy.js": """import { NextResponse } from "next/server";
export function proxy(request) {
  const { pathname } = request.nextUrl;
  if (pathname === "/moved") return NextResponse.redirect(new URL("/account", request.url));
  if (pathname === "/alias") return NextResponse.rewrite(new URL("/account", request.url));
  const response = NextResponse.next();
  response.headers.set("x-proxied", "1");
  return response;
}
""",
    "app/layout.js": "export default function Layout({ children }) { return <html><body>{children}</body></html>; }\n",
    "app/form/page.js": """export const dynamic = "force-dynamic";
async function act() { "use server"; }
export default function Page() { return <form action={act}><button>go</button></form>; }
""",
    "pages/account.js": """export async function getServerSideProps() { return { props: {} }; }
export default function Account() { return <p>account</p>; }
""",
}
_TOLD = ("x-nextjs", "x-middleware", "x-matched", "x-action", "x-proxied", "location", "content-type", "vary", "cache-")


@dataclass(frozen=True, slots=True)
class Asked:
    path: str
    fields: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: str | None = None


def questions(action: str) -> list[Asked]:
    data = {"x-nextjs-data": "1"}
    prefetch = data | {"x-middleware-prefetch": "1", "purpose": "prefetch"}
    acting = {"Next-Action": action, "Content-Type": "text/plain;charset=UTF-8", "Accept": "text/x-component"}
    return [
        Asked("/account"),
        *(Asked(f"/_next/data/build/{page}.json", each) for page in ("account", "alias", "moved", "no%2Fpage")
          for each in ({}, data, prefetch)),
        Asked("/_next/data/build/account.json", data, "HEAD"),
        Asked("/moved"),
        Asked("/alias"),
        Asked("/form"),
        Asked("/form", {"RSC": "1"}),
        Asked("/form", {"RSC": "1", "Next-Router-Prefetch": "1", "Next-Router-Segment-Prefetch": "/_tree"}),
        Asked("/form", acting | {"Origin": f"https://{HOST}"}, "POST", "[]"),
        Asked("/_next/image?url=%2Fnone.png&w=64&q=75"),
        Asked("//account"),
        Asked("/account;a=b/%2F"),
    ]  # fmt: skip


def answer(port: int, asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """Status, the fields that Next.js speaks by, and the body without what changes each time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(asked.method, asked.path, asked.body, {"Host": HOST} | dict(asked.fields))
    reply = connection.getresponse()
    body = re.sub(rb"[0-9a-f]{8,}|[0-9]{8,}", b"", reply.read())
    connection.close()
    return reply.status, {name: value for name, value in reply.getheaders() if name.lower().startswith(_TOLD)}, body


async def compare(app_port: int, action: str) -> int:
    """How many answers differ."""
    run = partial(asyncio.get_running_loop().run_in_executor, None)
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        rigs = Rigs(Path(folder))
        rig = await rigs.start(
            servers=[f"http://127.0.0.1:{app_port}"],
            server={"trusted_proxies": ["127.0.0.0/8"], "forwarded_host": ["app"]},
            routes=[{"name": "all", "match": "ANY /**", "tier": "none", "headers": "none"}],
        )
        balanced = {"Host": "internal:8080", "X-Forwarded-Host": HOST, "X-Forwarded-Port": "443"}
        for asked in questions(action):
            direct = await run(answer, app_port, asked)
            ways = [asked, replace(asked, fields={**asked.fields, **balanced})] if asked.method == "POST" else [asked]
            for way in ways:
                through = await run(answer, rig.port, way)
                different += through != direct
                verdict = "same" if through == direct else f"DIFFERENT: {direct} / {through}"
                sys.stdout.write(f"{verdict}  {way.method} {way.path} {dict(way.fields)} {direct[0]}\n")
        await rigs.stopped()
    return different


def main(folder: Path, version: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    build(folder, version, APP)
    actions = json.loads((folder / ".next/server/server-reference-manifest.json").read_text())["node"]
    with serving(folder) as port:
        return asyncio.run(compare(port, next(iter(actions))))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "latest"))
