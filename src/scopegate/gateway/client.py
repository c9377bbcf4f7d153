"""The client's side of an exchange, as the exchange sees it. `protocol.ClientConnection` is the one that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scopegate.edge.proxy_protocol import Told
    from scopegate.gateway.section import HeaderSection
    from scopegate.gateway.websocket import Tunnel


class Client(Protocol):
    """What an exchange asks of the connection it came in on."""

    peer: str
    introduction: Told | None
    """The PROXY protocol header with which a trusted peer opened the connection."""

    def write(self, data: bytes) -> None: ...

    def open_body(self, length: int, *, expects_continue: bool) -> None:
        """A body is announced: `length` bytes, or CHUNKED."""
        ...

    def read_body(self) -> None:
        """Begin (or go on) to hand the request's body to `Exchange.on_body`."""
        ...

    def pause_body(self, paused: bool) -> None: ...

    def wait_until(self, seconds: float | None) -> None:
        """`Exchange.on_deadline` is called that many seconds from now unless something else is set before."""
        ...

    def exchange_done(self, *, reusable: bool, linger: bool) -> None:
        """The answer is written. `linger`: the client may still be sending what nobody will read."""
        ...

    section: HeaderSection | None
    """What the fields of the request mean, once it is known; not None before for a request that repeats them."""

    def become(self, tunnel: Tunnel) -> None:
        """After a switch of protocols: what the client sends, and has sent already, goes to `tunnel`."""
        ...

    def abort(self) -> None:
        """Break the connection: the client must not take what it got for a complete answer."""
        ...
