"""`promises`: what must stay true of requests. Whether they hold is for `policy/promises`.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from scopegate.policy.addresses import parse_host
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import FieldName, Name, Names, Shape, Whole, as_list, option, parsed, required, written
from scopegate.policy.sections.names import unknown
from scopegate.policy.sections.tiers import BUILT_IN, NO_TIER
from scopegate.policy.spelling import parse_request
from scopegate.policy.tree import Fault, Place


@dataclass(frozen=True, slots=True)
class Promise:
    """What the file promises about a request; None means nothing is said of that part. `without` are lower-case field
    names; `tiers` are names of tiers, or `none`, empty where nothing is said; `line` and `column` are where the promise
    stands in the file."""

    method: str
    path: str
    without: tuple[str, ...]
    route: str | None
    tiers: tuple[str, ...]
    answers: int | None
    line: int
    column: int = 1
    host: str | None = None


Request: TypeAlias = Annotated[tuple[str, str], parsed(parse_request), written("GET /api/leads")]
FieldNames: TypeAlias = Annotated[
    list[FieldName], BeforeValidator(as_list, json_schema_input_type=FieldName | list[FieldName])
]


PromisedHost: TypeAlias = Annotated[str, parsed(parse_host), written("app.example.com")]


class PromiseShape(Shape):
    request: Request = required("METHOD /path, as a client would send it, signed in and well-formed.")
    host: PromisedHost | None = option(None, "The host it is sent to. Left out: one that is served.")
    without: FieldNames = option([], "Header fields the request comes without.")
    route: Name | None = option(None, "The route it must meet.")
    tier: Names = option([], "The tier it must be counted in, or `none`; of a list all.", max_length=4)
    answers: Annotated[Whole, Field(ge=400, le=599)] | None = option(
        None, "The status the gateway must refuse it with."
    )

    def build(self, place: Place) -> Promise:
        method, path = self.request
        return Promise(
            method=method,
            path=path,
            without=tuple(name.lower() for name in self.without),
            route=self.route,
            tiers=tuple(self.tier),
            answers=self.answers,
            line=place.line,
            column=place.column,
            host=self.host,
        )


def checks(draft: Draft) -> Iterator[Fault]:
    routes = {name for _, name in draft.texts(("routes", int, "name"))}
    tiers = {*draft.names("tiers"), *BUILT_IN, NO_TIER}
    yield from unknown(("promises", int, "tier"), "tier", tiers, draft)
    yield from unknown(("promises", int, "tier", int), "tier", tiers, draft)
    yield from unknown(("promises", int, "route"), "route", routes, draft)
    for index, promise in draft.listed("promises", PromiseShape).items():
        if promise.route is None and not promise.tier and promise.answers is None:
            yield draft.problem(("promises", index), "promises nothing: add `route`, `tier` or `answers`")
