"""How servers that we know look for a handler, each in a few lines of its own that know nothing of the gateway.

From a request's path to the segments that are compared with the patterns of a router, which may be told to drop case.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit


def express(path: str) -> str:
    """path-to-regexp on the raw path, decoding parameters alone."""
    return path


def next_js(path: str) -> str:
    """URL of WHATWG: backslashes are slashes, dot segments go, `%2e` among them; then doubled slashes."""
    return re.sub("/+", "/", _resolved(re.sub("%2e", ".", path.replace("\\", "/"), flags=re.I)))


def nginx(path: str) -> str:
    """Decoded, slashes merged, dot segments resolved; `alias` and `rewrite` go on from there."""
    return _resolved(re.sub("/+", "/", unquote(path)))


def go(path: str) -> str:
    """net/url decodes once, ServeMux cleans."""
    return posixpath.normpath(unquote(path)).replace("//", "/")


def tomcat(path: str) -> str:
    """Parameters go first, then escapes, then dot segments."""
    return _resolved(re.sub("/+", "/", unquote(re.sub(";[^/]*", "", path))))


def tomcat_with_backslashes(path: str) -> str:
    return _resolved(tomcat(path).replace("\\", "/"))


def decodes_then_drops_parameters(path: str) -> str:
    return _resolved(re.sub(";[^/]*", "", unquote(path)))


def iis(path: str) -> str:
    return _resolved(re.sub("/+", "/", unquote(path).replace("\\", "/")))


def kestrel(path: str) -> str:
    """Everything is decoded but `%2F`."""
    return _resolved(unquote(re.sub("%2f", "%252F", path, flags=re.I)))


def decoded_twice(path: str) -> str:
    return nginx(unquote(path))


def php(path: str) -> str:
    """A C string ends at NUL."""
    return nginx(path).partition("\0")[0]


def parsed_again(path: str) -> str:
    """Decoded, and then parsed as a URL once more."""
    return _resolved(urlsplit("http://a" + unquote(path).replace("\n", " ").replace("\r", " ").replace("\t", " ")).path)


def sent_on(path: str) -> str:
    """Decoded, and sent on in a request line that ends at the first space."""
    return re.split("[\x00-\x20\x7f]", nginx(path))[0]


SERVERS: list[Callable[[str], str]] = [
    express, next_js, nginx, go, tomcat, tomcat_with_backslashes, decodes_then_drops_parameters, iis, kestrel,
    decoded_twice, php, parsed_again, sent_on,
]  # fmt: skip


def _resolved(path: str) -> str:
    """Dot segments, as RFC 3986 5.2.4 has them."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for at, segment in enumerate(segments):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
        if segment in (".", "..") and at == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)
