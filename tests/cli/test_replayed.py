"""What `simulate` and `advise` share: logs that open, and what is said of those that do not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from scopegate.cli.replayed import LogUnreadable, at, bad_lines, lines_of, policy_at
from scopegate.errors import ConfigError
from scopegate.replay.entries import LogReading


def test_a_log_may_be_packed(tmp_path: Path) -> None:
    for name, opened in (("a.log", open), ("a.log.gz", gzip.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(b"one\ntwo\n")
        with lines_of(str(tmp_path / name)) as lines:
            assert list(lines) == [b"one\n", b"two\n"]


@pytest.mark.parametrize(("name", "why"), [("none.log", "No such file"), ("text.gz", "Not a gzipped file")])
def test_a_log_that_cannot_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "text.gz").write_text("text\n")
    with pytest.raises(LogUnreadable, match=why), lines_of(str(tmp_path / name)) as lines:
        list(lines)


def test_a_policy_with_problems_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("version: 2\n")
    with pytest.raises(ConfigError):
        policy_at(tmp_path / "gateway.yaml")


def test_bad_lines_are_counted_and_named() -> None:
    assert bad_lines(LogReading(lines=9)) == []
    assert bad_lines(LogReading(9, 3, [(2, "has no status")])) == [
        *("3 of 9 lines were not read:", "  line 2: has no status", "  and 2 more"),
    ]


def test_a_moment_is_told_in_utc() -> None:
    assert at(1_795_827_723_500_000) == "2026-11-28 01:02:03Z"
