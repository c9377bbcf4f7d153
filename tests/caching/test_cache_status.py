from __future__ import annotations

from scopegate.caching.cache_status import Fwd, asked_lines, hit_lines
from tests.caching.kept import NOW_S, stored


def test_how_an_answer_was_come_by() -> None:
    kept = stored("cache-control: max-age=60")
    assert hit_lines(kept, NOW_S + 5) == b"age: 5\r\ncache-status: scopegate; hit; ttl=55\r\n"
    assert hit_lines(kept, NOW_S + 70) == b"age: 70\r\ncache-status: scopegate; hit; ttl=-10\r\n"
    assert hit_lines(kept, NOW_S, collapsed=True).endswith(b"scopegate; fwd=uri-miss; collapsed; ttl=60\r\n")
    assert asked_lines(Fwd.BYPASS) == b"cache-status: scopegate; fwd=bypass\r\n"
    assert asked_lines(Fwd.STALE, age_s=1.9, status=304, stored=True, ttl_s=9, detail="x") == (
        b"age: 1\r\ncache-status: scopegate; fwd=stale; fwd-status=304; stored; ttl=9; detail=x\r\n"
    )
