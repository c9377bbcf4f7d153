"""What several processes tell of their keys, added up."""

from __future__ import annotations

from scopegate.admin.top import top
from scopegate.gateway.top import TopKeys


def test_processes_are_added_up_and_the_most_frequent_come_first() -> None:
    one, other = TopKeys(), TopKeys()
    for keys, address, times in ((one, "192.0.2.1", 3), (other, "192.0.2.1", 2), (other, "192.0.2.2", 4)):
        for _ in range(times):
            keys.refused("api", f"ip:{address}")
    found = top([keys.told(0.0).encode() for keys in (one, other)], 10)["refused"]
    assert [(row["key"], row["times"], row["over"]) for row in found] == [("192.0.2.1", 5, 0), ("192.0.2.2", 4, 0)]
    assert len(top([one.told(0.0).encode(), other.told(0.0).encode()], 1)["refused"]) == 1


def test_what_a_full_sketch_may_have_forgotten_is_said() -> None:
    full, other = TopKeys(), TopKeys()
    for n in range(1_000):
        full.refused("api", f"user:jwt:{n}")
    for _ in range(9):
        other.refused("api", "all")
    first = top([full.told(0.0).encode(), other.told(0.0).encode()], 1)["refused"][0]
    assert (first["key"], first["times"], first["over"]) == ("all", 12, 3), "1,000 in 256 counters: at most 3 were lost"
