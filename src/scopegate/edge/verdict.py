"""The values the edge speaks in: a request may pass, or it is refused. A refusal is a value, never an exception."""

from __future__ import annotations

from dataclasses import dataclass

from scopegate.edge.lines import fields_of
from scopegate.types import Fields


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further. `code` is a closed set fit for metric labels and problem types
    (`bad_request`, `rate_limited`, `unauthenticated`, ...); `detail` is one sentence for the client and never holds
    the client's own text; `fields` are extra response fields; `close` ends the connection after the answer; `exceeded`
    names the limits that are used up; `page` is the HTML that browsers get in place of ours."""

    status: int
    code: str
    detail: str
    fields: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False
    exceeded: tuple[str, ...] = ()
    page: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the gateway gives by itself, and that refuses nothing. `lines` are ready-made; they tell the
    length of a `body`."""

    status: int
    lines: bytes
    body: bytes = b""


# Plain classes, neither named tuples nor dataclasses: these are made for every request, and compiled their attributes
# are the fields of a C struct.
class RequestHead:
    """A request's head as it was sent: `target` is the raw bytes of the request line, `lines` are those of its fields,
    in order received."""

    __slots__ = ("_fields", "lines", "method", "target", "version")

    def __init__(self, method: bytes, target: bytes, version: str, lines: list[bytes]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.lines = lines
        self._fields: Fields | None = None

    @property
    def fields(self) -> Fields:
        """Their names and values, for who has to look for one: most requests are judged without."""
        fields = self._fields
        if fields is None:
            fields = self._fields = fields_of(self.lines)
        return fields


class Target:
    """What was judged, and therefore what is forwarded. `path` is as it was sent, printable ASCII; `raw` is path plus
    query, byte for byte what the upstream gets; `host` is the lower-case authority without a
    default port, e.g. `leads.example.com` or `[::1]:8080`."""

    __slots__ = ("host", "method", "path", "raw")

    def __init__(self, method: str, path: str, raw: bytes, host: str) -> None:
        self.method = method
        self.path = path
        self.raw = raw
        self.host = host


class Caller:
    """Who is asking. `address` is the client's canonical IP text (IPv4-mapped IPv6 unwrapped); `group` is what limits
    count (the address, or its /64 for IPv6); `user` is the verified subject or None; `claims` are the verified ones;
    `auth` is the policy's word for the rule that verified them: two issuers may know different people by one name."""

    __slots__ = ("address", "auth", "claims", "group", "user")

    def __init__(
        self,
        address: str,
        group: str,
        user: str | None = None,
        claims: tuple[tuple[str, str], ...] = (),
        auth: str = "",
    ) -> None:
        self.address = address
        self.group = group
        self.user = user
        self.claims = claims
        self.auth = auth
