from __future__ import annotations

import json
import random
import subprocess
import sys

from scopegate.caching.purges import Purge, PurgeKind, Purges
from scopegate.caching.shelf import MAX_SHUNNED, MAX_VARIANTS, Shelf
from tests.caching.kept import NOW_S, said, stored

FRESH = "cache-control: max-age=60"
NOTHING = said("")


def shelf(most_bytes: int = 1 << 20) -> Shelf:
    return Shelf(most_bytes, Purges())


def test_what_is_put_is_found() -> None:
    one, kept = shelf(), stored(FRESH)
    assert one.put(b"k", kept)
    assert one.find(b"k", NOTHING) is kept
    assert one.find(b"l", NOTHING) is None
    assert (one.count, one.bytes) == (1, kept.size_bytes)
    newer = stored(FRESH)
    one.put(b"k", newer)
    assert one.find(b"k", NOTHING) is newer
    assert one.count == 1
    one.drop(b"k", kept)
    one.drop(b"k", newer)
    assert (one.find(b"k", NOTHING), one.count, one.bytes, one.has(b"k")) == (None, 0, 0, False)


def test_variants_stand_beside_each_other() -> None:
    one = shelf()
    answers = {lang: stored(FRESH + "\nvary: accept-language", f"accept-language: {lang}") for lang in ("de", "en")}
    for each in answers.values():
        one.put(b"k", each)
    for lang, each in answers.items():
        assert one.find(b"k", said(f"accept-language: {lang}")) is each
    assert one.find(b"k", NOTHING) is None
    plain = stored(FRESH)
    one.put(b"k", plain)
    assert one.find(b"k", said("accept-language: de")) is plain, "the newest that fits"


def test_ten_thousand_variants_are_a_few() -> None:
    one = shelf(1 << 30)
    for number in range(10_000):
        one.put(b"k", stored(FRESH + "\nvary: a", f"a: {number}"))
    assert one.count == MAX_VARIANTS
    assert one.find(b"k", said("a: 9999")) is not None
    assert one.find(b"k", said("a: 5")) is None


def test_memory_stays_at_its_bound_through_a_million_objects(full: bool) -> None:
    """What a process of its own takes: bodies of 200 bytes to 20 KB, each answer with its own fields."""
    count, bound = (1_000_000 if full else 20_000), 16 << 20
    told = subprocess.run(
        [sys.executable, "-m", "tests.caching.filled", str(count), str(bound)],
        capture_output=True,
        text=True,
        check=True,
    )
    taken = json.loads(told.stdout)
    assert taken["most_kept_bytes"] <= bound
    assert taken["first_tenth_bytes"] <= 2 * bound
    assert taken["grown_since_bytes"] <= bound // 4


def test_who_was_not_asked_for_longest_goes_first() -> None:
    size = stored(FRESH, body=b"x" * 900).size_bytes
    one = shelf(3 * size)
    for key in (b"a", b"b", b"c"):
        one.put(key, stored(FRESH, body=b"x" * 900))
    one.find(b"a", NOTHING)
    one.put(b"d", stored(FRESH, body=b"x" * 900))
    assert [key for key in (b"a", b"b", b"c", b"d") if one.has(key)] == [b"a", b"c", b"d"]


def test_its_bound_holds_whatever_comes() -> None:
    dice = random.Random(7)
    one = shelf(50_000)
    for number in range(3000):
        size = dice.choice([10, 500, 20_000])
        key = b"%d" % dice.randrange(60)
        one.put(key, stored(FRESH + "\nvary: a", f"a: {dice.randrange(5)}", body=b"x" * size, max_object_bytes=1 << 20))
        assert 0 < one.bytes <= 50_000, number
    one.drop_url(b"a.example/x")
    assert (one.bytes, one.count) == (0, 0)
    assert not one.put(b"k", stored(FRESH, body=b"x" * 50_000, max_object_bytes=1 << 20))
    one.put(b"k", stored(FRESH))
    one.resize(100)
    assert one.bytes == 0


def test_a_purge_is_found_out_when_it_is_asked_for() -> None:
    one = shelf()
    one.put(b"k", stored(FRESH + "\ncache-tag: t"))
    one.purges.add(1, Purge(PurgeKind.TAG, b"t", soft=True))
    found = one.find(b"k", NOTHING)
    assert found is not None
    assert found.left_s(NOW_S) <= 0
    one.purges.add(2, Purge(PurgeKind.TAG, b"t"))
    assert one.find(b"k", NOTHING) is None
    assert one.bytes == 0


def test_what_cannot_be_kept_is_remembered_for_a_while() -> None:
    one = shelf()
    one.shun(b"k", NOW_S + 10)
    assert one.is_shunned(b"k", NOW_S)
    assert not one.is_shunned(b"k", NOW_S + 10)
    one.shun(b"k", NOW_S + 10)
    one.put(b"k", stored(FRESH))
    assert not one.is_shunned(b"k", NOW_S)
    for number in range(MAX_SHUNNED + 1):
        one.shun(b"%d" % number, NOW_S + 10)
    assert not one.is_shunned(b"0", NOW_S)
