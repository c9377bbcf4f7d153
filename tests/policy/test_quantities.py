from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.budget import Rolling
from scopegate.limits.window import Quota
from scopegate.policy import quantities as q


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (q.parse_quota, "10 per 10s", Quota(10, 10_000)),
        (q.parse_quota, "100 per 1h", Quota(100, 3_600_000)),
        (q.parse_quota, "100000 per 1d", Quota(100_000, 86_400_000)),
        (q.parse_quota, "1 per 1ms", Quota(1, 1)),
        (q.parse_size, "1B", 1),
        (q.parse_size, "256KiB", 262_144),
        (q.parse_size, "64GiB", 64 * 1024**3),
        (q.parse_duration_ms, "500ms", 500),
        (q.parse_duration_ms, "10s", 10_000),
        (q.parse_duration_ms, "1m", 60_000),
        (q.parse_duration_ms, "1d", 86_400_000),
        (q.parse_hsts_age_s, "365d", 31_536_000),
        (q.parse_hsts_age_s, "1000d", 86_400_000),
        (q.parse_hsts_age_s, "24h", 86_400),
        (q.parse_hsts_age_s, "0s", 0),
        (q.parse_keep_ms, "90d", 7_776_000_000),
        (q.parse_keep_ms, "36500d", 36_500 * 86_400_000),
        (q.parse_keep_ms, "0", 0),
        (q.parse_money, "20 USD per day", (20_000_000, "day")),
        (q.parse_money, "0.000001 USD per month", (1, "month")),
        (q.parse_money, "0.1 USD per day", (100_000, "day")),
        (q.parse_reuse_ms, "7d", 604_800_000),
        (q.parse_reuse_ms, "30d", 30 * 86_400_000),
        (q.parse_money, "0.5 USD in total", (500_000, "total")),
        (q.parse_money, "5 USD per 1m", (5_000_000, Rolling(60_000))),
        (q.parse_money, "5 USD per 24h", (5_000_000, Rolling(86_400_000))),
        (q.parse_money, "5 USD per 366d", (5_000_000, Rolling(366 * 86_400_000))),
        (q.parse_price, "2.5 USD per MTok", 2_500_000),
        (q.parse_price, "0.000001 USD per MTok", 1),
        (q.parse_money, "999999.999999 USD per day", (999_999_999_999, "day")),
        (q.parse_share, "50%", 0.5),
        (q.parse_share, "12.5%", 0.125),
        (q.parse_share, "100%", 1.0),
    ],
)
def test_reads(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (q.parse_quota, "10/10s", "is not a limit"),
        (q.parse_quota, " 10 per 10s", "is not a limit"),
        (q.parse_quota, "-1 per 10s", "is not a limit"),
        (q.parse_quota, "1.5 per 10s", "is not a limit"),
        (q.parse_quota, "١ per 10s", "is not a limit"),
        (q.parse_quota, "9" * 5000 + " per 1s", "is not a limit"),
        (q.parse_quota, "0 per 1s", "outside 1 to 100000"),
        (q.parse_quota, "100001 per 1s", "outside 1 to 100000"),
        (q.parse_quota, "1 per 25h", "span that is more than 1d"),
        (q.parse_quota, "1 per 0s", "span that must be more than zero"),
        (q.parse_size, "", "is not a size"),
        (q.parse_size, "10", "has no unit"),
        (q.parse_size, "1kb", "did you mean KiB"),
        (q.parse_size, "1GB", "did you mean GiB"),
        (q.parse_size, "0KiB", "more than zero"),
        (q.parse_size, "65GiB", "is more than 64GiB"),
        (q.parse_duration_ms, "1m30s", "is not a duration"),
        (q.parse_duration_ms, "1.5s", "is not a duration"),
        (q.parse_duration_ms, "10S", "did you mean s"),
        (q.parse_duration_ms, "1w", "is not a duration in"),
        (q.parse_duration_ms, "2d", "is more than 1d"),
        (q.parse_money, "20 EUR per day", "is not a budget"),
        (q.parse_money, "20", "is not a budget"),
        (q.parse_money, "0.0000001 USD per day", "is not a budget"),
        (q.parse_money, "1000000.01 USD per day", "is outside"),
        (q.parse_money, "0 USD per month", "is outside"),
        (q.parse_reuse_ms, "7", "is no lifetime"),
        (q.parse_reuse_ms, "30s", "is no lifetime"),
        (q.parse_reuse_ms, "31d", "is outside 1m to 30d"),
        (q.parse_money, "5 USD per 30s", "is not a budget"),
        (q.parse_money, "5 USD per 0m", "has a span outside 1m to 366d"),
        (q.parse_money, "5 USD per 367d", "has a span outside 1m to 366d"),
        (q.parse_money, "5 USD per week", "5 USD per 24h"),
        (q.parse_share, "0%", "is outside"),
        (q.parse_share, "100.01%", "is outside"),
        (q.parse_share, "50", "is not a percentage"),
        (q.parse_hsts_age_s, "1001d", "more than 1000d"),
        (q.parse_hsts_age_s, "1500ms", "whole seconds"),
        (q.parse_hsts_age_s, "31536000", "has no unit"),
        (q.parse_hsts_age_s, "1y", "is not a duration"),
        (q.parse_hsts_age_s, "-1d", "whole seconds"),
        (q.parse_keep_ms, "36501d", "more than 36500d"),
        (q.parse_keep_ms, "0d", "more than zero"),
        (q.parse_keep_ms, "10s", "no time to keep something for"),
        (q.parse_keep_ms, "-1d", "no time to keep something for"),
        (q.parse_keep_ms, "90", "has no unit"),
    ],
)
def test_refuses_with_a_sentence(parse: Callable[[str], object], text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text)


@pytest.mark.parametrize(
    "parse", [q.parse_quota, q.parse_size, q.parse_duration_ms, q.parse_hsts_age_s, q.parse_money, q.parse_share]
)
@given(text=st.text(max_size=20))
def test_any_text_is_read_or_refused_without_repeating_it(parse: Callable[[str], object], text: str) -> None:
    marked = f"<{text}>"
    with pytest.raises(ValueError) as caught:
        parse(marked)
    assert marked not in str(caught.value)


@given(limit=st.integers(1, q.MAX_QUOTA_LIMIT), span_s=st.integers(1, 86_400))
def test_a_limit_survives_its_spelling(limit: int, span_s: int) -> None:
    assert q.parse_quota(f"{limit} per {span_s}s") == Quota(limit, span_s * 1000)


@given(cents=st.integers(1, q.MAX_MONEY_USD * 100))
def test_money_is_exact(cents: int) -> None:
    assert q.parse_money(f"{cents // 100}.{cents % 100:02d} USD per day") == (cents * 10_000, "day")
