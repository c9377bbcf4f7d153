"""Ratios and tables out of samples."""

from __future__ import annotations

from bench.report import capacity, cpu, failed, growth_bytes, pick, ratio, requests, table, throughput
from tests.bench.samples import sample

NGINX = [sample("nginx", cpu_us, turn=turn) for turn, cpu_us in enumerate((20.0, 40.0, 25.0))]
OURS = [sample("scopegate", cpu_us, turn=turn) for turn, cpu_us in enumerate((60.0, 80.0, 50.0))]


def test_a_ratio_is_the_median_of_the_turns_not_the_ratio_of_medians() -> None:
    assert ratio(OURS, NGINX, cpu) == 2.0  # of 3.0, 2.0 and 2.0
    assert ratio(OURS[:2], NGINX, cpu) == 2.5


def test_turns_that_only_one_of_them_had_do_not_count() -> None:
    assert ratio(OURS, NGINX[:1], cpu) == 3.0
    assert ratio(OURS, [], cpu) is None
    assert ratio([], NGINX, cpu) is None


def test_peers_may_be_compared_by_other_figures() -> None:
    fast = sample("a", 10.0, requests=4000, bytes_in=8_000_000)
    slow = sample("b", 10.0, requests=1000, bytes_in=4_000_000)
    assert ratio([fast], [slow], requests) == 4.0
    assert ratio([fast], [slow], throughput) == 2.0


def test_capacity_counts_how_unevenly_the_processes_work() -> None:
    alone = sample("a", 50.0, busiest=1.0)
    shared = sample("b", 50.0, busiest=0.5)
    uneven = sample("b", 50.0, busiest=0.625)
    assert ratio([shared], [alone], capacity) == 2.0
    assert ratio([uneven], [alone], capacity) == 1.6


def test_growth_is_the_peak_above_the_rest() -> None:
    turns = [sample("a", 1.0, turn=turn, peak_bytes=peak, rest_bytes=30) for turn, peak in enumerate((40, 70, 50))]
    assert growth_bytes(turns) == 40
    assert growth_bytes([]) == 0


def test_failures_add_up() -> None:
    assert failed([sample("a", 1.0, failed=2), sample("b", 1.0, failed=3)]) == 5
    assert "3 FAILED" in str(sample("b", 1.0, failed=3))
    assert "FAILED" not in str(sample("b", 1.0))


def test_pick_takes_one_peer_of_one_load_and_section() -> None:
    other = sample("scopegate", 1.0, load="real-32")
    elsewhere = sample("scopegate", 1.0, section="redis")
    assert pick([*OURS, *NGINX, other, elsewhere], "loads", "get-200B-32", "scopegate") == OURS


def rows(text: str) -> list[dict[str, str]]:
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_a_table_has_a_row_per_load_and_peer_in_the_order_measured() -> None:
    later = [sample("nginx", 30.0, load="get-200B-1"), sample("scopegate", 45.0, load="get-200B-1", failed=7)]
    found = rows(table([*OURS, *NGINX, *later, sample("nginx", 1.0, section="redis")], "loads"))
    assert [(row["load"], row["peer"]) for row in found] == [
        ("get-200B-32", "scopegate"),
        ("get-200B-32", "nginx"),
        ("get-200B-1", "nginx"),
        ("get-200B-1", "scopegate"),
    ]
    assert [row["CPU ratio"] for row in found] == ["2.00", "1.00", "1.00", "1.50"]
    assert [row["failed"] for row in found] == ["0", "0", "0", "7"]


def test_a_row_quotes_medians_and_the_span() -> None:
    row = rows(table(OURS, "loads"))[0]
    assert row["CPU µs/request"] == "60.0 (50.0-80.0)"
    assert (row["CPU ratio"], row["speed ratio"]) == ("", "")
    assert (row["requests/s"], row["p50 ms"], row["p99 ms"]) == ("1,000", "1.00", "10.00")
    assert (row["idle RSS MB"], row["peak RSS MB"], row["growth MB"], row["Redis µs"]) == ("40", "50", "10.0", "")


def test_redis_time_shows_where_there_is_some() -> None:
    row = rows(table([sample("a", 1.0, redis_us=12.34)], "loads"))[0]
    assert row["Redis µs"] == "12.3"
