"""The set of open connections: deadlines, ends that nobody reads, and room for one more."""

from __future__ import annotations

from scopegate.gateway.connections import Connections
from scopegate.gateway.ruleset import Ruleset


class Told:
    """A connection that says what it was told."""

    def __init__(self, deadline_s: float = float("inf")) -> None:
        self.deadline_s = deadline_s
        self.told: list[str] = []

    def on_deadline(self) -> None:
        self.told.append("deadline")

    def look_for_end(self) -> bool:
        self.told.append("look for end")
        return False

    def give_way(self) -> None:
        self.told.append("give way")

    def break_off(self) -> None:
        self.told.append("break off")

    def rules_in_use(self) -> Ruleset | None:
        return None


def test_a_tick_tells_those_whose_time_is_over_and_those_that_are_not_read() -> None:
    early, late, unread = Told(1.0), Told(3.0), Told()
    connections = Connections()
    connections.open |= {early, late, unread}
    connections.unread.add(unread)
    connections.tick(1.0)
    assert (early.told, late.told, unread.told) == (["deadline"], [], ["look for end"])


def test_room_is_made_by_the_one_that_has_idled_longest() -> None:
    first, second = Told(), Told()
    connections = Connections()
    assert not connections.make_room()
    connections.idle.update({first: None, second: None})
    assert connections.make_room()
    assert (first.told, second.told) == (["give way"], [])


def test_at_the_end_all_are_broken_off() -> None:
    all_of_them = {Told(), Told()}
    connections = Connections()
    connections.open |= all_of_them
    assert connections.rules_in_use() == {None}
    connections.break_off()
    assert [each.told for each in all_of_them] == [["break off"], ["break off"]]
