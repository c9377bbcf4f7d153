"""Bodies that two readers take differently: what ours says of them, and that it is never "nothing was sent"."""

from __future__ import annotations

import gzip

import pytest

from scopegate.leads.job import Unreadable
from scopegate.leads.reading import BothSides, NotReadError, read_body, search
from scopegate.types import Json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", None),
        (b"null", None),
        (b' {"a": [1, 2.5, "\xc3\xbc"]} ', {"a": [1, 2.5, "ü"]}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"cut \\ud83d"', "cut \ufffd"),
        (b'"\\ude00 cut, \xc3\xbc"', "\ufffd cut, ü"),
        (b'{"\\ud800": "\\udfff"}', {"\ufffd": "\ufffd"}),
        (b"[" * 64 + b"]" * 64, eval("[" * 64 + "]" * 64)),
    ],
)
def test_a_body_is_read_as_the_app_reads_it(body: bytes, value: Json) -> None:
    assert read_body(body) == value


@pytest.mark.parametrize(
    "said", ["", "application/json", 'Application/JSON ; Charset="UTF-8"', "text/plain", "a/b+json"]
)
def test_json_by_any_name_is_read(said: str) -> None:
    assert read_body(b"[1]", said.replace("a/b", "application/b"), " Identity ") == [1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" ", "it is not JSON in UTF-8"),
        (b"{", "it is not JSON in UTF-8"),
        (b"{'a': 1}", "it is not JSON in UTF-8"),
        (b'{"a": 1,}', "it is not JSON in UTF-8"),
        (b"[1] x", "it is not JSON in UTF-8"),
        (b"NaN", "it holds a number that readers disagree about"),
        (b"[Infinity]", "it holds a number that readers disagree about"),
        (b"1e999", "it holds a number that readers disagree about"),
        (b"[" + b"9" * 5000 + b"]", "it holds a number that readers disagree about"),
        (b"[" * 65 + b"]" * 65, "it is nested too deeply"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
        (b"[" + b"0," * 200_000 + b"0]", "it holds too many values"),
        (b'{"contractor": "a", "contractor": "b"}', "it holds a key twice"),
        (b'{"\\ud800": 1, "\\ud801": 2}', "it holds a key twice"),
        (b'"\xff"', "it is not JSON in UTF-8"),
        (b'"\xed\xa0\x80"', "it is not JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", "it is not JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "it is not JSON in UTF-8"),
        (b'"nul\x00"', "it is not JSON in UTF-8"),
        (b"text=The+roof+leaks", "it is not JSON in UTF-8"),
        (gzip.compress(b"{}", mtime=0), "it is not JSON in UTF-8"),
    ],
)
def test_a_body_that_readers_disagree_about_is_unreadable_and_kept(body: bytes, reason: str) -> None:
    assert read_body(body) == Unreadable(reason, body)


@pytest.mark.parametrize(
    ("said", "coding", "reason"),
    [
        ("application/x-www-form-urlencoded", "", "its type is not JSON"),
        ("multipart/form-data; boundary=x", "", "its type is not JSON"),
        ("application/json, multipart/form-data", "", "its type is not JSON"),
        ("application/json; charset=utf-7", "", "its charset is not UTF-8"),
        ("application/json; charset=utf-8; charset=utf-16", "", "its charset is not UTF-8"),
        ('application/json;CHARSET = "UTF-16LE"', "", "its charset is not UTF-8"),
        ("application/json", "gzip", "it is compressed"),
        ("application/json", "identity, deflate", "it is compressed"),
    ],
)
def test_a_body_that_says_it_is_something_else_is_not_read_as_json(said: str, coding: str, reason: str) -> None:
    """To the app these bytes may be another contractor: `+AGE-` is `a` in UTF-7."""
    assert read_body(b'{"contractor": "+AGE-"}', said, coding) == Unreadable(reason, b'{"contractor": "+AGE-"}')


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("request.a.b", None),
        ("request.none[].url", None),
        ("request.none[*].url", None),
        ("request.none.*", None),
        ("request.list[5]", None),
        ("request.list[0]", 1),
        ("request.list[1:]", [2]),
        ("request.rooms[].photos[].url", ["x", "y"]),
        ("request.rooms[?name=='a'].photos[].url", ["x"]),
        ("request.named.*.url", ["z"]),
        ("request.text.de || request.text", "words"),
        ("request.none || request.text", "words"),
        ("join(', ', request.rooms[].name)", "a, b"),
    ],
)
def test_null_is_found_where_nothing_was_sent(expression: str, found: Json) -> None:
    assert search(expression, BothSides(BODY, None)) == found


BODY: Json = {
    "a": None,
    "list": [1, 2],
    "rooms": [{"name": "a", "photos": [{"url": "x"}]}, {"name": "b", "photos": [{"url": "y"}]}],
    "named": {"n": {"url": "z"}},
    "text": "words",
}


@pytest.mark.parametrize(
    "expression",
    [
        *("request.text.de", "request.text[0]", "request.text[1:]", "request.text[]", "request.text[*]"),
        *("request.text[?a=='b']", "request.list.*", "request.list.url", "request.list[].url", "request.list[*].url"),
        *("request.text.de || request.none", "join(', ', request.list)", "request.named[].url"),
    ],
)
def test_a_value_of_another_kind_is_not_nothing(expression: str) -> None:
    with pytest.raises(NotReadError):
        search(expression, BothSides(BODY, None))


@pytest.mark.parametrize(
    "expression", ["request.a", "*", "request", "[request.a, response.b]", "response.b || request.a"]
)
def test_a_side_that_cannot_be_read_is_told_when_it_is_asked_for(expression: str) -> None:
    with pytest.raises(NotReadError, match="the request cannot be read: why"):
        search(expression, BothSides(Unreadable("why"), {"a": 1}))
    assert search("response.a", BothSides(Unreadable("why"), {"a": 1})) == 1
