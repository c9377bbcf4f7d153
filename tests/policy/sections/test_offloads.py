from __future__ import annotations

from scopegate.limits.window import Quota
from tests.policies import ENVIRON, EXAMPLE, compiled


def test_defaults_of_an_offload() -> None:
    text = EXAMPLE.read_text().replace("    when: {status: [200, 201]}", "").replace("    starts: 10 per 1m\n", "")
    offload = compiled(text, ENVIRON).offloads["lead-photos"]
    assert (offload.when_status, offload.starts) == (frozenset({200, 201}), Quota(10, 60_000))
