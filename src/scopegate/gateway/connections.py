"""The connections from outside that this process has open: how many each client has, which have no request, and whose
clients' ends have to be looked for. `protocol` has the one kind of connection there is."""

from __future__ import annotations

from typing import Protocol

from scopegate.gateway.crowd import Crowd
from scopegate.gateway.ruleset import Ruleset


class Connection(Protocol):
    """What is asked of each. `deadline_s` is loop time."""

    deadline_s: float

    def on_deadline(self) -> None:
        """`deadline_s` has passed."""
        ...

    def look_for_end(self) -> bool:
        """Whether the client left while nothing of it was read; the connection ends then."""
        ...

    def give_way(self) -> None:
        """It has no request, and somebody else needs its place."""
        ...

    def break_off(self) -> None:
        """The process ends, and the drain time is over."""
        ...

    def rules_in_use(self) -> Ruleset | None:
        """The ruleset that the request being served began with."""
        ...


class Connections:
    """`idle` are those without a request, in the order in which they became so; `unread` those that are not read from
    right now; `clients` counts all by limit group."""

    __slots__ = ("clients", "idle", "open", "unread")

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.clients = Crowd()
        self.idle: dict[Connection, None] = {}
        self.unread: set[Connection] = set()

    def make_room(self) -> bool:
        """For one more: that without a request for longest ends. False when all have one."""
        for connection in self.idle:
            connection.give_way()
            return True
        return False

    def tick(self, now_s: float) -> None:
        """Deadlines, and ends that nobody reads."""
        for connection in [each for each in self.open if each.deadline_s <= now_s]:
            connection.on_deadline()
        for connection in list(self.unread):
            connection.look_for_end()

    def rules_in_use(self) -> set[Ruleset | None]:
        return {connection.rules_in_use() for connection in self.open}

    def break_off(self) -> None:
        """End what is still open, and say so in the access log."""
        for connection in list(self.open):
            connection.break_off()
