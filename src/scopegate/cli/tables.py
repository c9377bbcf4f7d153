"""Tables for people: drawn by rich on a terminal, aligned plain text anywhere else.

Cells may hold visitors' words. Whatever could move a cursor, hide or reorder text is shown as an escape, here and
nowhere else. Called by `jobs` and `usage`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

STYLES = {"done": "green", "ok": "green", "running": "cyan"} | {
    **dict.fromkeys(("failed", "dead"), "red"),
    **dict.fromkeys(("held", "lost"), "yellow"),
}


def shown(value: object) -> str:
    """A cell's text: None is a dash; controls, direction marks and invisible characters are escapes."""
    if value is None or value == "":
        return "-"
    return "".join(char if char.isprintable() else _escape(char) for char in str(value))


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def usd(micros: int) -> str:
    """Micro-dollars as dollars, all six digits: what is shown adds up to what is booked."""
    sign = "-" if micros < 0 else ""
    return f"{sign}${abs(micros) // 1_000_000}.{abs(micros) % 1_000_000:06d}"


def show(heads: Sequence[str], rows: Sequence[Sequence[object]], *, right: frozenset[str] = frozenset()) -> None:
    """Print a table on standard output. `right` names the columns whose cells stand at the right."""
    cells = [[shown(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _draw(heads, cells, right)
    else:
        print("\n".join(aligned(heads, cells, right)))


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> list[str]:
    """Columns two spaces apart, no trailing spaces: fit for a pipe."""
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        padded = [
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _draw(heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console(highlight=False, markup=False).print(table)
