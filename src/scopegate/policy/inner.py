"""Names of request fields by which proxies and frameworks talk to themselves: taken out of every request, whoever sent
it, so that nobody is counted or listed by them.

Pure. Read by `edge/field_rules`, and by the sections that name fields to count by.
"""

from __future__ import annotations

INNER_PREFIXES = (
    b"x-scopegate-",
    b"x-forwarded-",
    b"ssl-client-",
    b"x-ssl-client-",
    b"wl-proxy-",
    b"x-middleware-",
    b"x-nextjs-",
    b"x-next-",
    b"next-resume",
    b"x-action-",
    b"x-invoke-",
    b"x-matched-path",
    b"x-now-route-matches",
    b"x-isr",
    b"x-prerender-",
    b"x-vercel-",
)
"""Names by which this gateway, proxies, Next.js and its hosts talk to themselves (CVE-2025-29927:
`x-middleware-subrequest`). Such a field is taken out on the way in, whoever sent it. What Next.js has browsers send
(`next-action`, `rsc`, `next-router-*`, `next-url`, and what follows) is not among them."""
PAGE_DATA_FIELDS = (b"x-nextjs-data", b"x-middleware-prefetch")
"""What the client of Next.js' pages router sends for the data of a page, and nowhere else: with the first, middleware
answers redirects and rewrites as fields; with the second it alone is run."""
OF_THE_CLIENT = (b"x-nextjs-request-id", b"x-nextjs-html-request-id")
"""What the client of its app router sends in development, to tell apart what is under way."""

ALIKE = bytes(byte if chr(byte).isalnum() and byte < 128 else ord("-") for byte in range(256))
"""CGI and WSGI apps read `X_Real_IP` and `X.Real.IP` as `X-Real-IP`: what is cut is cut in every such spelling, and
what is judged passes in its own spelling only."""


def is_inner(name: bytes) -> bool:
    """Whether a request's field of this name, in lower case, is taken out whoever sent it: nobody is counted by it."""
    alike = name.translate(ALIKE)
    return alike not in OF_THE_CLIENT and alike not in PAGE_DATA_FIELDS and alike.startswith(INNER_PREFIXES)
