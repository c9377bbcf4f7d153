from __future__ import annotations

import pytest

from scopegate.edge.redirect import challenge_token, host_name, to_https
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Refusal, Reply, Target

NAMES = frozenset(["a.example", "[2001:db8::1]", "127.0.0.1"])


def asked(target: str, host: str = "a.example", method: str = "GET") -> Target:
    judged = judge_target(method.encode(), target.encode(), [host.encode()], None)
    assert isinstance(judged, Target), judged
    return judged


def location(target: Target, port: int = 443) -> tuple[int, str]:
    reply = to_https(target, NAMES, port)
    assert isinstance(reply, Reply), reply
    line, length, rest = reply.lines.decode().split("\r\n")
    assert (length, rest, reply.body) == ("content-length: 0", "", b"")
    return reply.status, line.removeprefix("location: ")


@pytest.mark.parametrize(
    ("target", "host", "port", "url"),
    [
        ("/", "a.example", 443, "https://a.example/"),
        ("/a%2Fb;c?d=//e&f=%0d%0a", "A.Example.:80", 443, "https://a.example/a%2Fb;c?d=//e&f=%0d%0a"),
        ("http://a.example/x", "a.example", 443, "https://a.example/x"),
        ("http://a.example?x", "a.example", 443, "https://a.example/?x"),
        ("//evil.example/x", "a.example", 443, "https://a.example//evil.example/x"),
        ("/\\evil.example", "a.example", 443, "https://a.example/\\evil.example"),
        ("/", "a.example:8080", 8443, "https://a.example:8443/"),
        ("/", "[2001:DB8::1]:8080", 8443, "https://[2001:db8::1]:8443/"),
        ("/", "127.0.0.1:8080", 443, "https://127.0.0.1/"),
    ],
)
def test_the_same_page_by_https(target: str, host: str, port: int, url: str) -> None:
    assert location(asked(target, host), port) == (301, url)


@pytest.mark.parametrize("host", ["b.example", "a.example.evil.example", "evil.example:443", "[2001:db8::2]", "a"])
def test_nobody_is_sent_to_a_host_that_is_not_served(host: str) -> None:
    reply = to_https(asked("/", host), NAMES, 443)
    assert isinstance(reply, Refusal)
    assert reply.status == 421


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("OPTIONS", 308)])
def test_what_is_not_a_page_keeps_its_method(method: str, status: int) -> None:
    assert location(asked("/", method=method))[0] == status


def test_a_host_has_a_name() -> None:
    hosts = ["a.example", "a.example:8443", "[::1]:8443", "[::1]", "127.0.0.1:80"]
    assert [host_name(host) for host in hosts] == ["a.example", "a.example", "[::1]", "[::1]", "127.0.0.1"]


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/.well-known/acme-challenge/abc-_DEF09", "abc-_DEF09"),
        ("/.well-known/acme-challenge/abc?x=y", "abc"),
        ("/.well-known/acme-challenge/" + "a" * 128, "a" * 128),
        ("/.well-known/acme-challenge/" + "a" * 129, None),
        ("/.well-known/acme-challenge/", None),
        ("/.well-known/acme-challenge/.", None),
        ("/.well-known/acme-challenge/..", None),
        ("/.well-known/acme-challenge/../../key.pem", None),
        ("/.well-known/acme-challenge/..%2f..%2fkey", None),
        ("/.well-known/acme-challenge/a%2e", None),
        ("/.well-known/acme-challenge/a%00", None),
        ("/.well-known/acme-challenge/a/b", None),
        ("/.well-known/acme-challenge//a", None),
        ("/.well-known/acme-challenge/a;b", None),
        ("/.well-known/acme-challenge/a\\b", None),
        ("/.well-known/acme-challenge/a.pem", None),
        ("/.well-known%2Facme-challenge/a", None),
        ("/x/.well-known/acme-challenge/a", None),
        ("/.WELL-KNOWN/acme-challenge/a", None),
    ],
)
def test_a_token_is_a_plain_name(target: str, token: str | None) -> None:
    assert challenge_token(asked(target)) == token


def test_a_challenge_is_read_and_nothing_else() -> None:
    assert challenge_token(asked("/.well-known/acme-challenge/abc", method="POST")) is None
    assert challenge_token(asked("/.well-known/acme-challenge/abc", method="HEAD")) == "abc"
