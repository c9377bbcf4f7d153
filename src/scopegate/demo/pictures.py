"""Three pictures of damage, drawn anew in each demo: different scenes, real JPEG files."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter

SIZE = (1280, 960)

Scene = Callable[[ImageDraw.ImageDraw, random.Random], None]


def ceiling_stain(draw: ImageDraw.ImageDraw, chance: random.Random) -> None:
    """Brown rings of water on a white ceiling."""
    draw.rectangle((0, 0, *SIZE), fill=(236, 232, 224))
    for ring in range(9, 0, -1):
        x, y = 640 + chance.randint(-30, 30), 420 + chance.randint(-25, 25)
        width, height = 45 * ring, 32 * ring
        shade = (236 - 7 * (10 - ring), 214 - 10 * (10 - ring), 176 - 11 * (10 - ring))
        draw.ellipse((x - width, y - height, x + width, y + height), fill=shade)


def cracked_wall(draw: ImageDraw.ImageDraw, chance: random.Random) -> None:
    """A crack that wanders down a blue wall."""
    draw.rectangle((0, 0, *SIZE), fill=(148, 172, 190))
    x = 500.0
    for y in range(0, SIZE[1], 24):
        following = x + chance.uniform(-34, 46)
        draw.line((x, y, following, y + 24), fill=(48, 44, 42), width=chance.randint(5, 12))
        if chance.random() < 0.3:
            draw.line((x, y, x + chance.uniform(-120, 120), y + 70), fill=(70, 64, 60), width=3)
        x = following


def broken_roof(draw: ImageDraw.ImageDraw, chance: random.Random) -> None:
    """Rows of red tiles, some of them gone."""
    draw.rectangle((0, 0, *SIZE), fill=(60, 54, 52))
    for row, y in enumerate(range(0, SIZE[1], 80)):
        for x in range(-(row % 2) * 60, SIZE[0], 120):
            if chance.random() < 0.14:
                continue
            red = chance.randint(140, 182)
            draw.rounded_rectangle((x + 3, y + 3, x + 117, y + 98), 18, fill=(red, 72, 52), outline=(96, 44, 36))


SCENES: tuple[Scene, ...] = (ceiling_stain, cracked_wall, broken_roof)


def photos(seed: int) -> list[bytes]:
    """One JPEG of each scene; another seed gives other pictures of the same damage."""
    return [_jpeg(scene, random.Random(seed + n)) for n, scene in enumerate(SCENES)]  # noqa: S311 - a drawing


def _jpeg(scene: Scene, chance: random.Random) -> bytes:
    image = Image.new("RGB", SIZE)
    scene(ImageDraw.Draw(image), chance)
    file = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(1.2)).save(file, "JPEG", quality=86)
    return file.getvalue()
