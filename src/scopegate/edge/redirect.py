"""What a visitor of the redirecting port is told: the same page by https, or an ACME challenge of ours.

Pure. The host is one that the policy serves, never one that the visitor makes up.
"""

from __future__ import annotations

import re

from scopegate.edge.target import NOT_SERVED
from scopegate.edge.verdict import Refusal, Reply, Target

_HTTPS_PORT = 443
_PORT = re.compile(r":[0-9]+\Z")
_CHALLENGE = re.compile(r"/\.well-known/acme-challenge/([A-Za-z0-9_-]{1,128})")
_READS = ("GET", "HEAD")


def host_name(authority: str) -> str:
    """Without its port."""
    return _PORT.sub("", authority)


def to_https(target: Target, names: frozenset[str], port: int) -> Reply | Refusal:
    """301, which everybody knows, for a page; 308 for what must not become a GET on its way (RFC 9110 15.4). `names`:
    the hosts that are served, without ports; `port`: where https is spoken."""
    name = host_name(target.host)
    if name not in names:
        return NOT_SERVED
    at = "" if port == _HTTPS_PORT else f":{port}"
    lines = b"location: https://%b%b%b\r\ncontent-length: 0\r\n" % (name.encode(), at.encode(), target.raw)
    return Reply(301 if target.method in _READS else 308, lines)


def challenge_token(target: Target) -> str | None:
    """The token of an HTTP-01 challenge (RFC 8555 8.3) that is asked for, as it may be a file's name."""
    found = _CHALLENGE.fullmatch(target.path)
    return found[1] if found is not None and target.method in _READS else None


def challenge(content: bytes) -> Reply:
    lines = b"content-type: application/octet-stream\r\nx-content-type-options: nosniff\r\ncontent-length: %d\r\n"
    return Reply(200, lines % len(content), content)
