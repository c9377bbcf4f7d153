"""Reading `nextjs.txt`: one spelling a line, after the status and the handler that Next.js gave it (`-` for none).

A spelling is the request target byte for byte; `\\x00` and the like stand for bytes that a text file cannot show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parent / "nextjs.txt"


@dataclass(frozen=True, slots=True)
class Served:
    """How Next.js took one spelling. `reached` is a handler's name, None when no handler ran."""

    raw: bytes
    status: int
    reached: str | None


def rows(text: str) -> Iterator[Served]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            status, reached, spelling = line.split(maxsplit=2)
            yield Served(raw_of(spelling), int(status), None if reached == "-" else reached)


def raw_of(spelling: str) -> bytes:
    return spelling.encode("latin-1").decode("unicode_escape").encode("latin-1")


def spelt(raw: bytes) -> str:
    """The inverse of `raw_of`, for one line of text."""
    text = raw.decode("latin-1").encode("unicode_escape").decode()
    return text.replace(" ", "\\x20")


def line_of(served: Served) -> str:
    return f"{served.status}  {served.reached or '-':<10}  {spelt(served.raw)}"
