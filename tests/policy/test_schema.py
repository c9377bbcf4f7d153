from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from scopegate.policy.schema import compile_schema
from scopegate.types import Json
from tests.growth import LINEAR, growth


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": "object", "required": ["a"]}, {"a": 1}, {}),
        ({"$defs": {"id": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/id"}}}, {"a": 1}, {"a": "1"}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["a"], [1]),
        ({"$id": "https://a.example/s", "$defs": {"b": {"$id": "b", "minimum": 1}}, "$ref": "b"}, 1, 0),
        ({"pattern": "^(?:a|b)+$"}, "abba", "abc"),
    ],
)
def test_a_schema_judges(schema: Json, fits: Json, does_not: Json) -> None:
    validator = compile_schema(schema)
    assert validator.is_valid(fits)
    assert not validator.is_valid(does_not)


def test_true_and_false_are_schemas() -> None:
    assert compile_schema(True).is_valid({})
    assert not compile_schema(False).is_valid({})


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ("{}", "must be an object"),
        ({"type": "strin"}, "/type cannot stand there"),
        ({"$defs": {"a": {"$ref": "http://127.0.0.1:9/x"}}}, "refers to 'http://127.0.0.1:9/x': nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "refers to 'file:///etc/passwd'"),
        ({"$ref": "#/nope"}, "'/nope' does not exist"),
        ({"$schema": "urn:x"}, r"no draft is known by the name in its \$schema"),
        ({"pattern": "("}, "/pattern is no pattern"),
        ({"pattern": r"(a)\1"}, "/pattern is no pattern, or one with look-around or a back-reference"),
        ({"pattern": "((a{1000}){1000}){1000}"}, "/pattern is no pattern"),
        ({"patternProperties": {"(?<=a)b": {}}}, r"/patternProperties/\(\?<=a\)b is no pattern"),
    ],
)
def test_no_schema(schema: Json, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compile_schema(schema)


def test_nothing_is_fetched_even_where_it_could_be() -> None:
    asked: list[str] = []

    class Schemas(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with HTTPServer(("127.0.0.1", 0), Schemas) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        with pytest.raises(ValueError, match="nothing is fetched"):
            compile_schema({"$ref": f"http://127.0.0.1:{server.server_port}/lead.json"})
        server.shutdown()
        thread.join()
    assert asked == []


def test_a_schema_nested_too_deeply() -> None:
    deep: dict[str, Json] = {}
    for _ in range(5000):
        deep = {"not": deep}
    with pytest.raises(ValueError, match="nested too deeply"):
        compile_schema(deep)


def test_patterns_run_in_linear_time() -> None:
    """The classic of catastrophic back-tracking: exponential in an engine that tries every way."""
    validator = compile_schema({"pattern": "^(a+)+$"})
    assert not validator.is_valid("a" * 200_000 + "!")
    assert growth(lambda size: "a" * size + "!", validator.is_valid, 200_000) < LINEAR
