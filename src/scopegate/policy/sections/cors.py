"""`cors`: which other origins may use a route from a browser.

Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from scopegate.policy.addresses import is_local, parse_origin, url_host
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Duration, Flag, Shape, option, parsed, required, written
from scopegate.policy.spelling import parse_field_name, parse_method
from scopegate.policy.tree import Fault, Loc

ANY_ORIGIN = "*"
NO_CORS = "none"

# Value


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins may use a route from a browser (Fetch standard). `origins` are serialised origins in lower
    case; `any_origin` is `*`, never with `credentials`. Field and method names as they are compared: lower case,
    upper case."""

    name: str
    origins: frozenset[str]
    any_origin: bool
    methods: frozenset[str]
    fields: frozenset[str]
    expose: tuple[str, ...]
    credentials: bool
    max_age_s: float


# Shape


def parse_web_origin(text: str) -> str:
    """`https://partner.example` as a browser serialises it (RFC 6454 6.2): lower case, no default port, no path; or
    `*`. `null` is the origin of every sandboxed frame and local file, so of anybody."""
    if text == ANY_ORIGIN:
        return text
    if text.lower() == "null":
        raise ValueError("is the origin of any sandboxed frame: it would let everybody in")
    if "*" in text:
        raise ValueError("holds a *: an origin is written whole, or `*` alone stands for all")
    if not text.startswith(("http://", "https://")):
        raise ValueError("is not an origin, write it like `https://partner.example`")
    if text.count("/") > 2 or "?" in text:
        raise ValueError("is not an origin: it ends after the host and the port")
    origin = parse_origin(text)
    return f"{origin.scheme}://{origin.authority}"


def parse_cors_field(text: str) -> str:
    """A field name in lower case. `*` would stand for every field (Fetch 3.3.5)."""
    if text == "*":
        raise ValueError("stands for every field: name those that are meant")
    return parse_field_name(text).lower()


WebOrigin: TypeAlias = Annotated[str, parsed(parse_web_origin), written("https://partner.example")]
CorsField: TypeAlias = Annotated[str, parsed(parse_cors_field), written("content-type")]
Method: TypeAlias = Annotated[str, parsed(parse_method), written("GET")]


class CorsShape(Shape):
    origins: list[WebOrigin] = required(
        "Origins whose pages may read answers, or `*` alone for all.", min_length=1, max_length=100
    )
    methods: list[Method] = option(["GET", "HEAD", "POST"], "Methods they may use.", min_length=1)
    headers: list[CorsField] = option([], "Request fields they may set beyond the safe ones.", max_length=100)
    expose: list[CorsField] = option([], "Answer fields their scripts may read beyond the safe ones.", max_length=100)
    credentials: Flag = option(False, "Whether cookies and Authorization come along. Never with `*`.")
    max_age: Duration = option("10m", "How long a browser remembers this. At most 1d.")

    def build(self, name: str) -> Cors:
        return Cors(
            name=name,
            origins=frozenset(self.origins) - {ANY_ORIGIN},
            any_origin=ANY_ORIGIN in self.origins,
            methods=frozenset(self.methods),
            fields=frozenset(self.headers),
            expose=tuple(self.expose),
            credentials=self.credentials,
            max_age_s=self.max_age,
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    if NO_CORS in draft.names("cors"):
        yield draft.problem_at_key(
            ("cors", NO_CORS), "a cors rule may not be named none: that word means no other origin"
        )
    for name, cors in draft.named("cors", CorsShape).items():
        for index, origin in enumerate(cors.origins):
            yield from _origin(origin, cors.origins[:index], cors, ("cors", name, "origins", index), draft)


def _origin(origin: str, earlier: list[str], cors: CorsShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    said = draft.said(loc)
    if origin in earlier:
        yield draft.problem(loc, f"{said} is listed twice")
    elif origin == ANY_ORIGIN and len(cors.origins) > 1:
        yield draft.problem(loc, f"{said} stands for all origins: it stands alone")
    elif origin == ANY_ORIGIN and cors.credentials:
        what = f"{said} with `credentials` would lend every visitor's session to every page: name the origins"
        yield draft.problem(loc, what)
    elif origin.startswith("http://") and cors.credentials and not is_local(url_host(origin)):
        what = "pages without TLS can be replaced on the way, and they get the visitor's session"
        yield draft.warning(loc, what)
