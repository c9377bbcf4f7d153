"""The two schemes of the console: every text stands out from what it is on (WCAG 2.2, success criterion 1.4.3)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

LEAST = 4.5
CSS = (files("scopegate.admin") / "static" / "console.css").read_text("utf-8")
SCHEMES = [
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", text)) for text in re.findall(r":root \{(.*?)\}", CSS, re.S)
]
LIGHT, DARK = [scheme for scheme in SCHEMES if "ink" in scheme]
GROUNDS = ("ground", "card", "soft")
PAIRS = [
    *((text, ground) for text in ("ink", "quiet", "accent") for ground in GROUNDS),
    *((text, ground) for text in ("good", "bad", "warn", "busy") for ground in (*GROUNDS, f"{text}-soft")),
    ("on-accent", "accent"),
]


def luminance(colour: str) -> float:
    """Relative, 0..1, of `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("text", "ground"), PAIRS)
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out(scheme: dict[str, str], text: str, ground: str) -> None:
    darker, lighter = sorted([luminance(scheme[text]), luminance(scheme[ground])])
    assert (lighter + 0.05) / (darker + 0.05) >= LEAST
