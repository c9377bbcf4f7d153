from __future__ import annotations

import pytest

from scopegate.caching.vary import MAX_VARY_NAMES, selecting, vary_names
from tests.caching.kept import said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("vary: Foo", (b"foo",)),
        ("vary: b, A\nvary: a", (b"a", b"b")),
        ("vary:", ()),
        ("vary: ,", ()),
        ("vary: *", None),
        ("vary: *, *", None),
        ("vary: , *", None),
        ("vary: ,\nvary: *", None),
        ("vary: Foo, *", None),
        ("vary: a b", None),
        ("vary: X-Forwarded-For", None),
        ("vary: x-request-id", None),
        ("vary: X-Scopegate-User", None),
        (f"vary: {','.join(f'n{n}' for n in range(MAX_VARY_NAMES))}", tuple(sorted(b"n%d" % n for n in range(20)))),
        (f"vary: {','.join(f'n{n}' for n in range(MAX_VARY_NAMES + 1))}", None),
    ],
)
def test_names(text: str, names: tuple[bytes, ...] | None) -> None:
    assert vary_names(said(text)) == names


@pytest.mark.parametrize(
    ("name", "one", "other", "alike"),
    [
        ("foo", "1", "1", True),
        ("foo", "1", "2", False),
        ("foo", "1,2", " 1, 2 ", True),
        ("foo", "1, 2", "1\nfoo: 2", True),
        ("foo", "12", "1,2", False),
        ("foo", "A", "a", False),
        ("foo", '"a, b"', '"a,b"', False),
        ("accept-language", "en, de", "de, en", True),
        ("accept-language", "en, de", "eN ,  De", True),
        ("accept-language", "en;q=0.5", "en; q=0.50", True),
        ("accept-language", "en;q=1.0", "en", True),
        ("accept-language", "en;q=0.5", "en", False),
        ("accept-language", "en;q=0", "de", False),
        ("accept-encoding", "gzip, br", "BR,gzip", True),
        ("accept-encoding", "gzip;q=0", "gzip", False),
        ("cookie", "a=1; b=2", "a=1;b=2", False),
        ("user-agent", "a, b", "a,b", False),
    ],
)
def test_values_that_mean_the_same(name: str, one: str, other: str, alike: bool) -> None:
    names = (name.encode(),)
    same = selecting(names, said(f"{name}: {one}")) == selecting(names, said(f"{name}: {other}"))
    assert same is alike


def test_a_field_that_is_missing_is_not_one_that_is_empty() -> None:
    assert selecting((b"a",), said("")) != selecting((b"a",), said("a:"))


def test_values_stand_apart() -> None:
    one, other = said("a: 1\nb: 2"), said("a: 1,2")
    assert selecting((b"a", b"b"), one) != selecting((b"a", b"b"), other)


def test_a_long_value_is_a_hash_that_no_value_can_spell() -> None:
    long = selecting((b"a",), said("a: " + "x" * 9000))
    assert len(long) < 100
    assert selecting((b"a",), said(f"a: {long[1:].decode()}")) != long
