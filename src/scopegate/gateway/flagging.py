"""What flags do to a request: which route it meets, what it is refused, what the app is told.

`RouteFlags` are those of one route, made once per policy by `ruleset` and asked by `pipeline`; a route that no flag
touches has none. `X-Scopegate-Flags`
names each flag and its variant, percent-encoded; with `server.sign_with`, `X-Scopegate-Flags-Signature` binds that to
the request as the identity is bound (`signin`). Both names are cut from every incoming request (`edge/field_rules`).
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from math import ceil
from typing import Protocol
from urllib.parse import quote

from scopegate.edge.flags import CompiledFlag
from scopegate.edge.verdict import Refusal, Target
from scopegate.gateway.keys import Countable, values_sent
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import ON, KeyKind, Policy, Route, Switch

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Asking(Countable, Protocol):
    """A request, as far as flags look at it."""

    method: str
    path: str
    asked_host: str
    target: Target
    request_id: bytes


class Visitor:
    """What flags may ask of a request. A field or cookie that stands in it with two values has none."""

    __slots__ = ("_x",)

    def __init__(self, x: Asking) -> None:
        self._x = x

    def value(self, name: str) -> str | None:
        x = self._x
        kind, dot, rest = name.partition(".")
        if not dot:
            return self._own(name)
        if kind == "claim":
            return next((value for claim, value in x.caller.claims if claim == rest), None)
        values = values_sent(x, KeyKind.HEADER if kind == "header" else KeyKind.COOKIE, rest.encode())
        return values.pop().decode("utf-8", "surrogateescape") if len(values) == 1 else None

    def _own(self, name: str) -> str | None:
        x = self._x
        if name == "user":
            return x.caller.user
        if name == "client_ip":
            return x.caller.address
        if name == "host":
            return x.asked_host or x.target.host
        return x.path if name == "path" else x.method if name == "method" else None


class Exposures:
    """How often each variant was met since the last flush."""

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], int] = {}

    def add(self, flag: str, variant: str) -> None:
        key = (flag, variant)
        self._met[key] = self._met.get(key, 0) + 1

    def flush(self) -> None:
        for (flag, variant), count in self._met.items():
            metrics.FLAG_EXPOSURES.labels(flag, variant).inc(count)
        self._met.clear()


class FlagSet:
    """The flags of a policy, ready to be asked. One instance for each ruleset."""

    __slots__ = ("_compiled", "exposures", "maintenance", "read_only", "sign_with")

    def __init__(self, policy: Policy) -> None:
        self._compiled = {name: CompiledFlag(flag) for name, flag in policy.flags.items()}
        self.exposures = Exposures()
        self.maintenance = policy.server.maintenance
        self.read_only = policy.server.read_only
        secret = policy.server.sign_with
        self.sign_with = b"" if secret is None else secret.get_secret_value().encode()

    def variant(self, name: str, x: Asking, now_s: float) -> str:
        """What the visitor meets, which counts as shown."""
        variant = self._compiled[name].variant(Visitor(x), int(now_s * 1000))
        self.exposures.add(name, variant)
        return variant

    def of_route(self, route: Route) -> RouteFlags | None:
        """None for a route that no flag touches."""
        touched = route.told or route.by_flag is not None or self.maintenance or self.read_only
        return RouteFlags(self, route) if touched else None

    def opens(self, route: Route, x: Asking, now_s: float) -> bool:
        """Whether a route with `only_if` is there for this visitor."""
        return all(self.variant(flag.name, x, now_s) == variant for flag, variant in route.only_if)


class RouteFlags:
    """Those of one route."""

    __slots__ = ("_by_flag", "_flags", "_maintenance", "_read_only", "_told")

    def __init__(self, flags: FlagSet, route: Route) -> None:
        self._flags = flags
        self._told = tuple([flag.name for flag in route.told])
        self._by_flag = "" if route.by_flag is None else route.by_flag.name
        self._maintenance = _shut(flags.maintenance, Refusal(503, "maintenance", "This site is being worked on."))
        self._read_only = _shut(flags.read_only, Refusal(503, "read_only", "Nothing can be changed here now."))

    def refusal(self, x: Asking, now_s: float) -> Refusal | None:
        """What the visitor is told instead of being served."""
        for shut in (self._maintenance, None if x.method in _READING else self._read_only):
            if shut is not None and self._flags.variant(shut[0], x, now_s) == ON:
                return shut[1]
        return None

    def variation(self, x: Asking, now_s: float) -> str:
        """The variant of the flag that changes the route; empty where none does."""
        return self._flags.variant(self._by_flag, x, now_s) if self._by_flag else ""

    def told(self, x: Asking, now_s: float) -> bytes:
        """What the app is told: `checkout=on, color=blue`; empty where nothing is."""
        if not self._told:
            return b""
        met = [f"{name}={quote(self._flags.variant(name, x, now_s), safe='')}" for name in self._told]
        return ", ".join(met).encode()

    def lines(self, x: Asking, told: bytes, now_s: float) -> bytes:
        """The fields that say so."""
        lines = b"x-scopegate-flags: %b\r\n" % told
        key = self._flags.sign_with
        if key:
            signed = signature(key, int(now_s), x.request_id, x.method, x.target.raw, told)
            lines += b"x-scopegate-flags-signature: %b\r\n" % signed
        return lines


def signature(key: bytes, now_s: int, request_id: bytes, method: str, target: bytes, told: bytes) -> bytes:
    """The value of X-Scopegate-Flags-Signature: `t=<Unix seconds>,v1=<HMAC-SHA256 in hex>` over six lines. No part can
    hold a line break, so no two requests sign the same text."""
    text = b"flags-v1\n%d\n%b\n%b\n%b\n%b" % (now_s, request_id, method.encode(), target, told)
    return b"t=%d,v1=%b" % (now_s, hmac.digest(key, text, "sha256").hex().encode())


def _shut(switch: Switch | None, refusal: Refusal) -> tuple[str, Refusal] | None:
    """The flag that is asked, and what whoever it picks is told."""
    if switch is None:
        return None
    fields = ((b"retry-after", b"%d" % max(1, ceil(switch.retry_after_s))),)
    page = b"" if switch.page is None else switch.page.encode()
    return switch.flag, replace(refusal, fields=fields, page=page)
