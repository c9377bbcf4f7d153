"""The demo's photos are real, and none is like another."""

from __future__ import annotations

import io

from PIL import Image, ImageStat

from scopegate.demo.pictures import SIZE, photos


def test_each_is_a_jpeg_of_its_own_scene() -> None:
    drawn = photos(1)
    colours = []
    for data in drawn:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", SIZE)
            colours.append(tuple(round(mean) for mean in ImageStat.Stat(image).mean))
    assert len(set(colours)) == 3
    assert all(10_000 < len(data) < 1024 * 1024 for data in drawn)


def test_a_seed_decides_the_picture() -> None:
    assert photos(1) == photos(1)
    assert not set(photos(1)) & set(photos(2))
