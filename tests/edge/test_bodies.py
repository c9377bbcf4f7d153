"""Verdicts on bodies: who judges, what a JSON body must be, and that a refusal tells nothing of the client's."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from scopegate.edge.bodies import BodyJudges, ContentType, JsonJudge, compile_bodies, content_type
from scopegate.edge.multipart import MultipartReader
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import BodyRule, JsonRule, MultipartRule
from tests.growth import LINEAR, growth

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["slug"],
    "additionalProperties": False,
    "properties": {
        "slug": {"type": "string", "maxLength": 8, "pattern": "^[a-z-]+$"},
        "count": {"type": "integer", "maximum": 10},
        "a/b~c": {"type": "null"},
        "photos": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/photo"}},
        "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
    "$defs": {"photo": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}},
}
STRICT = JsonJudge(JsonRule(max_depth=4, schema=SCHEMA))
ANY = JsonJudge(JsonRule(max_depth=4))
JSON = b"application/json"


def judged(body: Any, judge: JsonJudge = STRICT) -> Refusal:
    refusal = judge.judge(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refusal is not None
    return refusal


@pytest.mark.parametrize(
    "body",
    [
        {"slug": "roof"},
        {"slug": "roof", "count": 10, "a/b~c": None},
        {"slug": "roof", "photos": [{"url": "x"}, {"url": "y", "note": 1}]},
        {"slug": "roof", "extra": {"anything": True}},
    ],
)
def test_what_keeps_the_schema_passes(body: Any) -> None:
    assert STRICT.judge(json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    ("body", "where", "keyword"),
    [
        ([], "its root", "type"),
        ({}, "its root", "required (slug)"),
        ({"slug": 1}, "/slug", "type"),
        ({"slug": "SECRET"}, "/slug", "pattern"),
        ({"slug": "secret-secret"}, "/slug", "maxLength"),
        ({"slug": "a", "count": 11}, "/count", "maximum"),
        ({"slug": "a", "count": 10**200}, "/count", "maximum"),
        ({"slug": "a", "count": 1.5}, "/count", "type"),
        ({"slug": "a", "a/b~c": 1}, "/a~1b~0c", "type"),
        ({"slug": "a", "photos": [{"url": "x"}, {}]}, "/photos/1", "required (url)"),
        ({"slug": "a", "photos": [{"url": 1}]}, "/photos/0/url", "type"),
        ({"slug": "a", "photos": [{"url": "x"}] * 4}, "/photos", "maxItems"),
        ({"slug": "a", "SECRET": 1}, "its root", "additionalProperties"),
        ({"slug": "a", "extra": {"SECRET": "SECRET"}}, "/extra/...", "type"),
        ({"slug": "\ud800"}, "/slug", "pattern"),
    ],
)
def test_a_broken_schema_is_told_by_place_and_keyword(body: Any, where: str, keyword: str) -> None:
    refusal = judged(body)
    assert (refusal.status, refusal.code) == (422, "schema_violation")
    assert refusal.detail == f"The body breaks its schema at {where}: {keyword}."


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff", "bad_json"),
        (b"[NaN]", "bad_json"),
        (b"1e999", "bad_json"),
        (b"{} {}", "bad_json"),
        (b'{"SECRET": 1, "SECRET": 2}', "bad_json"),
        (b"1" * 1_000_000, "bad_json"),
        (b"[[[[[]]]]]", "json_too_deep"),
        (b"[" * 100_000, "json_too_deep"),
        (b"[" * 1_000_000, "json_too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json_too_deep"),
    ],
)
def test_what_is_no_strict_json_is_400(body: bytes, code: str) -> None:
    tracemalloc.start()
    refusal = judged(body, ANY)
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    tracemalloc.stop()
    assert (refusal.status, refusal.code) == (400, code)
    assert "SECRET" not in refusal.detail
    assert len(refusal.detail) < 150


def test_too_many_values_are_413() -> None:
    refusal = judged(b"[" + b"[]," * 300_000 + b"[]]", ANY)
    assert (refusal.status, refusal.code) == (413, "json_too_large")


def test_any_json_passes_without_a_schema() -> None:
    for body in (b"1", b"null", b'["[[[[[["]', b"[[[[1]]]]"):
        assert ANY.judge(body) is None


def test_a_schema_may_be_false() -> None:
    assert judged({}, JsonJudge(JsonRule(max_depth=4, schema=False))).code == "schema_violation"


@pytest.mark.parametrize("made", [lambda size: [1] * size, lambda size: ["a" * size + "!"]])
def test_a_body_that_breaks_its_schema_everywhere_is_refused_in_linear_time(made: Callable[[int], Any]) -> None:
    judge = JsonJudge(JsonRule(max_depth=4, schema={"items": {"type": "string", "pattern": "^(a+)+$"}}))
    assert judged(made(190_000), judge).code == "schema_violation"
    assert growth(lambda size: json.dumps(made(size)).encode(), judge.judge, 190_000) < LINEAR


# ── who judges ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"application/json", ContentType("application/json", {})),
        (b" Application/JSON ; charset=UTF-8", ContentType("application/json", {"charset": "UTF-8"})),
        (b'a/b;x="y z";Q=1', ContentType("a/b", {"x": "y z", "q": "1"})),
        (b"a/b;", ContentType("a/b", {})),
        (b"a/b; ;x=1", ContentType("a/b", {"x": "1"})),
        (b"", None),
        (b"json", None),
        (b"a/", None),
        (b"a/b/c", None),
        (b"a/b, c/d", None),
        (b"a/b x=1", None),
        (b"a/b; x", None),
        (b"a/b; x=", None),
        (b"a/b; x=1; X=2", None),
        (b'a/b; x="1', None),
        (b'a/b; x="\\1"', None),
        (b'a/b; x="1"2', None),
        (b"a/b; x = 1", None),
        (b"a/b\xff", None),
        (b"a/b;x=" + b"y" * 1100, None),
    ],
)
def test_a_content_type_has_one_reading_or_none(value: bytes, found: ContentType | None) -> None:
    assert content_type([value]) == found


def test_two_content_types_are_none() -> None:
    assert content_type([]) is None
    assert content_type([JSON, JSON]) is None


FORM_DATA = "multipart/form-data"
TYPES = frozenset(["application/json", "text/json", "application/ld+json", "text/plain", FORM_DATA])
BOTH = BodyJudges(TYPES, ANY, MultipartRule(1, 1))


@pytest.mark.parametrize(
    "value",
    [
        JSON,
        b"application/json; charset=utf-8",
        b'text/json; charset="UTF-8"',
        b'application/ld+json; profile="https://a.example/p q"; v=1',
    ],
)
def test_json_is_judged_as_json(value: bytes) -> None:
    assert BOTH.choose([value], []) is ANY
    assert BOTH.choose([value], [b" Identity "]) is ANY


def test_forms_are_judged_as_forms() -> None:
    for parameters in (b'; boundary="a:b"', b"; charset=UTF-8; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW"):
        assert isinstance(BOTH.choose([b"Multipart/Form-Data" + parameters], []), MultipartReader)


@pytest.mark.parametrize(
    ("types", "codings", "status", "code"),
    [
        ([JSON, JSON], [], 415, "unsupported_type"),
        ([b"application/json, text/plain"], [], 415, "unsupported_type"),
        ([b"\xff"], [], 415, "unsupported_type"),
        ([b"application/json; charset=latin-1"], [], 415, "unsupported_type"),
        ([b"application/json; charset=utf-16"], [], 415, "unsupported_type"),
        ([], [], 415, "unsupported_type"),
        ([b""], [], 415, "unsupported_type"),
        ([b"application/xml"], [], 415, "unsupported_type"),
        ([b"application/x-www-form-urlencoded"], [], 415, "unsupported_type"),
        ([b"application/json; charset=utf-8; charset*=utf-16''utf-16"], [], 415, "unsupported_type"),
        ([b"application/json; charset*0=utf-16"], [], 415, "unsupported_type"),
        ([b"application/json; x=multipart; boundary=B"], [], 415, "unsupported_type"),
        ([b'application/json; x="multipart/form-data"'], [], 415, "unsupported_type"),
        ([b'text/plain; x="; Boundary=B"'], [], 415, "unsupported_type"),
        ([b"text/plain; application=octet-stream"], [], 415, "unsupported_type"),
        ([b"multipart/form-data; boundary=octet-stream"], [], 415, "unsupported_type"),
        ([b"multipart/form-data; boundary=B; x=urlencoded"], [], 415, "unsupported_type"),
        ([b'multipart/form-data; x="boundary=C"; boundary=B'], [], 415, "unsupported_type"),
        ([b"multipart/form-data; boundary=B; x=y"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary=B; charset=utf-16"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary=x; boundary*=UTF-8''y"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary*0=y"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary=x; boundary*0=y; boundary*1=z"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary=x; charset*=UTF-8''utf-16"], [], 400, "bad_multipart"),
        ([b'multipart/form-data; boundary=" B"'], [], 400, "bad_multipart"),
        ([JSON], [b"gzip"], 415, "unsupported_encoding"),
        ([JSON], [b"identity, br"], 415, "unsupported_encoding"),
        ([JSON], [b"identity", b"br"], 415, "unsupported_encoding"),
        ([JSON], [b""], 415, "unsupported_encoding"),
        ([b"multipart/form-data; boundary=a"], [b"deflate"], 415, "unsupported_encoding"),
        ([b"multipart/form-data"], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary="], [], 415, "unsupported_type"),
        ([b'multipart/form-data; boundary="a;b"'], [], 400, "bad_multipart"),
        ([b"multipart/form-data; boundary=a; boundary=b"], [], 415, "unsupported_type"),
        ([b"multipart/form-data; boundary=" + b"x" * 71], [], 400, "bad_multipart"),
    ],
)
def test_bodies_that_cannot_be_judged_are_refused(
    types: list[bytes], codings: list[bytes], status: int, code: str
) -> None:
    refusal = BOTH.choose(types, codings)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)


def test_other_types_meet_no_rule_where_they_are_accepted() -> None:
    assert BOTH.choose([b"text/plain"], [b"gzip"]) is None
    assert BodyJudges(TYPES, None, MultipartRule(1, 1)).choose([JSON], []) is None
    assert BodyJudges(TYPES, ANY, None).choose([b"multipart/form-data; boundary=a"], []) is None


def test_a_route_without_rules_has_no_judges() -> None:
    assert compile_bodies(BodyRule(1, frozenset())) is None
    assert compile_bodies(BodyRule(1, frozenset(["text/plain"]))) is None


def test_judges_hold_to_the_types_of_their_route() -> None:
    for rule in (
        BodyRule(1, frozenset(["application/json"]), json=JsonRule(1)),
        BodyRule(1, frozenset([FORM_DATA]), multipart=MultipartRule(1, 1)),
    ):
        judges = compile_bodies(rule)
        assert judges is not None
        refusals = 0
        for kind in (JSON, b"multipart/form-data; boundary=B", b"text/plain"):
            found = judges.choose([kind], [])
            refusals += isinstance(found, Refusal) and found.detail == f"Send {next(iter(rule.types))} here."
        assert refusals == 2
