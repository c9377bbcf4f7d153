from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.target import METHODS, judge_target
from scopegate.edge.verdict import Target
from scopegate.policy import addresses, spelling


def test_methods_are_those_the_edge_lets_in() -> None:
    assert {*spelling.METHODS, *spelling.RARE_METHODS} == METHODS


@pytest.mark.parametrize(
    ("text", "methods", "path"),
    [
        ("POST /api/leads", frozenset({"POST"}), "/api/leads"),
        ("GET|POST /a/*/b", frozenset({"GET", "POST"}), "/a/*/b"),
        ("ANY /**", None, "/**"),
        ("GET /", frozenset({"GET"}), "/"),
        ("PROPFIND /dav/", frozenset({"PROPFIND"}), "/dav/"),
        ("GET /caf%C3%A9/@me", frozenset({"GET"}), "/caf%C3%A9/@me"),
    ],
)
def test_match(text: str, methods: frozenset[str] | None, path: str) -> None:
    assert spelling.parse_match(text) == spelling.RequestLine(methods, path)


@pytest.mark.parametrize(
    "text",
    [
        *("GET", "GET api", "GET  /api", "GET /api ", "ANY|GET /", "|GET /", "TRACE /", "CONNECT /", "GET /a/**/b"),
        *("GET /***", "GET /a*", "GET //", "GET /a//b", "GET /./a", "GET /a/..", "GET /%2e", "GET /%5C", "GET /%0A"),
        *("GET /%c3", "GET /a?b", "GET /a#b", "GET /a;b", "GET /{id}", "GET /é", "GET /a b", "GET /%zz", 'GET /"a"'),
    ],
)
def test_no_match(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_match(text)


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="/?#*"), min_size=1, max_size=6), max_size=3))
def test_a_literal_pattern_is_a_path_that_the_edge_leaves_alone(segments: list[str]) -> None:
    """Otherwise a route could be written that no request can ever meet."""
    path = "/" + "/".join(segments)
    try:
        spelling.check_pattern(path)
    except ValueError:
        return
    judged = judge_target(b"GET", path.encode(), [b"localhost"], None)
    assert isinstance(judged, Target)
    assert judged.path == path


def test_request_keeps_its_own_spelling() -> None:
    assert spelling.parse_request("GET /a//../b?c=%2F") == ("GET", "/a//../b?c=%2F")


@pytest.mark.parametrize(
    "text",
    [
        "request",
        "response.id",
        "request.photos[].url",
        "request.photos[?size > `10`].url | [0]",
        "join(' ', [request.title, request.text])",
        "request.tags[*].name",
        "request.* | [0]",
        "{a: request.b, c: response.d}.a",
        "not_null(request.slug, response.slug)",
        "request.photos[].{name: respons}",
        "`[1, 2]`",
        "@",
        "request || response",
        "sort_by(request.photos, &size)[].url",
    ],
)
def test_expressions(text: str) -> None:
    assert spelling.parse_expression(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "request.", "photos[].url", "{a: photos}", "request || photos", "no_such[", "body.id | [0]", "'a", "a b"],
)
def test_no_expressions(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_expression(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("whsec_c2NvcGVnYXRlLXdlYmhvb2sta2V5", None),
        ("sixteen-bytes-ok", None),
        ("", "is empty"),
        ("fifteen-bytes-k", "shorter than 16"),
        ("whsec_c2hvcnQ=", "shorter than 16"),
        ("whsec_%%%%", "not base64"),
        ("sixteen-bytes-ok\n", "space or line break"),
    ],
)
def test_webhook_secret(text: str, fault: str | None) -> None:
    if fault is None:
        assert spelling.parse_webhook_secret(text) == text
        return
    with pytest.raises(ValueError, match=fault):
        spelling.parse_webhook_secret(text)


def test_a_file_beside_the_policy() -> None:
    for path in ("schemas/lead.json", "/etc/ca.pem", "../a b.json"):
        assert spelling.parse_side_file(path) == path
    for path in ("", "schemas/", " a", "a\nb", "x" * 1001):
        with pytest.raises(ValueError):
            spelling.parse_side_file(path)


def test_a_single_method() -> None:
    assert spelling.parse_method("PROPFIND") == "PROPFIND"
    for text in ("get", "ANY", "TRACE", "CONNECT", "*", ""):
        with pytest.raises(ValueError):
            spelling.parse_method(text)


def test_small_words() -> None:
    assert spelling.parse_media_type("Application/JSON") == "application/json"
    assert spelling.is_json_type("application/vnd.api+json")
    assert not spelling.is_json_type("text/plain")
    assert addresses.parse_photo_host("*.S3.amazonaws.com") == "*.s3.amazonaws.com"
    assert addresses.parse_photo_host("127.0.0.1:8000") == "127.0.0.1:8000"
    assert addresses.parse_photo_host("*.S3.*.amazonaws.com:8443") == "*.s3.*.amazonaws.com:8443"
    for parse, text in (
        (spelling.parse_media_type, "json"),
        (spelling.parse_field_name, "X Y"),
        (addresses.parse_photo_host, "*.10.0.0.1"),
        *((addresses.parse_photo_host, text) for text in ("*.*.com", "*.*", "s3.*.amazonaws.com", "*.a*.a.com")),
        (addresses.parse_route_host, "*.s3.*.amazonaws.com"),
        (spelling.parse_path, "health"),
        (spelling.parse_name, "a" * 64),
    ):
        with pytest.raises(ValueError):
            parse(text)
