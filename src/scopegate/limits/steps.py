"""The steps of a lead's job, in the order they run, and what one call of those that ask the model may take.

Pure, and read by everybody: the policy's `ai.steps` has a section for each step that asks the model, the job a record
for every step, the metrics a label. What a step does is in `worker/steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class StepName(StrEnum):
    """In the order they run."""

    PHOTO_ANALYSIS = "photo_analysis"
    SCOPE = "scope"
    ESTIMATE = "estimate"
    SAVE = "save"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class StepLimits:
    """`timeout_s` bounds one call, `retries` the calls after the first, `max_tokens` the answer. `model`: None for that
    of all steps."""

    timeout_s: float
    retries: int
    max_tokens: int
    model: str | None = None


MODEL_STEPS: Final[Mapping[StepName, StepLimits]] = MappingProxyType(
    {
        StepName.PHOTO_ANALYSIS: StepLimits(45.0, 3, 2048),
        StepName.SCOPE: StepLimits(60.0, 3, 4096),
        StepName.ESTIMATE: StepLimits(60.0, 3, 4096),
    }
)
"""Those that ask the model, with the bounds of a call where the policy says nothing."""

SENT_STEPS: Final = tuple(step for step in StepName if step not in MODEL_STEPS)
"""Those that send to the app: a replay of a finished job sends again, and asks the model nothing."""
