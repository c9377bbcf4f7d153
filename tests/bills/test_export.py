"""What is no whole export is named with its place; what is one is read to the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import pytest

from scopegate.bills.export import read
from scopegate.bills.statement import BadExport
from scopegate.limits.pricing import Usage
from tests.bills.exports import (
    COST_HEAD,
    MODEL,
    bucket,
    cost_csv,
    cost_line,
    cost_result,
    report,
    usage_csv,
    usage_line,
    usage_result,
)


def test_a_usage_export_as_csv() -> None:
    found = read([("u.csv", usage_csv(usage_line(), usage_line("2026-11-26", "claude-haiku-4-5-20251001", (5, 7))))])
    first, second = found.usages
    assert (first.place, first.day, first.model) == ("u.csv, line 2", "2026-11-24", MODEL)
    assert first.usage == Usage(1_000, 100, terms=(("inference_geo", "global"), ("service_tier", "standard")))
    assert (second.day, second.model, second.usage.output_tokens) == ("2026-11-26", "claude-haiku-4-5", 7)
    assert found.days == {"2026-11-24", "2026-11-25", "2026-11-26"}, "on the 25th nothing was billed"


def test_a_usage_report_as_json_by_its_pages() -> None:
    written = usage_result(cache_creation={"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4})
    pages = [report(bucket(written), has_more=True), report(bucket(day="2026-11-25"))]
    found = read([("1.json", pages[0]), ("2.json", pages[1])])
    [line] = found.usages
    assert line.usage == Usage(1_000, 100, 0, 3, 4, terms=(("service_tier", "standard"),))
    assert found.days == {"2026-11-24", "2026-11-25"}
    with pytest.raises(BadExport, match=r"1\.json: says has_more: its next page is missing"):
        read([("1.json", pages[0])])


def test_a_cost_report_counts_in_cents_and_the_console_in_dollars() -> None:
    [line] = read([("c.json", report(bucket(cost_result(amount="123.45"))))]).costs
    assert (line.usd_micros, line.rounding_usd_micros) == (Fraction(1_234_500), Fraction(50))
    [line] = read([("c.csv", cost_csv(cost_line("1.2345")))]).costs
    assert (line.model, line.usd_micros, line.rounding_usd_micros) == (MODEL, Fraction(1_234_500), Fraction(50))
    [line] = read([("c.json", report(bucket(cost_result(amount="0.00001"))))]).costs
    assert line.usd_micros == Fraction(1, 10)


def test_a_list_of_calls() -> None:
    one = {"request_id": "req_1", "at_ms": 5, "model": MODEL, "input_tokens": 10, "output_tokens": 3, "fault": "none"}
    found = read([("s.json", json.dumps({"calls": [one], "since_ms": 1, "until_ms": 9}).encode())])
    [call] = found.calls
    assert (call.key, call.at_ms, call.usage) == (("req_1",), 5, Usage(10, 3))
    assert (found.since_ms, found.until_ms, found.days) == (1, 9, frozenset())


GOOD = usage_csv(usage_line(), usage_line("2026-11-25"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "F: has no lines"),
        (b"\xff\xfe", "F: is not UTF-8"),
        (b"a,b\n1,2\n", "F, line 1: has not the columns"),
        (usage_csv(), "F: has no lines"),
        (GOOD[:-20], "F, line 3: has 8 of 14 columns"),
        (GOOD[:400], "F, line 3: has 7 of 14 columns"),
        (usage_csv(usage_line() + ",more"), "F, line 2: has 15 of 14 columns"),
        (usage_csv(usage_line(), usage_line("2026-11-25"), usage_line()), "F, line 4: stands at F, line 2 already"),
        (usage_csv(usage_line(counts=(-1, 5))), "F, line 2: has a usage_input_tokens_no_cache below zero"),
        (usage_csv(usage_line().replace("1000", "1e3")), "F, line 2: .* that is no whole number"),
        (usage_csv(usage_line().replace("1000", "")), "F, line 2: .* that is no whole number"),
        (usage_csv(usage_line(day="24.11.2026")), "F, line 2: has no day"),
        (usage_csv(usage_line(model="")), "F, line 2: names no model"),
        (usage_csv('2026-11-24,"cut'), "F, line 3: is no CSV, or cut"),
        (cost_csv(cost_line("1.5"), head=COST_HEAD.replace("cost_usd", "cost_eur")), "F, line 1: .*another currency"),
        (cost_csv(cost_line("1.5"), cost_line("-0.5", token_type="input")), "F, line 3: has an amount below zero"),
        (cost_csv(cost_line("NaN")), "F, line 2: has an amount that is no decimal"),
        (cost_csv(cost_line("1.5"), cost_line("1.5")), "F, line 3: stands at F, line 2 already"),
        (report(bucket(usage_result()))[:-30], "F, line 1: is cut or broken"),
        (b'{"data": 5}', "F: is no usage or cost report"),
        (b"[]", "F: is no usage or cost report"),
        (report(bucket(usage_result(model=None))), r"F, data\[0\].results\[0\]: names no model: group"),
        (report(bucket(usage_result(), usage_result())), r"results\[1\]: stands at F, data\[0\].results\[0\] already"),
        (report(bucket(usage_result(output_tokens=-1))), r"results\[0\]: has a output_tokens below zero"),
        (report(bucket(usage_result(output_tokens=1.5))), "that is no whole number"),
        (report(bucket(usage_result(output_tokens=True))), "that is no whole number"),
        (report(bucket({})), r"results\[0\]: has no cache_creation"),
        (report(bucket(cost_result(currency="EUR"))), "is in another currency than USD"),
        (report(bucket(cost_result(amount=-1))), "has an amount below zero"),
        (report({"results": []}), r"data\[0\]: has no starting_at"),
        (report(bucket(cost_result(), usage_result())), "F: is no usage or cost report"),
        (b'{"calls": [{}], "since_ms": 0, "until_ms": 1}', r"F, calls\[0\]: has no input_tokens"),
        (b'{"calls": []}', "F: has no since_ms"),
    ],
)
def test_what_is_no_whole_export_is_named_with_its_place(content: bytes, fault: str) -> None:
    with pytest.raises(BadExport, match=fault):
        read([("F", content)])


def test_every_cut_of_an_export_in_the_middle_of_a_line_is_found() -> None:
    """One at a line's end is a whole file of fewer days, and the last column may be empty."""
    text = GOOD.decode()
    ends = {n for n, char in enumerate(text) if char == "\n"} | {n + 1 for n, char in enumerate(text) if char == "\n"}
    speed = {n for n in range(len(text)) if text[n - 1] == "," and n in ends}
    for cut in range(text.index("\n") + 2, len(text) - 1):
        if cut in ends | speed:
            continue
        with pytest.raises(BadExport):
            read([("F", text[:cut].encode())])


def test_two_kinds_are_not_one_statement() -> None:
    with pytest.raises(BadExport, match=r"c\.csv: is a cost export, and the first file a usage export"):
        read([("u.csv", usage_csv(usage_line())), ("c.csv", cost_csv(cost_line("1.5")))])


def test_a_page_that_is_given_twice_is_found() -> None:
    with pytest.raises(BadExport, match=r"2\.csv, line 2: stands at 1\.csv, line 2 already"):
        read([("1.csv", usage_csv(usage_line())), ("2.csv", usage_csv(usage_line()))])


def test_nothing_of_a_file_is_quoted() -> None:
    secret = "sk-ant-planted"
    for content in (
        usage_csv(usage_line(day=secret)),
        usage_csv(usage_line().replace("1000", secret)),
        secret.encode(),
    ):
        with pytest.raises(BadExport) as caught:
            read([("F", content)])
        assert secret not in str(caught.value)


def mutants(value: object) -> Iterator[object]:
    """The value with each of its parts replaced by something of another kind."""
    yield from (5, -1, "x", "", None, True, [], {}, [5], {"x": 5})
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: one for name, one in value.items() if name != key}
            yield from (value | {key: other} for other in mutants(part))
    if isinstance(value, list):
        for n, part in enumerate(value):
            yield from ([*value[:n], other, *value[n + 1 :]] for other in mutants(part))


@pytest.mark.parametrize("result", [usage_result(), cost_result()])
def test_whatever_stands_in_a_report_it_is_read_or_refused_by_name(result: dict[str, object]) -> None:
    pages = list(mutants({"data": [bucket(result)], "has_more": False}))
    pages += mutants(
        {"calls": [{"request_id": "r", "at_ms": 1, "model": MODEL, "input_tokens": 1, "output_tokens": 2}]}
    )
    assert len(pages) > 150
    for page in pages:
        with suppress(BadExport):
            read([("F", json.dumps(page).encode())])
