from __future__ import annotations

from scopegate.limits.barriers import BanRule, ban_of
from scopegate.limits.window import Quota


def test_a_ban_is_two_windows_of_its_own() -> None:
    ban = ban_of("api", "api:60000.900000:k", BanRule(5, 60_000, 900_000), "192.0.2.1", 2, 3)
    assert (ban.name, ban.first, ban.count) == ("api", 2, 3)
    assert (ban.strikes.quota, ban.sentence.quota) == (Quota(5, 60_000), Quota(1, 900_000))
    assert ban.strikes.key != ban.sentence.key
    assert ban.strikes.origin == ban.sentence.origin == "192.0.2.1"
