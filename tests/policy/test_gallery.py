"""One tiny file per mistake in `gallery/`; the exact lines that `check` says about it stand in its last comments. What
those files name is in `gallery/beside/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.following.source import Source, reader_beside
from scopegate.policy import Review
from scopegate.worker import prices
from tests.growth import LINEAR, growth

GALLERY = sorted((Path(__file__).parent / "gallery").glob("*.yaml"))
PLANTED = "hunter2"
ENVIRON = {
    "WEBHOOK_SECRET": "whsec_c2NvcGVnYXRlLXdlYmhvb2sta2V5",
    "JWT_SECRET": f"{PLANTED}-" * 8,
    "SHORT_SECRET": PLANTED,
    "EMPTY_SECRET": "",
    "BAD_WHSEC": f"whsec_{PLANTED}!",
    "SIGN_KEY": f"{PLANTED}-" * 4,
}
BESIDE = reader_beside(GALLERY[0])


def review(raw: bytes) -> Review:
    return Source(Path("F"), raw, BESIDE).examine(ENVIRON, prices.load, lenient=True)


def said(found: Review) -> list[str]:
    problems = [f"# problem {problem}".replace("F:", "", 1) for problem in found.problems]
    return problems + [f"# warning {warning}".replace("F:", "", 1) for warning in found.warnings]


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_every_mistake_is_named_exactly(path: Path) -> None:
    raw = path.read_bytes()
    expected = [line for line in raw.decode().splitlines() if line.startswith(("# problem ", "# warning "))]
    found = review(raw)
    assert said(found) == expected
    assert (found.policy is None) == any(line.startswith("# problem") for line in expected)
    assert PLANTED not in "".join(said(found))


def test_the_gallery_is_not_thin() -> None:
    assert len(GALLERY) >= 220


def routes(count: int) -> bytes:
    """A policy of that many routes, each with a misspelt tier."""
    lines = "\n".join(f"  - {{name: r{n}, match: POST /api/r{n}/*/x, tier: strickt}}" for n in range(count))
    return f"version: 1\nupstreams: {{web: {{servers: ['http://127.0.0.1:3000']}}}}\nroutes:\n{lines}\n".encode()


def test_a_thousand_routes_are_checked_in_linear_time() -> None:
    assert len(review(routes(1000)).problems) == 1000
    assert growth(routes, review, 1000) < LINEAR
