"""Trace context: what passes byte for byte, and what gives way to a new trace."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.headers import Noted, read_request
from scopegate.edge.lines import lines_of
from scopegate.edge.traceparent import MAX_STATE_BYTES, MAX_STATE_MEMBERS, Traces, given_trace

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
PARENT = b"00-%b-%b-01" % (TRACE, SPAN)
FRESH = re.compile(rb"traceparent: 00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00\r\n")
traces = Traces(random.Random(7).getrandbits)


def lines(*fields: tuple[bytes, bytes]) -> bytes:
    notes = read_request(lines_of(fields), "1.1")
    assert isinstance(notes, Noted)
    assert notes.passed == []
    return given_trace(notes) or traces.begin()


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        b"00-%b-%b-00" % (TRACE, SPAN),
        b"00-%b-%b-ff" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 31 + b"1", b"0" * 15 + b"1"),
        b"01-%b-%b-01" % (TRACE, SPAN),
        b"fe-%b-%b-01-what-comes-later" % (TRACE, SPAN),
        b"cc-%b-%b-01-" % (TRACE, SPAN),
    ],
)
def test_a_trace_that_came_is_passed_on_as_it_is(parent: bytes) -> None:
    assert lines((b"TraceParent", parent)) == b"traceparent: %b\r\n" % parent
    assert lines((b"traceparent", b" %b\t" % parent)) == b"traceparent: %b\r\n" % parent
    sent = lines((b"traceparent", parent), (b"tracestate", b"a=1"))
    assert sent == b"traceparent: %b\r\ntracestate: a=1\r\n" % parent


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"00",
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-01-more" % (TRACE, SPAN),
        b"00-%b-%b-01-" % (TRACE, SPAN),
        b"01-%b-%b-01more" % (TRACE, SPAN),
        b"01-%b-%b-01-%b" % (TRACE, SPAN, b"x" * 65),
        b"01-%b-%b-01-\xff" % (TRACE, SPAN),
        b"00-%b-%b-1" % (TRACE, SPAN),
        b"00-%b-%b-0g" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01" % (TRACE[:-1], SPAN),
        b"00-%b-%b-01" % (TRACE, SPAN + b"a"),
        b"00_%b_%b_01" % (TRACE, SPAN),
        b"00-%b-%b-01\n" % (TRACE, SPAN),
        b"%b, %b" % (PARENT, PARENT),
        b"0-%b-%b-01" % (TRACE, SPAN),
    ],
)
def test_a_wrong_one_gives_way_to_a_new_trace_and_takes_its_state_along(parent: bytes) -> None:
    assert FRESH.fullmatch(lines((b"traceparent", parent), (b"tracestate", b"a=1")))


def test_two_are_none() -> None:
    assert FRESH.fullmatch(lines((b"traceparent", PARENT), (b"traceparent", PARENT), (b"tracestate", b"a=1")))


def test_state_without_a_trace_is_nothing() -> None:
    assert FRESH.fullmatch(lines((b"tracestate", b"a=1")))


def test_fields_that_connection_names_end_here() -> None:
    assert FRESH.fullmatch(lines((b"Connection", b"traceparent"), (b"traceparent", PARENT)))
    sent = lines((b"Connection", b"TraceState"), (b"traceparent", PARENT), (b"tracestate", b"a=1"))
    assert sent == b"traceparent: %b\r\n" % PARENT


LONGEST = b"k=" + b"v" * 254 + b",l=" + b"v" * 253


@pytest.mark.parametrize(
    ("states", "sent"),
    [
        ([b"a=1"], b"a=1"),
        ([b" a=1\t"], b"a=1"),
        ([b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ([b"a=1 ,\tb=2"], b"a=1 ,\tb=2"),
        ([b"a=1", b"b=2"], b"a=1,b=2"),
        ([b"a=1,,b=2,"], b"a=1,,b=2,"),
        ([b"fw529a3039@dt=FfAAA*!~"], b"fw529a3039@dt=FfAAA*!~"),
        ([b"0a_-*/=x y"], b"0a_-*/=x y"),
        ([LONGEST], LONGEST),
        ([b",".join(b"k%d=v" % n for n in range(MAX_STATE_MEMBERS))], b",".join(b"k%d=v" % n for n in range(32))),
    ],
)
def test_state_passes(states: list[bytes], sent: bytes) -> None:
    fields = [(b"tracestate", state) for state in states]
    assert lines((b"traceparent", PARENT), *fields) == b"traceparent: %b\r\ntracestate: %b\r\n" % (PARENT, sent)


@pytest.mark.parametrize(
    "states",
    [
        [b""], [b","], [b"a"], [b"a="], [b"=1"], [b"A=1"], [b"a=1=2"], [b"a=\xe9"], [b"a=1\n"], [b"a=1;b=2=3"],
        [b"a=1,a=2"], [b"a=1", b"a=1"], [b"@b=1"], [b"a@=1"], [b"a@B=1"], [b"a@" + b"b" * 15 + b"=1"], [b"a=1, b"],
        [b"k" * 257 + b"=1"], [b"k=" + b"v" * 257], [LONGEST + b"v"], [b"a=" + b"1" * MAX_STATE_BYTES],
        [b",".join(b"k%d=v" % n for n in range(MAX_STATE_MEMBERS + 1))],
    ],
)  # fmt: skip
def test_state_that_is_none_is_dropped_and_the_trace_stays(states: list[bytes]) -> None:
    fields = [(b"tracestate", state) for state in states]
    assert lines((b"traceparent", PARENT), *fields) == b"traceparent: %b\r\n" % PARENT


def test_the_longest_state_is_as_long_as_promised() -> None:
    assert len(LONGEST) == MAX_STATE_BYTES == 512


def test_new_traces_differ_and_are_not_sampled() -> None:
    made = {lines() for _ in range(1000)}
    assert len(made) == 1000
    assert all(FRESH.fullmatch(each) for each in made)


@pytest.mark.parametrize("draw_bits", [lambda _: 0, lambda count: (1 << count) - 1])
def test_no_draw_makes_an_empty_id(draw_bits: Callable[[int], int]) -> None:
    made = Traces(draw_bits)
    assert all(FRESH.fullmatch(made.begin()) for _ in range(100))


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_whatever_comes_one_well_formed_field_goes(parent: bytes, state: bytes) -> None:
    notes = read_request(lines_of([(b"traceparent", parent), (b"tracestate", state)]), "1.1")
    assert isinstance(notes, Noted)
    wanted = rb"traceparent: [0-9a-f]{2}-[\x21-\x7e]{52,118}\r\n(tracestate: [\t\x20-\x7e]+\r\n)?"
    assert re.fullmatch(wanted, given_trace(notes) or traces.begin())
