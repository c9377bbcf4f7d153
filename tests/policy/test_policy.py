from __future__ import annotations

import re

from scopegate.limits.window import Quota
from scopegate.policy.policy import (
    Address,
    AddressSource,
    AnswerFields,
    Health,
    KeyKind,
    KeyPart,
    Mode,
    Origin,
    Route,
    ServerLimits,
    ServerTimeouts,
    Upstream,
    UpstreamTimeouts,
)
from tests.policies import ENVIRON, EXAMPLE, MINIMAL, SECRET, STANDARD, compiled, compiled_with, load


def test_the_example_means_what_it_says() -> None:
    found = load(EXAMPLE, ENVIRON)
    lead, _, area, _, assets, rest = found.routes
    assert re.fullmatch(r"[0-9a-f]{12}", found.digest)
    assert found.server.listen == Address("0.0.0.0", 8080)
    assert found.server.hosts == frozenset({"leads.example.com"})
    assert found.server.limits.head_bytes == 32 * 1024
    assert found.tiers["moderate"].key == (KeyPart(KeyKind.USER),)
    assert lead.methods == frozenset({"POST"})
    assert lead.tiers == (found.tiers["strict"],)
    assert lead.tiers[0].quotas == (Quota(10, 10_000),)
    assert lead.body.max_bytes == 256 * 1024
    assert lead.offload is found.offloads["lead-photos"]
    assert [one.get_secret_value() for one in lead.offload.deliver.secrets] == [SECRET]
    assert area.auth is found.auths["contractor"]
    assert area.auth.jwt.algorithms == ("RS256",)
    assert (assets.tiers, rest.methods, rest.mode) == ((), None, Mode.WATCH)
    assert EXAMPLE.read_text().splitlines()[area.line - 1].lstrip().startswith("- {name: contractor-area")
    assert found.ai is not None
    assert found.ai.steps["photo_analysis"].timeout_s == 45
    assert [(b.name, b.limit_usd_micros, b.period, b.per) for b in found.ai.budgets] == [
        ("day", 20_000_000, "day", None),
        ("month", 300_000_000, "month", None),
        ("contractor-day", 2_000_000, "day", "contractor"),
    ]
    assert found.ai.budgets[0].warn_at == (0.5, 0.8, 0.95)
    assert found.promises[1].without == ("authorization",)


def test_what_is_left_out_is_strict() -> None:
    found = compiled(MINIMAL)
    assert found.server.trusted_proxies == ()
    assert found.server.limits.body_bytes == 1024**2
    assert found.admin.listen == Address("127.0.0.1", 9900)
    assert found.routes[0].body.max_bytes == 1024**2
    assert found.routes[0].mode is Mode.ENFORCE
    assert dict(found.tiers) == {"lenient": found.routes[0].tiers[0]}
    assert found.ai is None


def test_what_is_left_out_is_what_the_policy_says_it_is() -> None:
    """The defaults of `policy.py`, which tests of other rooms lean on, are those of the file."""
    found = compiled_with(upstreams={"web": {"servers": ["http://127.0.0.1:3000"], "health": {"path": "/"}}})
    limits, timeouts = found.server.limits, found.server.timeouts
    assert limits == ServerLimits(32_768, 100, 8192, 1024**2, 4096, 2048)
    assert timeouts == ServerTimeouts(10, 15, 60, 30)
    assert found.server.address_from is AddressSource.X_FORWARDED_FOR
    health = Health("/", 5)
    assert found.upstreams["web"] == Upstream(
        "web", (Origin("http", "127.0.0.1", 3000),), UpstreamTimeouts(2, 30, 60), health
    )
    only = found.routes[0]
    assert isinstance(only, Route)
    assert (only.websocket, only.events, only.cors, only.body.json, only.body.multipart) == (None,) * 5
    assert only.answer_fields == AnswerFields("standard", STANDARD)


def test_a_policy_never_shows_its_secrets() -> None:
    assert SECRET not in repr(load(EXAMPLE, ENVIRON))
