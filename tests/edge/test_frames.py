"""WebSocket frames in passing: whatever the split, the same bytes pass and the same verdict falls."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.frames import MAX_FRAGMENTS, CloseCode, FrameReader, Sender, Violation, close_frame

LIMIT = 1000
MASK = b"\x11\x22\x33\x44"


def frame(first: int, payload: bytes = b"", *, mask: bytes | None = None, length: bytes | None = None) -> bytes:
    """One frame; `length` overrides the length field (without the mask bit)."""
    size = len(payload)
    if length is None:
        if size < 126:
            length = bytes([size])
        else:
            length = b"\x7e" + struct.pack("!H", size) if size < 1 << 16 else b"\x7f" + struct.pack("!Q", size)
    if mask is None:
        return bytes([first]) + length + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + masked


def run(sender: Sender, *pieces: bytes) -> tuple[bytes, Violation | None, bool]:
    """What passed, the fault, and whether a Close did."""
    reader = FrameReader(sender, LIMIT)
    passed = b"".join([reader.feed(piece) for piece in pieces])
    return passed, reader.fault, reader.closed


def at_every_split(sender: Sender, data: bytes) -> tuple[bytes, Violation | None, bool]:
    """The one outcome of `data` in two parts, and in single bytes."""
    whole = run(sender, data)
    assert run(sender, *[data[at : at + 1] for at in range(len(data))]) == whole
    for cut in range(1, len(data)):
        assert run(sender, data[:cut], data[cut:]) == whole
    return whole


def close(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


OK = {
    "text": [(0x81, b"hello")],
    "binary": [(0x82, bytes(range(200)))],
    "empty": [(0x81, b"")],
    "at the bound": [(0x82, b"x" * LIMIT)],
    "fragments at the bound": [(0x01, b"x" * 400), (0x00, b"y" * 400), (0x80, b"z" * 200)],
    "a ping between fragments": [(0x01, b"a"), (0x89, b"?"), (0x80, b"b")],
    "one message after another": [(0x82, b"x" * LIMIT), (0x82, b"y" * LIMIT)],
    "the largest ping": [(0x89, b"p" * 125)],
    "an empty pong": [(0x8A, b"")],
}


@pytest.mark.parametrize("name", OK)
@pytest.mark.parametrize("sender", Sender)
def test_well_formed_frames_pass_unchanged(sender: Sender, name: str) -> None:
    mask = MASK if sender is Sender.CLIENT else None
    data = b"".join(frame(first, payload, mask=mask) for first, payload in OK[name])
    assert run(sender, data) == (data, None, False)
    if len(data) < 1500:
        assert at_every_split(sender, data)[0] == data


BAD: dict[str, tuple[list[tuple[int, bytes, bytes | None]], CloseCode]] = {
    "RSV1": ([(0xC1, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "RSV2": ([(0xA1, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "RSV3": ([(0x91, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "RSV1 on a ping": ([(0xC9, b"", None)], CloseCode.PROTOCOL_ERROR),
    **{f"opcode {opcode:x}": ([(0x80 | opcode, b"", None)], CloseCode.PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7)},
    **{f"opcode {opcode:x}": ([(0x80 | opcode, b"", None)], CloseCode.PROTOCOL_ERROR) for opcode in range(11, 16)},
    "a continuation of nothing": ([(0x80, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "a fragment of nothing": ([(0x00, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "a message inside a message": ([(0x01, b"x", None), (0x81, b"y", None)], CloseCode.PROTOCOL_ERROR),
    "a continuation after the last": (
        [(0x01, b"", None), (0x80, b"", None), (0x80, b"", None)],
        CloseCode.PROTOCOL_ERROR,
    ),
    "a long ping": ([(0x89, b"x" * 126, None)], CloseCode.PROTOCOL_ERROR),
    "a ping of eight length bytes": ([(0x89, b"", b"\x7f" + bytes(8))], CloseCode.PROTOCOL_ERROR),
    "a ping in fragments": ([(0x09, b"x", None)], CloseCode.PROTOCOL_ERROR),
    "a close in fragments": ([(0x08, b"", None)], CloseCode.PROTOCOL_ERROR),
    "two bytes for a short length": ([(0x81, b"x" * 5, b"\x7e\x00\x05")], CloseCode.PROTOCOL_ERROR),
    "two bytes for 125": ([(0x81, b"x" * 125, b"\x7e\x00\x7d")], CloseCode.PROTOCOL_ERROR),
    "eight bytes for a middling length": (
        [(0x81, b"x" * 200, b"\x7f" + struct.pack("!Q", 200))],
        CloseCode.PROTOCOL_ERROR,
    ),
    "eight bytes for 65535": ([(0x81, b"", b"\x7f" + struct.pack("!Q", 65535))], CloseCode.PROTOCOL_ERROR),
    "a negative length": ([(0x81, b"", b"\x7f\x80" + bytes(7))], CloseCode.PROTOCOL_ERROR),
    "one byte more": ([(0x82, b"x" * (LIMIT + 1), None)], CloseCode.MESSAGE_TOO_BIG),
    "far too large": ([(0x82, b"", b"\x7f" + struct.pack("!Q", 1 << 40))], CloseCode.MESSAGE_TOO_BIG),
    "one byte more in fragments": ([(0x01, b"x" * LIMIT, None), (0x80, b"y", None)], CloseCode.MESSAGE_TOO_BIG),
    "a close of one byte": ([(0x88, b"\x03", None)], CloseCode.PROTOCOL_ERROR),
    **{
        f"close {code}": ([(0x88, close(code), None)], CloseCode.PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "a reason that is not UTF-8": ([(0x88, close(1000, b"\xff"), None)], CloseCode.INVALID_DATA),
    "a reason cut off": ([(0x88, close(1000, "ä".encode()[:1]), None)], CloseCode.INVALID_DATA),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("sender", Sender)
def test_hostile_frames_end_the_stream_before_they_pass(sender: Sender, name: str) -> None:
    mask = MASK if sender is Sender.CLIENT else None
    frames, code = BAD[name]
    made = [frame(first, payload, mask=mask, length=length) for first, payload, length in frames]
    good = frame(0x81, b"before", mask=mask) if frames[0][0] & 0x0F in (1, 2) else b""
    data = good + b"".join(made)
    passed, fault, closed = run(sender, data) if len(data) > 1300 else at_every_split(sender, data)
    assert passed == data[: len(data) - len(made[-1])]
    assert fault is not None
    assert (fault.code, closed) == (code, False)


@pytest.mark.parametrize("sender", Sender)
def test_masks_are_for_clients_only(sender: Sender) -> None:
    wrong = frame(0x81, b"x", mask=None if sender is Sender.CLIENT else MASK)
    passed, fault, _ = at_every_split(sender, wrong)
    assert passed == b""
    assert fault is not None
    assert fault.code is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1010, 1011, 1014, 3000, 4999])
@pytest.mark.parametrize("sender", Sender)
def test_a_close_passes_and_nothing_after_it(sender: Sender, code: int) -> None:
    mask = MASK if sender is Sender.CLIENT else None
    last = frame(0x88, close(code, "für".encode()), mask=mask)
    assert at_every_split(sender, last + b"\xff\xff\xff") == (last, None, True)


def test_a_close_may_say_nothing() -> None:
    assert at_every_split(Sender.CLIENT, frame(0x88, mask=MASK)) == (frame(0x88, mask=MASK), None, True)


def test_a_message_too_large_is_known_by_its_header() -> None:
    header = frame(0x82, b"", length=b"\x7e" + struct.pack("!H", LIMIT + 1))
    passed, fault, _ = run(Sender.SERVER, header)
    assert (passed, fault and fault.code) == (b"", CloseCode.MESSAGE_TOO_BIG)


def test_payload_passes_as_it_comes() -> None:
    reader = FrameReader(Sender.SERVER, LIMIT)
    data = frame(0x82, b"x" * 100)
    assert reader.feed(data[:10]) == data[:10]
    assert not reader.between_frames
    part = data[10:50]
    assert reader.feed(part) is part  # not even copied
    assert reader.feed(data[50:]) == data[50:]
    assert reader.between_frames


def test_a_message_has_a_bounded_number_of_fragments() -> None:
    reader = FrameReader(Sender.SERVER, LIMIT)
    reader.feed(b"\x02\x00" + b"\x00\x00" * (MAX_FRAGMENTS - 1))
    faults = [reader.fault]
    assert reader.feed(b"\x00\x00") == b""
    faults.append(reader.fault)
    assert [fault and fault.code for fault in faults] == [None, CloseCode.POLICY_VIOLATION]


@pytest.mark.parametrize(("sender", "mask"), [(Sender.SERVER, None), (Sender.CLIENT, MASK)])
@pytest.mark.parametrize("code", CloseCode)
def test_our_own_close_is_one_that_we_would_let_pass(sender: Sender, mask: bytes | None, code: CloseCode) -> None:
    made = close_frame(code, mask)
    assert made == frame(0x88, close(code), mask=mask)
    assert run(sender, made) == (made, None, True)


pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda first, payload, masked: frame(first, payload, mask=MASK if masked else None),
            st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88]),
            st.one_of(st.binary(max_size=130), st.just(b"\x03\xe8"), st.just(b"x" * 600)),
            st.booleans(),
        ),
    ),
    max_size=6,
)


@given(pieces, st.sampled_from(Sender), st.lists(st.integers(0, 2000), max_size=8))
def test_the_verdict_does_not_depend_on_the_split(made: list[bytes], sender: Sender, cuts: list[int]) -> None:
    data = b"".join(made)
    at = sorted({cut for cut in cuts if cut < len(data)})
    parts = [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
    passed, fault, closed = run(sender, data)
    assert run(sender, *parts) == (passed, fault, closed)
    assert data.startswith(passed)
