"""A Redis URL means here what it means to redis-py."""

from __future__ import annotations

import ssl

import pytest
from redis.asyncio.connection import SSLConnection, parse_url

from scopegate.errors import ConfigError
from scopegate.stores.redis_address import RedisAddress

URLS = [
    "redis://127.0.0.1",
    "redis://127.0.0.1:6380/3",
    "redis://[::1]:6380/",
    "redis://:secret@cache.example/1",
    "redis://user:p%40ss%2Fword@cache.example:1234/0",
    "redis://user@cache.example",
    "redis://cache.example/2?db=5",
    "redis://cache.example?username=u&password=p%25w",
    "rediss://user:word@cache.example:6390/7",
    "unix:///run/redis.sock",
    "unix://user:word@/run/re%20dis.sock?db=4",
]


@pytest.mark.parametrize("url", URLS)
def test_an_address_is_read_as_redis_py_reads_it(url: str) -> None:
    address, theirs = RedisAddress(url), parse_url(url)
    login = [theirs[part].encode() for part in ("username", "password") if part in theirs]
    assert (address.path, address.db, address.login) == (theirs.get("path"), theirs.get("db", 0), login)
    assert (address.host, address.port) == (theirs.get("host", "localhost"), theirs.get("port", 6379))
    assert (address._tls is not None) is (theirs.get("connection_class") is SSLConnection)


@pytest.mark.parametrize("url", ["http://a", "redis://a:port", "redis://a:99999", "redis://[::1", "a"])
def test_what_is_no_address_is_named_without_its_text(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisAddress(url)
    assert str(caught.value) == "REDIS_URL: is not a redis://, rediss:// or unix:// address"


@pytest.mark.parametrize(
    ("options", "mode", "named"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
        ("?ssl_cert_reqs=optional", ssl.CERT_OPTIONAL, False),
        ("?ssl_check_hostname=no", ssl.CERT_REQUIRED, False),
        ("?ssl_check_hostname=yes", ssl.CERT_REQUIRED, True),
    ],
)
def test_the_server_is_proven_unless_the_url_says_otherwise(options: str, mode: ssl.VerifyMode, named: bool) -> None:
    tls = RedisAddress(f"rediss://cache.example{options}")._tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (mode, named)


@pytest.mark.parametrize(
    ("answer", "node"),
    [
        ("MOVED 7365 10.0.0.2:6380", ("10.0.0.2", 6380)),
        ("MOVED 7365 ::1:6380", ("::1", 6380)),
        ("MOVED 7365 :6380", ("h", 6380)),  # the node that was asked, on another port
        ("MOVED", ("h", 1)),
        ("MOVED 7365 10.0.0.2:x", ("h", 1)),
        ("closed", ("h", 1)),
    ],
)
def test_an_answer_of_a_cluster_names_the_node_to_dial(answer: str, node: tuple[str, int]) -> None:
    address = RedisAddress("redis://h:1")
    assert address.follow(answer) is (node != ("h", 1))
    assert address._node == node
    address.follow("connection refused")
    assert address._node == ("h", 1)
