"""Closed sets become words in their order, from whatever they are written as."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Literal

import pytest

from scopegate.metrics.labels import words


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


Few = Literal["one", "two"]


def test_an_enum_a_literal_and_words_are_taken_in_their_order() -> None:
    assert words("ok", Colour, Few, Literal[Few, "three"]) == (
        "ok",
        "red",
        "green",
        "one",
        "two",
        "one",
        "two",
        "three",
    )


def test_members_of_an_enum_are_plain_words() -> None:
    assert [type(word) for word in words(Colour.GREEN, Colour)] == [str, str, str]


@pytest.mark.parametrize("open_set", [str, int, Enum, object()])
def test_what_is_no_closed_set_is_a_bug(open_set: object) -> None:
    with pytest.raises(AssertionError, match="no closed set"):
        words(open_set)
