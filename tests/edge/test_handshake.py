"""The opening of a WebSocket connection, judged on both sides."""

from __future__ import annotations

import pytest

from scopegate.edge.handshake import (
    Opening,
    asks_for_websocket,
    judge_agreement,
    judge_opening,
    judge_origin,
    without_handshake,
)
from scopegate.edge.headers import Noted, read_request
from scopegate.edge.lines import lines_of
from scopegate.edge.verdict import Refusal, RequestHead
from scopegate.policy.policy import Cors
from scopegate.types import Fields

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Both from RFC 6455 1.3."""
ASKED = {
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
AGREED = {b"Upgrade": b"websocket", b"Sec-WebSocket-Accept": ACCEPT}


def fields(*changes: dict[bytes, bytes | None], base: dict[bytes, bytes] = ASKED) -> Fields:
    """`base` with the changes; None takes a field out."""
    merged: dict[bytes, bytes | None] = dict(base)
    for change in changes:
        merged |= change
    return [(name, value) for name, value in merged.items() if value is not None]


def noted(given: Fields) -> Noted:
    notes = read_request(lines_of(given), "1.1")
    assert isinstance(notes, Noted)
    return notes


def judged(given: Fields, method: bytes = b"GET", version: str = "1.1") -> Opening | Refusal:
    return judge_opening(RequestHead(method, b"/ws", version, lines_of(given)), noted(given))


def test_the_accept_is_that_of_the_rfc() -> None:
    assert Opening(KEY).accept == ACCEPT


def test_an_opening_is_read_and_asked_again_in_our_words() -> None:
    opening = judged(fields({b"Sec-WebSocket-Protocol": b"chat , superchat", b"Upgrade": b"WebSocket"}))
    assert opening == Opening(KEY, (b"chat", b"superchat"))
    assert b"".join(opening.lines()).split(b"\r\n") == [
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-key: " + KEY,
        b"sec-websocket-version: 13",
        b"sec-websocket-protocol: chat, superchat",
        b"",
    ]


@pytest.mark.parametrize(
    ("value", "asks"),
    [(b"websocket", True), (b"WebSocket", True), (b"h2c, websocket ", True), (b"h2c", False), (b"websockets", False)],
)
def test_who_asks_for_a_websocket(value: bytes, asks: bool) -> None:
    assert asks_for_websocket(noted(fields({b"Upgrade": value}))) is asks


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({b"Content-Length": b"1"}, "with GET in HTTP/1.1, without a body"),
        ({b"Upgrade": b"websocket, h2c"}, "and no other protocol"),
        ({b"Connection": b"keep-alive"}, "has to name Upgrade"),
        ({b"Sec-WebSocket-Key": None}, "16 bytes in base64"),
        ({b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZR=="}, "16 bytes in base64"),
        ({b"Sec-WebSocket-Key": b"c2hvcnQ="}, "16 bytes in base64"),
        ({b"Sec-WebSocket-Protocol": b"chat, chat"}, "a list of different names"),
        ({b"Sec-WebSocket-Protocol": b"chat,"}, "a list of different names"),
        ({b"Sec-WebSocket-Protocol": b"a b"}, "a list of different names"),
    ],
)
def test_what_is_no_opening(change: dict[bytes, bytes | None], detail: str) -> None:
    found = judged(fields(change))
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (400, "bad_handshake")
    assert detail in found.detail


def test_only_get_opens_one() -> None:
    for method, version in ((b"POST", "1.1"), (b"GET", "1.0")):
        found = judged(fields(), method, version)
        assert isinstance(found, Refusal)
        assert found.status == 400


def test_a_key_given_twice_is_none() -> None:
    assert isinstance(judged([*fields(), (b"sec-websocket-key", KEY)]), Refusal)


@pytest.mark.parametrize("version", [None, b"8", b"13, 8"])
def test_another_version_is_told_ours(version: bytes | None) -> None:
    found = judged(fields({b"Sec-WebSocket-Version": version}))
    assert isinstance(found, Refusal)
    assert found.status == 426
    assert (b"sec-websocket-version", b"13") in found.fields


def test_the_clients_own_handshake_does_not_go_on() -> None:
    ours = [b"Sec-WebSocket-Key: x\r\n", b"sec_websocket_extensions: x\r\n", b"SEC.WEBSOCKET-Protocol: x\r\n"]
    others = [b"Accept: */*\r\n", b"X-Sec-WebSocket-Key: x\r\n", b"Secret: sec-websocket-key\r\n"]
    assert without_handshake([*ours, *others]) == others


def cors(*origins: str, credentials: bool = False) -> Cors:
    named = frozenset(origins) - {"*"}
    return Cors("c", named, "*" in origins, frozenset(), frozenset(), (), credentials, 0)


@pytest.mark.parametrize(
    ("origin", "rule", "cookie", "passes"),
    [
        (None, None, True, True),
        (b"http://a.example", None, True, True),
        (b"https://a.example", None, True, True),
        (b"HTTP://A.Example", None, True, True),
        (b"ftp://a.example", None, False, False),
        (b"https://a.example:444", None, False, False),
        (b"https://b.example", None, False, False),
        (b"null", None, False, False),
        (b"a.example", None, False, False),
        (b"https://b.example", cors("https://b.example"), False, True),
        (b"https://b.example", cors("https://b.example"), True, False),
        (b"https://b.example", cors("https://b.example", credentials=True), True, True),
        (b"https://c.example", cors("https://b.example"), False, False),
        (b"https://c.example", cors("*"), False, True),
        (b"https://c.example", cors("*"), True, False),
    ],
)
def test_which_pages_may_ask(origin: bytes | None, rule: Cors | None, cookie: bool, passes: bool) -> None:
    given = fields({b"Origin": origin, b"Cookie": b"a=b" if cookie else None})
    found = judge_origin(RequestHead(b"GET", b"/", "1.1", lines_of(given)), "a.example", "http", rule)
    assert (found is None) is passes
    assert found is None or (found.status, found.code) == (403, "origin_not_allowed")


def test_two_origins_are_nobodys() -> None:
    given = [(b"Origin", b"http://a.example")] * 2
    assert judge_origin(RequestHead(b"GET", b"/", "1.1", lines_of(given)), "a.example", "http", cors("*")) is not None


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, None),
        ({b"Upgrade": b"WebSocket"}, None),
        ({b"Sec-WebSocket-Protocol": b"chat"}, None),
        ({b"Upgrade": b"h2c"}, "switched to another protocol"),
        ({b"Upgrade": None}, "switched to another protocol"),
        ({b"Sec-WebSocket-Accept": b"x"}, "wrong Sec-WebSocket-Accept"),
        ({b"Sec-WebSocket-Accept": None}, "wrong Sec-WebSocket-Accept"),
        ({b"Sec-WebSocket-Extensions": b"permessage-deflate"}, "agreed to an extension that was not offered"),
        ({b"Sec-WebSocket-Protocol": b"other"}, "chose a subprotocol that was not offered"),
    ],
)
def test_what_the_app_agrees_to(change: dict[bytes, bytes | None], wrong: str | None) -> None:
    assert judge_agreement(fields(change, base=AGREED), Opening(KEY, (b"chat", b"other chat"))) == wrong


def test_the_app_chooses_one_subprotocol_at_most() -> None:
    twice = [*fields(base=AGREED), *[(b"Sec-WebSocket-Protocol", b"chat")] * 2]
    assert judge_agreement(twice, Opening(KEY, (b"chat",))) == "chose a subprotocol that was not offered"
