"""`headers`: sets of security fields for answers.

Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Flag, Shape, option, parsed, written
from scopegate.policy.quantities import AGE_PATTERN, parse_hsts_age_s
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.tree import Fault

NO_HEADERS = "none"
STANDARD_HEADERS = "standard"
"""The set of routes that name none; a file may define it anew."""
MAX_POLICY_CHARS = 4096
MIN_PRELOAD_AGE_S = 365 * 86_400

# Value


@dataclass(frozen=True, slots=True)
class AnswerFields:
    """Security fields of answers. `always` are (name in lower case, value) pairs; `hsts` is the value of
    Strict-Transport-Security, sent only to visitors that came by https (RFC 6797 7.2). The app's own field stays,
    unless `override`."""

    name: str
    always: tuple[tuple[str, str], ...]
    hsts: str | None = None
    override: bool = False


# Shapes


def parse_content_policy(text: str) -> str:
    """A Content-Security-Policy that can stand in a header field as it is."""
    if not re.fullmatch(r"[\x20-\x7e]+", text):
        raise ValueError("holds a line break or a character beyond ASCII")
    if text != text.strip():
        raise ValueError("begins or ends with a space")
    if len(text) > MAX_POLICY_CHARS:
        raise ValueError(f"is longer than {MAX_POLICY_CHARS} characters")
    return text


HstsAge: TypeAlias = Annotated[int, parsed(parse_hsts_age_s), written("365d", AGE_PATTERN)]
ContentPolicy: TypeAlias = Annotated[str, parsed(parse_content_policy), written("default-src 'self'")]
Frame: TypeAlias = Literal["deny", "sameorigin", "any"]
Opener: TypeAlias = Literal["same-origin", "same-origin-allow-popups", "unsafe-none"]
Referrer: TypeAlias = Literal[
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
]
"""Referrer Policy, section 3."""


class HstsShape(Shape):
    max_age: HstsAge = option("365d", "How long a browser keeps to https. At most 1000d; 0d takes it back.")
    subdomains: Flag = option(True, "Also for every host below this one.")
    preload: Flag = option(False, "Agrees to be built into browsers: needs subdomains and 365d or more.")

    def build(self) -> str:
        """The field's value (RFC 6797 6.1; `preload` is of the browsers' list)."""
        named = ["includeSubDomains"] * self.subdomains + ["preload"] * self.preload
        return "; ".join([f"max-age={self.max_age}", *named])


class HeadersShape(Shape):
    hsts: HstsShape | None = option(None, "Strict-Transport-Security, for visitors that came by https. Left out: none.")
    nosniff: Flag = option(True, "X-Content-Type-Options: nosniff.")
    frame: Frame = option("sameorigin", "X-Frame-Options: who may show a page in a frame; `any` sends no field.")
    referrer: Referrer = option("strict-origin-when-cross-origin", "Referrer-Policy.")
    csp: ContentPolicy | None = option(None, "Content-Security-Policy, as given. Left out: none.")
    opener: Opener | None = option(None, "Cross-Origin-Opener-Policy. Left out: none.")
    override: Flag = option(False, "Replace the app's own fields of these names; else they stay.")

    def build(self, name: str) -> AnswerFields:
        fields = (
            ("x-content-type-options", "nosniff" if self.nosniff else None),
            ("x-frame-options", None if self.frame == "any" else self.frame.upper()),
            ("referrer-policy", self.referrer),
            ("content-security-policy", self.csp),
            ("cross-origin-opener-policy", self.opener),
        )
        return AnswerFields(
            name=name,
            always=tuple((field, value) for field, value in fields if value is not None),
            hsts=None if self.hsts is None else self.hsts.build(),
            override=self.override,
        )


def build(found: Mapping[str, HeadersShape]) -> dict[str, AnswerFields]:
    """All sets of a file, the standard one among them."""
    return {name: shape.build(name) for name, shape in ({STANDARD_HEADERS: HeadersShape()} | dict(found)).items()}


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    if NO_HEADERS in draft.names("headers"):
        what = "a set of headers may not be named none: that word means no fields"
        yield draft.problem_at_key(("headers", NO_HEADERS), what)
    server = draft.one("server", ServerShape)
    proxied = server is None or bool(server.trusted_proxies)
    for name, headers in draft.named("headers", HeadersShape).items():
        if headers.hsts is not None:
            yield from _hsts(headers.hsts, name, proxied, draft)


def _hsts(hsts: HstsShape, name: str, proxied: bool, draft: Draft) -> Iterator[Fault]:
    loc = ("headers", name, "hsts")
    if hsts.preload and not (hsts.subdomains and hsts.max_age >= MIN_PRELOAD_AGE_S):
        yield draft.problem((*loc, "preload"), "needs `subdomains: true` and a `max_age` of 365d or more")
    if not proxied:
        what = "never sent: it goes to visitors that came by https, which only one of `trusted_proxies` can tell"
        yield draft.warning_at_key(loc, what)
