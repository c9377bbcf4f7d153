"""The address of servers that Sentinels watch: `redis+sentinel://[user:password@]host[:26379][,host2...]/NAME[/db]`.
User and password are those of the servers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

SCHEME = "redis+sentinel://"
_PORT = 26379
_URL = re.compile(
    r"redis\+sentinel://(?:(?P<user>[^:@/,]*):(?P<password>[^@/,]*)@)?"
    r"(?P<hosts>[^/@?#]+)/(?P<service>[A-Za-z0-9._-]+)(?:/(?P<db>[0-9]{1,5}))?"
)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


class SentinelAddress(NamedTuple):
    """The servers called `service`, and the Sentinels that watch them."""

    sentinels: Sequence[tuple[str, int]]
    service: str
    db: int
    user: str
    password: str


def parse(url: str) -> SentinelAddress:
    """Raises ValueError, which does not repeat the URL."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("is not like redis+sentinel://host:26379,host2:26379/mymaster/0")
    sentinels = [_address(each) for each in found["hosts"].split(",")]
    user, password = unquote(found["user"] or ""), unquote(found["password"] or "")
    return SentinelAddress(sentinels, found["service"], int(found["db"] or 0), user, password)


def _address(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[2] or _PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError("names a Sentinel that is no host:port")
    return found[1].strip("[]"), port
