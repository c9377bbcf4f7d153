from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.target import METHODS, judge_host, judge_target
from scopegate.edge.verdict import Target
from scopegate.policy import spelling
from scopegate.policy.policy import Address, Origin


def test_methods_are_those_the_edge_lets_in() -> None:
    assert {*spelling.METHODS, *spelling.RARE_METHODS} == METHODS


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("LocalHost:80", Address("localhost", 80)),
        ("[0:0::1]:9", Address("::1", 9)),
    ],
)
def test_listen(text: str, address: Address) -> None:
    assert spelling.parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Leads.Example.com", "leads.example.com"),
        ("leads.example.com:8080", "leads.example.com:8080"),
        ("leads.example.com:443", "leads.example.com"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[0::1]:8080", "[::1]:8080"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_is_spelt_as_the_edge_judges_it(text: str, host: str) -> None:
    assert spelling.parse_host(text) == host
    assert judge_host(text.encode()) == host


@pytest.mark.parametrize("text", ["", "a b", "a..b", "-a", "127.1", "1.2.3.256", "0x7f.1", "[::1", "a:99999", "[x]:1"])
def test_no_host(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_host(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:3000", Origin("http", "127.0.0.1", 3000)),
        ("https://App.example.com/", Origin("https", "app.example.com", 443)),
        ("http://[::1]:3000", Origin("http", "::1", 3000)),
        ("http://[::1]", Origin("http", "::1", 80)),
        ("http://web", Origin("http", "web", 80)),
        ("unix:/run/app.sock", Origin("unix", "/run/app.sock", 0)),
        ("unix:/" + "a" * 106, Origin("unix", "/" + "a" * 106, 0)),
    ],
)
def test_origin(text: str, origin: Origin) -> None:
    assert spelling.parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "web:3000", "ftp://web", "http://", "http://:80", "http://web:0", "http://web:x", "http://web:", "//web"),
        *("http://a@web", "http://web/#", "http://web/?x", "http://we b", "http://web\\x", "http://[::1", "http://wéb"),
        *("unix:", "unix:run", "unix://run", "unix:///run/a", "unix:/run/", "unix:/a b", "unix:/é", "unix:/a\n"),
        *("unix:/" + "a" * 107, "UNIX:/run/app.sock"),
    ],
)
def test_no_origin(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_origin(text)


def test_a_url_keeps_path_and_query() -> None:
    assert spelling.parse_url("https://a.example/b?c=d") == "https://a.example/b?c=d"
    assert spelling.url_host("https://A.example:8/b") == "a.example"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("10.1.2.3", True), ("[::1]", True), ("web", True), ("db.internal", True)),
        *(("example.com", False), ("8.8.8.8", False), ("2606:4700::1", False)),
    ],
)
def test_is_local(host: str, local: bool) -> None:
    assert spelling.is_local(host) is local


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7", "fc00::/7", "2001:db8::/32", "::1"])
def test_networks_that_may_be_trusted(text: str) -> None:
    assert str(spelling.parse_network(text)).startswith(text.split("/")[0])


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "0.0.0.0/7", "2000::/3", "::ffff:0:0/96", "10.0.0.1/8", "x", ""])
def test_networks_that_may_not(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_network(text)


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


@pytest.mark.parametrize(
    ("text", "name"), [("App.Internal", "app.internal"), ("10.0.0.7", "10.0.0.7"), ("[0::1]", "::1"), ("web", "web")]
)
def test_the_name_in_a_certificate(text: str, name: str) -> None:
    assert spelling.parse_server_name(text) == name


@pytest.mark.parametrize("text", ["", "app:443", "::1", "https://app", "*.example", "a b", "[::1]:443"])
def test_no_name_in_a_certificate(text: str) -> None:
    with pytest.raises(ValueError):
        spelling.parse_server_name(text)


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
    assert spelling.parse_photo_host("*.S3.amazonaws.com") == "*.s3.amazonaws.com"
    assert spelling.parse_photo_host("127.0.0.1:8000") == "127.0.0.1:8000"
    for parse, text in (
        (spelling.parse_media_type, "json"),
        (spelling.parse_field_name, "X Y"),
        (spelling.parse_photo_host, "*.10.0.0.1"),
        (spelling.parse_path, "health"),
        (spelling.parse_name, "a" * 64),
    ):
        with pytest.raises(ValueError):
            parse(text)
