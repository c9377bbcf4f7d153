from __future__ import annotations

import pytest
import yaml

from tests.policies import compiled_with, document, review


@pytest.mark.parametrize(
    ("public", "private", "place"),
    [
        ("0.0.0.0:9900", None, "server.listen"),
        ("127.0.0.1:9000", "[::]:9000", "admin.listen"),
        ("127.0.0.1:9000", "127.0.0.1:9000", "admin.listen"),
        ("127.0.0.1:0", "127.0.0.1:0", None),
        ("127.0.0.2:9000", "127.0.0.1:9000", None),
    ],
)
def test_two_listeners_that_are_one(public: str, private: str | None, place: str | None) -> None:
    sections = {"server": {"listen": public}, **({"admin": {"listen": private}} if private else {})}
    problems = review(yaml.safe_dump(document(**sections))).problems
    assert [problem.path for problem in problems] == ([place] if place else [])


def test_the_private_port_is_private_by_default() -> None:
    listen = compiled_with().admin.listen
    assert (listen.host, listen.port) == ("127.0.0.1", 9900)


def test_nobody_signs_in_by_a_field_and_words_are_masked_by_default() -> None:
    admin = compiled_with().admin
    assert (admin.identity, admin.lead_words, admin.log_url) == (None, "nobody", None)


def test_a_proxy_names_who_asks() -> None:
    identity = {"field": "X-User", "proxies": ["10.0.0.9/32"], "operators": ["anna@example.com"]}
    found = compiled_with(admin={"identity": identity, "lead_words": "operator"}).admin
    assert found.identity is not None
    assert found.identity.operators == {"anna@example.com"}
    assert found.identity.viewers == {"*"}
    assert found.lead_words == "operator"


@pytest.mark.parametrize(
    ("admin", "path"),
    [
        ({"identity": {"field": "X-User", "proxies": []}}, "admin.identity.proxies"),
        ({"identity": {"field": "X-User", "proxies": ["0.0.0.0/0"]}}, "admin.identity.proxies[0]"),
        ({"identity": {"proxies": ["10.0.0.9/32"]}}, "admin.identity"),
        ({"lead_words": "everybody"}, "admin.lead_words"),
        ({"log_url": "https://logs.example.com/"}, "admin.log_url"),
        ({"log_url": "javascript:alert({id})"}, "admin.log_url"),
    ],
)
def test_what_the_console_cannot_be_told(admin: dict[str, object], path: str) -> None:
    problems = review(yaml.safe_dump(document(admin=admin))).problems
    assert [problem.path for problem in problems] == [path]
