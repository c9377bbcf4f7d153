"""How a connection to one server of an upstream is opened: TCP, TLS or a unix socket. Used by `pool` and `health`.

Nothing has been sent when this fails, which is said by UpstreamError (`connect`, or `tls` when the server did not
prove itself or speaks no TLS).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

import aiohappyeyeballs

from scopegate.errors import ConfigError, Problem, UpstreamError
from scopegate.gateway.names import PATIENCE_S, HostName
from scopegate.policy.policy import Origin, Tls, Upstream

NEXT_ADDRESS_S: Final = 0.25
"""After which the next address of a name is tried beside one that has not answered yet (RFC 8305 5)."""


def tls_context(upstream: Upstream) -> ssl.SSLContext | None:
    """One for all `https` servers of the upstream, None when there are none. Raises ConfigError for a `ca_file` that
    cannot be used."""
    if all(origin.scheme != "https" for origin in upstream.servers):
        return None
    tls: Tls = upstream.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)  # proof and name are asked for
    except OSError as error:  # ssl.SSLError is one
        what = f"cannot be used as a list of authorities ({error.strerror or type(error).__name__})"
        raise ConfigError([Problem(tls.ca_file or "ca", f"upstreams.{upstream.name}.tls.ca", what)]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialler:
    """The way to one server."""

    def __init__(
        self, origin: Origin, upstream: Upstream, tls: ssl.SSLContext | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._origin = origin
        self._patience_s = upstream.timeouts.connect_s
        self._tls = tls if origin.scheme == "https" else None
        self._server_name = (upstream.tls.server_name or origin.host) if self._tls is not None else None
        self._loop = loop
        has_name = origin.scheme != "unix" and not _is_address(origin.host)
        patience_s = min(PATIENCE_S, upstream.timeouts.connect_s / 4)
        self.name = HostName(origin.host, origin.port, loop, patience_s) if has_name else None
        """What is looked up first, if anything is."""

    async def open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """`protocol` has its `connection_made` when this returns. Raises UpstreamError (not sent)."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._open(protocol)
        except ssl.SSLError as error:
            raise UpstreamError("tls", _reason(error), sent=False) from error
        except TimeoutError as error:
            raise UpstreamError("connect", "timed out", sent=False) from error
        except OSError as error:
            raise UpstreamError("connect", type(error).__name__, sent=False) from error

    async def _open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        origin, name = self._origin, self.name
        if origin.scheme == "unix":
            await self._loop.create_unix_connection(protocol, origin.host)
        elif name is None:
            await self._loop.create_connection(
                protocol, origin.host, origin.port, ssl=self._tls, server_hostname=self._server_name
            )
        else:
            await self._open_by(name, protocol)

    async def _open_by(self, name: HostName, protocol: Callable[[], asyncio.Protocol]) -> None:
        """At the first of the name's addresses that answers. Where none does the name is looked up again, once."""
        was_known = name.is_known()
        try:
            sock = await self._reach(name)
        except OSError:
            if not was_known:
                raise
            sock = await self._reach(name)
        try:
            await self._loop.create_connection(protocol, sock=sock, ssl=self._tls, server_hostname=self._server_name)
        except BaseException:
            sock.close()
            raise

    async def _reach(self, name: HostName) -> socket.socket:
        try:
            infos = await name.addresses()
            return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=NEXT_ADDRESS_S, loop=self._loop)
        except BaseException:  # given up for lack of time, too
            name.forget()
            raise


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: ssl.SSLError) -> str:
    """Why, in OpenSSL's words: it tells an expired certificate from a wrong name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason or type(error).__name__
