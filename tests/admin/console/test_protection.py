"""Protection: what processes counted, whom they met, and acting on a client: written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scopegate.admin.app import create_admin
from scopegate.admin.sources import Sources
from scopegate.errors import StoreUnavailable
from scopegate.gateway.top import TopKeys
from scopegate.limits.window import Window
from scopegate.metrics import catalogue as metrics
from scopegate.stores.ports import Holding
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, Reader, form_token
from tests.admin.test_limits import TIERS
from tests.gateway.rig import policy_of

POLICY = policy_of(
    ["http://127.0.0.1:1"], tiers=TIERS, routes=[{"name": "all", "match": "ANY /**", "tier": ["banning", "site"]}]
)


class Desk:
    """Windows that count three each; remembers what was done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.is_away = False

    async def look(self, windows: Sequence[Window]) -> Sequence[Holding]:
        if self.is_away:
            raise StoreUnavailable("connect", "gone")
        return [Holding(3, 42_000) for _ in windows]

    async def forget(self, windows: Sequence[Window]) -> int:
        self.done.append("forget")
        return len(windows)

    async def sentence(self, windows: Sequence[Window]) -> None:
        self.done.append("sentence")

    async def close(self) -> None: ...


def sources(home: House, desk: Desk | None) -> Sources:
    return replace(home.sources(), policy=lambda: POLICY, limits=desk)


async def test_what_was_refused_is_told_by_route_and_reason(home: House) -> None:
    metrics.REFUSALS.labels("console-route", "rate_limited").inc(41)
    metrics.WATCHED.labels("console-watched", "body_too_large").inc(7)
    metrics.BREAKER_OPEN.labels("console-breaker").set(0.5)
    async with house.client(create_admin(sources(home, None), None), headers=HTML) as client:
        page = Reader((await client.get("/protection")).text)
    assert "console-route rate_limited 41" in page.text
    assert "console-watched body_too_large 7" in page.text
    assert "breaker console-breaker half-open" in page.text
    assert "Each gateway counts in its own memory" in page.text


async def test_who_is_met_most_is_told(home: House) -> None:
    keys = TopKeys()
    for _ in range(5):
        keys.refused("banning", "ip:203.0.113.9")
    app = create_admin(replace(sources(home, Desk()), top=lambda: [keys.told(0.0).encode()]), None)
    async with house.client(app, headers=HTML) as client:
        text = (await client.get("/protection")).text
    assert "203.0.113.9" in Reader(text).words
    assert 'href="/protection?key=203.0.113.9#key"' in text


async def test_a_client_is_looked_up_and_banned(home: House) -> None:
    desk = Desk()
    async with house.client(create_admin(sources(home, desk), None), headers=HTML | SAME) as client:
        page = await client.get("/protection?key=203.0.113.9")
        assert "banning banning 3 5 42.0 s" in Reader(page.text).text
        assert "banned" in Reader(page.text).words
        for action in ("ban", "unban", "reset"):
            fields = {"form": form_token(page.text), "key": "203.0.113.9", "action": action}
            done = await client.post("/protection/act", data=fields)
            assert done.headers["location"] == f"/protection?key=203.0.113.9&did={action}"
        assert "203.0.113.9 is banned." in (await client.get("/protection?key=203.0.113.9&did=ban")).text
        assert (await client.post("/protection/act", data={**fields, "action": "kill"})).status_code == 400
        assert (await client.post("/protection/act", data={**fields, "key": "nonsense"})).status_code == 409
        assert "neither an address nor a key" in (await client.get("/protection?key=nonsense")).text
        desk.is_away = True
        assert "Redis does not answer." in (await client.get("/protection?key=203.0.113.9")).text
    assert desk.done == ["sentence", "forget", "forget"]
    told = [(one.actor, one.name, one.subject) for one in await home.jobs.actions()]
    assert told == [("this machine", name, "203.0.113.9") for name in ("reset", "unban", "ban")]
