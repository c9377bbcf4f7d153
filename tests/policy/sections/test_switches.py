"""`server.maintenance` and `server.read_only`."""

from __future__ import annotations

import pytest

from scopegate.policy.sections.switches import MaintenanceShape, ReadOnlyShape, Switch, parse_page
from scopegate.policy.sidefiles import SideFiles

NOTHING = SideFiles({}, {}, {}, ())


def test_what_they_mean() -> None:
    assert ReadOnlyShape.model_validate({"flag": "frozen"}).build() == Switch("frozen", 300.0)
    shut = MaintenanceShape.model_validate({"flag": "down", "retry_after": "1h"})
    assert shut.build(NOTHING) == Switch("down", 3600.0, None)


def test_a_page_is_text() -> None:
    assert parse_page("<p>ü".encode()) == "<p>ü"
    with pytest.raises(ValueError, match="is not UTF-8"):
        parse_page(b"\xff")
