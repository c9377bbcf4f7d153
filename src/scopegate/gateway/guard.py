"""The breaker of one upstream: while it is open, no server of it is asked. The table is `limits/breaker`; here is its
state, in this process. The pipeline asks before it forwards; the exchange tells what came of it.
"""

from __future__ import annotations

import asyncio

from scopegate import logs
from scopegate.limits import breaker
from scopegate.limits.breaker import BreakerTerms, CallOutcome, Denied, Permit, Phase
from scopegate.policy.policy import Upstream

_log = logs.get("upstream")


class Guard:
    """For an upstream whose policy has a breaker."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        rule, timeouts = upstream.breaker, upstream.timeouts
        assert rule is not None
        longest_s = timeouts.queue_s + timeouts.connect_s * len(upstream.servers) + timeouts.response_s
        self._terms = BreakerTerms(rule.failures, int(rule.cooldown_s * 1000), int(longest_s * 1000))
        self._name = upstream.name
        self._loop = loop
        self._state = breaker.fresh(self._now_ms())

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def admit(self) -> Permit | Denied:
        """May one more request be sent? Whoever gets a permit says with `record` how it ended."""
        self._state, verdict = breaker.admit(self._state, self._terms, self._now_ms())
        return verdict

    def record(self, permit: Permit, outcome: CallOutcome) -> None:
        before = self._state.phase
        self._state = breaker.record(self._state, self._terms, permit, outcome, self._now_ms())
        after = self._state.phase
        if before is Phase.CLOSED and after is Phase.OPEN:
            _log.warning("upstream.breaker_open", upstream=self._name)
        elif before is not Phase.CLOSED and after is Phase.CLOSED:
            _log.info("upstream.breaker_closed", upstream=self._name)
