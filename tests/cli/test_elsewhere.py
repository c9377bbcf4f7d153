"""Processes of other hosts and containers in one state directory: never signalled, waited for, counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.cli import elsewhere
from scopegate.following.standing import Standing

MINE = Standing(7, 7, "/g.yaml", "aaaaaaaaaaaa", 1)
THEIRS = replace(MINE, host="another-container")


def test_the_same_pid_elsewhere_is_not_ours_to_signal() -> None:
    assert elsewhere.split([MINE, THEIRS]) == ([MINE], [THEIRS])


def test_they_are_waited_for_until_they_serve_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    behind = replace(THEIRS, digest="bbbbbbbbbbbb")
    looks = [[MINE, behind], [MINE, behind], [MINE, THEIRS]]
    assert elsewhere.agree(lambda: looks.pop(0))
    assert capsys.readouterr().out == "elsewhere: 1 of 1 process serve the same\n"


def test_one_that_does_not_follow_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    behind = replace(THEIRS, pid=8, digest="bbbbbbbbbbbb")
    assert not elsewhere.agree(lambda: [MINE, THEIRS, behind], within_s=0)
    assert capsys.readouterr().out == "elsewhere: 1 of 2 processes serve the same\n"


def test_without_them_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert elsewhere.agree(lambda: [MINE])
    assert capsys.readouterr().out == ""
