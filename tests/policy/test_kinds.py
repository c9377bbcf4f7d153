from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import pytest
from pydantic import PlainValidator, SecretStr, ValidationError

from scopegate.policy.kinds import Choice, Count, Duration, Flag, Shape, Size, option, secret, size_up_to
from scopegate.policy.tree import Expanded


class Fruit(StrEnum):
    APPLE = "apple"
    PEAR = "pear"


class Basket(Shape):
    many: Count = option(3, "How many.", le=5)
    ripe: Flag = option(False, "Whether ripe.")
    kind: Choice[Fruit] = option("apple", "Which.")
    lasts: Duration = option("2s", "How long.")
    weight: Size = option("1KiB", "How much.")
    lock: Annotated[SecretStr, PlainValidator(secret)] | None = option(None, "A secret.")


def of_environment(text: str, *, whole: bool = True, missing: bool = False) -> Expanded:
    return Expanded.of(text, whole=whole, missing=missing)


def test_a_default_is_read_as_in_the_file() -> None:
    basket = Basket()
    assert (basket.kind, basket.lasts, basket.weight) == (Fruit.APPLE, 2.0, 1024)
    assert type(basket.kind) is Fruit


def test_numbers_and_flags_may_come_from_the_environment() -> None:
    basket = Basket.model_validate({"many": of_environment("5"), "ripe": of_environment("true")})
    assert (basket.many, basket.ripe) == (5, True)


@pytest.mark.parametrize(
    "wrong",
    [{"many": "5"}, {"many": 6}, {"ripe": "true"}, {"kind": "plum"}, {"lasts": True}, {"lasts": ["2s"]}, {"more": 1}],
)
def test_what_is_no_such_value(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Basket.model_validate(wrong)


def test_yes_and_no_are_no_text() -> None:
    with pytest.raises(ValidationError, match="must be text"):
        Basket.model_validate({"lasts": True})


def test_a_bound_is_spelt_as_in_the_file() -> None:
    parse = size_up_to("64KiB")
    assert parse("64KiB") == 65_536
    with pytest.raises(ValueError, match="is more than 64KiB"):
        parse("65KiB")


def test_a_secret_comes_from_the_environment_alone() -> None:
    assert secret(of_environment("word")).get_secret_value() == "word"
    assert secret(of_environment("", missing=True)).get_secret_value() == ""
    for wrong in ("word", of_environment("my word", whole=False), of_environment("")):
        with pytest.raises(ValueError):
            secret(wrong)
