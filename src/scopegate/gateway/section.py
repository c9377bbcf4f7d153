"""What the header section of a client's requests means (RFC 9110 6.3), kept while its connection repeats it.

Most clients send the same fields with every request of a connection; judging them again would come to the same end.
The section belongs to one connection and one ruleset, holds nothing that depends on time, and is dropped with the first
request whose fields differ by a byte. Made and completed by the pipeline, kept by `protocol`.
"""

from __future__ import annotations

from scopegate.caching.said import Said
from scopegate.edge import headers
from scopegate.edge.headers import Noted
from scopegate.edge.public_host import PublicHost
from scopegate.edge.traceparent import given_trace
from scopegate.edge.verdict import Caller, Target
from scopegate.gateway.counting import RouteCount, Windows
from scopegate.gateway.ruleset import RoutePlan, Ruleset

MAX_KEPT_BYTES = 2048
"""Longer heads are judged every time: what thousands of idle connections may hold stays bounded."""
MAX_KEPT_TARGET_BYTES = 512
"""The same of targets."""

NOBODY = Caller("", "")


class HeaderSection:
    """`request_id` and `trace` are empty where the client gave none that counts. `caller`, `chain` (the X-Forwarded-For
    to send) and `scheme` hold once `caller` is somebody; `public` is the host that a trusted proxy told; `lines` are
    those of `headers.forwarded_lines`, empty until they were needed; `windows` are those that `count` gave for
    `caller`; `said` are the fields by name, None until the cache asked. `target` is the last one that was judged with
    these fields, and `plan` what it met."""

    __slots__ = (
        "asks_for_page_data",
        "caller",
        "chain",
        "count",
        "expects_continue",
        "keep_alive",
        "lines",
        "notes",
        "plan",
        "public",
        "request_id",
        "rules",
        "said",
        "scheme",
        "target",
        "trace",
        "windows",
    )

    def __init__(self, rules: Ruleset, notes: Noted, version: str) -> None:
        self.rules = rules
        self.notes = notes
        self.keep_alive = headers.is_persistent(notes, version)
        self.expects_continue = b"expect" in notes.noted and version == "1.1"
        self.asks_for_page_data = headers.asks_for_page_data(notes)
        self.request_id = headers.request_id(notes, b"")
        self.trace = given_trace(notes)
        self.caller = NOBODY
        self.chain = b""
        self.scheme = b"http"
        self.lines = b""
        self.public: PublicHost | None = None
        self.count: RouteCount | None = None
        self.windows: Windows = ()
        self.said: Said | None = None
        self.target: Target | None = None
        self.plan: RoutePlan | None = None

    def keep(self, target: Target) -> None:
        """Until another is asked for. What it meets is not known yet."""
        self.target = target if len(target.raw) <= MAX_KEPT_TARGET_BYTES else None
        self.plan = None
