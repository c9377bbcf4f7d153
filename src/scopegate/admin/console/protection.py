"""Protection: what is refused and why, by whom it is met most, and what may be done about a client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client.metrics_core import Metric
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scopegate.admin import limits
from scopegate.admin.console.audit import write_down
from scopegate.admin.console.pages import Pages, known, link
from scopegate.admin.console.reading import form_of, query_of
from scopegate.admin.credentials import Credentials
from scopegate.admin.scrape import counted
from scopegate.admin.sources import Sources
from scopegate.admin.top import top
from scopegate.errors import StoreError
from scopegate.metrics.totals import DirectoryBusy
from scopegate.stores.ports import LimitDesk

ACTIONS = {"ban": "banned", "unban": "freed", "reset": "begun anew"}
MOST = 15
_BREAKERS = {0.0: "closed", 0.5: "half-open", 1.0: "open"}


class LabelSum(NamedTuple):
    """One line of a table of counts."""

    of: tuple[str, ...]
    times: int


class ProtectionPage:
    def __init__(self, sources: Sources, pages: Pages, credentials: Credentials) -> None:
        self._s, self._pages, self._credentials = sources, pages, credentials

    def routes(self) -> list[Route]:
        return [Route("/protection", self.show), Route("/protection/act", self.act, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        query = query_of(request, ["key", "did"])
        return self._pages.answer(
            request,
            "protection.html",
            **await asyncio.to_thread(self._counts),
            top=await asyncio.to_thread(lambda: top(self._s.top(), MOST)),
            key=query.get("key", ""),
            done=ACTIONS.get(query.get("did", ""), ""),
            has_desk=self._s.limits is not None,
            has_bans=any(tier.ban is not None for tier in self._s.policy().tiers.values()),
            **await self._looked_up(query.get("key")),
        )

    def _counts(self) -> Mapping[str, Any]:
        """Since the processes' directory was made. Of one that cannot be read now, nothing."""
        try:
            found = counted(self._s.metrics_directory)
            is_read = True
        except (DirectoryBusy, OSError):
            found, is_read = (), False
        return {
            "is_read": is_read,
            "refusals": _summed(found, "scopegate_refusals_total", ("route", "reason")),
            "watched": _summed(found, "scopegate_watched_refusals_total", ("route", "reason")),
            "decisions": _summed(found, "scopegate_limit_decisions_total", ("tier", "decision")),
            "stores": _states(found),
        }

    async def _looked_up(self, key: str | None) -> Mapping[str, Any]:
        if key is None or self._s.limits is None:
            return {"rows": [], "fault": ""}
        try:
            found = limits.stands(self._s.policy(), key, self._s.limit_secret)
            return {"rows": await limits.show(self._s.limits, found), "fault": ""}
        except limits.BadKey as fault:
            return {"rows": [], "fault": f"{fault}."}
        except StoreError:
            return {"rows": [], "fault": "Redis does not answer."}

    async def act(self, request: Request) -> Response:
        form, who = await form_of(request, self._credentials), known(request)
        action, key = form.one("action"), form.one("key")
        if action not in ACTIONS:
            raise HTTPException(400, f"action must be one of: {', '.join(ACTIONS)}.")
        if self._s.limits is None:
            raise HTTPException(409, "Each gateway counts in its own memory: there is no Redis to look in.")
        try:
            found = limits.stands(self._s.policy(), key, self._s.limit_secret)
            await write_down(self._s, who, action, key)
            await _do(action, self._s.limits, found)
        except limits.BadKey as fault:
            raise HTTPException(409, f"{fault}.") from None
        except StoreError:
            raise HTTPException(503, "Redis does not answer.") from None
        return RedirectResponse(link("/protection", key=key, did=action), 303)


async def _do(action: str, desk: LimitDesk, found: Sequence[limits.Stand]) -> None:
    """Raises BadKey."""
    if action == "ban":
        await limits.ban(desk, found)
    elif action == "unban":
        await limits.unban(desk, found)
    else:
        await limits.reset(desk, found)


def _summed(found: Iterable[Metric], name: str, labels: tuple[str, ...]) -> Sequence[LabelSum]:
    """What was counted at all, the most first."""
    sums: Counter[tuple[str, ...]] = Counter()
    for family in found:
        for sample in family.samples:
            if sample.name == name and sample.value:
                sums[tuple(sample.labels.get(label, "") for label in labels)] += int(sample.value)
    return [LabelSum(of, times) for of, times in sums.most_common(100)]


def _states(found: Iterable[Metric]) -> Sequence[tuple[str, str, str]]:
    """(what, which, state) of stores, breakers and the app's servers."""
    told: list[tuple[str, str, str]] = []
    for family in found:
        for sample in family.samples:
            match sample.name:
                case "scopegate_limit_store_up":
                    told.append(("limit store", "", "up" if sample.value >= 1 else "down"))
                case "scopegate_breaker_open":
                    told.append(("breaker", sample.labels["breaker"], _BREAKERS.get(sample.value, "open")))
                case "scopegate_upstream_servers" if sample.value:
                    state = sample.labels["state"]
                    told.append(("upstream", f"{sample.labels['upstream']}: {sample.value:.0f}", state))
    return told
