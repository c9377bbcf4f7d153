"""WebSocket frames (RFC 6455 section 5), judged in passing: what one side sends is checked and handed on unchanged.

Pure: bytes in, the same bytes out. A header is judged before its payload has come, so a message that is too large is
known by its header; data frames pass in slices as they come, control frames (at most 131 bytes) whole: no more than
that is ever kept back. No extension is understood, the gateway agrees to none. Called by `gateway/websocket`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class CloseCode(IntEnum):
    """The close codes that the gateway itself sends (RFC 6455 7.4.1)."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009


class Sender(Enum):
    """Whose frames are read: those of a client are masked, those of a server are not (RFC 6455 5.1)."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a stream of frames ends here: the close code that its sender is owed, and what was wrong."""

    code: CloseCode
    detail: str


MAX_CONTROL_BYTES = 125
MAX_FRAGMENTS = 16_384
"""Of one message: an endless message of empty fragments has no size, and yet costs the app memory."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset([_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG])
_FIN, _RESERVED, _OPCODE, _CONTROL = 0x80, 0x70, 0x0F, 0x08
_MASKED, _LENGTH = 0x80, 0x7F
_NAMED_CODES = frozenset([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014])
"""Codes that may be sent, as registered; 1004, 1005, 1006 and 1015 never are, 3000 to 4999 belong to libraries and
apps."""


class _Refused(Exception):
    """Ends the reading of a frame; never leaves this module."""

    def __init__(self, detail: str, code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        self.fault = Violation(code, detail)


class FrameReader:
    """One direction of a WebSocket connection.

    `fault` is set once the sender broke the protocol or a bound: from then on nothing passes. `closed` is True once a
    Close frame has passed: what follows it is dropped (RFC 6455 1.4). `between_frames` is True while nothing is owed of
    a frame that has begun to pass, so that a frame of one's own may be put in.
    """

    __slots__ = (
        "_fragments",
        "_held",
        "_mask_bytes",
        "_masked",
        "_max_message_bytes",
        "_message_bytes",
        "_missing",
        "_open_message",
        "closed",
        "fault",
    )

    def __init__(self, sender: Sender, max_message_bytes: int) -> None:
        """A message (the payload of all its fragments) may have `max_message_bytes`."""
        self._masked = _MASKED if sender is Sender.CLIENT else 0
        self._mask_bytes = 4 if self._masked else 0
        self._max_message_bytes = max_message_bytes
        self._held = b""
        self._missing = 0
        self._open_message = False
        self._message_bytes = 0
        self._fragments = 0
        self.fault: Violation | None = None
        self.closed = False

    @property
    def between_frames(self) -> bool:
        return self._missing == 0

    def feed(self, data: bytes) -> bytes:
        """What passes now: a part of `data`, after what was kept back before. Look at `fault` and `closed` after it."""
        if self.fault is not None or self.closed:
            return b""
        if len(data) <= self._missing:
            self._missing -= len(data)
            return data
        if self._held:
            data, self._held = self._held + data, b""
        at, self._missing = self._missing, 0
        try:
            while at < len(data) and not self.closed:
                end = self._take_frame(data, at)
                if end == at:
                    self._held = data[at:]
                    break
                at = end
        except _Refused as refused:
            self.fault = refused.fault
        return data[:at] if at < len(data) else data

    def _take_frame(self, data: bytes, at: int) -> int:
        """Where that which passes of the frame at `at` ends; `at` itself while it cannot be judged."""
        if len(data) - at < 2:
            return at
        first, second = data[at], data[at + 1]
        self._judge_start(first, second)
        if first & _CONTROL:
            return self._take_control(data, at, first & _OPCODE, second & _LENGTH)
        start = _payload_start(data, at, second & _LENGTH)
        if start is None:
            return at
        length = _length(data[at + 1 : start])
        self._judge_message(first, length)
        end = start + self._mask_bytes + length
        self._missing = max(0, end - len(data))
        return min(end, len(data))

    def _judge_start(self, first: int, second: int) -> None:
        """What the first two bytes tell."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise _Refused("a reserved bit is set, and no extension was agreed on")
        if opcode not in _KNOWN:
            raise _Refused("unknown opcode")
        if second & _MASKED != self._masked:
            raise _Refused("a client has to mask its frames" if self._masked else "a server must not mask its frames")
        if opcode & _CONTROL:
            if not first & _FIN or second & _LENGTH > MAX_CONTROL_BYTES:
                raise _Refused("a control frame is short and in one piece")
        elif (opcode == _CONTINUATION) != self._open_message:
            raise _Refused("a continuation continues a message, and nothing else does")

    def _judge_message(self, first: int, length: int) -> None:
        begins = first & _OPCODE != _CONTINUATION
        self._message_bytes = length if begins else self._message_bytes + length
        self._fragments = 1 if begins else self._fragments + 1
        self._open_message = not first & _FIN
        if self._message_bytes > self._max_message_bytes:
            raise _Refused("the message is too large", CloseCode.MESSAGE_TOO_BIG)
        if self._fragments > MAX_FRAGMENTS:
            raise _Refused("the message has too many fragments", CloseCode.POLICY_VIOLATION)

    def _take_control(self, data: bytes, at: int, opcode: int, length: int) -> int:
        """A control frame passes as a whole: a Close is judged by its payload."""
        start = at + 2 + self._mask_bytes
        if len(data) < start + length:
            return at
        if opcode == _CLOSE:
            payload = data[start : start + length]
            _judge_close(_unmasked(payload, data[start - 4 : start]) if self._masked else payload)
            self.closed = True
        return start + length


def _payload_start(data: bytes, at: int, short: int) -> int | None:
    """Where the length that begins at `at + 1` ends, None while it is not all there."""
    end = at + 2 + {126: 2, 127: 8}.get(short, 0)
    return end if end <= len(data) else None


def _length(field: bytes) -> int:
    """The payload's length out of one, three or nine bytes, in the shortest form that holds it (RFC 6455 5.2)."""
    if len(field) == 1:
        return field[0] & _LENGTH
    length = int.from_bytes(field[1:], "big")
    if length < (126 if len(field) == 3 else 1 << 16) or length >> 63:
        raise _Refused("a length is not in its shortest form")
    return length


def _unmasked(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))


def _judge_close(payload: bytes) -> None:
    """RFC 6455 5.5.1: nothing, or a code and a reason in UTF-8."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 0
    if code not in _NAMED_CODES and not 3000 <= code <= 4999:
        raise _Refused("not a close code that may be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _Refused("the reason of a close is not UTF-8", CloseCode.INVALID_DATA) from None


def close_frame(code: CloseCode, mask: bytes | None = None) -> bytes:
    """A Close frame of our own: to a client without `mask`, to a server with four random bytes."""
    payload = code.to_bytes(2, "big")
    if mask is None:
        return bytes([_FIN | _CLOSE, len(payload)]) + payload
    return bytes([_FIN | _CLOSE, _MASKED | len(payload)]) + mask + _unmasked(payload, mask)
