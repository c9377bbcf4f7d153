"""`ai`: how the model is called, step by step, and what it may cost.

Pure. Called by `document`, `policy` and `compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, create_model

from scopegate.limits.breaker import BreakerRule
from scopegate.limits.budget import Per, Period
from scopegate.limits.pricing import ModelPrice, PriceTable, Rates
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.policy.addresses import is_local, url_host
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
from scopegate.policy.quantities import (
    MONEY_PATTERN,
    PRICE_PATTERN,
    SHARE_PATTERN,
    parse_money,
    parse_price,
    parse_reuse_ms,
    parse_share,
)
from scopegate.policy.sections.names import twice
from scopegate.policy.sections.offloads import Deliver, DeliverShape
from scopegate.policy.tree import Fault, Loc

Prices: TypeAlias = Callable[[], PriceTable]
"""Gives the table, which is read where a policy names a model."""

# Values


class WhenSpent(StrEnum):
    """A job that meets a spent budget waits for the next period, or fails by name; or it asks the cheaper model as long
    as there is money for that one, and then waits."""

    HOLD = "hold"
    CHEAPER_MODEL = "cheaper_model"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """`per`: None for one that all share. `warn_at`: shares in 0..1, lowest first. `zone`: whose days and months."""

    name: str
    limit_usd_micros: int
    period: Period
    per: Per | None
    warn_at: tuple[float, ...]
    when_spent: WhenSpent
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class AI:
    """`steps` holds every step that asks the model, by its name. `cheaper_model` is asked when a step's own is
    overloaded or a budget says so. `prices` are the policy's, beside those that the program knows. `zone`: whose days
    and months the budgets' are. `warn`: who is told of the thresholds that they reach."""

    model: str
    steps: Mapping[str, StepLimits]
    breaker: BreakerRule
    budgets: tuple[BudgetRule, ...]
    cheaper_model: str | None = None
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)
    zone: tzinfo = UTC
    warn: Deliver | None = None
    reuse_ms: int | None = None

    def model_of(self, step: str) -> str:
        return self.steps[step].model or self.model

    def models(self) -> tuple[str, ...]:
        """Every model that may be asked, each once."""
        asked = [self.model_of(step) for step in self.steps]
        return tuple(dict.fromkeys([*asked, *([self.cheaper_model] if self.cheaper_model else [])]))


# Shapes


def _parse_zone(text: str) -> ZoneInfo:
    """A zone by its name in the tz database, as this machine has it."""
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone of this machine, write it like `Europe/Berlin` or `UTC`") from None


Money: TypeAlias = Annotated[tuple[int, Period], parsed(parse_money), written("20 USD per day", MONEY_PATTERN)]
TokenPrice: TypeAlias = Annotated[int, parsed(parse_price), written("2.5 USD per MTok", PRICE_PATTERN)]
Model: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.@:/-]{0,99}$")]
Zone: TypeAlias = Annotated[ZoneInfo, parsed(_parse_zone), written("Europe/Berlin")]
Reusing: TypeAlias = Annotated[int, parsed(parse_reuse_ms), written("7d", r"^[1-9][0-9]*(m|h|d)$")]
Share: TypeAlias = Annotated[float, parsed(parse_share), written("80%", SHARE_PATTERN)]


class StepShape(Shape):
    timeout: Duration | None = option(None, "The longest one call may take.")
    retries: Annotated[Whole, Field(ge=0, le=10)] | None = option(None, "Calls after the first.")
    max_tokens: Annotated[Count, Field(le=64_000)] | None = option(None, "The longest answer.")
    model: Model | None = option(None, "The model this step calls; `ai.model` when left out.")

    def build(self, default: StepLimits) -> StepLimits:
        return StepLimits(
            timeout_s=default.timeout_s if self.timeout is None else self.timeout,
            retries=default.retries if self.retries is None else self.retries,
            max_tokens=default.max_tokens if self.max_tokens is None else self.max_tokens,
            model=self.model,
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
    limit: Money = required(
        "The most that may be spent: `per day` or `per month` of the calendar (`ai.time_zone`), `per 24h` in any span "
        "so long, `in total` once and for all."
    )
    per: Choice[Per] | None = option(None, "One such budget for each; left out: one that all share.")
    warn_at: list[Share] = option([], "Shares of the limit that raise a warning, each once per period.")
    when_spent: Choice[WhenSpent] = option(
        "hold",
        "A job that finds it spent waits for the next period (hold), fails (fail), or asks `ai.cheaper_model` while "
        "there is money for that one and then waits (cheaper_model).",
    )

    def build(self, zone: tzinfo) -> BudgetRule:
        limit_usd_micros, period = self.limit
        return BudgetRule(
            name=self.name,
            limit_usd_micros=limit_usd_micros,
            period=period,
            per=self.per,
            warn_at=tuple(sorted(set(self.warn_at))),
            when_spent=self.when_spent,
            zone=zone,
        )


class PricesShape(Shape):
    """USD per million tokens. What a cache class does not say is its usual multiple of `input`."""

    input: TokenPrice = required("Input tokens that no cache holds.")
    output: TokenPrice = required("Output tokens.")
    cache_read: TokenPrice | None = option(None, "Input read from a cache; a tenth of `input` when left out.")
    cache_write_5m: TokenPrice | None = option(None, "Input kept for five minutes; 1.25 times `input` when left out.")
    cache_write_1h: TokenPrice | None = option(None, "Input kept for an hour; twice `input` when left out.")

    def rates(self) -> Rates:
        return Rates(
            self.input,
            self.output,
            self.cache_read or -(-self.input // 10),
            self.cache_write_5m or -(-self.input * 5 // 4),
            self.cache_write_1h or self.input * 2,
        )


class LongShape(PricesShape):
    prompt_above: Count = required("A prompt of more tokens than this is billed whole at these prices.")


class PricedModelShape(PricesShape):
    long: list[LongShape] = option([], "Prices of long prompts.")

    def build(self) -> ModelPrice:
        long = sorted(((tier.prompt_above, tier.rates()) for tier in self.long), key=lambda pair: -pair[0])
        return ModelPrice(self.rates(), tuple(long))


class AIShape(Shape):
    model: Model = option("claude-haiku-5-5", "The model a step calls that names none.")
    cheaper_model: Model | None = option(
        None, "Asked when a step's model is overloaded, and under a spent budget with `when_spent: cheaper_model`."
    )
    prices: dict[Model, PricedModelShape] = option({}, "Prices of models, beside those that are known or instead.")
    steps: StepsShape = section(StepsShape, "Bounds of each call.")
    breaker: BreakerShape = section(BreakerShape, "When to stop calling for a while.")
    budgets: list[BudgetShape] = option([], "Ceilings on money. None: no ceiling.")
    time_zone: Zone = option(
        "UTC", "Whose days and months the budgets and forecasts are, by its name in the tz database."
    )
    warn: DeliverShape | None = option(
        None, "Who is told of each threshold in `warn_at` that is reached, besides log and metric: a signed webhook."
    )

    reuse: Reusing | None = option(
        None,
        "For so long (1m to 30d) the same question of the same contractor, photo for photo and word for word, gets the "
        "answer that was paid for. Left out: every question is asked.",
    )

    def build(self) -> AI:
        return AI(
            model=self.model,
            steps=self.steps.build(),
            breaker=self.breaker.build(),
            budgets=tuple(budget.build(self.time_zone) for budget in self.budgets),
            cheaper_model=self.cheaper_model,
            prices=MappingProxyType({name: entry.build() for name, entry in self.prices.items()}),
            zone=self.time_zone,
            reuse_ms=self.reuse,
            warn=None if self.warn is None else self.warn.build(),
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    ai = _written(draft)
    if ai is None:
        return
    names = [(("ai", "budgets", index, "name"), budget.name) for index, budget in enumerate(ai.budgets)]
    yield from twice(names, "budget", draft)
    for index, budget in enumerate(ai.budgets):
        if budget.when_spent is WhenSpent.CHEAPER_MODEL and ai.cheaper_model is None:
            yield draft.problem(("ai", "budgets", index, "when_spent"), "needs `ai.cheaper_model`")
    if ai.warn is not None and not any(budget.warn_at for budget in ai.budgets):
        yield draft.warning(("ai", "warn"), "no budget has a `warn_at`: nothing is ever told")
    if ai.warn is not None and ai.warn.url.startswith("http://") and not is_local(url_host(ai.warn.url)):
        yield draft.warning(("ai", "warn", "url"), "the warning travels without TLS")
    if not ai.budgets and draft.names("offloads"):
        yield draft.warning_at_key(("ai",), "no `budgets`: spending has no ceiling")


def unpriced(draft: Draft, prices: Prices | None) -> Iterator[Fault]:
    """A model without a price could be paid for and never counted, so no call to it would ever be made."""
    ai = _written(draft)
    if ai is None or prices is None:
        return
    table = prices().with_models(ai.build().prices)
    for loc, model in _models(ai):
        if model is not None and table.price_of(model) is None:
            known = ", ".join(sorted(table.models))
            what = f"no price is known for {draft.said(loc)} (known: {known}): add it under `ai.prices`"
            yield draft.problem(loc, what, closest(model, table.models))


def _models(ai: AIShape) -> Iterator[tuple[Loc, str | None]]:
    """Every place that names a model."""
    yield ("ai", "model"), ai.model
    yield ("ai", "cheaper_model"), ai.cheaper_model
    for step in MODEL_STEPS:
        yield ("ai", "steps", step, "model"), getattr(ai.steps, step).model


def _written(draft: Draft) -> AIShape | None:
    """The section, where the file has it and it can be read."""
    return draft.one("ai", AIShape) if draft.has("ai") else None
