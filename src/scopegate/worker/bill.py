"""What an answer costs, from its bill; pure but for the log and the counter of what has no price."""

from __future__ import annotations

from scopegate import logs
from scopegate.errors import AIError
from scopegate.limits.pricing import PriceTable, price
from scopegate.metrics import catalogue as metrics
from scopegate.worker.call import ModelReply

log = logs.get("ai")


class Bill:
    """Reads bills by one price table. One instance serves a whole worker."""

    def __init__(self, prices: PriceTable) -> None:
        self._prices = prices
        self._unpriced: set[str] = set()

    def cost(self, reply: ModelReply | AIError, asked: str, worst_usd_micros: int) -> int:
        """A reply costs its usage, at the `asked` model's price when the one that answered has none, and its worst case
        when something on its bill has none. An error costs nothing when the API refused in its own words or nothing was
        sent; else the worst case: the request went out and no usage came back."""
        if isinstance(reply, AIError):
            return worst_usd_micros if reply.maybe_billed else 0
        unpriced = self._prices.unpriced(reply.usage)
        if unpriced:
            self._tell_unpriced(unpriced)
            return worst_usd_micros
        cost = price(reply.usage, reply.model, self._prices)
        if cost is None:
            log.warning("ai.unpriced_model", model=reply.model, asked=asked)
            cost = price(reply.usage, asked, self._prices)
        return worst_usd_micros if cost is None else cost

    def _tell_unpriced(self, names: tuple[str, ...]) -> None:
        """Each name once in the log; every such call in the metric that is alerted on."""
        metrics.AI_UNPRICED.inc()
        for name in names:
            if name not in self._unpriced:
                self._unpriced.add(name)
                log.error("ai.unpriced_usage", name=name)
