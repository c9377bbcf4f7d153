"""The client's address: what a client writes never counts, what a trusted proxy writes does."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.caller import (
    MAX_HOPS,
    UNKNOWN,
    canonical_peer,
    client_address,
    forwarded_client,
    is_https,
    is_introduced_by_https,
    limit_group,
)
from scopegate.edge.proxy_protocol import Told
from scopegate.policy.policy import Network

NOBODY: tuple[Network, ...] = ()
TRUSTED: tuple[Network, ...] = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8", "2001:db8:ffff::/48")
)
PROXY = "10.0.0.2"
ME = "198.51.100.9"

Case = tuple[str, list[bytes], str]

IGNORED: list[Case] = [  # peer, field lines, address: an untrusted peer is the client
    (ME, [], ME),
    (ME, [b"1.2.3.4"], ME),
    (ME, [b"10.0.0.2"], ME),
    (ME, [b"1.2.3.4, 10.0.0.2"], ME),
    (ME, [b""], ME),
    (ME, [b"garbage"], ME),
    ("192.0.2.8", [b"1.2.3.4"], "192.0.2.8"),
    ("11.0.0.1", [b"1.2.3.4"], "11.0.0.1"),
    ("127.0.0.1", [b"1.2.3.4"], "127.0.0.1"),
    ("::1", [b"1.2.3.4"], "::1"),
    ("2001:db8::5", [b"1.2.3.4"], "2001:db8::5"),
    ("::ffff:198.51.100.9", [b"1.2.3.4"], ME),
    ("::ffff:c633:6409", [], ME),
    ("2001:DB8:0:0:0:0:0:5", [], "2001:db8::5"),
    ("fe80::1%eth0", [], "fe80::1"),
    ("fe80::1%eth0", [b"1.2.3.4"], "fe80::1"),
    ("", [], UNKNOWN),
    ("", [b"1.2.3.4"], UNKNOWN),
    ("/run/app.sock", [b"1.2.3.4"], UNKNOWN),
    ("localhost", [b"1.2.3.4"], UNKNOWN),
]

WALKED: list[Case] = [  # behind trusted proxies the field is read from the right
    (PROXY, [], PROXY),
    (PROXY, [b"1.2.3.4"], "1.2.3.4"),
    (PROXY, [b" 1.2.3.4 "], "1.2.3.4"),
    (PROXY, [b"\t1.2.3.4\t"], "1.2.3.4"),
    (PROXY, [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"6.6.6.6,1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"6.6.6.6 ,\t1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4", b"6.6.6.6"], "6.6.6.6"),
    (PROXY, [b"6.6.6.6, 7.7.7.7", b"8.8.8.8, 1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, 10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4", b"10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"6.6.6.6, 1.2.3.4, 10.0.0.4, 10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"10.0.0.9, 1.2.3.4, 10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"10.0.0.9, 10.0.0.3"], "10.0.0.9"),
    (PROXY, [b"10.0.0.2"], "10.0.0.2"),
    (PROXY, [b"1.2.3.4, 192.0.2.7"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, 192.0.2.8"], "192.0.2.8"),
    (PROXY, [b"1.2.3.4:5678"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4:1"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4:65535"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, 10.0.0.3:443"], "1.2.3.4"),
    (PROXY, [b"2001:db8::5"], "2001:db8::5"),
    (PROXY, [b"2001:DB8:0:0::5"], "2001:db8::5"),
    (PROXY, [b"[2001:db8::5]"], "2001:db8::5"),
    (PROXY, [b"[2001:db8::5]:443"], "2001:db8::5"),
    (PROXY, [b"fe80::1%eth0"], "fe80::1"),
    (PROXY, [b"[fe80::1%25eth0]:80"], "fe80::1"),
    (PROXY, [b"::ffff:1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"::FFFF:102:304"], "1.2.3.4"),
    (PROXY, [b"[::ffff:1.2.3.4]:99"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, ::ffff:10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, fd00::7"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, 2001:db8:ffff::1"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, 2001:db8:fffe::1"], "2001:db8:fffe::1"),
    ("::ffff:10.0.0.2", [b"1.2.3.4"], "1.2.3.4"),
    ("::ffff:a00:2", [b"1.2.3.4"], "1.2.3.4"),
    ("fd00::1", [b"1.2.3.4"], "1.2.3.4"),
    ("fd00::1%eth0", [b"1.2.3.4"], "1.2.3.4"),
    ("192.0.2.7", [b"1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"64:ff9b::102:304"], "64:ff9b::102:304"),
    (PROXY, [b"::1.2.3.4"], "::102:304"),
    (PROXY, [b"127.0.0.1"], "127.0.0.1"),
    (PROXY, [b"::1"], "::1"),
]

STOPPED: list[Case] = [  # an entry that is no address ends the walk at the last trusted hop
    (PROXY, [entry], PROXY)
    for entry in (
        b"", b" ", b",", b"unknown", b"_hidden", b"-", b"localhost", b"client:*\x00x", b'"1.2.3.4"', b"for=1.2.3.4",
        b"1.2.3", b"1.2.3.4.5", b"1.2.3.256", b"01.2.3.4", b"0x1.2.3.4", b"16909060", b"1.2.3.4/32", b"1.2.3.4:",
        b"1.2.3.4:0", b"1.2.3.4:65536", b"1.2.3.4:999999", b"1.2.3.4:x", b"1.2.3.4 5.6.7.8", b"1.2.3.4;5.6.7.8",
        b"[1.2.3.4]", b"[::1", b"::1]", b"[::1]:", b"[::1]:0", b"[::1]x", b"::g", b":::", b"1::2::3", b"12345::",
        b"::ffff:1.2.3.256", b"*", b"0.0.0.0", b"::", b"224.0.0.1", b"ff02::1", b"\xef\xbc\x91.2.3.4", b"1.2.3.4\x00",
        b"1.2.3.4\r\n", b"::1%" + b"z" * 100, b"9" * 1000,
    )
]  # fmt: skip

HALF_WAY: list[Case] = [
    (PROXY, [b"1.2.3.4, unknown, 10.0.0.3"], "10.0.0.3"),
    (PROXY, [b"1.2.3.4, , 10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4,"], "1.2.3.4"),
    (PROXY, [b"203.0.113.9, "], "203.0.113.9"),
    (PROXY, [b"1.2.3.4 ,\t, ,"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4", b""], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, unknown, ,"], PROXY),
    (PROXY, [b"1.2.3.4" + b"," * 5_000], "1.2.3.4"),
    (PROXY, [b"1.2.3.4, " + b", \t," * 5_000 + b"10.0.0.3"], "1.2.3.4"),
    (PROXY, [b"1.2.3.4", *[b", ,"] * 90], "1.2.3.4"),
    (PROXY, [b", 1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"garbage, 1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"\xff\xfe, 1.2.3.4"], "1.2.3.4"),
    (PROXY, [b"x" * 30_000 + b", 1.2.3.4"], "1.2.3.4"),
]


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(IGNORED) + len(WALKED) + len(STOPPED) + len(HALF_WAY) >= 80


@pytest.mark.parametrize(("peer", "lines", "address"), IGNORED + WALKED + STOPPED + HALF_WAY)
def test_whose_address_counts(peer: str, lines: list[bytes], address: str) -> None:
    assert client_address(peer, lines, TRUSTED) == address


@pytest.mark.parametrize(("peer", "lines", "_address"), WALKED)
def test_nobody_is_trusted_by_default(peer: str, lines: list[bytes], _address: str) -> None:
    assert client_address(peer, lines, NOBODY) == client_address(peer, [], TRUSTED)


@given(st.lists(st.binary(max_size=60), max_size=4), st.ip_addresses(v=4).filter(lambda ip: not ip.is_multicast))
def test_nothing_a_client_sends_changes_what_its_proxy_says(forged: list[bytes], real: object) -> None:
    proxy_says = [*forged, str(real).encode()]
    if str(real) == "0.0.0.0" or str(real).startswith("10.") or str(real) == "192.0.2.7":
        return
    assert client_address(PROXY, proxy_says, TRUSTED) == str(real)


@given(st.text(max_size=40), st.lists(st.binary(max_size=60), max_size=4))
def test_the_answer_is_always_an_address_or_the_one_word(peer: str, lines: list[bytes]) -> None:
    for address in (client_address(peer, lines, TRUSTED), client_address(PROXY, lines, TRUSTED)):
        assert address == UNKNOWN or client_address(address, [], NOBODY) == address


def test_a_chain_of_trusted_proxies_is_read_to_its_bound_only() -> None:
    reached = b"1.2.3.4" + b", 10.0.0.3" * (MAX_HOPS - 1)
    beyond = b"1.2.3.4" + b", 10.0.0.4" + b", 10.0.0.3" * (MAX_HOPS - 1)
    assert client_address(PROXY, [reached], TRUSTED) == "1.2.3.4"
    assert client_address(PROXY, [beyond], TRUSTED) == "10.0.0.4"
    assert client_address(PROXY, reached.split(b", "), TRUSTED) == "1.2.3.4"
    assert client_address(PROXY, beyond.split(b", "), TRUSTED) == "10.0.0.4"


# ── groups ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_the_group_of_an_address(address: str, group: str) -> None:
    assert limit_group(address) == group


def test_ten_thousand_addresses_of_one_subscriber_are_one_group() -> None:
    assert len({limit_group(f"2001:db8:1:2:{index:x}::{index:x}") for index in range(10_000)}) == 1
    assert len({limit_group(f"2001:db8:1:{index:x}::1") for index in range(1000)}) == 1000


# ── Forwarded (RFC 7239) ────────────────────────────────────────────────────────────────────────────────────────────

ByForwarded = tuple[str, list[bytes], str, bool]

FORWARDED: list[ByForwarded] = [  # peer, field lines, address, came by https
    (ME, [], ME, False),
    (ME, [b"for=1.2.3.4;proto=https"], ME, False),
    ("::ffff:198.51.100.9", [b"for=1.2.3.4;proto=https"], ME, False),
    ("", [b"for=1.2.3.4;proto=https"], UNKNOWN, False),
    ("/run/app.sock", [b"for=1.2.3.4"], UNKNOWN, False),
    (PROXY, [], PROXY, False),
    (PROXY, [b"for=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b"FOR=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=https"], "1.2.3.4", True),
    (PROXY, [b"for=1.2.3.4;proto=HTTPS"], "1.2.3.4", True),
    (PROXY, [b'for=1.2.3.4;proto="https"'], "1.2.3.4", True),
    (PROXY, [b"proto=https;for=1.2.3.4"], "1.2.3.4", True),
    (PROXY, [b"for=1.2.3.4;proto=http"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=wss"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=https;proto=https"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=http;proto=https"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;by=10.0.0.2;host=a.example;proto=https"], "1.2.3.4", True),
    (PROXY, [b'host="x;proto=https";for=1.2.3.4'], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4 ; proto=https"], "1.2.3.4", True),
    (PROXY, [b'for="1.2.3.4:5678"'], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4:5678"], "1.2.3.4", False),
    (PROXY, [b'for="1.2.3.4"'], "1.2.3.4", False),
    (PROXY, [b'for="\\1.2.3.4"'], "1.2.3.4", False),
    (PROXY, [b'for="[2001:db8::5]"'], "2001:db8::5", False),
    (PROXY, [b'for="[2001:DB8::5]:443";proto=https'], "2001:db8::5", True),
    (PROXY, [b'for="[::ffff:1.2.3.4]:443"'], "1.2.3.4", False),
    (PROXY, [b'for="2001:db8::5"'], "2001:db8::5", False),
    (PROXY, [b"for=6.6.6.6, for=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b"for=6.6.6.6;proto=https, for=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b"for=6.6.6.6", b"for=1.2.3.4;proto=https"], "1.2.3.4", True),
    (PROXY, [b"for=1.2.3.4;proto=https, for=10.0.0.3;proto=http"], "1.2.3.4", True),
    (PROXY, [b"for=1.2.3.4;proto=http, for=10.0.0.3;proto=https"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=https", b'for="[fd00::7]:80", for=192.0.2.7'], "1.2.3.4", True),
    (PROXY, [b"for=10.0.0.9;proto=https"], "10.0.0.9", True),
    ("fd00::1", [b'for="[2001:db8::5]"'], "2001:db8::5", False),
    ("::ffff:10.0.0.2", [b"for=1.2.3.4;proto=https"], "1.2.3.4", True),
    # hidden nodes end the walk: the last hop known counts, and what was said of the way
    (PROXY, [b"for=unknown"], PROXY, False),
    (PROXY, [b"for=unknown;proto=https"], PROXY, True),
    (PROXY, [b"for=_hidden"], PROXY, False),
    (PROXY, [b'for="_hidden:_port";proto=https'], PROXY, True),
    (PROXY, [b"for=1.2.3.4:_port"], PROXY, False),
    (PROXY, [b"for=6.6.6.6;proto=https, for=_hidden"], PROXY, False),
    (PROXY, [b"for=6.6.6.6, for=unknown, for=10.0.0.3;proto=https"], "10.0.0.3", False),
    (PROXY, [b"proto=https"], PROXY, True),
    (PROXY, [b"for=1.2.3.4;for=5.6.7.8;proto=https"], PROXY, True),
    (PROXY, [b'for="6.6.6.6, 1.2.3.4"'], PROXY, False),
    (PROXY, [b"for=1.2.3.4,"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;proto=https, ;, " + b", " * 1_000], "1.2.3.4", True),
    (PROXY, [b"for=1.2.3.4", b" , "], "1.2.3.4", False),
    (PROXY, [b", for=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b""], PROXY, False),
    (PROXY, [b"for=0.0.0.0"], PROXY, False),
    (PROXY, [b'for="[ff02::1]"'], PROXY, False),
    # a line that does not parse says nothing at all
    (PROXY, [b"for=[2001:db8::5];proto=https"], "2001:db8::5", True),
    (PROXY, [b'for="1.2.3.4;proto=https'], PROXY, False),
    (PROXY, [b"for"], PROXY, False),
    (PROXY, [b"for=1.2.3.4 proto=https"], PROXY, False),
    (PROXY, [b"for =1.2.3.4"], PROXY, False),
    (PROXY, [b"for=1.2.3.4;proto=https", b'"'], PROXY, False),
    (PROXY, [b'"', b"for=1.2.3.4;proto=https"], "1.2.3.4", True),
    (PROXY, [b'"', b"for=10.0.0.3;proto=https"], "10.0.0.3", False),
    (PROXY, [b"x=" + b"1" * 5000, b"for=1.2.3.4"], "1.2.3.4", False),
    (PROXY, [b"for=1.2.3.4;x=" + b"1" * 4000, b"for=10.0.0.3;x=" + b"1" * 100], "10.0.0.3", False),
    (PROXY, [b"1.2.3.4"], PROXY, False),
    (PROXY, [b"for=1.2.3.4;x=" + b"1" * 5000], PROXY, False),
]


def test_forwarded_has_a_table_of_its_own() -> None:
    assert len(FORWARDED) >= 50


@pytest.mark.parametrize(("peer", "lines", "address", "https"), FORWARDED)
def test_whose_address_counts_by_forwarded(peer: str, lines: list[bytes], address: str, https: bool) -> None:
    assert forwarded_client(peer, lines, TRUSTED) == (address, https)


@pytest.mark.parametrize(("peer", "lines", "_address", "_https"), FORWARDED)
def test_forwarded_says_nothing_when_nobody_is_trusted(
    peer: str, lines: list[bytes], _address: str, _https: bool
) -> None:
    assert forwarded_client(peer, lines, NOBODY) == (client_address(peer, [], NOBODY), False)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_nothing_a_client_sends_changes_what_its_proxy_says_in_forwarded(forged: list[bytes]) -> None:
    assert forwarded_client(PROXY, [*forged, b"for=1.2.3.4;proto=http"], TRUSTED) == ("1.2.3.4", False)


def test_a_chain_in_forwarded_is_read_to_its_bound_only() -> None:
    reached = b"for=1.2.3.4" + b", for=10.0.0.3" * (MAX_HOPS - 1)
    beyond = b"for=1.2.3.4" + b", for=10.0.0.4" + b", for=10.0.0.3" * (MAX_HOPS - 1)
    assert forwarded_client(PROXY, [reached], TRUSTED) == ("1.2.3.4", False)
    assert forwarded_client(PROXY, [beyond], TRUSTED) == ("10.0.0.4", False)


@pytest.mark.parametrize(
    ("values", "https"),
    [
        ([], False),
        ([b"https"], True),
        ([b" HTTPS\t"], True),
        ([b"http"], False),
        ([b""], False),
        ([b"https, https"], True),
        ([b"https", b"https"], True),
        ([b"https, http"], False),
        ([b"http, https"], False),
        ([b"https", b"http"], False),
        ([b"https,"], False),
        ([b"httpss"], False),
        ([b'"https"'], False),
    ],
)
def test_every_proxy_on_the_way_has_to_say_https(values: list[bytes], https: bool) -> None:
    assert is_https(values) is https


@pytest.mark.parametrize(
    ("peer", "canonical"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("/run/app.sock", "/run/app.sock"),
    ],
)
def test_a_peer_has_one_spelling(peer: str, canonical: str) -> None:
    assert canonical_peer(peer) == canonical


@pytest.mark.parametrize(
    ("told", "said", "came_by_https"),
    [
        (None, [b"https"], False),
        (Told(None, 16), [b"https"], True),
        (Told(None, 16), [], False),
        (Told(None, 16, True), [b"http"], True),
        (Told(None, 16, False), [b"https"], False),
    ],
)
def test_an_introduction_says_how_the_visitor_came(told: Told | None, said: list[bytes], came_by_https: bool) -> None:
    assert is_introduced_by_https(told, said) is came_by_https
