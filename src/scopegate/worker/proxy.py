"""Which way calls to a model leave: straight, or through the proxy of the environment. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit


def proxy_for(url: str, proxy: str | None, exempt: str | None) -> str | None:
    """`proxy` (HTTPS_PROXY) where it has to carry calls to `url`: one that speaks https and that `exempt` (NO_PROXY)
    does not name."""
    parts = urlsplit(url)
    if proxy is None or parts.scheme != "https" or parts.hostname is None:
        return None
    entries = (exempt or "").replace(",", " ").split()
    return None if any(_names(entry, parts.hostname, parts.port or 443) for entry in entries) else proxy


def _names(entry: str, host: str, port: int) -> bool:
    """As curl and Go read NO_PROXY: `*`, an address, a network, or a name with all below it; each may end in a port.
    The list was written for other programs too: what is none of these names nobody."""
    if entry == "*":
        return True
    name, _, ending = entry.rpartition(":")
    if name and ending.isascii() and ending.isdigit() and not _is_network(entry):
        return int(ending) == port and _names(name, host, port)
    if _is_network(host):
        return _is_network(entry) and ip_address(host) in _network(entry)
    return _is_below(host, entry.lower().removeprefix("*").removeprefix(".").removesuffix("."))


def _is_network(text: str) -> bool:
    try:
        _network(text)
    except ValueError:
        return False
    return True


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text.removeprefix("[").removesuffix("]"), strict=False)


def _is_below(host: str, name: str) -> bool:
    return bool(name) and (host == name or host.endswith(f".{name}"))
