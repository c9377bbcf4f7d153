"""The shape of `gateway.yaml`: its sections, with every field, default and bound, each with its description.

The JSON Schema comes from `Document`. Pure. Called by `compile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Name, Shape, Whole, option, required, section
from scopegate.policy.sections import (
    admin,
    ai,
    auth,
    bodies,
    cors,
    flags,
    headers,
    lists,
    offloads,
    promises,
    retention,
    routes,
    server,
    switches,
    tiers,
    tls,
    upstreams,
)
from scopegate.policy.sections.admin import AdminShape
from scopegate.policy.sections.ai import AIShape
from scopegate.policy.sections.auth import AuthShape
from scopegate.policy.sections.cache import CacheShape
from scopegate.policy.sections.cors import CorsShape
from scopegate.policy.sections.flags import Flags
from scopegate.policy.sections.headers import HeadersShape
from scopegate.policy.sections.offloads import OffloadShape
from scopegate.policy.sections.promises import PromiseShape
from scopegate.policy.sections.retention import RetentionShape
from scopegate.policy.sections.routes import Routes
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.sections.tiers import TierShape
from scopegate.policy.sections.upstreams import UpstreamShape
from scopegate.policy.tree import Fault


class Document(Shape):
    """A scopegate policy file. Durations and sizes carry units; ${NAME} and ${NAME:-default} come from the
    environment, and secrets only so."""

    version: Annotated[Whole, Field(ge=1, le=1)] = required("The version of this shape: 1.")
    server: ServerShape = section(ServerShape, "The public port.")
    admin: AdminShape = section(AdminShape, "The private port.")
    upstreams: dict[Name, UpstreamShape] = required("The apps behind the gateway, by name.", min_length=1)
    tiers: dict[Name, TierShape] = option({}, "Rate limits, by name.")
    auth: dict[Name, AuthShape] = option({}, "Sign-in rules, by name.")
    headers: dict[Name, HeadersShape] = option({}, "Sets of security fields for answers, by name.")
    cors: dict[Name, CorsShape] = option({}, "Which other origins may use a route from a browser, by name.")
    flags: Flags = option({}, "Feature flags, by name; or `file`: a file of them as flagd has it.", max_length=500)
    routes: Routes = required("Read from the top, the first match wins.", min_length=1, max_length=5000)
    cache: CacheShape = section(CacheShape, "How much is kept of answers, on routes with `cache`.")
    offloads: dict[Name, OffloadShape] = option({}, "Work that leaves the request, by name.")
    ai: AIShape | None = option(None, "How the model is called and what it may cost. Needed by offloads.")
    retention: RetentionShape = section(RetentionShape, "How long the database keeps what leads leave behind.")
    promises: list[PromiseShape] = option([], "What must stay true; run by `check` and before each reload.")


FILE_PLACES = (
    *(tls.CERTIFICATES, tls.KEYS, upstreams.AUTHORITIES, bodies.SCHEMAS, lists.ALLOWED, lists.DENIED),
    *(flags.FLAG_FILE, switches.PAGE),
)
"""Where a document names other files."""

_SECTIONS = (routes, promises, server, admin, upstreams, tiers, auth, headers, cors, offloads, ai, flags, retention)


def disagreements(draft: Draft) -> Iterator[Fault]:
    """Everything in which the sections of a file do not agree, within themselves or with each other, in no order."""
    for one in _SECTIONS:
        yield from one.checks(draft)
