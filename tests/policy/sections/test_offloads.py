from __future__ import annotations

import pytest

from scopegate.limits.window import Quota
from scopegate.policy.policy import Lookup, Offload
from tests.policies import ENVIRON, EXAMPLE, compiled


def offload(lines: str) -> Offload:
    """That of the example, with these lines more."""
    text = EXAMPLE.read_text().replace("    starts: 10 per 1m\n", f"    starts: 10 per 1m\n{lines}")
    return compiled(text, ENVIRON).offloads["lead-photos"]


def test_defaults_of_an_offload() -> None:
    text = EXAMPLE.read_text().replace("    when: {status: [200, 201]}", "").replace("    starts: 10 per 1m\n", "")
    offload = compiled(text, ENVIRON).offloads["lead-photos"]
    assert (offload.when_status, offload.starts) == (frozenset({200, 201}), Quota(10, 60_000))
    assert (offload.same_key_ms, offload.same_body_ms, offload.lookup) == (86_400_000, None, None)


@pytest.mark.parametrize(("written", "meant"), [("off", None), ("30s", 30_000), ("24h", 86_400_000)])
def test_for_how_long_a_lead_is_the_same(written: str, meant: int | None) -> None:
    found = offload(f"    same_key: {written}\n    same_body: {written}\n")
    assert (found.same_key_ms, found.same_body_ms) == (meant, meant)


def test_a_lookup_has_its_answers() -> None:
    found = offload("    lookup: {url: https://app.example/lookup}\n")
    assert found.lookup == Lookup("https://app.example/lookup", frozenset({200}), frozenset({404, 410}))
    found = offload("    lookup: {url: https://app.example/lookup, found: [200, 203], absent: []}\n")
    assert found.lookup == Lookup("https://app.example/lookup", frozenset({200, 203}), frozenset())
