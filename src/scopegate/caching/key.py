"""What tells the answers of one route apart before any of them is known: the URL as the app is asked for it, and what
the policy names besides.

Pure. Everything that the gateway tells the app of a request and that an answer may depend on stands in the key: scheme,
Host, the public host. What does not stand in it does not reach the app: with `query` as a list, the other parameters
are taken out of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from scopegate.caching.said import Said, values_of
from scopegate.caching.vary import selecting
from scopegate.edge.cookies import values_of as cookie_values
from scopegate.edge.public_host import PublicHost
from scopegate.edge.verdict import Target
from scopegate.policy.policy import CacheKey


class KeyMaker:
    """For one route."""

    __slots__ = ("_cookies", "_headers", "_languages", "_languages_below", "_query", "_wants_more")

    def __init__(self, key: CacheKey) -> None:
        self._query: frozenset[bytes] | None = (
            None if key.query is None else frozenset(name.encode() for name in key.query)
        )
        self._headers = tuple(name.encode() for name in key.headers)
        self._cookies = tuple(name.encode() for name in key.cookies)
        self._languages = frozenset([path for path in key.languages if not path.endswith("/**")])
        self._languages_below = tuple([path.removesuffix("**") for path in key.languages if path.endswith("/**")])
        self._wants_more = bool(self._headers or self._cookies)

    def target(self, target: Target) -> Target:
        """What the app is asked for: the target without what does not count."""
        if self._query is None or b"?" not in target.raw:
            return target
        path, _, query = target.raw.partition(b"?")
        kept = [pair for pair in query.split(b"&") if unquote_to_bytes(pair.partition(b"=")[0]) in self._query]
        kept.sort(key=_name)
        return Target(target.method, target.path, path + b"?" + b"&".join(kept) if kept else path, target.host)

    def key(self, scheme: bytes, target: Target, public: PublicHost | None, request: Said) -> bytes:
        """Of a request for `target`, as the app is asked for it."""
        key = b"%b://%b%b" % (scheme, target.host.encode(), target.raw)
        if public is not None:
            key += b"\n%b:%b" % (public.host.encode(), public.port)
        if self._languages_below or target.path in self._languages:
            key += self._language(target.path, request)
        if not self._wants_more:
            return key
        more = [b"%b=%b" % (name, selecting((name,), request)) for name in self._headers if name in request]
        cookies = values_of(request, b"cookie")
        if self._cookies and cookies:
            more += [_cookie(name, cookies) for name in self._cookies]
        return b"\n".join([key, *more])

    def _language(self, path: str, request: Said) -> bytes:
        """What the app leads a visitor to their language by, where it does: a cookie, and their languages."""
        if path not in self._languages and not path.startswith(self._languages_below):
            return b""
        return b"\n%b\n%b" % (
            selecting((b"accept-language",), request),
            _cookie(b"NEXT_LOCALE", values_of(request, b"cookie")),
        )

    def covers_cookies(self, request: Said) -> bool:
        """Whether every cookie of the request stands in the key."""
        pairs = (pair for line in values_of(request, b"cookie") for pair in line.split(b";"))
        return all(name in self._cookies for pair in pairs if (name := _name(pair).strip(b" \t")))


def _cookie(name: bytes, cookies: Sequence[bytes]) -> bytes:
    return b"%b;%b" % (name, b";".join(sorted(cookie_values(name, cookies))))


def _name(pair: bytes) -> bytes:
    return pair.partition(b"=")[0]


def is_preview(cookies: Sequence[bytes]) -> bool:
    """Whether Next.js will show a draft to who sends these cookies: nothing that is kept is for them."""
    return any(name in line for line in cookies for name in (b"__prerender_bypass", b"__next_preview_data"))
