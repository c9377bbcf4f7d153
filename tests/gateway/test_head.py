"""Heads as bytes, without a connection."""

from __future__ import annotations

import asyncio
import sys

import pytest

from scopegate.edge import headers
from scopegate.edge.verdict import Refusal, RequestHead
from scopegate.gateway.head import HeadReader, why_never, without_empty_lines
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.section import HeaderSection
from scopegate.policy.policy import ServerLimits
from tests.gateway.rig import policy_of

FIELDS = b"Host: a.example\r\nCookie: a=b\r\n\r\n"
LIMITS = ServerLimits(head_bytes=1000, fields=5, target_bytes=100, body_bytes=1, connections=1, in_flight=1)


async def _rules() -> Ruleset:
    return Ruleset(policy_of(["http://127.0.0.1:1"]), lambda web: UpstreamPool(web, asyncio.get_running_loop()))


def _read(reader: HeadReader, rules: Ruleset, head: bytes) -> RequestHead:
    """With its fields judged, as the pipeline leaves them."""
    read = reader.read(head, rules)
    assert isinstance(read, RequestHead), read
    if reader.section is None:
        notes = headers.read_request(read.lines, read.version)
        assert isinstance(notes, headers.Noted)
        reader.keep(HeaderSection(rules, notes, read.version))
    return read


async def test_fields_that_are_repeated_are_read_once() -> None:
    reader, rules = HeadReader(), await _rules()
    first = _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS)
    known = reader.section
    again = _read(reader, rules, b"POST /b?c HTTP/1.1\r\n" + FIELDS)
    assert (again.method, again.target, again.version) == (b"POST", b"/b?c", "1.1")
    assert again.lines is first.lines
    assert reader.section is known


async def test_the_same_head_is_the_last_one_again_but_not_after_one_that_nobody_judged() -> None:
    reader, rules = HeadReader(), await _rules()
    first = _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS)
    assert _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS) is first
    other = _read(reader, rules, b"GET /b HTTP/1.1\r\n" + FIELDS)
    assert other.target == b"/b"
    assert _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS).target == b"/a"
    assert isinstance(reader.read(b"GET  /b HTTP/1.1\r\n" + FIELDS, rules), Refusal)
    assert _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS) is not first


async def test_long_heads_are_not_kept() -> None:
    reader, rules = HeadReader(), await _rules()
    head = b"GET /%b HTTP/1.1\r\n" % (b"a" * 2048) + FIELDS
    assert _read(reader, rules, head) is not _read(reader, rules, head)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\nA: %b\r\n" % (b"a" * 2048) + FIELDS,
        b"GET /a HTTP/1.1\r\nCookie: %b\r\n" % (b"a" * 2048) + FIELDS,
        b"GET /%b HTTP/1.1\r\n" % (b"a" * 90 + b"?" * 3) + b"A: %b\r\n" % (b"a" * 2048) + FIELDS,
    ],
)
async def test_an_idle_connection_holds_nothing_of_a_long_head(head: bytes) -> None:
    reader, rules = HeadReader(), await _rules()
    read = _read(reader, rules, head)
    assert reader.section is None
    assert (sys.getrefcount(read), sys.getrefcount(read.lines)) == (2, 2)  # held here and by the question


async def test_a_long_target_costs_no_knowledge_of_the_fields() -> None:
    reader, rules = HeadReader(), await _rules()
    first = _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS)
    longer = _read(reader, rules, b"GET /%b HTTP/1.1\r\n" % (b"a" * 2048) + FIELDS)
    assert longer.lines is first.lines
    assert _read(reader, rules, b"GET /b HTTP/1.1\r\n" + FIELDS).lines is first.lines


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\nHost: b.example\r\nCookie: a=b\r\n\r\n",
        b"GET /a HTTP/1.0\r\n" + FIELDS,
        b"GET http://a.example/a HTTP/1.1\r\n" + FIELDS,
    ],
)
async def test_what_differs_by_a_byte_or_is_no_plain_line_is_read_anew(head: bytes) -> None:
    reader, rules = HeadReader(), await _rules()
    first = _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS)
    assert _read(reader, rules, head).lines is not first.lines


async def test_another_ruleset_reads_them_anew() -> None:
    reader, rules, newer = HeadReader(), await _rules(), await _rules()
    first = _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS)
    second = _read(reader, newer, b"GET /a HTTP/1.1\r\n" + FIELDS)
    assert second.lines is not first.lines
    assert reader.section is not None
    assert reader.section.rules is newer


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET  /a HTTP/1.1\r\n" + FIELDS, "bad_syntax"),
        (b"GET /a HTTP/2.0\r\n" + FIELDS, "version_not_supported"),
        (b"SETUP /a RTSP/1.0\r\n" + FIELDS, "bad_syntax"),
        (b"GET /\x01 HTTP/1.1\r\n" + FIELDS, "bad_syntax"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + FIELDS, "target_too_long"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", "too_many_fields"),
        (b"CONNECT a\nb:1 HTTP/1.1\r\n" + FIELDS, "bad_syntax"),
        (b"nonsense\r\n\r\n", "bad_syntax"),
    ],
)
async def test_what_is_no_head_is_refused_and_the_next_one_is_read(head: bytes, code: str) -> None:
    reader, rules = HeadReader(), await _rules()
    refusal = reader.read(head, rules)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert refusal.close
    assert _read(reader, rules, b"GET /a HTTP/1.1\r\n" + FIELDS).target == b"/a"


@pytest.mark.parametrize("control", [*range(9), *range(10, 32), 127])
@pytest.mark.parametrize(
    "head",
    [
        *(b"%bGET /a HTTP/1.1", b"GE%bT /a HTTP/1.1", b"GET%b/a HTTP/1.1", b"GET /a%bb HTTP/1.1", b"GET /?%b HTTP/1.1"),
        *(b"GET http://a%bb/ HTTP/1.1", b"CONNECT a%bb:1 HTTP/1.1", b"GET /a %bHTTP/1.1", b"GET /a HTTP/1.1%b"),
        *(b"GET / HTTP/1.1\r\n%bA: b", b"GET / HTTP/1.1\r\nA%bb: c", b"GET / HTTP/1.1\r\nA:%bb"),
        *(b"GET / HTTP/1.1\r\nA: b%bc", b"GET / HTTP/1.1\r\nA: b%b", b"GET / HTTP/1.1\r\nA:%b"),
        *(b"GET / HTTP/1.1\r\nConnection: close%b", b"GET / HTTP/1.1\r\nUpgrade:%ba"),
        *(b"GET / HTTP/1.1\r\nContent-Length: 1%b", b"GET / HTTP/1.1\r\nTransfer-Encoding:%bchunked"),
    ],
)
async def test_a_control_character_is_in_no_head(head: bytes, control: int) -> None:
    """But for the tab. The parser sees to it; line ends at the very beginning are the connection's business."""
    if head.startswith(b"%b") and control in b"\r\n":
        return
    found = HeadReader().read(head % bytes([control]) + b"\r\n" + FIELDS, await _rules())
    assert isinstance(found, Refusal)
    assert found.code == "bad_syntax"


async def test_a_head_that_the_parser_took_for_a_body_is_read_again() -> None:
    """Nothing else may have judged it."""
    reader, rules = HeadReader(), await _rules()
    _read(reader, rules, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
    assert _read(reader, rules, b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n").target == b"/b"
    _read(reader, rules, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
    assert isinstance(reader.read(b"GET /b HTTP/1.1\r\nHost b\r\n\r\n", rules), Refusal)


async def test_a_parser_that_saw_the_end_of_a_connection_or_a_switch_is_replaced() -> None:
    reader, rules = HeadReader(), await _rules()
    for fields in (
        b"Host: a\r\nProxy-Connection: close\r\n\r\n",
        b"Host: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ):
        for target in (b"/1", b"/2"):
            read = reader.read(b"GET %b HTTP/1.1\r\n%b" % (target, fields), rules)
            assert isinstance(read, RequestHead)
            assert read.target == target


async def test_a_body_that_was_read_past_the_parser_is_forgotten() -> None:
    reader, rules = HeadReader(), await _rules()
    _read(reader, rules, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    reader.restart()
    assert _read(reader, rules, b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n").target == b"/b"


@pytest.mark.parametrize(
    ("data", "rest"),
    [(b"\r\n\r\nGET", b"GET"), (b"\r\n", b""), (b"\r", b"\r"), (b"\r\n\r", b"\r")],
)
def test_empty_lines_may_stand_before_a_head(data: bytes, rest: bytes) -> None:
    assert without_empty_lines(data) == rest


@pytest.mark.parametrize("data", [b"\n", b"\nGET", b"\r\rGET", b"\r\n\nGET"])
def test_half_a_lines_end_may_not(data: bytes) -> None:
    refused = without_empty_lines(data)
    assert isinstance(refused, Refusal)
    assert refused.code == "bad_syntax"


@pytest.mark.parametrize(
    ("data", "checked", "code"),
    [
        (b"GET /", 0, None),
        (b"GET / HTTP/1.1\r\nHost: a\r", 0, None),
        (b"GET / HTTP/1.1\r\nHost: a\n", 0, "bad_syntax"),
        (b"GET / HTTP/1.1\r\nHost: a\n", 23, "bad_syntax"),
        (b"GET / HTTP/1.1\r\n", 15, None),
        (b"GET / HTTP/1.1\r\nA", 16, None),
        (b"GET / HTTP/1.1\r\nA: \x00", 19, "bad_syntax"),
        (b"GET /" + b"a" * 135, 0, "target_too_long"),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n" + b"a" * 40, 0, None),
        (b"GET / HTTP/1.1\r\n" + b"a" * 1000, 0, "head_too_large"),
    ],
)
def test_what_can_never_become_a_head_is_known_before_its_end(data: bytes, checked: int, code: str | None) -> None:
    refused = why_never(data, checked, LIMITS)
    assert (refused.code if refused is not None else None) == code
