"""`ai`: how the model is called, step by step, and what it may cost.

Pure. Called by `document`, `policy` and `compile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, create_model

from scopegate.limits.breaker import BreakerRule
from scopegate.limits.pricing import PriceTable
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.policy.draft import Draft
from scopegate.policy.faults import closest
from scopegate.policy.kinds import (
    Choice,
    Count,
    Duration,
    Name,
    Shape,
    Whole,
    option,
    parsed,
    required,
    section,
    written,
)
from scopegate.policy.quantities import MONEY_PATTERN, SHARE_PATTERN, parse_money, parse_share
from scopegate.policy.sections.names import twice
from scopegate.policy.tree import Fault

# Values


class WhenSpent(StrEnum):
    """A job that meets a spent budget waits for the next period, or fails by name."""

    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """`period`: `day` or `month` (UTC). `per`: None for one total, or `contractor`. `warn_at`: shares in 0..1."""

    name: str
    limit_usd_micros: int
    period: str
    per: str | None
    warn_at: tuple[float, ...]
    when_spent: WhenSpent


@dataclass(frozen=True, slots=True)
class AI:
    """`steps` holds every step that asks the model, by its name."""

    model: str
    steps: Mapping[str, StepLimits]
    breaker: BreakerRule
    budgets: tuple[BudgetRule, ...]


# Shapes


Money: TypeAlias = Annotated[tuple[int, str], parsed(parse_money), written("20 USD per day", MONEY_PATTERN)]
Share: TypeAlias = Annotated[float, parsed(parse_share), written("80%", SHARE_PATTERN)]


class StepShape(Shape):
    timeout: Duration | None = option(None, "The longest one call may take.")
    retries: Annotated[Whole, Field(ge=0, le=10)] | None = option(None, "Calls after the first.")
    max_tokens: Annotated[Count, Field(le=64_000)] | None = option(None, "The longest answer.")

    def build(self, default: StepLimits) -> StepLimits:
        return StepLimits(
            timeout_s=default.timeout_s if self.timeout is None else self.timeout,
            retries=default.retries if self.retries is None else self.retries,
            max_tokens=default.max_tokens if self.max_tokens is None else self.max_tokens,
        )


_STEPS: dict[str, Any] = {
    step: (
        StepShape,
        section(StepShape, f"{bounds.timeout_s:.0f}s, {bounds.retries} retries, {bounds.max_tokens} tokens."),
    )
    for step, bounds in MODEL_STEPS.items()
}


class StepsShape(create_model("StepsShape", __base__=Shape, **_STEPS)):  # type: ignore[misc]  # made at import
    """A section for each step that asks the model; what it does not say is as in `limits/steps`."""

    def build(self) -> Mapping[str, StepLimits]:
        return MappingProxyType({step: getattr(self, step).build(bounds) for step, bounds in MODEL_STEPS.items()})


class BreakerShape(Shape):
    failures: Annotated[Count, Field(le=1000)] = option(5, "Failures in a row that open it.")
    cooldown: Duration = option("60s", "How long it stays open before one probe.")

    def build(self) -> BreakerRule:
        return BreakerRule(self.failures, self.cooldown)


class BudgetShape(Shape):
    name: Name = required("The budget's name in metrics, logs and history.")
    limit: Money = required("The most that may be spent in a UTC day or month.")
    per: Literal["contractor"] | None = option(None, "One such budget for each contractor.")
    warn_at: list[Share] = option([], "Shares of the limit that raise a warning, each once per period.")
    when_spent: Choice[WhenSpent] = option(
        "hold", "A job that finds it spent waits for the next period (hold) or fails (fail)."
    )

    def build(self) -> BudgetRule:
        limit_usd_micros, period = self.limit
        return BudgetRule(
            name=self.name,
            limit_usd_micros=limit_usd_micros,
            period=period,
            per=self.per,
            warn_at=tuple(sorted(set(self.warn_at))),
            when_spent=self.when_spent,
        )


class AIShape(Shape):
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.@:/-]{0,99}$")] = option(
        "claude-haiku-5-5", "The model every step calls."
    )
    steps: StepsShape = section(StepsShape, "Bounds of each call.")
    breaker: BreakerShape = section(BreakerShape, "When to stop calling for a while.")
    budgets: list[BudgetShape] = option([], "Ceilings on money. None: no ceiling.")

    def build(self) -> AI:
        return AI(
            model=self.model,
            steps=self.steps.build(),
            breaker=self.breaker.build(),
            budgets=tuple(budget.build() for budget in self.budgets),
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    ai = _written(draft)
    if ai is None:
        return
    names = [(("ai", "budgets", index, "name"), budget.name) for index, budget in enumerate(ai.budgets)]
    yield from twice(names, "budget", draft)
    if not ai.budgets and draft.names("offloads"):
        yield draft.warning_at_key(("ai",), "no `budgets`: spending has no ceiling")


def unpriced(draft: Draft, prices: PriceTable | None) -> Iterator[Fault]:
    """A model without a price could be paid for and never counted, so no call to it would ever be made."""
    ai = _written(draft)
    if ai is not None and prices is not None and prices.price_of(ai.model) is None:
        loc = ("ai", "model")
        yield draft.problem(loc, f"no price is known for {draft.said(loc)}", closest(ai.model, prices.models))


def _written(draft: Draft) -> AIShape | None:
    """The section, where the file has it and it can be read."""
    return draft.one("ai", AIShape) if draft.has("ai") else None
