"""docs/security.md and the code say the same: refusal codes, defaults, the tests it names, the policy it shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

import scopegate
from scopegate.errors import UpstreamErrorKind
from scopegate.policy.document import Document
from tests.edge.test_spellings import BESIDE
from tests.policies import compiled

TESTS = Path(__file__).parent
SOURCE = Path(scopegate.__file__).parent
DOC = (TESTS.parent / "docs" / "security.md").read_text("utf-8")

MAKERS = {"Refusal", "_refused", "_turn_away"}
"""Calls that make a refusal: a status, a code and a sentence, in some order; a code is one word in small letters."""
_CODE = re.compile(r"[a-z]+(?:_[a-z0-9]+)*")


def section(title: str) -> str:
    return DOC.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes_in_source() -> Iterator[tuple[str, int | None]]:
    """Every code, with its status where the call names one."""
    for path in (*(SOURCE / "edge").glob("*.py"), *(SOURCE / "gateway").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                told = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
                status = next((each for each in told if isinstance(each, int)), None)
                codes = [each for each in told if isinstance(each, str) and _CODE.fullmatch(each)]
                if name in MAKERS:
                    yield from ((code, status) for code in codes)


def test_every_refusal_is_told_with_its_status() -> None:
    told = {cells[0].strip("`"): int(cells[1]) for cells in rows(section("Every refusal"))}
    used = dict(codes_in_source())
    upstream = {f"upstream_{kind}" for kind in get_args(UpstreamErrorKind)}
    assert told.keys() == used.keys() | upstream
    assert {code: status for code, status in used.items() if status is not None and told[code] != status} == {}


def default_of(setting: str) -> object:
    """The default of `server.limits.head`, spelt as in the file; `*` is any name or any item."""
    model: Any = Document
    field: Any = None
    for step in setting.split("."):
        if step == "*":
            continue
        field = next(f for name, f in model.model_fields.items() if step in (name, f.alias))
        model = model_of(field.annotation)
    return field.get_default(call_default_factory=True)


def model_of(annotation: Any) -> Any:
    """The section inside an annotation such as `dict[Name, Upstream]` or `Health | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (model_of(each) for each in get_args(annotation))
    return next((each for each in inner if each is not None), None)


def test_every_default_is_the_policys() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(section("Limits"))}
    assert {setting: str(default_of(setting)) for setting in told} == told
    for group in ("limits", "timeouts"):
        fields = model_of(Document.model_fields["server"].annotation).model_fields[group].annotation.model_fields
        assert {f"server.{group}.{name}" for name in fields} <= told.keys()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`((?:(?:edge|flows|gateway|policy)/[\w/]+|test_\w+)\.(?:py|txt))(?:::(\w+))?`", DOC)
    assert len(named) > 30
    for path, function in named:
        file = TESTS / path
        if not file.exists():
            file = SOURCE / path
        text = file.read_text("utf-8")
        assert not function or f"def {function}(" in text, (path, function)


def test_the_lines_for_next_js_are_those_that_the_recording_asks_for() -> None:
    snippet = re.search(r"```yaml\n(routes:.*?)```", DOC, re.DOTALL)
    assert snippet is not None
    routes = yaml.safe_load(snippet[1])["routes"]
    patterns = {route["match"].split()[1] for route in routes}
    assert patterns >= set(BESIDE) - {"/*/pricing"}
    policy = {"version": 1, "upstreams": {"web": {"servers": ["http://127.0.0.1:3000"]}}, "routes": routes}
    assert compiled(yaml.safe_dump(policy)).routes


@pytest.mark.parametrize("title", ["The rules", "Limits", "Every refusal", "In front of Next.js", "What this is not"])
def test_a_section_is_there(title: str) -> None:
    assert len(section(title)) > 300
