from __future__ import annotations

from scopegate.limits.window import Quota
from scopegate.policy.policy import OnStoreError
from tests.policies import MINIMAL, compiled


def test_the_three_tiers_need_no_definition_and_can_be_given_another() -> None:
    for name, limit in (("strict", 10), ("moderate", 30), ("lenient", 100)):
        tier = compiled(MINIMAL.replace("lenient", name)).routes[0].tier
        assert tier is not None
        assert tier.quotas == (Quota(limit, 10_000),)
    tier = compiled(MINIMAL + "tiers: {lenient: {limit: [5 per 1s, 50 per 1m]}}\n").routes[0].tier
    assert tier is not None
    assert tier.quotas == (Quota(5, 1000), Quota(50, 60_000))
    assert tier.on_store_error is OnStoreError.LOCAL
