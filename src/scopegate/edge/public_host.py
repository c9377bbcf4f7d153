"""The name under which visitors reach us, as a proxy tells it that writes a Host of its own.

Pure. X-Forwarded-Host and X-Forwarded-Port have one value each: a list is the word of several, and who began it may be
the visitor. Whose word counts, and for what, is the policy's to say. Called by the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scopegate.edge.target import judge_host
from scopegate.edge.verdict import Refusal

_DEFAULT_PORTS = (80, 443)


class PublicHost(NamedTuple):
    """What a proxy told. `host` is canonical, empty where the port alone was told; `port` are digits, empty where it
    was not."""

    host: str
    port: bytes

    @property
    def asked(self) -> str:
        """The authority that was asked for: the host with its port, which the proxy may have told apart from it."""
        has_port = ":" in self.host.rpartition("]")[2]
        if not self.host or not self.port or has_port or int(self.port) in _DEFAULT_PORTS:
            return self.host
        return f"{self.host}:{int(self.port)}"


_BAD_HOST = Refusal(400, "bad_host", "The proxy's X-Forwarded-Host is not one valid host.", close=True)
_BAD_PORT = Refusal(400, "bad_host", "The proxy's X-Forwarded-Port is not one valid port.", close=True)


def public_host(hosts: Sequence[bytes], ports: Sequence[bytes]) -> PublicHost | Refusal | None:
    """What these values of X-Forwarded-Host and X-Forwarded-Port tell; None when there are none."""
    if not hosts and not ports:
        return None
    host = _host(hosts)
    if host is None:
        return _BAD_HOST
    port = _port(ports)
    return _BAD_PORT if port is None else PublicHost(host, port)


def _host(values: Sequence[bytes]) -> str | None:
    if not values:
        return ""
    return judge_host(values[0]) if len(values) == 1 else None


def _port(values: Sequence[bytes]) -> bytes | None:
    if not values:
        return b""
    digits = values[0].strip(b" \t")
    is_port = len(values) == 1 and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 65535
    return digits if is_port else None
