from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scopegate.policy.document import Document
from scopegate.policy.schema import compile_schema
from tests.policies import EDGE, EXAMPLE, document, review, route

ROOT = Path(__file__).parent.parent.parent


def test_every_field_is_described() -> None:
    schema = Document.model_json_schema()
    sections = [schema, *(section for section in schema["$defs"].values() if "properties" in section)]
    assert len(sections) > 20
    for section in sections:
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            assert field.get("description"), f"{section['title']}.{name}"


@pytest.mark.parametrize("file", [EDGE, EXAMPLE, ROOT / "gateway.yaml"], ids=lambda f: f.name)
def test_the_json_schema_takes_what_the_reader_takes(file: Path) -> None:
    """Editors complete and check by it."""
    schema = compile_schema(Document.model_json_schema())
    said = [error.message for error in schema.iter_errors(yaml.safe_load(file.read_text()))]
    assert said == []


@pytest.mark.parametrize(
    "sections",
    [
        {"routes": [route(body={"json_": {}})]},
        {"routes": [route(body={"json": {"schema_": "x"}})]},
        {"routes": [route(websocket=True)]},
        {"server": {"client_address": "x"}},
        {"headers": {"site": {"frame": "allow"}}},
    ],
)
def test_the_json_schema_refuses_what_the_reader_refuses(sections: dict[str, Any]) -> None:
    schema = compile_schema(Document.model_json_schema())
    assert schema.is_valid(document())
    assert not schema.is_valid(document(**sections))
    assert review(yaml.safe_dump(document(**sections))).policy is None
