"""What a change at the app makes of answers that are kept (RFC 9111 4.4).

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from scopegate.caching.said import Said, values_of

SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"])
"""They change nothing (RFC 9110 9.2.1); any other method may."""
_NAMING = (b"location", b"content-location")


def changes(method: str, status: int) -> bool:
    """Whether an answer says that something is another than it was."""
    return method not in SAFE_METHODS and 200 <= status < 400


def changed_urls(url: bytes, said: Said) -> Iterator[bytes]:
    """The URL that was asked for, and those of the same host that the answer names. URLs are host, path and query."""
    yield url
    asked = f"http://{url.decode('latin-1')}"
    host = urlsplit(asked).netloc
    for name in _NAMING:
        values = values_of(said, name)
        if len(values) != 1:
            continue
        try:
            named = urlsplit(urljoin(asked, values[0].decode("latin-1")))
        except ValueError:
            continue
        if named.netloc.lower() == host and named.path.startswith("/"):
            found = host + named.path + (f"?{named.query}" if named.query else "")
            if found.encode("latin-1") != url:
                yield found.encode("latin-1")
