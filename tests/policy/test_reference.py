"""The schema and the reference of the policy file, and that what is kept of them is what the shapes say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from scopegate.policy.document import Document
from scopegate.policy.reference import reference, schema
from tests.policies import EXAMPLE, MINIMAL, review

DOCS = Path(__file__).parents[2] / "docs"
TESTS = Path(__file__).parents[1]


def validator() -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(schema())


def test_what_is_kept_is_what_the_shapes_say() -> None:
    """Else: `scopegate schema > docs/policy.schema.json; scopegate schema --markdown > docs/policy.md`."""
    assert json.loads((DOCS / "policy.schema.json").read_text("utf-8")) == schema()
    assert (DOCS / "policy.md").read_text("utf-8") == reference()


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(schema())
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


def policies_of_the_tests() -> Iterator[str]:
    for path in sorted(TESTS.rglob("*.py")):
        yield from re.findall(r'"""\\\\?\n(version: 1\n.*?)"""', path.read_text("utf-8"), re.DOTALL)


def test_what_the_gateway_accepts_an_editor_accepts() -> None:
    whole = [text for text in policies_of_the_tests() if not re.search(r"\.(json|pem|txt)", text)]
    accepted = [text for text in whole if review(text).policy is not None]
    assert len(accepted) >= 5
    told = validator()
    for text in [MINIMAL, EXAMPLE.read_text("utf-8"), *accepted]:
        assert [error.message for error in told.iter_errors(yaml.safe_load(text))] == [], text


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ("server: {workers: 2}", True),
        ('server: {workers: "${WORKERS}"}', True),
        ('server: {listen: "${LISTEN:-0.0.0.0:8080}"}', True),
        ("server: {worker: 2}", False),
        ("server: {workers: two}", False),
        ("server: {workers: 0}", False),
        ("tiers: {one: {limit: 1 per 1s, key: client_ip}}", True),
        ("tiers: {one: {limit: many, key: client_ip}}", False),
        ("tiers: {One: {limit: 1 per 1s, key: client_ip}}", False),
    ],
)
def test_what_an_editor_says(change: str, accepted: bool) -> None:
    whole: dict[str, Any] = yaml.safe_load(MINIMAL) | yaml.safe_load(change)
    assert validator().is_valid(whole) is accepted
    text = yaml.safe_dump(whole)
    assert (review(text, {"WORKERS": "2"}).policy is not None) is accepted, "as the gateway says"


def test_every_option_is_described_and_stands_in_the_reference() -> None:
    whole = Document.model_json_schema()
    rows = reference()
    for shape in [whole, *whole["$defs"].values()]:
        for name, option in shape.get("properties", {}).items():
            assert option.get("description"), f"{shape.get('title')}.{name}"
            assert f"| `{name}` |" in rows
