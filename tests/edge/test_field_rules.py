"""What becomes of a field by its name alone, in whatever spelling."""

from __future__ import annotations

import pytest

from scopegate.edge.field_rules import (
    CUT,
    NOTE,
    NOTE_AND_CUT,
    PASS,
    REQUEST_RULES,
    RESPONSE_RULES,
    Rules,
    request_rules,
)
from scopegate.edge.headers import Noted, read_request, read_response
from scopegate.edge.lines import lines_of


def request(*fields: tuple[bytes, bytes]) -> Noted:
    notes = read_request(lines_of(fields), "1.1")
    assert isinstance(notes, Noted)
    return notes


FORGED = [
    b"CF-Connecting-IP", b"Fastly-Client-IP", b"Fly-Client-IP", b"X-Envoy-External-Address", b"X-Azure-ClientIP",
    b"X-AppEngine-User-IP", b"X-Forwarded-Client-Cert",
    b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port",
    b"X-Forwarded-Server", b"X-Forwarded-Scheme", b"X-Forwarded-Ssl", b"X-Forwarded-Prefix", b"X-Forwarded-User",
    b"X-Forwarded-Email", b"X-Forwarded", b"Forwarded-For", b"X-Original-Forwarded-For", b"X-Real-IP",
    b"X-Client-IP", b"X-Cluster-Client-IP", b"True-Client-IP", b"X-Original-URL", b"X-Rewrite-URL", b"X-Original-Host",
    b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Request-Id", b"Via", b"Expect",
    b"X-Scopegate-User", b"X-Scopegate-Claims", b"X-Scopegate-Anything", b"X-Middleware-Subrequest",
    b"x-middleware-rewrite", b"X-Middleware-Next", b"X-NextJS-Redirect", b"X-Invoke-Path",
    b"X-Matched-Path", b"X-Now-Route-Matches", b"X-Prerender-Revalidate", b"X-Isr-Anything", b"X-Vercel-Id",
    b"X-Next-Resume-State-Length", b"Next-Resume", b"X-Action-Forwarded", b"X-Action-Redirect", b"X-Action-Revalidated",
    b"X-Next-Revalidated-Tags", b"X-Next-Revalidate-Tag-Token", b"X-Next-Cache-Tags", b"X-Next-Cache-Soft-Tags",
    b"X-Nextjs-Rewritten-Path", b"X-Invocation-Id",
    b"Client-IP", b"Proxy-Client-IP", b"WL-Proxy-Client-IP", b"WL-Proxy-SSL", b"X-True-Client-IP", b"Incap-Client-IP",
    b"X-ProxyUser-Ip", b"X-Host", b"X-HTTP-Host-Override", b"X-Override-URL", b"X-Original-URI", b"X-Original-Method",
    b"X-Scheme", b"X-Url-Scheme", b"Front-End-Https", b"X-ARR-SSL", b"X-Client-Cert", b"Client-Cert",
    b"Client-Cert-Chain", b"SSL-Client-S-DN", b"SSL-Client-Verify", b"X-SSL-Client-S-DN", b"X-SSL-Client-Verify",
    b"Remote-User", b"X-Remote-User", b"Proxy",
]  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("spelt", [bytes, bytes.lower, bytes.upper, lambda name: name.replace(b"-", b"_")])
def test_no_client_speaks_in_the_gateways_or_the_frameworks_name(name: bytes, spelt: object) -> None:
    assert callable(spelt)
    value = b"100-continue" if name == b"Expect" else b"forged"
    given = [(b"X-Kept", b"1"), (spelt(name), value), (spelt(name), value)][: 2 if name == b"Expect" else 3]
    assert request(*given).passed == [b"X-Kept: 1\r\n"]


def test_names_that_only_look_alike_are_kept() -> None:
    names = [
        b"X-Forward",
        b"X-Realm",
        b"X-Scope",
        b"Viable",
        b"X_Custom",
        b"X-Requested-With",
        b"Content_Language",
        b"Te-x",
        b"X-Hostess",
        b"X-Clients",
        b"X-Actions",
        b"Next",
        b"SSL-Clients",
    ]
    assert request(*[(name, b"1") for name in names]).passed == [name + b": 1\r\n" for name in names]


def test_what_next_js_has_browsers_send_is_kept() -> None:
    """All that its client code writes (version 16): of the app router, and of the pages router."""
    app = b"Next-Action RSC Next-Router-State-Tree Next-Router-Prefetch Next-Router-Segment-Prefetch Next-Url".split()
    pages = b"x-nextjs-data X-Nextjs-Data x-middleware-prefetch purpose".split()
    in_development = b"Next-HMR-Refresh X-Nextjs-Request-Id x-nextjs-html-request-id".split()
    names = [*app, *pages, *in_development]
    assert request(*[(name, b"1") for name in names]).passed == [name + b": 1\r\n" for name in names]
    assert request(*[(name.replace(b"-", b"_"), b"1") for name in (*pages[:3], *in_development[1:])]).passed == []


@pytest.mark.parametrize(
    "name", [b"Content_Type", b"CONTENT_TYPE", b"content.type", b"Content_Encoding", b"Content!Type"]
)
def test_what_is_judged_goes_on_in_its_own_spelling_alone(name: bytes) -> None:
    for fields in ([(name, b"text/html")], [(b"Content-Type", b"text/plain"), (name, b"text/html")]):
        notes = request(*fields)
        assert notes.passed == [b"%b: %b\r\n" % field for field in fields[:-1]]
        assert list(notes.get(b"content-type")) == [value for _, value in fields[:-1]]
    assert read_response([(name, b"x")], 200, "GET").passed == [name + b": x\r\n"]


@pytest.mark.parametrize("name", [b"Content_Length", b"Transfer_Encoding", b"content.length", b"Host_", b"X.Real.IP"])
def test_names_that_a_cgi_reads_as_framing_or_address_are_cut(name: bytes) -> None:
    kept = [(name + b": 5\r\n")] if name == b"Host_" else []
    notes = request((name, b"5"))
    assert (notes.passed, notes.length) == (kept, 0)


RULES = Rules(
    noted=[b"date"],
    cut=[b"server"],
    both=[b"content-length"],
    inner=(b"x-inner-",),
    judged=frozenset([b"cookie"]),
    passed=[b"x-inner-but"],
)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (b"DATE", (NOTE, b"date")),
        (b"SERVER", (CUT, b"server")),
        (b"s!erver", (PASS, b"")),
        (b"Content_LENGTH", (CUT, b"content_length")),
        (b"X_Inner_A", (CUT, b"x_inner_a")),
        (b"x-inner-A", (CUT, b"x-inner-a")),
        (b"X-INNER-BUT", (PASS, b"")),
        (b"x-innermost", (PASS, b"")),
        (b"COOKIE", (CUT, b"cookie")),
        (b"X-Other", (PASS, b"")),
    ],
)
def test_a_rule_holds_in_every_spelling(name: bytes, rule: tuple[int, bytes]) -> None:
    assert RULES.of(name) == rule


@pytest.mark.parametrize("rules", [REQUEST_RULES, RESPONSE_RULES])
@pytest.mark.parametrize("name", [b"Connection", b"Transfer-Encoding", b"Upgrade", b"Accept-Encoding", b"Set-Cookie"])
def test_the_usual_spellings_are_known_beforehand(rules: Rules, name: bytes) -> None:
    assert rules.known.get(name) == rules.known.get(name.lower()) == rules.of(name)


def test_what_is_counted_by_goes_on_in_its_own_spelling_alone() -> None:
    rules = request_rules({b"x-client", b"x_odd", b"x-real-ip"})
    verdicts = {
        name: rules.of(name)[0]
        for name in (
            *(b"x-client", b"X-Client", b"X_Client", b"x.client", b"x_odd", b"X-Odd"),
            *(b"x-real-ip", b"content_type", b"x-else", b"x_else"),
        )
    }
    assert verdicts == {
        b"x-client": PASS, b"X-Client": PASS, b"X_Client": CUT, b"x.client": CUT, b"x_odd": PASS, b"X-Odd": CUT,
        b"x-real-ip": NOTE_AND_CUT, b"content_type": CUT, b"x-else": PASS, b"x_else": PASS,
    }  # fmt: skip
