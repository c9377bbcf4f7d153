"""Which build runs."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType

from scopegate import build
from scopegate.edge.target import judge_target
from scopegate.limits.window import spend_one


def test_it_is_what_the_functions_are() -> None:
    expected = {"compiled": BuiltinFunctionType, "pure": FunctionType}[build.kind()]
    assert isinstance(judge_target, expected)
    assert isinstance(spend_one, expected)
