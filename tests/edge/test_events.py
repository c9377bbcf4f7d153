"""Events measured in passing: the same at every split, whatever ends their lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.events import EventMeter

LIMIT = 20


def keeps_to_it(*parts: bytes) -> bool:
    meter = EventMeter(LIMIT)
    return all(meter.feed(part) for part in parts)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_ends_with_a_blank_line(end: bytes) -> None:
    event = b"data: 12345" + end + end
    assert keeps_to_it(event * 50)
    assert keeps_to_it(*[event[:7], event[7:]] * 50)
    long = b"data: " + b"x" * (LIMIT - 6) + end + end
    assert not keeps_to_it(event * 3 + long)
    assert not keeps_to_it(*[bytes([byte]) for byte in event * 3 + long])


def test_lines_alone_do_not_end_an_event() -> None:
    assert not keeps_to_it(b"data: 1\r\n" * 3)
    assert not keeps_to_it(b"data: 1\n", b"data: 2\n", b"data: 3\n")


def test_comments_count_too() -> None:
    assert keeps_to_it(b":" + b"x" * 18)
    assert not keeps_to_it(b":" + b"x" * 20)


def measured(data: bytes) -> bool:
    """One byte after the other, by the words of the rule."""
    size = 0
    for index, byte in enumerate(data):
        size += 1
        if size > LIMIT:
            return False
        before = data[index - 1 : index] if index else b""
        if (before == b"\n" and byte in b"\r\n") or (before == b"\r" and byte == 13):
            size = 0
    return True


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"12345678"]), max_size=25),
    st.lists(st.integers(0, 120), max_size=6),
)
def test_the_verdict_does_not_depend_on_the_split(made: list[bytes], cuts: list[int]) -> None:
    data = b"".join(made)
    at = sorted({cut for cut in cuts if cut < len(data)})
    assert keeps_to_it(*[data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]) == measured(data)
