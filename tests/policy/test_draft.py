from __future__ import annotations

from scopegate.policy.draft import Draft, draft_of
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.sections.tiers import TierShape
from scopegate.policy.sections.upstreams import UpstreamShape

FAULTY = """\
server: {workers: many}
tiers: {good: {limit: 1 per 1s}, bad: {limit: often, key: user}, odd: 7}
routes: [{name: a, tier: good}, 7, {name: 8, tier: bad}]
"""


def draft(text: str) -> Draft:
    return draft_of(text.encode(), "F", {})


def test_one_bad_entry_hides_none_of_the_others() -> None:
    found = draft(FAULTY)
    assert list(found.named("tiers", TierShape)) == ["good"]
    assert found.names("tiers") == ["good", "bad", "odd"]
    assert found.one("server", ServerShape) is None


def test_a_section_that_is_left_out_has_its_defaults() -> None:
    assert draft("version: 1").one("server", ServerShape) == ServerShape()
    assert draft("version: 1").named("tiers", TierShape) == {}
    assert not draft("version: 1").has("server")


def test_values_are_found_whatever_is_wrong_around_them() -> None:
    found = draft(FAULTY)
    assert found.found(("tiers", str, "key")) == [(("tiers", "bad", "key"), "user")]
    assert list(found.texts(("routes", int, "name"))) == [(("routes", 0, "name"), "a")]
    assert [loc for loc, _ in found.found(("routes", int))] == [("routes", 0), ("routes", 1), ("routes", 2)]


def test_a_list_has_no_names_and_a_section_no_indexes() -> None:
    found = draft("upstreams: [{tls: {ca: a}}]\nroutes: {a: {tier: none}}")
    assert found.found(("upstreams", str, "tls", "ca")) == []
    assert found.found(("routes", int, "tier")) == []
    assert found.named("upstreams", UpstreamShape) == {}


def test_a_file_that_is_no_section_has_none() -> None:
    for text in ("", "[1]", "7", "a: ["):
        assert draft(text).sections == {}


def test_faults_are_where_the_value_or_its_key_stands() -> None:
    found, loc = draft(FAULTY), ("server", "workers")
    assert str(found.problem(loc, "x", "y").problem("F")) == "F:1:19 server.workers: x, did you mean y?"
    assert str(found.problem_at_key(loc, "x").problem("F")) == "F:1:10 server.workers: x"
    assert [fault.warning for fault in (found.warning(loc, "x"), found.warning_at_key(loc, "x"))] == [True, True]
    assert found.warning_at_key(loc, "x").place == found.problem_at_key(loc, "x").place
