from __future__ import annotations

import pytest

from scopegate.caching.purges import MAX_PREFIXES, Purge, PurgeKind, Purges, PurgeStanding
from scopegate.caching.stored import Stored
from tests.caching.kept import stored

ANSWER = "cache-control: max-age=60\ncache-tag: news, sport"


def kept() -> Stored:
    found = stored(ANSWER)
    assert found.url == b"a.example/x"
    return found


@pytest.mark.parametrize(
    ("kind", "what", "hits"),
    [
        ("url", b"a.example/x", True),
        ("url", b"/x", True),
        ("url", b"a.example/", False),
        ("url", b"b.example/x", False),
        ("prefix", b"a.example/", True),
        ("prefix", b"/", True),
        ("prefix", b"/y", False),
        ("prefix", b"example", False),
        ("tag", b"news", True),
        ("tag", b"sport", True),
        ("tag", b"new", False),
        ("all", b"", True),
    ],
)
@pytest.mark.parametrize("soft", [True, False])
def test_what_a_purge_takes_back(kind: str, what: bytes, hits: bool, soft: bool) -> None:
    purges = Purges()
    purges.add(1, Purge(PurgeKind(kind), what, soft))
    wanted = (PurgeStanding.OUTDATED if soft else PurgeStanding.GONE) if hits else PurgeStanding.KEPT
    assert purges.standing(kept()) is wanted


def test_what_was_fetched_after_it_stays() -> None:
    purges, later = Purges(), kept()
    purges.add(5, Purge(PurgeKind.TAG, b"news"))
    later.seen = 5
    assert purges.standing(later) is PurgeStanding.KEPT
    purges.add(6, Purge(PurgeKind.TAG, b"news", soft=True))
    assert purges.standing(later) is PurgeStanding.OUTDATED


def test_a_hard_purge_counts_before_a_soft_one() -> None:
    purges = Purges()
    purges.add(1, Purge(PurgeKind.TAG, b"news"))
    purges.add(2, Purge(PurgeKind.URL, b"/x", soft=True))
    assert purges.standing(kept()) is PurgeStanding.GONE


def test_more_purges_than_are_remembered_take_everything_back() -> None:
    purges = Purges()
    for number in range(1, MAX_PREFIXES + 2):
        purges.add(number, Purge(PurgeKind.PREFIX, b"/p%d" % number))
    assert purges.standing(kept()) is PurgeStanding.GONE
    later = kept()
    later.seen = purges.last
    assert purges.standing(later) is PurgeStanding.KEPT
