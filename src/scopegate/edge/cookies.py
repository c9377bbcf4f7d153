"""Cookies of a request by name (RFC 6265 5.4). Pure. Called by sign-in and by the limits' keys."""

from __future__ import annotations

from collections.abc import Sequence


def values_of(name: bytes, lines: Sequence[bytes]) -> set[bytes]:
    """What the Cookie fields say a cookie is. More than one value: servers differ in which one they take."""
    pairs = (pair.partition(b"=") for line in lines for pair in line.split(b";"))
    return {value.strip(b" \t") for key, _, value in pairs if key.strip(b" \t") == name}
