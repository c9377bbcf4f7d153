"""The bound on what a request can bill."""

from __future__ import annotations

import pytest

from scopegate.worker.call import Image, ModelRequest


def bound(text: str = "", *sizes: tuple[int, int]) -> int:
    images = tuple(Image("image/jpeg", b"", *size, "Photo 1") for size in sizes)
    return ModelRequest("m", "", text, {}, 1, 1.0, images).input_tokens_upper()


@pytest.mark.parametrize("text", ["", "a", "ü" * 10, "屋根" * 10, "😀" * 10, "\x00" * 100, "\ud800"])
def test_no_token_is_less_than_a_byte(text: str) -> None:
    assert bound(text) - bound() == len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("size", [(1, 1), (96, 64), (1568, 1568), (1092, 1092), (200, 1568), (3000, 1)])
def test_a_picture_is_bounded_above_both_published_counts(size: tuple[int, int]) -> None:
    width, height = size
    tokens = bound("", size) - bound()
    assert tokens >= -(-width // 28) * -(-height // 28)
    assert tokens >= width * height / 750


def test_pictures_add_up() -> None:
    one, two = bound("", (96, 64)) - bound(), bound("", (96, 64), (96, 64)) - bound()
    assert two == 2 * one
