from __future__ import annotations

from scopegate.policy import text as texts
from scopegate.policy.tree import Place, path_of, quoted


def test_places_are_counted_in_characters_from_one() -> None:
    read = texts.read("é: {ü: [x, 'y']}\nb:\n  - c: d\n".encode(), "F", {})
    assert read.at(("é", "ü", 1)) == Place(1, 12)
    assert read.at_key(("é", "ü")) == Place(1, 5)
    assert read.at(("b", 0, "c")) == Place(3, 8)
    assert read.at_key(("b", 0, "c")) == Place(3, 5)
    assert read.at(("b", 7, "nothing")) == Place(3, 3)
    assert read.said(("b", 0, "c")) == "'d'"
    assert read.said(("b",)) == "the value"


def test_paths_and_quotes_stay_on_one_line() -> None:
    assert path_of(("routes", 2, "tier")) == "routes[2].tier"
    assert path_of(("tiers", "a\nb", "limit")) == "tiers['a\\nb'].limit"
    assert quoted("x" * 80) == "'" + "x" * 59 + "…'"
    assert quoted("http://user:word@host/") == "'http://...@host/'"
