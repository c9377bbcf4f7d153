"""How addresses in a policy file are spelt: ports, hosts, networks, URLs, sockets.

Pure. As in `spelling`: text in, the value meant in its one canonical form out, ValueError with a sentence that never
repeats the text. Called by the sections, `kinds` and `settings`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

Network = IPv4Network | IPv6Network

MAX_SOCKET_PATH_BYTES = 107
"""Linux `sun_path` is 108 bytes with its final NUL (unix(7))."""

EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to

_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream server listens. `host` without brackets for IPv6. With scheme `unix`, `host` is the path of a
    socket and `port` is 0."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        if self.scheme == "unix":
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


def parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or int(text) > 65_535:
        raise ValueError("has no port between 0 and 65535")
    return int(text)


def parse_listen(text: str) -> Address:
    """`0.0.0.0:8080`, `[::1]:8080`, `localhost:8080`. Port 0 lets the system choose."""
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise ValueError("is not an address to listen on, write it like `0.0.0.0:8080`")
    return Address(_bare_host(host), parse_port(port))


def parse_host(text: str) -> str:
    """A host name or address, lower-case, as it stands in a URL (IPv6 in brackets); with a port when one is given
    that is not 80 or 443, as `edge/target` writes an authority."""
    host, port = text, ""
    if re.search(r":[0-9]*$", text) and (text.startswith("[") or text.count(":") == 1):
        host, _, port = text.rpartition(":")
        parse_port(port)
    bare = _bare_host(host)
    shown = f"[{bare}]" if ":" in bare else bare
    return f"{shown}:{int(port)}" if port and int(port) not in {80, 443} else shown


def parse_photo_host(text: str) -> str:
    """As `parse_wide_host`; between its first label and its domain further labels may be `*`, each for one label of any
    name: `*.s3.*.amazonaws.com`."""
    labels = text.split(".")
    inner = {at for at in range(1, len(labels) - 2) if labels[at] == "*"}
    if not inner or labels[0] != "*":
        return parse_wide_host(text)
    named = parse_wide_host(".".join("any" if at in inner else label for at, label in enumerate(labels)))
    return ".".join("*" if at in inner else label for at, label in enumerate(named.split(".")))


def parse_wide_host(text: str) -> str:
    """As `parse_host`, or `*.example.com` for every host below a domain of at least two labels."""
    if not text.startswith("*."):
        if "*" in text:
            raise ValueError("may hold * only as its first label, like `*.example.com`")
        return parse_host(text)
    rest = parse_host(text[2:])
    if "." not in rest or is_address(rest):
        raise ValueError("matches far too much: name at least a domain, like `*.example.com`")
    return f"*.{rest}"


def parse_route_host(text: str) -> str:
    """As `parse_wide_host`, a name or address alone."""
    host = parse_wide_host(text)
    if host.endswith("]") or (":" not in host and not re.search(r":[0-9]*$", text)):
        return host
    raise ValueError("names a port: routes are told apart by the host's name alone")


def covers_host(wider: str, narrower: str) -> bool:
    """Whether every host that the one pattern means is one that the other means."""
    return wider == narrower or (wider.startswith("*.") and narrower.removeprefix("*").endswith(wider[1:]))


def _bare_host(host: str) -> str:
    """Without brackets, lower-case, an address in its shortest form."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(IPv6Address(host[1:-1]))
        except AddressValueError:
            raise ValueError("has a bad IPv6 address between its brackets") from None
    name = host.lower()
    if not name.isascii():
        raise ValueError("holds letters beyond ASCII: write the xn-- form")
    if "/" in name:
        raise ValueError("is not a host: leave out the scheme and the path")
    if ":" in name:
        raise ValueError("needs brackets around an IPv6 address")
    if re.fullmatch(r"[0-9.]+|.*\.[0-9]+|0x[0-9a-f]*", name):
        return _ipv4(name)
    if "*" in name:
        raise ValueError("may not hold *")
    if len(name) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("is not a host name")
    return name


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise ValueError("is not an IPv4 address") from None


def is_address(host: str) -> bool:
    """Whether a host as `parse_host` gives it, without a port, is an IP address."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Whether a host is on this machine or in this network: loopback, private, or a name without a dot."""
    bare = host.strip("[]")
    if is_address(bare):
        return ip_address(bare).is_private
    return "." not in bare or bare.endswith((".localhost", ".local", ".internal"))


def parse_network(text: str) -> Network:
    """One address or `10.0.0.0/8`. Networks so wide that they trust the internet are refused."""
    network = parse_client_network(text)
    if network.prefixlen < (8 if network.version == 4 else 7):
        raise ValueError("trusts everybody: name the proxies in front of this gateway, and only them")
    return network


def parse_client_network(text: str) -> Network:
    """As `parse_network`, as wide as it may be."""
    try:
        network = ip_network(text, strict=True)
    except ValueError:
        raise ValueError(_network_fault(text)) from None
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        raise ValueError("is an IPv4 network in IPv6 clothes: write it as IPv4")
    return network


def _network_fault(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return "is not a network, write it like `10.0.0.0/8` or `192.0.2.7`"
    return "is an address inside a network: set the bits after the prefix to zero"


def parse_origin(text: str) -> Origin:
    """`http://127.0.0.1:3000`: scheme, host and port of an upstream server, nothing more; or `unix:/run/app.sock`."""
    if text.startswith("unix:"):
        return Origin("unix", _socket_path(text.removeprefix("unix:")), 0)
    parts = _split_url(text)
    if parts.path not in {"", "/"} or parts.query:
        raise ValueError("may have no path: the request's own path is forwarded as it is")
    host = _url_host(parts)
    return Origin(parts.scheme, host, _url_port(parts))


def _socket_path(path: str) -> str:
    if not path.startswith("/") or path.startswith("//") or path.endswith("/"):
        raise ValueError("is not a socket, write its absolute path like `unix:/run/app.sock`")
    if not re.fullmatch(r"[\x21-\x7e]+", path):
        raise ValueError("is not a socket: its path holds spaces or characters beyond ASCII")
    if len(path) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"has a path longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's may have")
    return path


def parse_server_name(text: str) -> str:
    """The name in a certificate: a host name or address, lower-case, without port or brackets."""
    name = _bare_host(text) if text.startswith("[") or ":" not in text else None
    if name is None:
        raise ValueError("is not a server name: write a host name without a port")
    return name


def parse_url(text: str) -> str:
    """An http or https URL with a host and no user name, password or fragment."""
    parts = _split_url(text)
    _url_host(parts)
    _url_port(parts)
    return text


def url_host(url: str) -> str:
    """The host of a URL that `parse_url` accepted."""
    return urlsplit(url).hostname or ""


def _split_url(text: str) -> SplitResult:
    if not text.isascii() or re.search(r"[\x00-\x20\x7f\\]", text):
        raise ValueError("is not a URL: it holds spaces or characters beyond ASCII")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("is not a URL that starts with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("may hold no user name or password")
    if "#" in text:
        raise ValueError("may have no fragment (#)")
    return parts


def _url_host(parts: SplitResult) -> str:
    host = parts.netloc if parts.netloc.endswith("]") else re.sub(r":[0-9]*$", "", parts.netloc)
    if not host:
        raise ValueError("is a URL without a host")
    return _bare_host(host)


def _url_port(parts: SplitResult) -> int:
    match = re.search(r":([0-9]*)$", parts.netloc)
    if match is None or parts.netloc.endswith("]"):
        return {"http": 80, "https": 443}[parts.scheme]
    port = parse_port(match[1])
    if port == 0:
        raise ValueError("has no port between 1 and 65535")
    return port
