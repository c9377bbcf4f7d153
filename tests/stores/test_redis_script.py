"""A script as it is called: the digest that the server gives it, and the words that a call begins with."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from scopegate.stores.redis_script import Script
from tests.valkey import Server

NAMES = ["limits.lua", "amend.lua", "give.lua"]


@pytest.mark.parametrize("name", NAMES)
def test_the_server_knows_it_by_the_digest_that_is_called(server: Server, name: str) -> None:
    script = Script(name)
    text = script.load.split(b"\r\n", 6)[-1].removesuffix(b"\r\n")
    assert server.run("SCRIPT", "LOAD", text.decode()) == script.sha.decode()


def test_a_call_begins_with_the_count_of_all_its_words(server: Server) -> None:
    script = Script("limits.lua")
    assert script.head(arguments=5, keys=12).split(b"\r\n")[:7] == [
        *(b"*20", b"$7", b"EVALSHA", b"$40", script.sha, b"$2", b"12"),
    ]
    with pytest.raises(ResponseError, match="No matching script"):
        server.run("EVALSHA", script.sha.decode(), 0)
