from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from scopegate.following.source import on_disk
from scopegate.policy import Review
from scopegate.policy.policy import ClientList, ClientValue, KeyKind, KeyPart
from scopegate.policy.sections.lists import Listed, parse_entry, parse_file
from tests.policies import MINIMAL, review

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("192.0.2.7", Listed(ip_network("192.0.2.7/32"))),
        ("192.0.2.0/24", Listed(ip_network("192.0.2.0/24"))),
        ("2001:db8::/32", Listed(ip_network("2001:db8::/32"))),
        ("user=alice=b", Listed(None, KeyPart(KeyKind.USER), "alice=b")),
        ("header:X-Tenant=acme", Listed(None, KeyPart(KeyKind.HEADER, "x-tenant"), "acme")),
        (f"cookie:sid=sha256:{HASH}", Listed(None, KeyPart(KeyKind.COOKIE, "sid"), HASH, True)),
        (f"api_key=sha256:{HASH}", Listed(None, None, HASH, True)),
    ],
)
def test_entries(text: str, entry: Listed) -> None:
    assert parse_entry(text) == entry


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.0.2.1/24", "is an address inside a network"),
        ("192.0.2", "is not a network"),
        ("::ffff:192.0.2.1", "is an IPv4 network in IPv6 clothes"),
        ("alice", "is not a network"),
        ("user=", "lacks a value"),
        ("route=x", "has nothing that can be listed before its ="),
        ("header=x", "lacks a name"),
        ("usr=x", "is nothing to count by"),
        ("api_key=secret", "holds an API key: write its hash"),
        ("api_key=sha256:ABC", "is no SHA-256"),
    ],
)
def test_what_is_no_entry(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_entry(text)


def test_a_file_has_one_entry_a_line() -> None:
    assert parse_file(b"") == []
    assert parse_file(b"# ours\n\n192.0.2.0/24  # office\r\nuser=a\n") == ["192.0.2.0/24", "user=a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"192.0.2.0/24\n198.51.100.0/2", "may be half written: its last line has no end"),
        (b"192.0.2.0/24\n\nnonsense\n", "line 3 is not a network"),
        (b"\xff\n", "is not UTF-8"),
    ],
)
def test_a_file_that_is_none(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_file(content)


def with_tier(text: str, server: str = "") -> str:
    return f"{MINIMAL}tiers: {{lenient: {{limit: 5 per 1s, {text}}}}}\n{server}"


def checked(folder: Path, text: str, server: str = "") -> Review:
    file = folder / "gateway.yaml"
    file.write_text(with_tier(text, server))
    return on_disk(file).examine({}, lenient=False)


def test_a_tier_has_what_it_says_and_what_its_files_say(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text(f"192.0.2.0/24\napi_key=sha256:{HASH}\n")
    found = checked(tmp_path, "allow: user=ops, allow_file: more.txt, deny: [198.51.100.7], api_key: cookie:k").policy
    assert found is not None
    (tier,) = found.routes[0].tiers
    key, ops = ClientValue(KeyPart(KeyKind.COOKIE, "k"), HASH, True), ClientValue(KeyPart(KeyKind.USER), "ops")
    assert tier.allow == ClientList((ip_network("192.0.2.0/24"),), (ops, key))
    assert tier.deny == ClientList((ip_network("198.51.100.7/32"),))
    assert found.files == (str(tmp_path / "more.txt"),), "it is followed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "'deny.txt': no such file"),
        ("192.0.2.0/24\n192.0.2.9/3", "'deny.txt' may be half written"),
        ("ok\n", "'deny.txt' line 1 is not a network"),
        ("10.1.0.0/16\n", "'deny.txt' has an entry that holds a trusted proxy"),
    ],
)
def test_a_bad_file_is_named_at_its_place(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "deny.txt").write_text(content)
    found = checked(tmp_path, "deny_file: deny.txt", "server: {trusted_proxies: [10.0.0.0/8]}\n")
    (problem,) = found.problems
    assert problem.path == "tiers.lenient.deny_file"
    assert said in problem.what


@pytest.mark.parametrize("entry", ["10.9.0.1", "8.0.0.0/5", "'10.0.0.0/24'"])
def test_a_trusted_proxy_cannot_be_denied(entry: str) -> None:
    server = "server: {trusted_proxies: [10.0.0.0/8, 'fd00::/8']}\n"
    for text, path in ((f"deny: {entry}", "deny"), (f"deny: [192.0.2.1, {entry}]", "deny[1]")):
        (problem,) = review(with_tier(text, server)).problems
        assert problem.path == f"tiers.lenient.{path}"
        assert "holds a trusted proxy, from which all visitors come" in problem.what
    assert not review(with_tier(f"allow: {entry}", server)).problems
    assert not review(with_tier("deny: [192.0.2.1, '2001:db8::/32', user=x]", server)).problems
