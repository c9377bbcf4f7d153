"""As much of a file as could be read: the sections that are whole, and the names of all of them.

Pure. Made from the same data as the `Document`, entry by entry, so that one bad entry does not hide the others from
`agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from scopegate.policy import document
from scopegate.policy.kinds import Section
from scopegate.policy.tree import Loc

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Draft:
    """The sections that could be read one by one; those with faults of their own are left out."""

    data: Mapping[str, Any]
    server: document.Server | None
    admin: document.Admin | None
    ai: document.AI | None
    upstreams: Mapping[str, document.Upstream]
    tiers: Mapping[str, document.Tier]
    auth: Mapping[str, document.Auth]
    headers: Mapping[str, document.Headers]
    cors: Mapping[str, document.Cors]
    routes: Mapping[int, document.Route]
    offloads: Mapping[str, document.Offload]
    promises: Mapping[int, document.Promise]

    def names(self, section: str) -> list[str]:
        """Every name in a section, also of entries with faults."""
        entries = self.data.get(section)
        return [str(name) for name in entries] if isinstance(entries, dict) else []

    def has(self, section: str) -> bool:
        return section in self.data

    def texts(self, section: str, key: str) -> Iterator[tuple[Loc, str]]:
        """The texts under one key of every entry of a list, whatever else is wrong with the entry."""
        for index, entry in self.listed(section):
            if isinstance(entry.get(key), str):
                yield (section, index, key), str(entry[key])

    def listed(self, section: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The entries of a list that are sections at all, with their indexes."""
        entries = self.data.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield index, entry


def draft_of(data: object) -> Draft:
    top: Mapping[str, Any] = data if isinstance(data, dict) else {}
    return Draft(
        data=top,
        server=_read(document.Server, top.get("server", {})),
        admin=_read(document.Admin, top.get("admin", {})),
        ai=_read(document.AI, top["ai"]) if "ai" in top else None,
        upstreams=_read_named(document.Upstream, top.get("upstreams")),
        tiers=_read_named(document.Tier, top.get("tiers")),
        auth=_read_named(document.Auth, top.get("auth")),
        headers=_read_named(document.Headers, top.get("headers")),
        cors=_read_named(document.Cors, top.get("cors")),
        routes=_read_listed(document.Route, top.get("routes")),
        offloads=_read_named(document.Offload, top.get("offloads")),
        promises=_read_listed(document.Promise, top.get("promises")),
    )


def _read(model: type[S], data: object) -> S | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _read_named(model: type[S], data: object) -> dict[str, S]:
    entries = data.items() if isinstance(data, dict) else ()
    return {str(name): section for name, entry in entries if (section := _read(model, entry)) is not None}


def _read_listed(model: type[S], data: object) -> dict[int, S]:
    entries = enumerate(data) if isinstance(data, list) else ()
    return {index: section for index, entry in entries if (section := _read(model, entry)) is not None}
