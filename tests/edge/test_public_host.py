"""The host that a proxy tells: one valid value each, and what was asked for by it."""

from __future__ import annotations

import pytest

from scopegate.edge.public_host import PublicHost, public_host
from scopegate.edge.verdict import Refusal


@pytest.mark.parametrize(
    ("hosts", "ports", "told", "asked"),
    [
        ([b"www.example.com"], [], PublicHost("www.example.com", b""), "www.example.com"),
        ([b" WWW.Example.com.\t"], [b" 443 "], PublicHost("www.example.com", b"443"), "www.example.com"),
        ([b"www.example.com"], [b"80"], PublicHost("www.example.com", b"80"), "www.example.com"),
        ([b"www.example.com"], [b"08443"], PublicHost("www.example.com", b"08443"), "www.example.com:8443"),
        ([b"www.example.com:8443"], [b"443"], PublicHost("www.example.com:8443", b"443"), "www.example.com:8443"),
        ([b"www.example.com:443"], [b"8443"], PublicHost("www.example.com", b"8443"), "www.example.com:8443"),
        ([b"[2001:db8::1]"], [b"8443"], PublicHost("[2001:db8::1]", b"8443"), "[2001:db8::1]:8443"),
        ([b"[2001:db8::1]:81"], [b"8443"], PublicHost("[2001:db8::1]:81", b"8443"), "[2001:db8::1]:81"),
        ([], [b"443"], PublicHost("", b"443"), ""),
    ],
)
def test_what_a_proxy_tells(hosts: list[bytes], ports: list[bytes], told: PublicHost, asked: str) -> None:
    found = public_host(hosts, ports)
    assert found == told
    assert isinstance(found, PublicHost)
    assert found.asked == asked


def test_nothing_told_is_nothing() -> None:
    assert public_host([], []) is None


@pytest.mark.parametrize(
    ("hosts", "ports"),
    [
        ([b"a.example", b"b.example"], []),
        ([b"a.example", b"a.example"], []),
        ([b"a.example, b.example"], []),
        ([b"a.example,"], []),
        ([b""], []),
        ([b"https://a.example"], []),
        ([b"a.example/x"], []),
        ([b"a.example\xe9"], []),
        ([b"a.example:0"], []),
        ([b"127.1"], []),
        ([b"a.example"], [b"443", b"443"]),
        ([b"a.example"], [b"443, 80"]),
        ([b"a.example"], [b""]),
        ([b"a.example"], [b"0"]),
        ([b"a.example"], [b"65536"]),
        ([b"a.example"], [b"-1"]),
        ([b"a.example"], [b"0x50"]),
        ([b"a.example"], [b"9" * 5000]),
        ([], [b"https"]),
    ],
)
def test_what_is_no_one_host_and_port_is_refused(hosts: list[bytes], ports: list[bytes]) -> None:
    refusal = public_host(hosts, ports)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.close) == (400, "bad_host", True)
