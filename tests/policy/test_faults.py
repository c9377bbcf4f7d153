from __future__ import annotations

from scopegate.policy.document import Document
from scopegate.policy.faults import closest, known_keys


def test_the_word_that_was_perhaps_meant() -> None:
    assert closest("STRIKT", ["strict", "lenient"]) == "strict"
    assert closest("zebra", ["strict", "lenient"]) is None


def test_the_keys_that_may_stand_in_a_section() -> None:
    """By the words of the file, through names, indexes and sections that may be left out."""
    assert {"version", "routes"} <= set(known_keys(Document, ()))
    assert {"limit", "key"} <= set(known_keys(Document, ("tiers", "any")))
    assert {"failures", "for"} <= set(known_keys(Document, ("upstreams", "web", "eject")))
    assert "schema" in known_keys(Document, ("routes", 3, "body", "json"))
    assert known_keys(Document, ("server", "listen")) == ()
    assert known_keys(Document, ("nothing", "here")) == ()
