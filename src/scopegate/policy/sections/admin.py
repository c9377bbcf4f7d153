"""`admin`: the private port.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from scopegate.policy.addresses import Address, Network, parse_url
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Choice, FieldName, Listen, Shape, Text, option, parsed, required, written
from scopegate.policy.sections.redirect import overlap
from scopegate.policy.sections.server import Net, ServerShape
from scopegate.policy.tree import Fault

# Values


class WordsShown(StrEnum):
    """To whom the console shows leads' own words and photo addresses."""

    NOBODY = "nobody"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class IdentityProxy:
    """A proxy that says in `field` who asks. `viewers` may hold `*`: whoever it lets through."""

    field: str
    proxies: tuple[Network, ...]
    operators: frozenset[str]
    viewers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address
    identity: IdentityProxy | None = None
    lead_words: WordsShown = WordsShown.NOBODY
    log_url: str | None = None
    """Where the log tells of a request: `{id}` stands for its id."""


# Shapes

_ID = "{id}"


def _log_url(text: str) -> str:
    if _ID not in text:
        raise ValueError(f"does not say where the request's id stands: write {_ID} there")
    parse_url(text.replace(_ID, "0").partition("?")[0].partition("#")[0])
    if not (text.isascii() and text.isprintable()):
        raise ValueError("is not printable ASCII")
    return text


LogUrl: TypeAlias = Annotated[str, parsed(_log_url), written("https://logs.example.com/search?q={id}")]


class IdentityProxyShape(Shape):
    field: FieldName = required("The field in which the proxy names who asks. It must drop what visitors send in it.")
    proxies: list[Net] = required("Networks of the proxies that are believed.", min_length=1)
    operators: list[Text] = option([], "Names that may change things.")
    viewers: list[Text] = option(["*"], "Names that may look; `*`: everybody whom the proxy lets through.")

    def build(self) -> IdentityProxy:
        return IdentityProxy(self.field, tuple(self.proxies), frozenset(self.operators), frozenset(self.viewers))


class AdminShape(Shape):
    listen: Listen = option("127.0.0.1:9900", "Address of console, metrics and health; never the public port.")
    identity: IdentityProxyShape | None = option(
        None, "Sign-in by a proxy in front of the console. Left out: by SCOPEGATE_ADMIN_TOKEN alone."
    )
    lead_words: Choice[WordsShown] = option(
        "nobody",
        "Who sees leads' own words and photo addresses in the console: `nobody` (masked), `operator`, `viewer` (both).",
    )
    log_url: LogUrl | None = option(
        None, "Where the log tells of a request, `{id}` being its id; the console links there."
    )

    def build(self) -> Admin:
        identity = None if self.identity is None else self.identity.build()
        return Admin(self.listen, identity, self.lead_words, self.log_url)


def checks(draft: Draft) -> Iterator[Fault]:
    """Two listeners that are one."""
    server, admin = draft.one("server", ServerShape), draft.one("admin", AdminShape)
    if server is None or admin is None:
        return
    public, private = server.listen, admin.listen
    if overlap(public, private):
        loc = ("admin", "listen") if draft.has("admin") else ("server", "listen")
        yield draft.problem(loc, f"public and admin port are both {private.port}: they must differ")
    if server.redirect is not None and overlap(server.redirect.listen, private):
        what = f"the admin port is {private.port} too: they must differ"
        yield draft.problem(("server", "redirect", "listen"), what)
