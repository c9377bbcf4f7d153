from __future__ import annotations

import pytest

from scopegate.caching.key import KeyMaker, is_preview
from scopegate.edge.public_host import PublicHost
from scopegate.edge.verdict import Target
from scopegate.policy.policy import CacheKey
from tests.caching.kept import said


def target(raw: str, host: str = "a.example") -> Target:
    return Target("GET", raw.partition("?")[0], raw.encode(), host)


def key(raw: str = "/x", request: str = "", rule: CacheKey | None = None, public: PublicHost | None = None) -> bytes:
    maker = KeyMaker(rule or CacheKey())
    return maker.key(b"http", maker.target(target(raw)), public, said(request))


@pytest.mark.parametrize(
    ("query", "raw", "sent"),
    [
        (None, "/x?b=1&a=2", "/x?b=1&a=2"),
        (frozenset(), "/x?b=1&a=2", "/x"),
        (frozenset(), "/x?", "/x"),
        (frozenset({"a"}), "/x?b=1&a=2&c", "/x?a=2"),
        (frozenset({"a", "b"}), "/x?b=1&a=2&a=1", "/x?a=2&a=1&b=1"),
        (frozenset({"a"}), "/x?%61=2&A=3", "/x?%61=2"),
    ],
)
def test_what_does_not_count_is_not_asked_of_the_app(query: frozenset[str] | None, raw: str, sent: str) -> None:
    assert KeyMaker(CacheKey(query)).target(target(raw)).raw == sent.encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"raw": "/y"}),
        ({}, {"raw": "/x?a"}),
        ({}, {"public": PublicHost("b.example", b"")}),
        ({}, {"public": PublicHost("a.example", b"8443")}),
        ({}, {"request": "RSC: 1"}),
        ({}, {"request": "Next-Router-Prefetch: 1"}),
        ({"request": "RSC: 1"}, {"request": "Next-Url: 1"}),
        ({"request": "RSC: 1\nNext-Url: /a"}, {"request": "RSC: 1"}),
    ],
)
def test_keys_that_differ(one: dict[str, str], other: dict[str, str]) -> None:
    assert key(**one) != key(**other)  # type: ignore[arg-type]


def test_scheme_and_host_count() -> None:
    maker, nothing = KeyMaker(CacheKey()), said("")
    places = [(scheme, target("/x", host)) for scheme in (b"http", b"https") for host in ("a", "b")]
    assert len({maker.key(scheme, where, None, nothing) for scheme, where in places}) == 4


def test_other_fields_and_cookies_do_not() -> None:
    assert key() == key(request="User-Agent: x\nCookie: a=1\nX-Other: 2")


def test_named_cookies_do() -> None:
    rule = CacheKey(cookies=("lang",))
    assert key(request="cookie: lang=de; id=1", rule=rule) == key(request="cookie: id=2; lang=de", rule=rule)
    assert key(request="cookie: lang=de", rule=rule) != key(request="cookie: lang=en", rule=rule)
    assert key(request="cookie: lang=de", rule=rule) != key(request="cookie: lang=de; lang=en", rule=rule)
    maker = KeyMaker(rule)
    assert maker.covers_cookies(said("cookie: lang=de"))
    assert not maker.covers_cookies(said("cookie: lang=de; id=1"))


@pytest.mark.parametrize(
    ("languages", "counts", "does_not"),
    [
        (("/",), ["/", "/?a=1"], ["/x", "/de"]),
        (("/shop",), ["/shop"], ["/", "/shop/x"]),
        (("/shop", "/a/**"), ["/shop", "/a/", "/a/b"], ["/", "/ab"]),
        (("/**",), ["/", "/x"], []),
        ((), [], ["/"]),
    ],
)
def test_where_languages_count(languages: tuple[str, ...], counts: list[str], does_not: list[str]) -> None:
    asked = ["", "accept-language: de", "accept-language: en", "cookie: NEXT_LOCALE=de", "cookie: NEXT_LOCALE=en"]
    for rule in (CacheKey(languages=languages), CacheKey(headers=(), languages=languages)):
        for path in counts:
            assert len({key(path, request, rule) for request in asked}) == len(asked)
            spelt = [key(path, f"accept-language: {value}", rule) for value in ("de, en;q=0.5", "en;q=0.5,DE")]
            assert spelt[0] == spelt[1]
        for path in does_not:
            assert len({key(path, request, rule) for request in asked}) == 1


def test_a_value_cannot_write_another_key() -> None:
    rule = CacheKey(headers=("a", "b"))
    assert key(request="a: 1\nb: 2", rule=rule) != key(request="a: 1b=2", rule=rule)


@pytest.mark.parametrize(
    ("cookie", "found"), [("__prerender_bypass=x", True), ("a=1; __next_preview_data=y", True), ("a=1", False)]
)
def test_a_draft_is_seen(cookie: str, found: bool) -> None:
    assert is_preview([cookie.encode()]) is found
