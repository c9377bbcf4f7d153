"""Pictures decoded by children that are warm, bounded, and thrown away: the worker's side of `worker/zygote`.

One zygote serves a worker. It is started with the first picture, and anew when it is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from scopegate import jsontext
from scopegate.errors import PhotoError
from scopegate.leads.photos import MAX_PARTS, MAX_SIDE_PX, Part, PhotoCode, Picture, Unseen
from scopegate.types import Json
from scopegate.worker.zygote import ENDING

DECODE_TIMEOUT_S: Final = 15.0
"""Wall time; the decoder's own bound is 5 s of CPU, this one is for a machine too busy to give it any."""
ZYGOTE: Final = (sys.executable, "-I", "-m", "scopegate.worker.zygote")
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_MAX_LINE_BYTES: Final = 500
_JPEG: Final = b"\xff\xd8\xff"


class Decoders:
    """For one event loop; any number of pictures at a time."""

    def __init__(self, timeout_s: float = DECODE_TIMEOUT_S, command: Sequence[str] = ZYGOTE) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._starting = asyncio.Lock()
        self._control: socket.socket | None = None
        self._process: Process | None = None

    async def decode(self, data: bytes) -> Picture:
        """A small plain picture of it.

        A file whose child is killed by its bounds, or is not done in time, is a `bomb`. `decoder_failed` is our own
        trouble (no memory to start one). The child never outlives the call."""
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._child()
                try:
                    answer = await _converse(reader, writer, data)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise PhotoError(PhotoCode.BOMB, "decoding took too long") from None
        except OSError as error:
            raise PhotoError(PhotoCode.DECODER_FAILED, type(error).__name__, retryable=True) from None
        parts, unseen = _read_answer(answer)
        return Picture(parts, hashlib.sha256(data).hexdigest(), unseen)

    async def close(self) -> None:
        """Ends the zygote and whatever it decodes."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            await self._process.wait()

    async def _child(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._ask(theirs)
                return await asyncio.open_unix_connection(sock=ours)
            except BaseException:
                ours.close()
                raise

    async def _ask(self, theirs: socket.socket) -> None:
        for is_last in (False, True):
            control = await self._zygote()
            try:
                socket.send_fds(control, [b"p"], [theirs.fileno()])
                return
            except OSError:  # it is gone
                if is_last:
                    raise
                self._end(control)

    def _end(self, control: socket.socket) -> None:
        control.close()
        if self._control is control:
            self._control = None

    async def _zygote(self) -> socket.socket:
        async with self._starting:
            if self._control is None:
                self._control = await self._start()
            return self._control

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=DEVNULL,
                    env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
                )
            except BaseException:
                ours.close()
                raise
        return ours


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """The whole answer, or as much as no answer has."""
    writer.write(data)
    with suppress(ConnectionError):  # it died while we wrote: how it ended tells why
        await writer.drain()
        writer.write_eof()
    answer = bytearray()
    with suppress(ConnectionError):
        while len(answer) <= _MAX_ANSWER_BYTES and (chunk := await reader.read(65536)):
            answer += chunk
    return bytes(answer)


def _read_answer(answer: bytes) -> tuple[tuple[Part, ...], tuple[Unseen, ...]]:
    """What was seen, or PhotoError. The child has read hostile bytes: what it says is checked, too."""
    if len(answer) > _MAX_ANSWER_BYTES:
        raise PhotoError(PhotoCode.BOMB, "the decoder says more than a picture may")
    if len(answer) < ENDING.size:
        raise PhotoError(PhotoCode.DECODER_FAILED, "no answer", retryable=True)
    (status,) = ENDING.unpack(answer[-ENDING.size :])
    if status < 0:
        raise PhotoError(PhotoCode.BOMB, "decoding took more memory or time than a picture may")
    line, _, jpegs = answer[: -ENDING.size].partition(b"\n")
    match _json(line[:_MAX_LINE_BYTES]):
        case {"error": str(code)}:
            raise PhotoError(next((known for known in PhotoCode if known == code), PhotoCode.DAMAGED))
        case {"parts": list(sizes), "unseen": list(words)} if 0 < len(sizes) <= MAX_PARTS:
            unseen = tuple(word for word in Unseen if word in words)
            return tuple(_parts(sizes, jpegs)), unseen
        case _:
            raise _failed(status)


def _parts(sizes: list[Json], jpegs: bytes) -> list[Part]:
    found = []
    for size in sizes:
        match size:
            case [int(width), int(height), int(count)] if _is_bounded(width) and _is_bounded(height) and count > 0:
                found.append(Part(jpegs[:count], width, height))
                jpegs = jpegs[count:]
            case _:
                raise _failed(0)
    if jpegs or not all(part.jpeg.startswith(_JPEG) for part in found):
        raise _failed(0)
    return found


def _failed(status: int) -> PhotoError:
    return PhotoError(PhotoCode.DECODER_FAILED, f"exit status {status}", retryable=True)


def _is_bounded(side_px: int) -> bool:
    return 0 < side_px <= MAX_SIDE_PX


def _json(line: bytes) -> object:
    try:
        return jsontext.parse(line, max_depth=3)
    except jsontext.BadJson:
        return None
