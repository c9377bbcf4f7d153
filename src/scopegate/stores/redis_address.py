"""Where Redis is, read out of a URL as redis-py reads it (a test holds the two together).

redis-py itself is not imported: with what it brings along it weighs 10 MB, and the gateway needs it only to announce a
job. Used by `redis_link`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scopegate.errors import ConfigError, Problem
from scopegate.policy.sentinels import SCHEME, SentinelAddress, parse
from scopegate.stores.sentinel import master_of

_NUMBERS = ("db", "socket_timeout", "socket_connect_timeout", "max_connections", "health_check_interval", "timeout")
"""Options of redis-py, which reads the same URL for other work: what it would refuse then is refused now."""
_FALSE = frozenset({"", "0", "F", "FALSE", "N", "NO"})


class RedisAddress:
    """A Redis URL: `redis://`, `rediss://` (certificate and name checked unless the URL says otherwise) or `unix://`,
    with user, password and database. Its text is a secret and never shown."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for what is no such URL. One of Sentinels is dialled as they say at that moment."""
        self.watched = _watched(url)
        if self.watched is not None:
            url = "redis://sentinels"
        try:
            parts = urlsplit(url)
            options = {name: unquote(values[0]) for name, values in parse_qs(parts.query).items()}
            for name in options.keys() & set(_NUMBERS):
                float(options[name])
            self.path = _path(parts.scheme, parts.path)
            self.host = unquote(parts.hostname or "localhost")
            self.port = parts.port or 6379
            self._node = (self.host, self.port)
            self.db = int(options["db"]) if "db" in options else _database(self.path, parts.path)
            self._tls = _tls(options) if parts.scheme == "rediss" else None
        except ValueError:
            raise ConfigError([Problem("REDIS_URL", "", "is not a redis://, rediss:// or unix:// address")]) from None
        username = unquote(parts.username or "") or options.get("username")
        password = unquote(parts.password or "") or options.get("password")
        if self.watched is not None:
            username, password, self.db = self.watched.user, self.watched.password, self.watched.db
        self.login = [part.encode() for part in (username, password) if part]

    async def dial(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        if self.watched is not None:
            await loop.create_connection(protocol, *await master_of(self.watched))
        elif self.path is not None:
            await loop.create_unix_connection(protocol, self.path)
        else:
            await loop.create_connection(protocol, *self._node, ssl=self._tls)

    def follow(self, answer: str) -> bool:
        """An error answer of a cluster (`MOVED 7365 10.0.0.2:6379`) names the node to dial from now on; after any other
        answer the URL's own is dialled again. Whether it was followed."""
        words = answer.split(" ")
        host, _, port = words[2].rpartition(":") if words[0] == "MOVED" and len(words) == 3 else ("", "", "")
        is_named = port.isdecimal() and self.path is None
        self._node = (host or self._node[0], int(port)) if is_named else (self.host, self.port)
        return is_named


def _watched(url: str) -> SentinelAddress | None:
    if not url.startswith(SCHEME):
        return None
    try:
        return parse(url)
    except ValueError as error:
        raise ConfigError([Problem("REDIS_URL", "", str(error))]) from None


def _path(scheme: str, path: str) -> str | None:
    """The socket's, for the one scheme that has one."""
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(scheme)
    return unquote(path) if scheme == "unix" else None


def _database(socket_path: str | None, path: str) -> int:
    digits = unquote(path).replace("/", "")
    return int(digits) if socket_path is None and digits.isdigit() else 0


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    needs = options.get("ssl_cert_reqs", "required")
    context.check_hostname = needs == "required" and options.get("ssl_check_hostname", "1").upper() not in _FALSE
    context.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(needs, ssl.CERT_REQUIRED)
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
