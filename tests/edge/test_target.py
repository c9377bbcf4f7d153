"""Targets, hosts and methods: one rule per class of spelling, and no spelling that dodges a policy."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.routes import compile_routes
from scopegate.edge.target import METHODS, judge_host, judge_target
from scopegate.edge.verdict import Refusal, Target
from scopegate.policy.policy import BodyRule, Mode, Route, Upstream, UpstreamTimeouts

HOST = b"leads.example.com"
UPSTREAM = Upstream("web", (), UpstreamTimeouts(1, 1, 1), None)


def route(name: str, methods: frozenset[str] | None, pattern: str) -> Route:
    return Route(name, methods, pattern, None, None, BodyRule(1, frozenset()), None, Mode.ENFORCE, UPSTREAM, 1)


ROUTES = compile_routes([route("submit", frozenset({"POST"}), "/api/leads"), route("rest", None, "/**")])


def judged(raw: bytes, method: bytes = b"POST", hosts: Sequence[bytes] = (HOST,)) -> Target | Refusal:
    return judge_target(method, raw, hosts, None)


def accepted(raw: bytes) -> Target:
    target = judged(raw)
    assert isinstance(target, Target), (raw, target)
    return target


def met(target: Target) -> str:
    found = ROUTES.match(target.method, target.path)
    assert isinstance(found, Route)
    return found.name


# ── one row per spelling: what is forwarded, or the code of the refusal ─────────────────────────────────────────────

PROTECTED = [  # spellings that must meet the policy of /api/leads, with what goes to the app
    (b"/api/leads", b"/api/leads"),
    (b"/api/leads?x=1", b"/api/leads?x=1"),
    (b"/api/leads?", b"/api/leads?"),
    (b"/api/leads??", b"/api/leads??"),
    (b"/api/leads?/../x", b"/api/leads?/../x"),
    (b"/api/leads?a=%00&b=%2F%zz", b"/api/leads?a=%00&b=%2F%zz"),
    (b"/api/leads/", b"/api/leads/"),
    (b"/api/leads//", b"/api/leads/"),
    (b"/api/leads///?q", b"/api/leads/?q"),
    (b"//api/leads", b"/api/leads"),
    (b"///api///leads", b"/api/leads"),
    (b"/api//leads", b"/api/leads"),
    (b"/./api/leads", b"/api/leads"),
    (b"/api/./leads", b"/api/leads"),
    (b"/api/././leads", b"/api/leads"),
    (b"/api/leads/.", b"/api/leads/"),
    (b"/api/leads/./", b"/api/leads/"),
    (b"/api/leads/x/..", b"/api/leads/"),
    (b"/api/leads/x/../", b"/api/leads/"),
    (b"/api/leads/x/y/../..", b"/api/leads/"),
    (b"/api/x/../leads", b"/api/leads"),
    (b"/api/x/y/../../leads", b"/api/leads"),
    (b"/x/../api/leads", b"/api/leads"),
    (b"/../api/leads", b"/api/leads"),
    (b"/../../../api/leads", b"/api/leads"),
    (b"/api/../api/leads", b"/api/leads"),
    (b"/api/leads/../leads", b"/api/leads"),
    (b"/_next/../api/leads", b"/api/leads"),
    (b"/_next/static/../../api/leads", b"/api/leads"),
    (b"/public/%2e%2e/api/leads", b"/api/leads"),
    (b"/public/%2E%2E/api/leads", b"/api/leads"),
    (b"/public/.%2e/api/leads", b"/api/leads"),
    (b"/public/%2e./api/leads", b"/api/leads"),
    (b"/api/%2e/leads", b"/api/leads"),
    (b"/%2e/api/leads", b"/api/leads"),
    (b"/api/leads/%2e", b"/api/leads/"),
    (b"/api//x/../leads", b"/api/leads"),
    (b"/api//../leads", b"/api/leads"),
    (b"/%61pi/leads", b"/api/leads"),
    (b"/api/%6ceads", b"/api/leads"),
    (b"/api/%6Ceads", b"/api/leads"),
    (b"/api/lead%73", b"/api/leads"),
    (b"/%61%70%69/%6c%65%61%64%73", b"/api/leads"),
    (b"/api/%6c%65%61%64%73/", b"/api/leads/"),
    (b"/API/leads", b"/API/leads"),
    (b"/api/LEADS", b"/api/LEADS"),
    (b"/Api/Leads/", b"/Api/Leads/"),
    (b"/api/%4ceads", b"/api/Leads"),
    (b"http://leads.example.com/api/leads", b"/api/leads"),
    (b"https://leads.example.com/api/leads", b"/api/leads"),
    (b"HTTP://LEADS.EXAMPLE.COM/api/leads", b"/api/leads"),
    (b"http://leads.example.com:80/api/leads", b"/api/leads"),
    (b"https://leads.example.com:443/api/leads?q", b"/api/leads?q"),
    (b"http://leads.example.com./api/leads", b"/api/leads"),
    (b"http://leads.example.com/api/x/../%6ceads", b"/api/leads"),
    (b"http://leads.example.com//api/leads", b"/api/leads"),
]

UNTOUCHED = [  # honest paths: nothing about them changes
    b"/",
    b"/?q",
    b"/a",
    b"/a/",
    b"/a.b",
    b"/a..b",
    b"/...",
    b"/.well-known/security.txt",
    b"/..a",
    b"/a/...",
    b"/a/.b",
    b"/~user",
    b"/a-b_c",
    b"/a:b",
    b"/@modal/x",
    b"/a,b",
    b"/a=b&c",
    b"/$a'(b)*!+",
    b"/(group)/page",
    b"/_next/static/chunks/app/%5Bslug%5D/page-0a.js",
    b"/_next/image?url=%2Fa.png&w=64&q=75",
    b"/caf%C3%A9",
    b"/%E6%97%A5",
    b"/%F0%9F%98%80",
    b"/100%25",
    b"/a%20b",
    b"/a%2Bb",
    b"/a%40b",
    b"/a%3Bb",
    b"/what%3F",
    b"/a%23b",
    b"/a%2Cb",
    b"/%252e%252e/x",
    b"/%252Fx",
    b"/a%5Bx%5D",
    b"/api/leadsx",
    b"/api/lead",
    b"/api/leads/x",
    b"/api/leads/x/",
    b"/api/leads%20",
    b"/api/leads.json",
    b"/x?a=;b='\"<>\\^`{|}[]@:/?",
]

NORMALISED = [
    (b"/caf%c3%a9", b"/caf%C3%A9"),
    (b"/%7euser", b"/~user"),
    (b"/a%2d%5f%2e%7E", b"/a-_.~"),
    (b"/a%30", b"/a0"),
    (b"/[slug]", b"/%5Bslug%5D"),
    (b"/a|b", b"/a%7Cb"),
    (b"/a^b`", b"/a%5Eb%60"),
    (b'/"a"', b"/%22a%22"),
    (b"/<a>", b"/%3Ca%3E"),
    (b"/{a}", b"/%7Ba%7D"),
    (b"/a/..", b"/"),
    (b"/..", b"/"),
    (b"/.", b"/"),
    (b"/./", b"/"),
    (b"//", b"/"),
    (b"///?q", b"/?q"),
    (b"/a/b/..", b"/a/"),
    (b"/a//b/../c", b"/a/c"),
    (b"/api/x//../leads", b"/api/x/leads"),
    (b"http://leads.example.com", b"/"),
    (b"http://leads.example.com?q", b"/?q"),
    (b"https://leads.example.com/", b"/"),
]

REFUSED = [
    (b"", "bad_target"),
    (b"*", "bad_target"),
    (b"leads.example.com:443", "bad_target"),
    (b"leads.example.com", "bad_target"),
    (b"api/leads", "bad_target"),
    (b"?q", "bad_target"),
    (b"/api/leads#", "bad_target"),
    (b"/api/leads#f", "bad_target"),
    (b"/api/leads?q#f", "bad_target"),
    (b"#", "bad_target"),
    (b"http://leads.example.com/#f", "bad_target"),
    (b"/api/ leads", "bad_target"),
    (b"/api/leads ", "bad_target"),
    (b" /api/leads", "bad_target"),
    (b"/api/leads?a b", "bad_target"),
    (b"/api/\x00leads", "bad_target"),
    (b"/api/leads\x00", "bad_target"),
    (b"/api/leads?\x00", "bad_target"),
    (b"/api/\tleads", "bad_target"),
    (b"/api/leads\r", "bad_target"),
    (b"/api/leads\n", "bad_target"),
    (b"/api/leads?\n", "bad_target"),
    (b"/\n", "bad_target"),
    (b"/api/\x7fleads", "bad_target"),
    (b"/api/leads?\x7f", "bad_target"),
    (b"/caf\xc3\xa9", "bad_target"),
    (b"/caf\xe9", "bad_target"),
    (b"/?\xff", "bad_target"),
    (b"http://u@leads.example.com/api/leads", "bad_target"),
    (b"http://u:p@leads.example.com/", "bad_target"),
    (b"http://@leads.example.com/", "bad_target"),
    (b"http://leads.example.com\\@evil.example/", "bad_target"),
    (b"http://evil.example/api/leads", "bad_host"),
    (b"http://leads.example.com:8080/", "bad_host"),
    (b"http:///api/leads", "bad_host"),
    (b"http://leads.example.com\\evil/", "bad_host"),
    (b"http://leads%2Eexample.com/", "bad_host"),
    (b"ftp://leads.example.com/", "bad_target"),
    (b"ws://leads.example.com/", "bad_target"),
    (b"http:/api/leads", "bad_target"),
    (b"http:api", "bad_target"),
    (b"https:", "bad_target"),
    (b"file:///etc/passwd", "bad_target"),
    (b"/%", "bad_path"),
    (b"/%4", "bad_path"),
    (b"/%zz", "bad_path"),
    (b"/%g0", "bad_path"),
    (b"/%u0061pi/leads", "bad_path"),
    (b"/%%61pi", "bad_path"),
    (b"/api/leads%", "bad_path"),
    (b"/%c0%ae%c0%ae/x", "bad_path"),
    (b"/api%c0%afleads", "bad_path"),
    (b"/%e0%80%af", "bad_path"),
    (b"/%f0%80%80%af", "bad_path"),
    (b"/%c3", "bad_path"),
    (b"/%c3/%a9", "bad_path"),
    (b"/%a9", "bad_path"),
    (b"/%ff", "bad_path"),
    (b"/%ed%a0%80", "bad_path"),
    (b"/%f4%90%80%80", "bad_path"),
    (b"/%00", "bad_path"),
    (b"/api/leads%00", "bad_path"),
    (b"/api/leads%00.png", "bad_path"),
    (b"/api/leads%0a", "bad_path"),
    (b"/api/leads%0D%0Ax", "bad_path"),
    (b"/api/leads%09", "bad_path"),
    (b"/api/leads%7f", "bad_path"),
    (b"/api/leads%1F", "bad_path"),
    (b"/api/leads%C2%85", "bad_path"),
    (b"/api%2Fleads", "bad_path"),
    (b"/api%2fleads", "bad_path"),
    (b"/%2fapi/leads", "bad_path"),
    (b"/api/leads%2f", "bad_path"),
    (b"/x/..%2fapi/leads", "bad_path"),
    (b"/x/%2e%2e%2fapi/leads", "bad_path"),
    (b"/api\\leads", "bad_path"),
    (b"\\api\\leads", "bad_target"),
    (b"/\\evil.example", "bad_path"),
    (b"/api%5cleads", "bad_path"),
    (b"/api%5Cleads", "bad_path"),
    (b"/x\\..\\api/leads", "bad_path"),
    (b"/x/..\\api/leads", "bad_path"),
    (b"/api/leads;", "bad_path"),
    (b"/api/leads;x", "bad_path"),
    (b"/api/leads;x=1", "bad_path"),
    (b"/api;x/leads", "bad_path"),
    (b"/;/api/leads", "bad_path"),
    (b"/x/..;/api/leads", "bad_path"),
    (b"/api/;/leads", "bad_path"),
    (b"/.;/api/leads", "bad_path"),
]


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(PROTECTED) + len(UNTOUCHED) + len(NORMALISED) + len(REFUSED) >= 150


@pytest.mark.parametrize(("raw", "forwarded"), PROTECTED)
def test_every_spelling_of_the_protected_route_meets_its_policy(raw: bytes, forwarded: bytes) -> None:
    target = accepted(raw)
    assert target.raw == forwarded
    assert met(target) == "submit"


@pytest.mark.parametrize("raw", UNTOUCHED)
def test_an_honest_target_is_forwarded_as_it_is(raw: bytes) -> None:
    target = accepted(raw)
    assert target.raw == raw
    assert target.path == raw.partition(b"?")[0].decode()
    assert met(target) == "rest"


@pytest.mark.parametrize(("raw", "forwarded"), NORMALISED)
def test_other_spellings_are_normalised(raw: bytes, forwarded: bytes) -> None:
    assert accepted(raw).raw == forwarded


@pytest.mark.parametrize(("raw", "code"), REFUSED)
def test_what_is_ambiguous_is_refused_and_the_connection_closed(raw: bytes, code: str) -> None:
    refusal = judged(raw)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.close) == (400, code, True)


def test_every_control_and_every_byte_beyond_ascii_is_refused_raw_and_escaped() -> None:
    for byte in (*range(0x21), *range(0x7F, 0x100)):
        for raw in (b"/a%cb", b"/a?%cb"):
            assert isinstance(judged(raw % byte), Refusal), byte
    for byte in (*range(0x20), 0x7F, *range(0x80, 0x100)):
        assert isinstance(judged(b"/a%%%02x" % byte), Refusal), byte


# ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────────

SLASHES_AND_DOTS = ["/", "//", ".", "..", "%2e", "%2E", "%2F", "%5c", "\\", ";", "%3B", "?", "#", "*", "@", "%40"]
TEXT = ["a", "%61", "%41", "api", "leads", "%25", "%C3%A9", "%c3", "%00", "[", "|", "%7e", " "]
PIECES = [*SLASHES_AND_DOTS, *TEXT, "http://leads.example.com"]
targets = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: ("/" + "".join(pieces)).encode())


@given(st.one_of(targets, st.binary(max_size=40), st.binary(max_size=40).map(lambda tail: b"/" + tail)))
def test_judging_is_idempotent_and_what_passes_is_canonical(raw: bytes) -> None:
    target = judged(raw)
    if isinstance(target, Refusal):
        return
    assert judged(target.raw, hosts=[target.host.encode()]) == target
    assert re.fullmatch(r"/(?:[\w.~!$&'()*+,=:@/-]|%[0-9A-F]{2})*", target.path, re.ASCII)
    assert "//" not in target.path
    assert not {".", ".."} & set(target.path.split("/"))
    assert target.raw.partition(b"?")[0] == target.path.encode()
    unquote_to_bytes(target.path).decode("utf-8")


@given(st.lists(st.sampled_from(["", ".", "..", "a", "%2e", "%2E%2e", ".%2e", "b.c", "%61"]), min_size=1, max_size=10))
def test_dot_segments_go_as_rfc_3986_says(segments: list[str]) -> None:
    assert accepted(("/" + "/".join(segments)).encode()).path == re.sub("/+", "/", rfc_3986_normal("/".join(segments)))


def rfc_3986_normal(path: str) -> str:
    """Section 5.2.4 to the letter, after the letters are decoded (6.2.2.2)."""
    given_ = "/" + re.sub("%2e", ".", path, flags=re.I).replace("%61", "a")
    output = ""
    while given_:
        if given_.startswith("/./") or given_ == "/.":
            given_ = "/" + given_[3:]
        elif given_.startswith("/../") or given_ == "/..":
            given_ = "/" + given_[4:]
            output = output.rpartition("/")[0]
        else:
            segment = re.match("/?[^/]*", given_)
            assert segment is not None
            output += segment[0]
            given_ = given_[segment.end() :]
    return output


def served_by_a_lenient_app(forwarded: bytes) -> str:
    """The most forgiving reading we know of: decodes first, ignores case, repeated and trailing slashes, `;x`."""
    path = unquote_to_bytes(forwarded.partition(b"?")[0]).decode("utf-8", "replace").replace("\\", "/").lower()
    return "/" + "/".join(part.partition(";")[0] for part in path.split("/") if part)


def test_fifty_thousand_spellings_of_the_protected_route_and_no_dodge() -> None:
    seed = 20260101
    picks = random.Random(seed)
    seen = {"submit": 0, "rest": 0, "refused": 0}
    for _ in range(50_000):
        raw = spelt(picks)
        target = judged(raw)
        if isinstance(target, Refusal):
            seen["refused"] += 1
            continue
        name = met(target)
        seen[name] += 1
        if served_by_a_lenient_app(target.raw) == "/api/leads":
            assert name == "submit", (seed, raw, target)
        if spelling_is_plain(raw):
            assert name == "submit", (seed, raw, target)
    assert seen["submit"] > 10_000, seen
    assert seen["refused"] > 1_000, seen


def spelling_is_plain(raw: bytes) -> bool:
    """Whether the RFC 3986 normal form of a spelling is the protected route itself."""
    path = raw.partition(b"?")[0].decode()
    if re.search(r"%(?!2e|[46][0-9a-f]|[57][0-9a]|61)|[;\\]", path, re.I) or path.startswith("http"):
        return False
    letters = re.sub("%([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), path, flags=re.I)
    return rfc_3986_normal(letters[1:]) == "/api/leads"


def spelt(picks: random.Random) -> bytes:
    """One generated spelling: detours, doubled slashes, escapes, capitals, and now and then something unlawful."""
    parts: list[str] = []
    for segment in ("api", "leads"):
        for _ in range(picks.choice((0, 0, 0, 1, 2))):
            parts += picks.choice(([".."], ["."], ["%2e"], ["x", ".."], ["x", "%2E."], ["x", "y", "..", ".%2e"], [""]))
        parts.append("".join(letter_spelt(picks, letter) for letter in segment))
    parts += picks.choice(([], [], [], [""], ["."], ["x", ".."], [";x"], ["", ""]))
    slash = picks.choice(("/",) * 12 + ("\\", "%2f", "%5C", ";/"))
    return ("/" + slash.join(parts) + picks.choice(("", "", "?", "?a=/../b"))).encode()


def letter_spelt(picks: random.Random, letter: str) -> str:
    spelling = picks.choice(("plain",) * 12 + ("escape", "ESCAPE", "capital"))
    if spelling == "plain":
        return letter
    if spelling == "capital":
        return letter.upper()
    return f"%{ord(letter):02X}" if spelling == "ESCAPE" else f"%{ord(letter):02x}"


# ── method and host ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", sorted(METHODS))
def test_registered_methods_pass(method: str) -> None:
    target = judged(b"/", method.encode())
    assert isinstance(target, Target)
    assert target.method == method


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        (b"CONNECT", 501, "method_not_implemented"),
        (b"TRACE", 501, "method_not_implemented"),
        (b"PRI", 501, "method_not_implemented"),
        (b"PURGE", 501, "method_not_implemented"),
        (b"get", 501, "method_not_implemented"),
        (b"Post", 501, "method_not_implemented"),
        (b"A" * 24, 501, "method_not_implemented"),
        (b"A" * 25, 400, "bad_method"),
        (b"", 400, "bad_method"),
        (b"GE T", 400, "bad_method"),
        (b"GET\n", 400, "bad_method"),
        (b"G\xc3\x89T", 400, "bad_method"),
        (b"GET/", 400, "bad_method"),
    ],
)
def test_other_methods_are_refused(method: bytes, status: int, code: str) -> None:
    refusal = judged(b"/", method)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)


@pytest.mark.parametrize(
    ("field", "host"),
    [
        (b"leads.example.com", "leads.example.com"),
        (b"LEADS.Example.Com", "leads.example.com"),
        (b" leads.example.com\t", "leads.example.com"),
        (b"leads.example.com.", "leads.example.com"),
        (b"leads.example.com.:80", "leads.example.com"),
        (b"leads.example.com:", "leads.example.com"),
        (b"leads.example.com:80", "leads.example.com"),
        (b"leads.example.com:443", "leads.example.com"),
        (b"leads.example.com:0080", "leads.example.com"),
        (b"leads.example.com:8080", "leads.example.com:8080"),
        (b"leads.example.com:65535", "leads.example.com:65535"),
        (b"localhost", "localhost"),
        (b"my_app:3000", "my_app:3000"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"a-b.c", "a-b.c"),
        (b"127.0.0.1", "127.0.0.1"),
        (b"127.0.0.1:8080", "127.0.0.1:8080"),
        (b"1.2.3.example", "1.2.3.example"),
        (b"[::1]", "[::1]"),
        (b"[::1]:8080", "[::1]:8080"),
        (b"[2001:DB8:0:0::1]:443", "[2001:db8::1]"),
        (b"[::ffff:1.2.3.4]", "[::ffff:102:304]"),
        (b"a" * 63 + b".b", "a" * 63 + ".b"),
    ],
)
def test_a_host_has_one_canonical_form(field: bytes, host: str) -> None:
    canonical = judge_host(field)
    assert canonical is not None
    assert canonical.replace("[::ffff:1.2.3.4]", "[::ffff:102:304]") == host  # newer Pythons write the dotted form
    assert judge_host(canonical.encode()) == canonical


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b" ",
        b".",
        b":80",
        b"a..b",
        b".a",
        b"-a",
        b"a-",
        b"a b",
        b"a,b",
        b"a/b",
        b"a@b",
        b"u:p@a",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a%2eb",
        b"a\x00",
        b"a\r\nx: y",
        b"caf\xc3\xa9",
        b"*",
        b"*.example.com",
        b"a:0",
        b"a:65536",
        b"a:99999",
        b"a:123456",
        b"a:+80",
        b"a:8 0",
        b"a:80:80",
        b"a:x",
        b"127.1",
        b"2130706433",
        b"0x7f.0.0.1",
        b"0x7f000001",
        b"0177.0.0.1",
        b"256.0.0.1",
        b"1.2.3.4.5",
        b"a.1",
        b"a.0x1",
        b"::1",
        b"[::1",
        b"::1]",
        b"[]",
        b"[::g]",
        b"[::1]x",
        b"[::1%25eth0]",
        b"[::1%eth0]",
        b"[v1.x]",
        b"[127.0.0.1]",
        b"[::1]:0",
        b"a" * 64,
        b"a." * 127 + b"aa",
        b"x" * 100_000,
    ],
)
def test_a_host_that_is_none_is_refused(field: bytes) -> None:
    refusal = judged(b"/", hosts=[field])
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.close) == (400, "bad_host", True)


@pytest.mark.parametrize("hosts", [[], [HOST, HOST], [HOST, b"evil.example"]])
def test_exactly_one_host_field(hosts: list[bytes]) -> None:
    refusal = judged(b"/", hosts=hosts)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "bad_host")


@pytest.mark.parametrize(
    ("field", "serves"),
    [
        (HOST, True),
        (b"LEADS.example.com.:443", True),
        (b"[::1]:9000", True),
        (b"leads.example.com:8080", False),
        (b"evil.example", False),
        (b"leads.example.com.evil.example", False),
        (b"[::1]", False),
    ],
)
def test_only_the_hosts_of_the_policy_are_served(field: bytes, serves: bool) -> None:
    served = frozenset({"leads.example.com", "[::1]:9000"})
    target = judge_target(b"GET", b"/", [field], served)
    if serves:
        assert isinstance(target, Target)
    else:
        assert isinstance(target, Refusal)
        assert (target.status, target.code) == (421, "misdirected_request")
    assert isinstance(judge_target(b"GET", b"/", [field], None), Target)


def test_an_absolute_target_cannot_reach_a_host_that_is_not_served() -> None:
    served = frozenset({"leads.example.com"})
    refusal = judge_target(b"GET", b"http://evil.example/", [b"evil.example"], served)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 421


def test_refusals_never_repeat_the_client() -> None:
    for raw, _ in REFUSED:
        refusal = judged(raw)
        assert isinstance(refusal, Refusal)
        assert b"evil" not in refusal.detail.encode()
        assert not refusal.fields


def test_a_long_target_is_judged_like_a_short_one() -> None:
    long = b"/" + b"a" * 5000
    assert accepted(long).raw == long
    assert accepted(long + b"/../../api/leads").raw == b"/api/leads"
    assert isinstance(judged(long + b"%2f"), Refusal)
