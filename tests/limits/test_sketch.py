"""Frequent keys of a stream: who is in a sketch, and how far its counts may be off."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.sketch import SpaceSaving, Summary, merged

streams = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 5)), max_size=80)


def sketch_of(stream: list[tuple[str, int]], capacity: int) -> SpaceSaving:
    sketch = SpaceSaving(capacity)
    for key, weight in stream:
        sketch.add(key, weight)
    return sketch


def counted(*streams: list[tuple[str, int]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for key, weight in (each for stream in streams for each in stream):
        counts[key] += weight
    return counts


@given(streams, st.integers(1, 6))
def test_counts_are_never_too_low_and_at_most_their_error_too_high(
    stream: list[tuple[str, int]], capacity: int
) -> None:
    sketch, truth = sketch_of(stream, capacity), counted(stream)
    assert len(sketch.found) <= capacity
    for key, each in sketch.found.items():
        assert each.times - each.over <= truth[key] <= each.times
        assert each.over <= truth.total() / capacity
    for key in truth.keys() - sketch.found.keys():
        assert truth[key] <= sketch.least <= truth.total() / capacity


@given(streams, streams, st.integers(1, 6))
def test_merged_counts_keep_the_guarantee(
    one: list[tuple[str, int]], other: list[tuple[str, int]], capacity: int
) -> None:
    sketches, truth = [sketch_of(one, capacity), sketch_of(other, capacity)], counted(one, other)
    found = merged([Summary(sketch.found, sketch.least) for sketch in sketches])
    for key, each in found.items():
        assert each.times - each.over <= truth[key] <= each.times
    unseen = sum(sketch.least for sketch in sketches)
    assert all(truth[key] <= unseen for key in truth.keys() - found)


def test_a_frequent_key_survives_a_flood_of_others() -> None:
    sketch = SpaceSaving(8)
    for n in range(10_000):
        sketch.add(f"stranger {n}")
        if n % 4 == 0:
            sketch.add("often")
    assert max(sketch.found, key=lambda key: sketch.found[key].times) == "often"
