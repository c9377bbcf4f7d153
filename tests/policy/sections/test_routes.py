from __future__ import annotations

from typing import Any

import pytest

from scopegate.policy.policy import PathStep
from tests.policies import compiled_with, route


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, None),
        ({"reads": []}, frozenset()),
        ({"reads": ["parameters", "case"]}, {PathStep.PARAMETERS, PathStep.CASE}),
        ({"reads": [str(step) for step in PathStep]}, set(PathStep)),
    ],
)
def test_how_the_app_of_a_route_reads_a_path(settings: dict[str, Any], steps: set[PathStep] | None) -> None:
    (found,) = compiled_with(routes=[route(**settings)]).routes
    assert found.reads == steps
