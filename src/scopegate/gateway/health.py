"""Active health: one question after the other to each server, on a connection of its own, for as long as the pool is
open. What the answers add up to is in `limits/health`. Started and ended by `pool`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from scopegate.edge.headers import Noted
from scopegate.errors import UpstreamError
from scopegate.gateway.dial import Dialler
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.policy.policy import Health, Origin
from scopegate.types import Fields


class Watched(Protocol):
    """A server that is asked."""

    origin: Origin
    dialler: Dialler

    def answered(self, well: bool) -> None: ...


async def watch(server: Watched, asked: Health, loop: asyncio.AbstractEventLoop) -> None:
    """Ask at once, then every `every_s`, until cancelled."""
    while True:
        begun_s = loop.time()
        server.answered(await is_well(server, asked, loop))
        await asyncio.sleep(max(0.0, begun_s + asked.every_s - loop.time()))


async def is_well(server: Watched, asked: Health, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it answers the question with 2xx in time."""
    question = Question(loop)
    connection = UpstreamConnection(question)
    try:
        async with asyncio.timeout(asked.timeout_s):
            await server.dialler.open(lambda: connection)
            if not connection.is_usable():
                return False
            connection.start(question, "GET", _head(server.origin, asked.path), True)
            return 200 <= await question.status < 300
    except (UpstreamError, TimeoutError):
        return False
    finally:
        connection.abort()


def _head(origin: Origin, path: str) -> bytes:
    host = "localhost" if origin.scheme == "unix" else origin.authority
    return (
        f"GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: scopegate-health\r\naccept: */*\r\n"
        "connection: close\r\n\r\n"
    ).encode()


class Question:
    """One question: the exchange on its connection, and the home of that connection."""

    failing = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        """0 when there is no answer."""
        self.version = ""

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        if not self.status.done():
            self.status.set_result(status)

    def on_answer_body(self, payload: bytes, done: bool) -> None:
        """The status says it all."""

    def on_interim(self, status: int, notes: Noted) -> None:
        """The final status is to come."""

    def on_upstream_error(self, error: UpstreamError) -> None:
        if not self.status.done():
            self.status.set_result(0)

    def on_upstream_paused(self, paused: bool) -> None:
        """A question is short."""

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """Never asked for."""

    def released(self, connection: UpstreamConnection) -> None:
        connection.abort()

    def set_apart(self, connection: UpstreamConnection) -> None:
        """A question has no stream for an answer."""

    def closed(self, connection: UpstreamConnection) -> None:
        """The pool does not count it."""

    def succeeded(self) -> None:
        """Only requests count for ejection."""

    def failed(self) -> None:
        """Only requests count for ejection."""
