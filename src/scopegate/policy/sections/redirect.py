"""`server.redirect`: a second port that speaks plain HTTP and sends whoever comes there to the public one.

Pure. Called by `server` and `admin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from scopegate.policy.addresses import EVERY_INTERFACE, Address
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Listen, Shape, Whole, option, parsed, written
from scopegate.policy.tree import Fault

# Values


@dataclass(frozen=True, slots=True)
class Redirect:
    """`port` is that of the https URLs that visitors are sent to. `webroot`: an absolute path, below which ACME's
    HTTP-01 challenges are served (RFC 8555 8.3); None serves none."""

    listen: Address
    port: int = 443
    webroot: str | None = None


# Shapes


def _folder(text: str) -> str:
    if not re.fullmatch(r"/[^\x00-\x1f\x7f]{0,1000}", text) or text != text.strip():
        raise ValueError("is not the absolute path of a folder")
    return text


Folder: TypeAlias = Annotated[str, parsed(_folder), written("/var/lib/acme")]


class RedirectShape(Shape):
    listen: Listen = option("0.0.0.0:80", "Its address.")
    port: Whole = option(443, "The port of the https URLs that visitors are sent to.", ge=1, le=65535)
    webroot: Folder | None = option(
        None,
        "The webroot of an ACME client: its files in .well-known/acme-challenge are served here. Left out: none.",
    )

    def build(self) -> Redirect:
        return Redirect(self.listen, self.port, self.webroot)


# Checks


def checks(
    redirect: RedirectShape, public: Address, draft: Draft, *, has_tls: bool, has_hosts: bool
) -> Iterator[Fault]:
    loc = ("server", "redirect")
    if not has_tls:
        yield draft.problem_at_key(loc, "sends visitors to https, which nothing here speaks: it needs `tls`")
    if not has_hosts:
        what = "needs `hosts`: without them whoever asks would name the host that visitors are sent to"
        yield draft.problem_at_key(loc, what)
    if overlap(redirect.listen, public):
        yield draft.problem((*loc, "listen"), f"the public port is {public.port} too: they must differ")


def overlap(one: Address, other: Address) -> bool:
    """Whether two listeners are one."""
    same_host = one.host == other.host or bool({one.host, other.host} & EVERY_INTERFACE)
    return one.port == other.port != 0 and same_host
