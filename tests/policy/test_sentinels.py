"""How the address of servers behind Sentinels is written."""

from __future__ import annotations

import pytest

from scopegate.policy.sentinels import SentinelAddress, parse


def test_an_address_is_read() -> None:
    assert parse("redis+sentinel://a,b:26380/mymaster") == SentinelAddress(
        [("a", 26379), ("b", 26380)], "mymaster", 0, "", ""
    )
    assert parse("redis+sentinel://u:p%40s@[::1]:5/m.1/3") == SentinelAddress([("::1", 5)], "m.1", 3, "u", "p@s")
    assert parse("redis+sentinel://:word@a/m").password == "word"


@pytest.mark.parametrize(
    "rest",
    ["", "a", "a/", "a:0/m", "a:99999/m", "a:b/m", ",a/m", "a,/m", "a/m/x", "a/m/0/1", "a/m?db=1", "a b/m", "p@a/m"],
)
def test_what_is_none_is_named_without_its_text(rest: str) -> None:
    with pytest.raises(ValueError, match=r"Sentinel|redis.sentinel") as caught:
        parse(f"redis+sentinel://{rest}")
    assert not rest or rest not in str(caught.value).replace("mymaster", "")
