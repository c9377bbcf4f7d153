from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.edge.hosts import RoutesByHost
from scopegate.edge.routes import NoRoute
from tests.edge.test_routes import route


def routes(*lines: str) -> RoutesByHost:
    """`ANY /** app.example.com,*.example.com`: a route by its match, for these hosts."""
    made = []
    for line in lines:
        match, _, hosts = line.rpartition(" ")
        made.append(replace(route(line, match), hosts=frozenset(filter(None, hosts.split(",")))))
    return RoutesByHost(made)


APP, SHOPS, EU = "ANY /** app.example.com", "ANY /** *.example.com", "GET /eu *.eu.example.com,[::1]"
ALL = "GET /health "
TABLES = routes(ALL, APP, EU, SHOPS)


@pytest.mark.parametrize(
    ("host", "path", "met"),
    [
        ("app.example.com", "/x", APP),
        ("app.example.com:8080", "/x", APP),
        ("app.example.com", "/eu", APP),
        ("app.example.com", "/health", ALL),
        ("shop.example.com", "/x", SHOPS),
        ("a.b.shop.example.com", "/x", SHOPS),
        ("x.eu.example.com", "/eu", EU),
        ("x.eu.example.com", "/x", SHOPS),
        ("eu.example.com", "/eu", SHOPS),
        ("example.com", "/x", None),
        ("badexample.com", "/x", None),
        ("other.org", "/health", ALL),
        ("[::1]", "/eu", EU),
        ("[::1]:8080", "/eu", EU),
        ("[::2]", "/eu", None),
        ("", "/health", ALL),
    ],
)
def test_a_host_meets_its_routes(host: str, path: str, met: str | None) -> None:
    found = TABLES.of(host).match("GET", path)
    assert (None if isinstance(found, NoRoute) else getattr(found, "name", found)) == met


def test_hosts_with_the_same_routes_share_a_table() -> None:
    many = routes("ANY /** " + ",".join(f"h{n}.example.com" for n in range(200)))
    assert len({id(many.of(f"h{n}.example.com")) for n in range(200)}) == 1
