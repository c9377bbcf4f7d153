from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.policy.policy import Kept, Retention
from tests.policies import compiled_with

DAY_MS = 86_400_000


def test_everything_is_kept_for_ever_unless_the_policy_says_otherwise() -> None:
    assert compiled_with().retention == Retention()
    assert Retention().ends(5) == {}


@pytest.mark.parametrize(("written", "meant"), [("90d", 90 * DAY_MS), ("36h", 129_600_000), ("0", 0), (0, 0)])
def test_each_has_a_time_of_its_own(written: object, meant: int) -> None:
    assert compiled_with(retention={"photos": written}).retention == Retention(photos_ms=meant)


def test_what_ends_when_is_told_for_what_is_not_kept_for_ever() -> None:
    retention = Retention(leads_ms=100, photos_ms=0, calls_ms=1)
    assert retention.ends(1_000) == {Kept.PHOTOS: 1_000, Kept.LEADS: 900, Kept.CALLS: 999}


def test_the_page_says_what_is_meant() -> None:
    page = (Path(__file__).parents[3] / "docs/retention.md").read_text("utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]
    import yaml

    found = compiled_with(**yaml.safe_load(block)).retention
    assert found == Retention(90 * DAY_MS, 0, 7 * DAY_MS, 400 * DAY_MS)
