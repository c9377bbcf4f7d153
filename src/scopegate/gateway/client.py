"""The client's side of an exchange, as the exchange sees it. `protocol.ClientConnection` is the one that serves."""

from __future__ import annotations

from typing import Protocol

from scopegate.edge.proxy_protocol import Told
from scopegate.gateway.head import HeadReader


class BodyTaker(Protocol):
    """Who takes a request's body."""

    def on_body(self, payload: bytes, done: bool) -> None:
        """A piece of it, unframed, in order."""
        ...

    def on_bad_framing(self) -> None:
        """What came is no body: nothing more of it will be told."""
        ...


class ClientTunnel(Protocol):
    """Who speaks another protocol with the client after a switch."""

    def client_data(self, data: bytes) -> None: ...


class Client(Protocol):
    """What an exchange asks of the connection it came in on."""

    peer: str
    is_tls: bool
    """Whether the client speaks TLS with us."""
    introduction: Told | None
    """The PROXY protocol header with which a trusted peer opened the connection."""
    heads: HeadReader
    """Its `section` is what the fields of the request mean, once it is known; there before for a request that repeats
    them."""

    def write(self, data: bytes) -> None: ...

    def open_body(self, taker: BodyTaker, length: int, *, expects_continue: bool) -> None:
        """A body is announced: `length` bytes, or CHUNKED. Nothing is read of it until `read_body`."""
        ...

    def read_body(self) -> None:
        """Begin (or go on) to hand the request's body to its taker."""
        ...

    def pause_body(self, paused: bool) -> None: ...

    def wait_until(self, seconds: float | None) -> None:
        """`Exchange.on_deadline` is called that many seconds from now unless something else is set before."""
        ...

    def exchange_done(self, *, reusable: bool, linger: bool) -> None:
        """The answer is written. `linger`: the client may still be sending what nobody will read."""
        ...

    def become(self, tunnel: ClientTunnel) -> None:
        """After a switch of protocols: what the client sends, and has sent already, goes to `tunnel`."""
        ...

    def abort(self) -> None:
        """Break the connection: the client must not take what it got for a complete answer."""
        ...
