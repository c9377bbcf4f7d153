"""Readings of a path: all that known servers make of it, and a bound on how many are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.readings import MAX_READ_CHARS, MAX_READINGS, Reading, read_as, readings
from scopegate.policy.policy import PathStep


def paths(path: str) -> set[str]:
    found = readings(path)
    assert found is not None
    return {each.path for each in found}


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/", {"/"}),
        ("/a/b.c/~d", {"/a/b.c/~d"}),
        ("/.well-known/x", {"/.well-known/x"}),
        ("/%61pi", {"/%61pi", "/api"}),
        ("/%2561pi", {"/%2561pi", "/%61pi", "/api"}),
        ("/caf%c3%a9", {"/caf%C3%A9", "/café"}),
        ("/a%2fb", {"/a%2Fb", "/a/b"}),
        ("/a%252fb", {"/a%252fb", "/a%2fb", "/a%2Fb", "/a/b"}),
        ("/%61%2Fb", {"/%61%2Fb", "/a%2Fb", "/a/b"}),
        ("/a\\b", {"/a\\b", "/a/b"}),
        ("/a%5Cb", {"/a%5Cb", "/a\\b", "/a/b"}),
        ("/a;b=c/d", {"/a;b=c/d", "/a/d"}),
        ("/a%3Bb/c", {"/a%3Bb/c", "/a;b/c", "/a/c"}),
        ("/a/..;x/b", {"/a/..;x/b", "/a/../b", "/b"}),
        ("/a/../b", {"/a/../b", "/b"}),
        ("/a/%2e%2E/b", {"/a/%2E%2E/b", "/a/../b", "/b"}),
        ("/a/./b/.", {"/a/./b/.", "/a/b/"}),
        ("/..", {"/..", "/"}),
        ("//a", {"//a", "/a"}),
        ("/a//../b", {"/a//../b", "/a/../b", "/a/b", "/b"}),
        ("/a/../b%2F..%2Fc", {"/a/../b%2F..%2Fc", "/b%2F..%2Fc", "/a/../b/../c", "/b/../c", "/c"}),
        ("/a%3Fb", {"/a%3Fb", "/a?b", "/a"}),
        ("/a%23b", {"/a%23b", "/a#b", "/a"}),
        ("/a%00.png", {"/a%00.png", "/a\0.png", "/a"}),
        ("/a%20b%3Fc", {"/a%20b%3Fc", "/a b?c", "/a b", "/a"}),
        ("/a%0d%0ab", {"/a%0D%0Ab", "/a\r\nb", "/a"}),
        ("/a%ffb".replace("%ff", "%25ff"), {"/a%25ffb", "/a%ffb", "/a\ufffdb"}),
        ("/100%25", {"/100%25", "/100%"}),
    ],
)
def test_readings_of_a_path(path: str, read: set[str]) -> None:
    assert paths(path) == read


def test_as_sent_comes_first_and_only_what_was_not_decoded_is_raw() -> None:
    assert readings("/a%40b/../c") == [
        Reading("/a%40b/../c", True),
        Reading("/c", False),
        Reading("/a@b/../c", False),
    ]


@pytest.mark.parametrize(
    ("path", "steps", "read"),
    [
        ("/a;b%2f%41/../c//d\\E", "", "/a;b%2F%41/../c//d\\E"),
        ("/a;b%2f%41/../c//d\\E", "parameters", "/a/../c//d\\E"),
        ("/a;b%2f%41/../c//d\\E", "slashes", "/a;b/%41/../c//d/E"),
        ("/a;b%2f%41/../c//d\\E", "escapes", "/a;b%2FA/../c//d\\E"),
        ("/a;b%2f%41/../c//d\\E", "escapes slashes", "/a;b/A/../c//d/E"),
        ("/a;b%2f%41/../c//d\\E", "doubles", "/a;b%2F%41/../c/d\\E"),
        ("/a;b%2f%41/../c//d\\E", "dots", "/c//d\\E"),
        ("/a;b%2f%41/../c//d\\E", "case", "/a;b%2F%41/../c//d\\E"),
        ("/a;b%2f%41/../c//d\\E", "parameters slashes escapes doubles dots", "/c/d/E"),
    ],
)
def test_the_reading_of_one_server(path: str, steps: str, read: str) -> None:
    assert read_as(path, {PathStep(step) for step in steps.split()}) == Reading(read, "escapes" not in steps)


ODD = ["/", "/..", "/.", "//", "%2F", "%2f..", "%252F", "%5C", "\\", ";x", "%3B", "%3F", "%23", "%00", "%20", "%2e"]
pieces = st.lists(st.sampled_from([*ODD, "a", "%61", "%25", "B", "%C3%A9"]), max_size=10)
odd_paths = pieces.map(lambda each: "/" + "".join(each))


@given(odd_paths, st.sets(st.sampled_from(PathStep)))
def test_what_one_server_reads_is_among_the_readings(path: str, steps: set[PathStep]) -> None:
    found = readings(path)
    if found is not None and PathStep.SLASHES not in steps:  # one that leaves other escapes alone is no server we know
        assert read_as(path, steps).path in {each.path for each in found}


@given(odd_paths)
def test_every_reading_begins_with_a_slash(path: str) -> None:
    assert all(each.path.startswith("/") for each in readings(path) or ())


MARKS = ["%2F", "%2f..", "%252F", "%5C", "\\", ";a", "/..", "//", "%3F", "%00", "%20;", "%2e/", "%25%32%66"]


@pytest.mark.parametrize("mark", MARKS)
def test_many_odd_marks_are_few_readings_or_none(mark: str) -> None:
    found = readings("/files/" + mark * (8000 // len(mark)))
    if found is not None:
        assert len(found) <= MAX_READINGS
        assert sum(len(each.path) for each in found) <= MAX_READ_CHARS


def test_too_many_readings_are_none() -> None:
    assert readings("/a" + "".join(ODD) * 4) is None
    assert readings("/files/" + "%2F..;x%252e\\//%3f%23%00%20%252F" * 200) is None


def test_two_thousand_encoded_slashes_are_three_readings() -> None:
    path = "/files/" + "%2F" * 2000
    assert paths(path) == {path, "/files/" + "/" * 2000, "/files/"}
