"""What a changed file looks like from outside."""

from __future__ import annotations

import os
from pathlib import Path

from scopegate.following.stamps import stamp


def test_a_stamp_sees_what_a_path_leads_to(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
        os.utime(tmp_path / name / "file", (1, 1))
    link = tmp_path / "link"
    link.symlink_to("one")
    path = str(link / "file")
    before = stamp([path])
    assert stamp([path]) == before
    link.unlink()
    link.symlink_to("two")
    swapped = stamp([path])
    assert swapped != before
    (tmp_path / "two" / "file").write_text("longer")
    os.utime(tmp_path / "two" / "file", (1, 1))
    assert stamp([path]) != swapped
    assert stamp([str(tmp_path / "absent")]) == {str(tmp_path / "absent"): None}
