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
