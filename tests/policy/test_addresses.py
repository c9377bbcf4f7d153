from __future__ import annotations

import pytest

from scopegate.edge.target import judge_host
from scopegate.policy import addresses
from scopegate.policy.policy import Address, Origin


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("LocalHost:80", Address("localhost", 80)),
        ("[0:0::1]:9", Address("::1", 9)),
    ],
)
def test_listen(text: str, address: Address) -> None:
    assert addresses.parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Leads.Example.com", "leads.example.com"),
        ("leads.example.com:8080", "leads.example.com:8080"),
        ("leads.example.com:443", "leads.example.com"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[0::1]:8080", "[::1]:8080"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_is_spelt_as_the_edge_judges_it(text: str, host: str) -> None:
    assert addresses.parse_host(text) == host
    assert judge_host(text.encode()) == host


@pytest.mark.parametrize("text", ["", "a b", "a..b", "-a", "127.1", "1.2.3.256", "0x7f.1", "[::1", "a:99999", "[x]:1"])
def test_no_host(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_host(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:3000", Origin("http", "127.0.0.1", 3000)),
        ("https://App.example.com/", Origin("https", "app.example.com", 443)),
        ("http://[::1]:3000", Origin("http", "::1", 3000)),
        ("http://[::1]", Origin("http", "::1", 80)),
        ("http://web", Origin("http", "web", 80)),
        ("unix:/run/app.sock", Origin("unix", "/run/app.sock", 0)),
        ("unix:/" + "a" * 106, Origin("unix", "/" + "a" * 106, 0)),
    ],
)
def test_origin(text: str, origin: Origin) -> None:
    assert addresses.parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "web:3000", "ftp://web", "http://", "http://:80", "http://web:0", "http://web:x", "http://web:", "//web"),
        *("http://a@web", "http://web/#", "http://web/?x", "http://we b", "http://web\\x", "http://[::1", "http://wéb"),
        *("unix:", "unix:run", "unix://run", "unix:///run/a", "unix:/run/", "unix:/a b", "unix:/é", "unix:/a\n"),
        *("unix:/" + "a" * 107, "UNIX:/run/app.sock"),
    ],
)
def test_no_origin(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_origin(text)


def test_a_url_keeps_path_and_query() -> None:
    assert addresses.parse_url("https://a.example/b?c=d") == "https://a.example/b?c=d"
    assert addresses.url_host("https://A.example:8/b") == "a.example"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("10.1.2.3", True), ("[::1]", True), ("web", True), ("db.internal", True)),
        *(("example.com", False), ("8.8.8.8", False), ("2606:4700::1", False)),
    ],
)
def test_is_local(host: str, local: bool) -> None:
    assert addresses.is_local(host) is local


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7", "fc00::/7", "2001:db8::/32", "::1"])
def test_networks_that_may_be_trusted(text: str) -> None:
    assert str(addresses.parse_network(text)).startswith(text.split("/")[0])


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "0.0.0.0/7", "2000::/3", "::ffff:0:0/96", "10.0.0.1/8", "x", ""])
def test_networks_that_may_not(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_network(text)


@pytest.mark.parametrize(
    ("text", "name"), [("App.Internal", "app.internal"), ("10.0.0.7", "10.0.0.7"), ("[0::1]", "::1"), ("web", "web")]
)
def test_the_name_in_a_certificate(text: str, name: str) -> None:
    assert addresses.parse_server_name(text) == name


@pytest.mark.parametrize("text", ["", "app:443", "::1", "https://app", "*.example", "a b", "[::1]:443"])
def test_no_name_in_a_certificate(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_server_name(text)
