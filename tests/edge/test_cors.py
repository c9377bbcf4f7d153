"""CORS: which preflights are granted, and which answers a page of another origin may read (Fetch standard 3.2)."""

from __future__ import annotations

import pytest

from scopegate.edge.cors import CrossOrigin, asked_method
from scopegate.edge.headers import Noted, read_response
from scopegate.policy.policy import Cors

SHOP = b"https://shop.example"
LOCAL = b"http://localhost:3000"
VARY_ALL = b"vary: origin, access-control-request-method, access-control-request-headers"


def cors(
    *origins: str,
    any_origin: bool = False,
    methods: tuple[str, ...] = ("GET", "POST"),
    fields: tuple[str, ...] = ("content-type", "x-client"),
    expose: tuple[str, ...] = ("retry-after", "x-request-id"),
    credentials: bool = False,
    max_age_s: float = 600.0,
    more: tuple[bytes, ...] = (),
) -> CrossOrigin:
    rule = Cors(
        "c", frozenset(origins), any_origin, frozenset(methods), frozenset(fields), expose, credentials, max_age_s
    )
    return CrossOrigin(rule, more)


NAMED = cors("https://shop.example", "http://localhost:3000", credentials=True)
ANY = cors(any_origin=True)


def split(lines: bytes) -> list[bytes]:
    return lines.split(b"\r\n")[:-1]


# ── what is a preflight ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("origins", "methods", "asked"),
    [
        ([SHOP], [b"POST"], "POST"),
        ([b"null"], [b"GET"], "GET"),
        ([SHOP], [b" PATCH\t"], "PATCH"),
        ([SHOP], [b"M-SEARCH"], "M-SEARCH"),
        ([], [b"POST"], None),
        ([SHOP], [], None),
        ([SHOP, SHOP], [b"POST"], None),
        ([SHOP], [b"POST", b"POST"], None),
        ([SHOP], [b"post"], None),
        ([SHOP], [b""], None),
        ([SHOP], [b"POST, GET"], None),
        ([SHOP], [b"P\xd6ST"], None),
        ([SHOP], [b"A" * 33], None),
    ],
)
def test_what_a_preflight_asks_for(origins: list[bytes], methods: list[bytes], asked: str | None) -> None:
    assert asked_method(origins, methods) == asked


# ── preflights ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_granted_is_what_was_asked_for_and_no_more() -> None:
    assert split(NAMED.preflight([SHOP], "POST", [b"Content-Type"])) == [
        b"access-control-allow-origin: https://shop.example",
        b"access-control-allow-credentials: true",
        b"access-control-allow-methods: POST",
        b"access-control-allow-headers: content-type",
        b"access-control-max-age: 600",
        VARY_ALL,
    ]


def test_any_origin_is_a_star_without_credentials() -> None:
    assert split(ANY.preflight([SHOP], "GET", [])) == [
        b"access-control-allow-origin: *",
        b"access-control-allow-methods: GET",
        b"access-control-max-age: 600",
        VARY_ALL,
    ]


@pytest.mark.parametrize(
    "asked", [[b"x-client,content-type"], [b" X-Client , Content-Type "], [b"X-Client", b"content-type"]]
)
def test_fields_are_read_as_a_list(asked: list[bytes]) -> None:
    assert b"access-control-allow-headers: x-client, content-type" in split(NAMED.preflight([SHOP], "GET", asked))


REFUSED_ORIGINS = [
    b"https://evil.example", b"null", b"", b"*", b"https://shop.example.evil.example", b"https://SHOP.example",
    b"https://shop.example/", b"https://shop.example:443", b"http://shop.example", b"https://shop.example:8443",
    b"https://x.shop.example", b"shop.example", b"https://shop.example, https://evil.example", b"https://shop.example\x00",
    b"https://shop.example ,", b"http://localhost", b"http://localhost:3001",
]  # fmt: skip


@pytest.mark.parametrize("origin", REFUSED_ORIGINS)
def test_another_origin_is_granted_nothing(origin: bytes) -> None:
    assert split(NAMED.preflight([origin], "POST", [])) == [VARY_ALL]
    assert NAMED.for_refusal([origin]) == b"vary: origin\r\n"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "get", "HEAD", "*", "OPTIONS"])
def test_another_method_is_granted_nothing(method: str) -> None:
    assert split(NAMED.preflight([SHOP], method, [])) == [VARY_ALL]


@pytest.mark.parametrize(
    "fields",
    [[b"authorization"], [b"content-type, authorization"], [b"content-type", b"x-other"], [b"*"], [b"x-client\x00"]],
)
def test_another_field_is_granted_nothing(fields: list[bytes]) -> None:
    assert split(NAMED.preflight([SHOP], "POST", fields)) == [VARY_ALL]


def test_no_text_of_the_asker_is_repeated() -> None:
    made = NAMED.preflight([SHOP], "POST", [b"CONTENT-type,, ,\t,X-CLIENT,content-type"])
    assert b"access-control-allow-headers: content-type, x-client\r\n" in made


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(*fields: tuple[bytes, bytes]) -> Noted:
    return read_response(list(fields), 200, "GET")


OPENED = [
    b"access-control-allow-origin: http://localhost:3000",
    b"access-control-allow-credentials: true",
    b"access-control-expose-headers: retry-after, x-request-id",
]


def test_an_allowed_origin_may_read_the_answer() -> None:
    assert split(NAMED.for_answer(answer(), [LOCAL])[1]) == [b"vary: origin", *OPENED]
    assert split(NAMED.for_refusal([LOCAL])) == [b"vary: origin", *OPENED]


def test_without_credentials_and_without_exposed_fields() -> None:
    bare = cors("https://shop.example", expose=())
    allowed = b"access-control-allow-origin: https://shop.example"
    assert split(bare.for_answer(answer(), [SHOP])[1]) == [b"vary: origin", allowed]


def test_fields_that_the_route_adds_can_be_read_too() -> None:
    limits = (b"ratelimit", b"retry-after")
    more = cors("https://shop.example", expose=("Retry-After",), more=limits)
    assert split(more.for_refusal([SHOP]))[-1] == b"access-control-expose-headers: Retry-After, ratelimit"


@pytest.mark.parametrize("origins", [[], [b"https://evil.example"], [b"null"], [SHOP, SHOP]])
def test_for_any_other_the_answer_says_only_that_it_varies(origins: list[bytes]) -> None:
    assert NAMED.for_answer(answer(), origins)[1] == b"vary: origin\r\n"
    assert NAMED.for_refusal(origins) == b"vary: origin\r\n"


@pytest.mark.parametrize("origins", [[], [SHOP], [b"null"]])
def test_any_origin_makes_no_difference(origins: list[bytes]) -> None:
    said = [b"access-control-allow-origin: *", b"access-control-expose-headers: retry-after, x-request-id"]
    assert split(ANY.for_answer(answer(), origins)[1]) == said
    assert split(ANY.for_refusal(origins)) == said


SAID_BY_THE_APP = (
    b"Access-Control-Allow-Origin", b"ACCESS-CONTROL-ALLOW-CREDENTIALS", b"access-control-allow-methods",
    b"Access-Control-Allow-Headers", b"Access-Control-Expose-Headers", b"Access-Control-Max-Age",
    b"Access-Control-Allow-Private-Network",
)  # fmt: skip


@pytest.mark.parametrize("rule", [NAMED, ANY])
@pytest.mark.parametrize("name", SAID_BY_THE_APP)
def test_what_the_app_says_of_it_is_replaced(rule: CrossOrigin, name: bytes) -> None:
    notes = answer((name, b"https://evil.example"), (b"X", b"y"))
    passing, _ = rule.for_answer(notes, [b"https://evil.example"])
    assert passing.passed == [b"X: y\r\n"]


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ([b"accept-encoding"], [b"vary: accept-encoding, origin\r\n"]),
        ([b"Accept", b"Cookie"], [b"vary: Accept, Cookie, origin\r\n"]),
        ([b"accept, ORIGIN"], [b"Vary: accept, ORIGIN\r\n"]),
        ([b"*"], [b"Vary: *\r\n"]),
        ([b"accept", b"origin"], [b"Vary: accept\r\n", b"Vary: origin\r\n"]),
        ([b"x-original-origin"], [b"vary: x-original-origin, origin\r\n"]),
    ],
)
@pytest.mark.parametrize("origins", [[], [LOCAL], [b"https://evil.example"]])
def test_vary_is_completed(said: list[bytes], sent: list[bytes], origins: list[bytes]) -> None:
    notes = answer(*[(b"Vary", value) for value in said])
    passing, added = NAMED.for_answer(notes, origins)
    assert b"vary" not in added
    assert passing.passed == sent


def test_any_origin_with_credentials_cannot_be_built() -> None:
    with pytest.raises(AssertionError):
        cors(any_origin=True, credentials=True)
