"""Ask a real Next.js app about every spelling in `nextjs.txt` and write down what it did.

    python -m tests.edge.spellings.record FOLDER [VERSION]

Needs node and npm; FOLDER (kept, so that a second run is quick) gets Next.js and a small app of all the kinds of
handlers that serve paths. Each handler notes that it ran before it answers. New spellings are added to the table with
any status (`0  -  /new`); what the gateway would forward for a spelling is added by itself, since that is what the app
gets to see. Not part of the tests: they read the table.
"""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Target
from tests.edge.spellings.next_app import build, serving
from tests.edge.spellings.table import TABLE, Served, line_of, rows

HOST = b"leads.example.com"
FORWARDED = "# what the gateway forwards for them"

_NOTE = 'require("fs").appendFileSync(process.env.REACHED, "{}\\n");'
APP = {
    "next.config.js": """module.exports = {
  generateBuildId: async () => "build",
  i18n: { locales: ["en", "de"], defaultLocale: "en" },
};
""",
    "app/layout.js": "export default function Layout({ children }) { return <html><body>{children}</body></html>; }\n",
    "app/page.js": "export default function Page() { return <p>home</p>; }\n",
    "app/api/leads/route.js": f"""function reached() {{ {_NOTE.format("leads")} return new Response("leads"); }}
export const GET = reached, POST = reached;
""",
    "app/pricing/page.js": f"""export const dynamic = "force-dynamic";
export default function Page() {{ {_NOTE.format("pricing")} return <p>pricing</p>; }}
""",
    "app/contractor/[slug]/page.js": f"""export const dynamic = "force-dynamic";
export default function Page() {{ {_NOTE.format("contractor")} return <p>contractor</p>; }}
""",
    "pages/account.js": f"""export async function getServerSideProps() {{
  {_NOTE.format("account")} return {{ props: {{}} }};
}}
export default function Account() {{ return <p>account</p>; }}
""",
    "pages/api/old.js": f"""export default function handler(_request, response) {{
  {_NOTE.format("old")} response.end("old");
}}
""",
}


def ask(port: int, notes: Path, raw: bytes) -> Served:
    """One GET on a connection of its own."""
    notes.write_bytes(b"")
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (raw, HOST))
        while part := client.recv(65536):
            answer += part
    status = re.match(rb"HTTP/1\.1 ([0-9]{3})", answer)
    assert status is not None, (raw, answer[:200])
    reached = set(notes.read_text().split())
    assert len(reached) <= 1, (raw, reached)
    return Served(raw, int(status[1]), reached.pop() if reached else None)


def main(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    installed = build(folder, version, APP)
    head, _, _ = TABLE.read_text("utf-8").partition(FORWARDED)
    notes = folder / "reached.txt"
    with serving(folder, {"REACHED": str(notes)}) as port:
        lines = [_recorded(line, port, notes, installed) for line in head.rstrip().splitlines()]
        known = {row.raw for row in rows(head)}
        forwarded = [
            judged.raw for raw in known if isinstance(judged := judge_target(b"GET", raw, [HOST], None), Target)
        ]
        more = [line_of(ask(port, notes, raw)) for raw in sorted(set(forwarded) - known)]
    TABLE.write_text("\n".join([*lines, "", FORWARDED, *more, ""]), "utf-8")
    sys.stderr.write(f"{len(lines)} lines, {len(more)} forwarded spellings, Next.js {installed}\n")


def _recorded(line: str, port: int, notes: Path, installed: str) -> str:
    if line.startswith("# Next.js "):
        return f"# Next.js {installed}"
    if not line or line.startswith("#"):
        return line
    (row,) = rows(line)
    return line_of(ask(port, notes, row.raw))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "latest")
