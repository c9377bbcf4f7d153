"""A shelf that many answers pass through, and what this process takes meanwhile, as JSON.

python -m tests.caching.filled COUNT BOUND
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from scopegate.caching.purges import Purges
from scopegate.caching.shelf import Shelf
from scopegate.caching.stored import Stored
from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from tests.caching.kept import NOW_S, stored

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LIKE = stored("cache-control: max-age=60")


def answer(number: int, size: int) -> Stored:
    """As the gateway keeps one: of its own url, fields and body."""
    tag = b'"%d"' % number
    lines = [b"content-type: text/html\r\n", b"etag: %b\r\n" % tag, b"cache-control: max-age=60\r\n"]
    return Stored(
        b"a.example/%d" % number, 200, Noted(lines, RESPONSE_RULES), bytes(size), born_s=NOW_S,
        freshness=_LIKE.freshness, vary=(), selected=b"", etag=tag, modified=b"", modified_s=None, tags=(),
        is_implicit=False, seen=0,
    )  # fmt: skip


def taken_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


def main(count: int, bound: int) -> None:
    dice, shelf = random.Random(1), Shelf(bound, Purges())
    before, after_a_tenth, most, grown = taken_bytes(), 0, 0, 0
    for number in range(count):
        shelf.put(b"http://a.example/%d" % number, answer(number, dice.randint(200, 20_000)))
        most = max(most, shelf.bytes)
        if number == count // 10:
            after_a_tenth = taken_bytes()
        elif after_a_tenth and number % 1000 == 0:
            grown = max(grown, taken_bytes() - after_a_tenth)
    told = {"most_kept_bytes": most, "first_tenth_bytes": after_a_tenth - before, "grown_since_bytes": grown}
    sys.stdout.write(json.dumps(told | {"count": shelf.count}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
