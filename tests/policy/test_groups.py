"""Groups of routes: places, hosts, and what is wrong with them."""

from __future__ import annotations

import pytest

from tests.policies import compiled, review

HEAD = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes:
  - {name: health, match: GET /health, tier: none}
  - hosts: [app.example.com, "*.App.example.com"]
    routes:
      - {name: api, match: ANY /api/**, tier: strict}
      - {name: app, match: ANY /**, tier: lenient}
  - {name: shop, match: ANY /**, tier: lenient, hosts: shop.example.com}
"""


def test_a_group_is_its_routes_with_its_hosts() -> None:
    found = compiled(HEAD).routes
    hosts = frozenset({"app.example.com", "*.app.example.com"})
    assert [(each.name, each.hosts, each.line) for each in found] == [
        ("health", frozenset(), 4),
        ("api", hosts, 7),
        ("app", hosts, 8),
        ("shop", frozenset({"shop.example.com"}), 9),
    ]


def test_problems_in_a_group_have_their_places() -> None:
    problems = [str(each) for each in review(HEAD.replace("tier: strict", "tier: strickt")).problems]
    assert problems == ["F:7:47 routes[1].tier: no tier is named 'strickt', did you mean strict?"]
    twice = [str(each) for each in review(HEAD.replace("name: shop", "name: api")).problems]
    assert twice == ["F:9:12 routes[3].name: another route is named 'api', on line 7"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('hosts: [app.example.com, "*.App.example.com"]\n', "tier: strict\n", "a group of routes needs `hosts`"),
        ("    routes:\n", "    tier: lenient\n    routes:\n", "unknown key: a group has `hosts` and `routes`"),
        ("tier: strict}", "tier: strict, hosts: x.example.com}", "stands in a group, which says that"),
        ("tier: strict}", "tier: strict, routes: []}", "stands in a group, which says that"),
        ("[app.example.com,", "[app.example.com:8080,", "names a port"),
        ("[app.example.com,", "['*',", "may hold * only as its first label"),
        ("[app.example.com,", "['*.com',", "matches far too much"),
        ("[app.example.com,", "[https://app.example.com,", "is not a host"),
    ],
)
def test_what_is_no_group(old: str, new: str, said: str) -> None:
    text = HEAD.replace(old, new, 1)
    assert text != HEAD
    assert any(said in str(problem) for problem in review(text).problems), review(text).problems


def test_a_group_without_routes_is_a_problem() -> None:
    text = HEAD[: HEAD.index("    routes:\n")] + "    routes: []\n"
    assert any("must be a list of routes" in str(problem) for problem in review(text).problems)


@pytest.mark.parametrize(
    ("served", "path"),
    [
        ("[app.example.com, x.app.example.com, shop.example.com]", None),
        ("['app.example.com:8443', x.app.example.com, shop.example.com]", None),
        ("[app.example.com, shop.example.com]", "routes[1].hosts[1]"),
        ("[app.example.com, x.app.example.com]", "routes[3].hosts"),
    ],
)
def test_a_host_that_nobody_may_ask_for_is_a_problem(served: str, path: str | None) -> None:
    problems = review(HEAD + f"server: {{hosts: {served}}}\n").problems
    assert (path in [each.path for each in problems]) if path else not problems
    assert all("is not served: `server.hosts` names no such host" in each.what for each in problems)


def test_a_route_of_another_host_is_not_hidden() -> None:
    assert not review(HEAD).warnings
    hidden = review(HEAD + "  - {name: late, match: GET /x, tier: none, hosts: shop.example.com}\n").warnings
    assert [each.what for each in hidden] == ["never reached: the route on line 9 takes all of it"]
