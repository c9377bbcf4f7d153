"""Bodies end where RFC 9112 says, at every split of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.framing import LAST_CHUNK, BodyReader, ChunkedBody, EofBody, FramingError, LengthBody, as_chunk


def read(reader: BodyReader, *parts: bytes) -> tuple[bytes, bool, bytes]:
    payload = b""
    for i, part in enumerate(parts):
        payload += reader.feed(part)
        if reader.done:
            return payload, True, reader.left_over + b"".join(parts[i + 1 :])
    return payload, reader.done, reader.left_over


GOOD = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"A\r\n0123456789\r\n1\r\n!\r\n000\r\n\r\n", b"0123456789!"),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (b"3\r\nabc\r\n0\r\nx-forwarded-for: 1.2.3.4\r\n\r\n", b"abc"),
    (b"0\r\nHost: evil\r\nContent-Length: 5\r\nX:\r\n\r\n", b""),
    (b"0\r\nX: " + b"y" * 4093 + b"\r\n\r\n", b""),
]

BAD = [
    b"\r\nabc",
    b"3;x=y\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"3_0\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"g\r\n",
    b"0\r\nx-forwarded-for\r\n\r\n",
    b"0\r\nHost : evil\r\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX: y\r\n z\r\n\r\n",
    b"0\r\nX: y\n\r\n\r\n",
    b"0\r\nX: y\rz\r\n\r\n",
    b"0\r\nX: \0\r\n\r\n",
    b"0\r\n: y\r\n\r\n",
    b"0\r\n\rX: y\r\n\r\n",
    b"0\r\n\nX: y\r\n\r\n",
    b"0\r\nX: " + b"y" * 4094 + b"\r\n\r\n",
    b"0\r\n" + b"X: y\r\n" * 700 + b"\r\n",
    b"1000000000000000\r\n",
    b"3\r\rabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize(("raw", "payload"), GOOD)
def test_chunked_bodies_end_at_the_last_chunk_at_every_split(raw: bytes, payload: bytes) -> None:
    whole = raw + b"GET / next"
    for cut in range(len(raw) + 1):
        assert read(ChunkedBody(), whole[:cut], whole[cut:]) == (payload, True, b"GET / next")
    assert read(ChunkedBody(), *(whole[i : i + 1] for i in range(len(whole)))) == (payload, True, b"GET / next")


@pytest.mark.parametrize("raw", BAD)
def test_chunked_ambiguity_is_refused_at_every_split(raw: bytes) -> None:
    for cut in range(1, len(raw) + 1):
        with pytest.raises(FramingError):
            read(ChunkedBody(), raw[:cut], raw[cut:] + b"\r\n0\r\n\r\n")


def test_an_endless_trailer_is_refused_before_it_ends() -> None:
    for endless in (b"x", b"x: y\r\n"):
        reader = ChunkedBody()
        reader.feed(b"0\r\n")
        with pytest.raises(FramingError):
            for _ in range(5000):
                reader.feed(endless)


def test_an_endless_size_line_is_refused_before_it_ends() -> None:
    reader = ChunkedBody()
    with pytest.raises(FramingError):
        for _ in range(20):
            reader.feed(b"0")


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.integers(0, 2000))
def test_what_is_chunked_is_read_back(parts: list[bytes], cut: int) -> None:
    raw = b"".join(as_chunk(part) for part in parts) + LAST_CHUNK
    cut %= len(raw) + 1
    assert read(ChunkedBody(), raw[:cut], raw[cut:] + b"rest") == (b"".join(parts), True, b"rest")


def test_a_counted_body_leaves_the_next_message_alone() -> None:
    assert read(LengthBody(5), b"ab", b"cdeGET") == (b"abcde", True, b"GET")
    assert read(LengthBody(5), b"abcde") == (b"abcde", True, b"")
    assert LengthBody(0).done
    short = LengthBody(5)
    short.feed(b"ab")
    assert not short.eof()


def test_only_a_body_without_a_length_ends_with_the_connection() -> None:
    body = EofBody()
    assert body.feed(b"x") == b"x"
    assert not body.done
    assert body.eof()
    unfinished = ChunkedBody()
    unfinished.feed(b"3\r\nabc")
    assert not unfinished.eof()


def test_tiny_chunks_are_read_in_one_pass() -> None:
    """A body of one-byte chunks, all in one read: what is done is passed over, not cut off again and again."""
    count = 100_000
    assert read(ChunkedBody(), b"1\r\nx\r\n" * count + LAST_CHUNK + b"next") == (b"x" * count, True, b"next")
