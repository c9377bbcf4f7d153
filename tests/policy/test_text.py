from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.policy import text as texts
from scopegate.policy.tree import Expanded, Place, plain


def value(text: str, environ: dict[str, str] | None = None) -> object:
    read = texts.read(text.encode(), "F", environ or {})
    assert read.root is not None
    assert read.faults == ()
    return plain(read.root)


def faults(raw: bytes | str, environ: dict[str, str] | None = None, *, lenient: bool = False) -> list[str]:
    raw = raw.encode() if isinstance(raw, str) else raw
    return [str(fault.problem("F")) for fault in texts.read(raw, "F", environ or {}, lenient=lenient).faults]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("no", "no"), ("on", "on"), ("Yes", "Yes"), ("010", "010"), ("1:30", "1:30"), ("2026-11-24", "2026-11-24")),
        *(("0x1F", "0x1F"), ("1_000", "1_000"), ("1e3", "1e3"), (".5", ".5"), ("0o7", "0o7"), (".inf", ".inf")),
        *(("12", 12), ("-3", -3), ("0", 0), ("1.5", 1.5), ("true", True), ("False", False), ("'12'", "12")),
        *(('"true"', "true"), ("9" * 30, "9" * 30), ("50%", "50%"), ("'null'", "null")),
    ],
)
def test_plain_words_mean_what_they_look_like(text: str, expected: object) -> None:
    got = value(f"a: {text}")
    assert got == {"a": expected}
    assert isinstance(got, dict)
    assert type(got["a"]) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${B}z", "x1y2z"),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("${TRICK}", "${A}"),
        ("'${A}'", "1"),
    ],
)
def test_variables(text: str, expected: str) -> None:
    environ = {"A": "1", "B": "2", "EMPTY": "", "TRICK": "${A}"}
    assert value(f"a: {text}", environ) == {"a": expected}


def test_a_value_of_the_environment_is_text_that_says_so() -> None:
    got = value("a: ${A}\nb: x${A}", {"A": "12"})
    assert isinstance(got, dict)
    assert isinstance(got["a"], Expanded)
    assert (got["a"].whole, got["b"].whole, got["a"].missing) == (True, False, False)


def test_keys_are_never_expanded() -> None:
    assert value("${A}: 1", {"A": "x"}) == {"${A}": 1}


def test_a_missing_secret_is_a_warning_only_when_lenient() -> None:
    assert faults("secret: ${S}") == ["F:1:9 secret: the environment has no S"]
    assert texts.read(b"secret: ${S}", "F", {}, lenient=True).faults[0].warning
    assert not texts.read(b"url: ${S}", "F", {}, lenient=True).faults[0].warning


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ["F:1:1: the file is empty"]),
        (b"\n# only a comment\n", ["F:1:1: the file is empty"]),
        (b"a: 1\nb: \xff\n", ["F:2:4: not UTF-8 text"]),
        (b"a: \x00", ["F:1:4: the character U+0000 may not stand here"]),
        ("a: ﻿x".encode(), ["F:1:4: the character U+FEFF may not stand here"]),
        (b"a: [1, 2", ["F:2:1: YAML: did not find expected ',' or ']' (while parsing a flow sequence)"]),
        (
            b"a: 1\na: 2\na: 3",
            ["F:2:1 a: the key is here twice: first on line 1", "F:3:1 a: the key is here twice: first on line 1"],
        ),
        (b"? {a: 1}\n: 2", ["F:1:3: a key must be a word"]),
        (b"a: &x 1", ["F:1:4 a: anchors (&) are not read here: write the value out"]),
        (b"a: *x", ["F:1:4 a: aliases (*) are not read here: write the value out"]),
        (b"a: !!python/object:os.system {}", ["F:1:4 a: tags (!) are not read here"]),
        (b"a: ~", ["F:1:4 a: has no value: give it one, or leave the key out"]),
        (b"--- 1\n--- 2", ["F:2:1: a second document starts here: a policy is one document"]),
        (b"a: " + b"[" * 30 + b"]" * 30, ["F:1:24: nested deeper than 20 levels"]),
        (b"a: [" + b"1," * 60_000 + b"]", ["F:1:100001: more than 50000 values in one file"]),
        (b"#" * (1024 * 1024 + 1), ["F:1:1: the file is larger than 1024 KiB"]),
    ],
)
def test_what_yaml_would_let_pass(raw: bytes, expected: list[str]) -> None:
    assert faults(raw) == expected


def test_a_bomb_of_aliases_costs_nothing() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert len(faults(bomb)) == 40 + 39 * 9


def test_a_byte_order_mark_at_the_start_is_let_pass() -> None:
    read = texts.read(b"\xef\xbb\xbfa: 1", "F", {})
    assert read.at(("a",)) == Place(1, 4)
    assert read.faults == ()


EXAMPLE = (Path(__file__).parent / "example.yaml").read_bytes()
TAILS = [
    b"",
    b"\n",
    b"[\n",
    b"{\n",
    b'"\n',
    b"'",
    b"|\n",
    b"&\n",
    b"*\n",
    b"\xe2\x80\xa8[\n",
    b"\r\n[\r\n",
    b": [a,\n\n",
]


@pytest.mark.parametrize("tail", TAILS)
def test_a_file_that_breaks_off_anywhere_is_a_fault_with_a_place(tail: bytes) -> None:
    for cut in range(0, len(EXAMPLE), 23):
        found = texts.read(EXAMPLE[:cut] + tail, "gateway.yaml", {})
        assert found.root is not None or found.faults
        assert all(fault.place.line >= 1 and fault.place.column >= 1 for fault in found.faults)


def test_an_unclosed_bracket_is_said_on_its_line() -> None:
    (fault,) = texts.read(b"version: 1\nserver: [\n", "gateway.yaml", {}).faults
    assert (fault.place.line, fault.what.partition(":")[0]) == (3, "YAML")
