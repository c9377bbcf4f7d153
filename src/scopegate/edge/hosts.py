"""Which routes are for which host: one table for every set of routes that some host has.

Pure. Called by the gateway on every request of a policy whose routes name hosts, and by `foresee`. A route without
hosts is for all; `*.example.com` is every host below `example.com`, however deep, and not itself. Ports do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scopegate.edge.routes import RouteTable, compile_routes
from scopegate.policy.policy import Route


class RoutesByHost:
    """Immutable; holds nothing a client can make grow."""

    __slots__ = ("_below", "_named", "_other")

    def __init__(self, routes: Sequence[Route]) -> None:
        patterns = frozenset().union(*(route.hosts for route in routes))
        made: dict[tuple[str, ...], RouteTable] = {}

        def table(met: frozenset[str]) -> RouteTable:
            chosen = [route for route in routes if not route.hosts or not route.hosts.isdisjoint(met)]
            names = tuple(route.name for route in chosen)
            if names not in made:
                made[names] = compile_routes(chosen)
            return made[names]

        wild = {pattern[2:] for pattern in patterns if pattern.startswith("*.")}
        exact = {pattern for pattern in patterns if not pattern.startswith("*.")}
        self._other = table(frozenset())
        self._named: Mapping[str, RouteTable] = {
            name: table(frozenset({name, *(f"*.{domain}" for domain in _domains(name) if domain in wild)}))
            for name in exact
        }
        self._below: Mapping[str, RouteTable] = {
            domain: table(frozenset(f"*.{each}" for each in [domain, *_domains(domain)] if each in wild))
            for domain in wild
        }

    def of(self, host: str) -> RouteTable:
        """`host` as `edge/target` writes it: lower case, no final dot, with a port that is not 80 or 443."""
        name = host if host.endswith("]") else host.partition("]")[0] + "]" if "]" in host else host.partition(":")[0]
        found = self._named.get(name)
        if found is not None:
            return found
        if self._below:
            for domain in _domains(name):
                if domain in self._below:
                    return self._below[domain]
        return self._other


def _domains(name: str) -> list[str]:
    """Those that a name is below, the nearest first."""
    labels = name.split(".")
    return [".".join(labels[n:]) for n in range(1, len(labels))]
