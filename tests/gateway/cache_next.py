"""Keep the answers of a real Next.js app, and have two visitors use it in Chromium: nobody may meet another's page.

    python -m tests.gateway.cache_next FOLDER [VERSION]

Needs node, npm and chromium; FOLDER (kept, so that a second run is quick) gets Next.js and the app. Exit 0 when
everything comes out well. Not part of the tests: what it has shown is held by `gateway/test_caching.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.authority import Authority
from tests.edge.spellings.next_app import build, serving
from tests.gateway.browse_next import HOST, alone, is_same, png
from tests.gateway.chromium import Page, browsing
from tests.gateway.rig import Rigs

URL = f"https://{HOST}"
"""Drafts have cookies that browsers take by https alone."""
APP = {
    "next.config.js": """module.exports = {
  i18n: { locales: ["en", "de"], defaultLocale: "en" },
  images: { localPatterns: [{ pathname: "/**" }] },
};
""",
    "app/layout.js": """import Link from "next/link";
export default function Layout({ children }) {
  const to = ["kept", "renewed", "mine", "draft"];
  return <html><body><nav>{to.map((name) => <Link key={name} id={name} href={`/${name}`}>{name}</Link>)}</nav>
    {children}</body></html>;
}
""",
    "app/kept/page.js": """import Image from "next/image";
export default function Page() {
  return <main><h1>kept</h1><p>{Date.now()}</p>
    <Image id="photo" src="/photo.png" width={64} height={64} alt="" priority /></main>;
}
""",
    "app/renewed/page.js": """export const revalidate = 2;
export default function Page() { return <main><h1>renewed</h1><p>{Date.now()}</p></main>; }
""",
    "app/mine/page.js": """import { cookies } from "next/headers";
export default async function Page() {
  return <main><h1>mine</h1><p>{(await cookies()).get("who")?.value ?? "nobody"}</p></main>;
}
""",
    "app/draft/page.js": """import { draftMode } from "next/headers";
export default async function Page() {
  return <main><h1>draft</h1><p>{(await draftMode()).isEnabled ? "not published" : "published"}</p></main>;
}
""",
    "app/api/draft/[way]/route.js": """import { draftMode } from "next/headers";
export async function GET(request, { params }) {
  const draft = await draftMode();
  if ((await params).way === "on") draft.enable(); else draft.disable();
  return Response.json({});
}
""",
    "app/api/renew/route.js": """import { revalidatePath } from "next/cache";
export async function POST() { revalidatePath("/kept"); return Response.json({}); }
""",
    "pages/greeting.js": """import Link from "next/link";
export async function getStaticProps({ locale }) { return { props: { locale }, revalidate: 60 }; }
export default function Greeting({ locale }) {
  return <main><h1>{locale === "de" ? "Guten Tag" : "Good day"}</h1>
    <Link id="other" href="/greeting" locale={locale === "de" ? "en" : "de"}>other</Link></main>;
}
""",
    "pages/index.js": """export async function getStaticProps({ locale }) { return { props: { locale } }; }
export default function Start({ locale }) { return <main><h1>{locale === "de" ? "Anfang" : "Start"}</h1></main>; }
""",
}
POLICY: dict[str, Any] = {
    "tiers": {"strict": {"limit": "1000 per 10s", "key": "client_ip"}},
    "routes": [{"name": "all", "match": "ANY /**", "tier": "strict", "cache": {}}],
}
_STAMP = "document.querySelector('p').textContent"
_HEADING = "document.querySelector('h1').textContent"


async def seen(page: Page, path: str, what: str = _STAMP) -> Any:
    """What stands on a page that is loaded anew."""
    await page.open(URL + path)
    return await page.run(what)


def is_hit(page: Page, path: str) -> None:
    paths = [(url.partition("?")[0], fields) for url, fields in page.told]
    told = next(fields.get("cache-status", "") for url, fields in reversed(paths) if url == URL + path)
    assert "; hit" in told, f"{path}: {told}"


async def clicked(page: Page, name: str, heading: str) -> None:
    """Navigation without loading the page anew."""
    await page.run("window.kept = true")
    await page.run(f"document.querySelector('#{name}').click()")
    await page.until(f"{_HEADING} === '{heading}'")
    is_same(await page.run("window.kept"), True)


async def prerendered_pages(one: Page, other: Page) -> None:
    stamp = await seen(one, "/kept")
    is_same(await seen(other, "/kept"), stamp)
    is_hit(other, "/kept")
    await clicked(other, "mine", "mine")
    await clicked(other, "kept", "kept")
    is_same(await other.run(_STAMP), stamp)


async def images(one: Page, other: Page) -> None:
    """Each by what it takes: the browser WebP, who takes anything the PNG, both from the cache."""
    for page in (one, other):
        await page.open(URL + "/kept")
        await page.until("document.querySelector('#photo').naturalWidth > 0")
        if page is other:
            is_hit(other, "/_next/image")
        for accept, kind in (("*/*", "image/png"), ("image/webp,*/*", "image/webp"), ("*/*", "image/png")):
            options = json.dumps({"headers": {"accept": accept}})
            asked = f"fetch(document.querySelector('#photo').src, {options})"
            is_same(await page.run(f"{asked}.then((it) => it.headers.get('content-type'))"), kind)


async def payloads(one: Page, other: Page) -> None:
    """Pages and their RSC payloads have one path, with and without `_rsc`, from whomever they come first."""
    asked = [("/kept", ""), ("/kept", "1"), ("/kept?_rsc=x", ""), ("/kept?_rsc=x", "1"), ("/kept?_rsc", "1")]
    for page, order in ((one, asked), (other, asked[::-1]), (one, asked[::-1]), (other, asked)):
        await page.open(URL + "/mine")
        for path, rsc in order:
            options = json.dumps({"headers": {"RSC": rsc} if rsc else {}})
            kind = await page.run(f"fetch('{path}', {options}).then((it) => it.headers.get('content-type'))")
            is_same(kind, "text/x-component" if rsc else "text/html; charset=utf-8")
    for page in (one, other):
        await page.open(URL + "/renewed")
        await clicked(page, "kept", "kept")
        is_same(await seen(page, "/kept", _HEADING), "kept")


async def pages_that_are_renewed(one: Page, other: Page) -> None:
    before = await seen(one, "/renewed")
    async with asyncio.timeout(30):
        while (after := await seen(other, "/renewed")) == before:
            await asyncio.sleep(0.5)
    assert int(after) > int(before), (before, after)


async def pages_of_one_visitor(one: Page, other: Page) -> None:
    for page, name in ((one, "anna"), (other, "otto")):
        await page.open(URL + "/kept")
        await page.run(f"document.cookie = 'who={name}'")
    for _ in range(2):
        for page, name in ((one, "anna"), (other, "otto")):
            is_same(await seen(page, "/mine"), name)
            await clicked(page, "kept", "kept")
            await clicked(page, "mine", "mine")
            is_same(await page.run(_STAMP), name)


async def drafts(one: Page, other: Page) -> None:
    is_same(await seen(other, "/draft"), "published")
    await one.open(URL + "/api/draft/on")
    for _ in range(2):
        is_same(await seen(one, "/draft"), "not published")
        is_same(await seen(other, "/draft"), "published")
        is_hit(other, "/draft")
        await one.open(URL + "/kept")
        await clicked(one, "draft", "draft")
        is_same(await one.run(_STAMP), "not published")
        await other.open(URL + "/kept")
        await clicked(other, "draft", "draft")
        is_same(await other.run(_STAMP), "published")
    await one.open(URL + "/api/draft/off")
    is_same(await seen(one, "/draft"), "published")


async def languages(one: Page, other: Page) -> None:
    """The start page leads each to their own, whoever came first, and whatever a cookie says."""
    agent = await other.run("navigator.userAgent")
    await other.ask("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="de-DE,de")
    for _ in range(2):
        is_same(await seen(one, "/", _HEADING), "Start")
        is_same(await seen(other, "/", _HEADING), "Anfang")
    is_hit(one, "/")
    is_same(await other.run("location.pathname"), "/de")
    for page, path, heading, next_heading in (
        (one, "/greeting", "Good day", "Guten Tag"),
        (other, "/de/greeting", "Guten Tag", "Good day"),
        (other, "/greeting", "Good day", "Guten Tag"),
        (one, "/de/greeting", "Guten Tag", "Good day"),
    ):
        is_same(await seen(page, path, _HEADING), heading)
        await clicked(page, "other", next_heading)
    await one.run("document.cookie = 'NEXT_LOCALE=de; path=/'")
    is_same(await seen(one, "/", _HEADING), "Anfang")
    is_same(await one.run("document.cookie = 'NEXT_LOCALE=; path=/; max-age=0'"), "NEXT_LOCALE=; path=/; max-age=0")
    is_same(await seen(one, "/", _HEADING), "Start")


DOES: list[Callable[[Page, Page], Awaitable[None]]] = [
    prerendered_pages,
    images,
    payloads,
    pages_that_are_renewed,
    pages_of_one_visitor,
    drafts,
    languages,
]


async def browse(app_port: int) -> int:
    """How many things go wrong."""
    with tempfile.TemporaryDirectory() as name:
        rigs = Rigs(Path(name))
        server = alone(Authority(Path(name)))
        rig = await rigs.start(servers=[f"http://127.0.0.1:{app_port}"], server=server, **POLICY)
        places = (HOST, rig.redirect_port, rig.port)
        async with browsing(*places) as one, browsing(*places) as other:
            verdicts = {each.__name__: await does(one, other, each) for each in DOES}
        await rigs.stopped()
    for what, verdict in verdicts.items():
        sys.stdout.write(f"{what:36} {verdict or 'fine'}\n")
    return sum(map(bool, verdicts.values()))


async def does(one: Page, other: Page, what: Callable[[Page, Page], Awaitable[None]]) -> str:
    """What is wrong with it; nothing when all is well."""
    for page in (one, other):
        page.logged.clear()
        page.told.clear()
    try:
        await what(one, other)
    except (AssertionError, RuntimeError, TimeoutError) as error:
        return f"{type(error).__name__} {error} {one.logged} {other.logged}"
    return ""


def main(folder: Path, version: str) -> int:
    (folder / "public").mkdir(parents=True, exist_ok=True)
    (folder / "public/photo.png").write_bytes(png())
    build(folder, version, APP)
    with serving(folder) as port:
        return asyncio.run(browse(port))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "latest"))
