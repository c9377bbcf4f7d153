"""The sections about work that leaves the request -> their part of the `Policy`: offloads, the model, budgets.

Pure; what arrives has been checked. Called by `build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scopegate.policy import document
from scopegate.policy.policy import AI, BreakerRule, BudgetRule, Deliver, Offload, StepLimits

STEP_DEFAULTS: Mapping[str, StepLimits] = MappingProxyType(
    {
        "photo_analysis": StepLimits(45.0, 3, 2048),
        "scope": StepLimits(60.0, 3, 4096),
        "estimate": StepLimits(60.0, 3, 4096),
    }
)


def offload(name: str, rule: document.Offload) -> Offload:
    return Offload(
        name=name,
        when_status=frozenset(rule.when.status),
        lead_id=rule.lead_id,
        contractor=rule.contractor,
        photos=rule.photos,
        text=rule.text,
        photo_hosts=tuple(rule.photo_hosts),
        deliver=Deliver(rule.deliver.url, rule.deliver.secret),
        starts=rule.starts,
    )


def ai(rule: document.AI) -> AI:
    steps = {name: _step(getattr(rule.steps, name), default) for name, default in STEP_DEFAULTS.items()}
    return AI(
        model=rule.model,
        steps=MappingProxyType(steps),
        breaker=BreakerRule(rule.breaker.failures, rule.breaker.cooldown),
        budgets=tuple(_budget(budget) for budget in rule.budgets),
    )


def _step(step: document.Step, default: StepLimits) -> StepLimits:
    return StepLimits(
        timeout_s=default.timeout_s if step.timeout is None else step.timeout,
        retries=default.retries if step.retries is None else step.retries,
        max_tokens=default.max_tokens if step.max_tokens is None else step.max_tokens,
    )


def _budget(budget: document.Budget) -> BudgetRule:
    limit_usd_micros, period = budget.limit
    return BudgetRule(
        name=budget.name,
        limit_usd_micros=limit_usd_micros,
        period=period,
        per=budget.per,
        warn_at=tuple(sorted(set(budget.warn_at))),
        when_spent=budget.when_spent,
    )
