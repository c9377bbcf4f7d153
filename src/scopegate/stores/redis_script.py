"""A script about windows, as Redis runs it: by its digest, loaded once on every connection. Used by `redis_limits` and
`redis_presence`."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from scopegate.stores.redis_link import pack


class Script:
    """A script as the server knows it, once it is loaded."""

    __slots__ = ("is_loading", "load", "sha")

    def __init__(self, name: str) -> None:
        folder = files("scopegate.stores")
        text = folder.joinpath("window.lua").read_bytes() + folder.joinpath(name).read_bytes()
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self.load = pack(b"SCRIPT", b"LOAD", text)
        self.is_loading = False

    def head(self, arguments: int, keys: int) -> bytes:
        """How a call begins that goes on with so many keys and other arguments."""
        count = b"%d" % keys
        return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n" % (
            3 + keys + arguments,
            self.sha,
            len(count),
            count,
        )
