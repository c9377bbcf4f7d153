from __future__ import annotations

from scopegate.policy.draft import draft_of
from scopegate.policy.sections.names import twice, unknown

DRAFT = draft_of(b"routes:\n- {name: a, tier: strikt}\n- {name: b, tier: 7}\n- {name: a, tier: &x strikt}\n", "F", {})
MISSING = draft_of(b'routes: [{tier: "${NONE}"}]', "F", {})


def test_a_name_that_nothing_has() -> None:
    found = [str(fault.problem("F")) for fault in unknown(("routes", int, "tier"), "tier", {"strict"}, DRAFT)]
    said = "no tier is named 'strikt', did you mean strict?"
    assert found == [f"F:2:19 routes[0].tier: {said}", f"F:4:19 routes[2].tier: {said}"]


def test_a_name_with_a_fault_of_its_own_is_not_looked_for() -> None:
    assert list(unknown(("routes", int, "tier"), "tier", {"strict"}, MISSING)) == []


def test_a_name_that_two_have() -> None:
    found = [str(fault.problem("F")) for fault in twice(DRAFT.texts(("routes", int, "name")), "route", DRAFT)]
    assert found == ["F:4:10 routes[2].name: another route is named 'a', on line 2"]
