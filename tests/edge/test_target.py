"""Targets, hosts and methods: what nobody can read is refused, and everything else goes on byte for byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.target import METHODS, judge_host, judge_target
from scopegate.edge.verdict import Refusal, Target

HOST = b"leads.example.com"


def judged(raw: bytes, method: bytes = b"POST", hosts: Sequence[bytes] = (HOST,)) -> Target | Refusal:
    return judge_target(method, raw, hosts, None)


def accepted(raw: bytes) -> Target:
    target = judged(raw)
    assert isinstance(target, Target), (raw, target)
    return target


# ── one row per spelling: what is forwarded, or the code of the refusal ─────────────────────────────────────────────

ORIGIN_FORM = [  # absolute-form, and what goes to the app of it
    (b"http://leads.example.com/api/leads", b"/api/leads"),
    (b"https://leads.example.com/api/leads", b"/api/leads"),
    (b"HTTP://LEADS.EXAMPLE.COM/api/leads", b"/api/leads"),
    (b"http://leads.example.com:80/api/leads", b"/api/leads"),
    (b"https://leads.example.com:443/api/leads?q", b"/api/leads?q"),
    (b"http://leads.example.com./api/leads", b"/api/leads"),
    (b"http://leads.example.com/api/x/../%6ceads", b"/api/x/../%6ceads"),
    (b"http://leads.example.com//api/leads", b"//api/leads"),
    (b"http://leads.example.com", b"/"),
    (b"http://leads.example.com?q", b"/?q"),
    (b"https://leads.example.com/", b"/"),
]

UNTOUCHED = [  # what may be read in more ways than one is for the routes to judge: nothing changes here
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
    b"/api/leads?",
    b"/api/leads??",
    b"/api/leads?/../x",
    b"/api/leads?a=%00&b=%2F%zz",
    b"/api/leads//",
    b"//api/leads",
    b"///?q",
    b"/api/./leads",
    b"/public/%2e%2E/api/leads",
    b"/../../../api/leads",
    b"/%61pi/%6Ceads",
    b"/API/leads/",
    b"/caf%c3%a9",
    b"/%7euser",
    b"/[slug]",
    b"/a|b",
    b"/a^b`",
    b'/"a"',
    b"/<a>",
    b"/{a}",
    b"/api%2Fleads",
    b"/x/..%2fapi/leads",
    b"/api\\leads",
    b"/\\evil.example",
    b"/x/..%5Capi/leads",
    b"/list;page=2",
    b"/x/..;/api/leads",
    b"/api/leads%00.png",
    b"/api/leads%0D%0Ax",
    b"/api/leads%C2%85",
    b"/a" + b"%2F" * 2000,
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
    (b"\\api\\leads", "bad_target"),
]


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(ORIGIN_FORM) + len(UNTOUCHED) + len(REFUSED) >= 140


@pytest.mark.parametrize(("raw", "forwarded"), ORIGIN_FORM)
def test_an_absolute_target_is_forwarded_from_its_path_on(raw: bytes, forwarded: bytes) -> None:
    assert accepted(raw).raw == forwarded


@pytest.mark.parametrize("raw", UNTOUCHED, ids=lambda raw: raw[:40].decode())
def test_a_target_is_forwarded_byte_for_byte(raw: bytes) -> None:
    target = accepted(raw)
    assert target.raw == raw
    assert target.path == raw.partition(b"?")[0].decode()


@pytest.mark.parametrize(("raw", "code"), REFUSED)
def test_what_nobody_can_read_is_refused_and_the_connection_closed(raw: bytes, code: str) -> None:
    refusal = judged(raw)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.close) == (400, code, True)


def test_every_control_and_every_byte_beyond_ascii_is_refused() -> None:
    for byte in (*range(0x21), *range(0x7F, 0x100)):
        for raw in (b"/a%cb", b"/a?%cb"):
            assert isinstance(judged(raw % byte), Refusal), byte
    for byte in range(0x80, 0x100):
        assert isinstance(judged(b"/a%%%02x" % byte), Refusal), byte


PIECES = [
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2F",
    "%5c",
    "\\",
    ";",
    "?",
    "#",
    "@",
    "a",
    "%61",
    "%25",
    "%",
    "%C3%A9",
    "%c3",
    " ",
]
targets = st.lists(st.sampled_from([*PIECES, "http://leads.example.com"]), max_size=12)


@given(st.one_of(targets.map(lambda pieces: ("/" + "".join(pieces)).encode()), st.binary(max_size=40)))
def test_judging_is_idempotent_and_what_passes_is_as_it_was_sent(raw: bytes) -> None:
    target = judged(raw)
    if isinstance(target, Refusal):
        return
    again = judged(target.raw, hosts=[target.host.encode()])
    assert isinstance(again, Target)
    assert (again.method, again.path, again.raw, again.host) == (target.method, target.path, target.raw, target.host)
    assert raw == target.raw or raw.lower().startswith(b"http")
    assert re.fullmatch(r"/(?:[!\"$&->@-~]|%[0-9A-Fa-f]{2})*", target.path)
    assert target.raw.partition(b"?")[0] == target.path.encode()
    unquote_to_bytes(target.path).decode("utf-8")


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
    assert accepted(long + b"/../api/%6ceads").raw == long + b"/../api/%6ceads"
    assert isinstance(judged(long + b"%2"), Refusal)
