from __future__ import annotations

from typing import Any

import pytest

from scopegate.policy.policy import JsonRule, MultipartRule, Policy
from scopegate.policy.schema import compile_schema
from tests.policies import HERE, MINIMAL, compiled, compiled_with, route


def test_bodies(edge: Policy) -> None:
    body = edge.routes[0].body
    assert isinstance(body.json, JsonRule)
    assert (body.json.max_depth, body.json.schema_file) == (8, str(HERE / "gallery/beside/lead.json"))
    assert compile_schema(body.json.schema).is_valid({"email": "a@b.example"})
    assert not compile_schema(body.json.schema).is_valid({})
    assert body.multipart == MultipartRule(51, 11, 5 * 1024**2)
    assert edge.routes[1].body.json == JsonRule(32)
    assert edge.routes[1].body.multipart == MultipartRule(50, 10)
    assert (edge.routes[2].body.json, edge.routes[2].body.multipart) == (None, None)


@pytest.mark.parametrize(
    ("body", "types"),
    [
        ({"json": {}}, {"application/json"}),
        ({"multipart": {}}, {"multipart/form-data"}),
        ({"types": [], "json": {}, "multipart": {}}, {"application/json", "multipart/form-data"}),
        ({"types": ["application/ld+json", "text/plain"], "json": {}}, {"application/ld+json", "text/plain"}),
        ({"max": "1KiB"}, set()),
    ],
)
def test_rules_for_bodies_bring_their_types(body: dict[str, Any], types: set[str]) -> None:
    assert compiled_with(routes=[route(body=body)]).routes[0].body.types == types


@pytest.mark.parametrize(("said", "buffer"), [("{buffer: on}", True), ("{buffer: off}", False), ("{}", None)])
def test_buffer_is_on_or_off_or_left_out(said: str, buffer: bool | None) -> None:
    assert compiled(MINIMAL.replace("tier: lenient", f"tier: lenient, body: {said}")).routes[0].body.buffer is buffer
