"""What becomes of a field by its name: it goes on, it is noted, it ends here. The tables for requests and answers.

Pure. Names of four kinds end here: hop-by-hop fields (RFC 9110 7.6.1), those that the gateway itself speaks for, those
by which proxies tell their apps who and where a visitor is, and those by which a framework talks to itself. Read by
`headers`, once for every field of every message.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from scopegate.policy.inner import ALIKE, INNER_PREFIXES, OF_THE_CLIENT, PAGE_DATA_FIELDS, is_inner

_HOP_BY_HOP = (
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings "
    b"proxy-authenticate proxy-authorization proxy-authentication-info"
).split()
_OURS_IN_REQUESTS = (
    b"content-length host expect x-request-id via forwarded x-forwarded-for x-forwarded-proto x-forwarded-host "
    b"x-forwarded-port "
    b"x-forwarded forwarded-for x-original-forwarded-for "
    # what CGI apps read as the environment's HTTP_PROXY (CVE-2016-5385)
    b"proxy "
    # the address
    b"x-real-ip x-client-ip client-ip proxy-client-ip x-cluster-client-ip true-client-ip x-true-client-ip "
    b"cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4 fastly-client-ip fly-client-ip incap-client-ip "
    b"x-proxyuser-ip x-appengine-user-ip x-azure-clientip x-azure-socketip x-envoy-external-address "
    # host, target and method
    b"x-host x-original-host x-http-host-override x-original-url x-original-uri x-rewrite-url x-override-url "
    b"x-http-method-override x-http-method x-method-override x-original-method "
    # how they came, and who a proxy says they are
    b"x-scheme x-url-scheme front-end-https x-arr-ssl client-cert client-cert-chain x-client-cert remote-user "
    b"x-remote-user x-invocation-id"
).split()
PAGE_DATA = "/_next/data/"
"""Where those may go on: on any other path they would change a page for who reads it from a cache in front of us."""
PASS, NOTE, CUT, NOTE_AND_CUT = 0, 1, 2, 3
"""A field goes on; also, its value is asked after; it ends here; it ends here and its value is asked after."""
Rule = tuple[int, bytes]
"""What becomes of a field, and its name in lower case."""
_PASSED: Rule = (PASS, b"")
_COMMON = (
    b"accept-encoding accept-language cache-control content-disposition content-encoding content-language dnt etag "
    b"expires if-modified-since if-none-match last-modified origin pragma priority range referer sec-ch-ua "
    b"sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user set-cookie "
    b"traceparent tracestate upgrade-insecure-requests user-agent vary"
).split()


class Rules:
    """From a field's name, in any case, to its rule. The usual spellings are known beforehand: nothing is remembered
    of what clients send. `inner` are beginnings of names that are cut, but for those `passed`; of those in `judged`
    every odd spelling is."""

    __slots__ = ("_by_name", "_inner", "_judged", "known")

    def __init__(
        self,
        noted: Sequence[bytes],
        cut: Sequence[bytes],
        both: Sequence[bytes],
        inner: tuple[bytes, ...],
        judged: frozenset[bytes] = frozenset(),
        passed: Sequence[bytes] = (),
    ) -> None:
        self._by_name: dict[bytes, Rule] = dict.fromkeys(passed, _PASSED) | {name: (NOTE, name) for name in noted}
        self._by_name |= {name: (CUT, name) for name in cut} | {name: (NOTE_AND_CUT, name) for name in both}
        self._inner = inner
        self._judged = judged
        usual = dict.fromkeys(_COMMON, _PASSED) | self._by_name
        self.known: dict[bytes, Rule] = {spelt: rule for name, rule in usual.items() for spelt in (name, name.title())}
        """By name, as it is usually spelt."""

    def of(self, name: bytes) -> Rule:
        """The rule for a name that is not spelt as usual."""
        lower = name.lower()
        rule = self._by_name.get(lower)
        if rule is not None:
            return rule
        alike = lower.translate(ALIKE)
        is_cut = self._by_name.get(alike, _PASSED)[0] >= CUT or alike in self._judged or alike.startswith(self._inner)
        return (CUT, lower) if is_cut else _PASSED


RATE_LIMIT_FIELDS = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"x-ratelimit-store-error",
    b"ratelimit",
    b"ratelimit-policy",
    b"ratelimit-limit",
    b"ratelimit-remaining",
    b"ratelimit-reset",
)
"""What an app may say of limits of its own; where ours hold, ours alone are told."""
SECURITY_FIELDS = (
    b"strict-transport-security",
    b"x-content-type-options",
    b"x-frame-options",
    b"referrer-policy",
    b"content-security-policy",
    b"cross-origin-opener-policy",
)
"""What `answer_fields` may add: noted in every answer, so that the app's own is seen."""
CORS_FIELDS = (
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-allow-private-network",
    b"access-control-expose-headers",
    b"access-control-max-age",
)
"""Where a route has a CORS rule, the rule alone speaks."""
_PREFLIGHT = [b"origin", b"access-control-request-method", b"access-control-request-headers"]
JUDGED = frozenset([b"content-type", b"content-encoding", b"authorization", b"cookie"])
"""Fields that a decision rests on and that go on: the app has to see what was judged."""
_UNCOUNTED: frozenset[bytes] = frozenset()


def request_rules(counted: Set[bytes] = _UNCOUNTED) -> Rules:
    """Where requests are counted or listed by these fields (in lower case), which go on in that spelling alone."""
    return Rules(
        noted=[
            *(b"authorization", b"cookie", b"content-type", b"content-encoding", b"accept", b"max-forwards"),
            *_PREFLIGHT,
            *PAGE_DATA_FIELDS,
        ],
        cut=[],
        both=[*_HOP_BY_HOP, *_OURS_IN_REQUESTS, b"traceparent", b"tracestate"],
        inner=INNER_PREFIXES,
        judged=JUDGED | {name.translate(ALIKE) for name in counted},
        passed=[*OF_THE_CLIENT, *(name for name in counted if not is_inner(name))],
    )


REQUEST_RULES = request_rules()
RESPONSE_RULES = Rules(
    noted=[b"date", b"via", b"vary", b"content-encoding", *RATE_LIMIT_FIELDS, *SECURITY_FIELDS, *CORS_FIELDS],
    cut=[b"server", b"x-request-id", b"x-powered-by", b"alt-svc"],
    both=[*_HOP_BY_HOP, b"content-length"],
    inner=(b"x-scopegate-",),
)
