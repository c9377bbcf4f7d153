"""Where mypyc's program differs from Python's: one test for each way in which it was met. They hold on both builds;
`make test-compiled` runs them on the compiled one, where each has failed before it was mended.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hatch_build
import scopegate
from scopegate.edge.field_rules import REQUEST_RULES
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal
from scopegate.gateway.head import HeadReader
from scopegate.gateway.ruleset import Stray
from scopegate.gateway.section import HeaderSection
from tests.gateway.raw.wire import Wire
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs

SOURCE = Path(scopegate.__file__).parent
TESTS = Path(__file__).parents[1]


def places(faults: Callable[[ast.AST], Iterator[ast.stmt]]) -> list[str]:
    """Where the sources that are compiled have one."""
    files = {path: ast.parse(path.read_text("utf-8")) for path in hatch_build.sources(SOURCE)}
    return [f"{path}:{found.lineno}" for path, tree in files.items() for found in faults(tree)]


# ── a slice whose end lies before its beginning raises SystemError ──────────────────────────────────────────────────
@pytest.mark.parametrize("line", [b"", b"G", b"GET /", b"GET /x", b"GET / HTTP/1", b"POST / H"])
@ON_ONE_LOOP
async def test_a_request_line_shorter_than_a_version_is_refused(gates: Rigs, line: bytes) -> None:
    rig = await gates.start(servers=["http://127.0.0.1:9"])
    found = HeadReader().read(line + b"\r\n\r\n", rig.gateway.shared.rules)
    assert isinstance(found, Refusal)
    assert found.code in ("bad_syntax", "version_not_supported")


# ── an attribute that was found not to be None is not looked at again after a call that cleared it ──────────────────
@ON_ONE_LOOP
async def test_a_client_that_leaves_while_its_request_is_served_ends_it(gates: Rigs) -> None:
    rig = await gates.start(servers=["http://127.0.0.1:9"])
    wire = Wire(rig.gateway)
    wire.deliver(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
    wire.hang_up()
    assert rig.gateway.shared.in_flight == 0
    assert wire.connection not in rig.gateway.connections.open


def looked_at_again(node: ast.AST, held: frozenset[str] = frozenset()) -> Iterator[ast.If | ast.While]:
    """Conditions on an attribute inside the branch that its being there has opened."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.While):
            asked = frozenset(attributes_asked(child.test))
            if asked & held:
                yield child
            yield from looked_at_again(ast.Module(child.body, []), held | asked)
            yield from looked_at_again(ast.Module(child.orelse, []), held)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from looked_at_again(child)
        else:
            yield from looked_at_again(child, held)


def attributes_asked(condition: ast.expr) -> Iterator[str]:
    for node in ast.walk(condition):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and is_none(node.comparators[0]):
            yield ast.unparse(node.left)


def is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def test_nobody_looks_again_where_the_compiler_would_not() -> None:
    assert places(looked_at_again) == []


def test_a_second_look_is_found() -> None:
    tree = ast.parse("if self.x is not None:\n  self.x.end()\n  if self.x is not None:\n    self.go_on()\n")
    assert [found.lineno for found in looked_at_again(tree)] == [3]
    one_after_the_other = ast.parse("if self.x is not None:\n  self.x.end()\nif self.x is not None:\n  self.go_on()\n")
    assert list(looked_at_again(one_after_the_other)) == []


# ── `attribute: One | Other | None = None` of a class is nothing at all, not None ───────────────────────────────────
@ON_ONE_LOOP
async def test_what_may_be_none_is_none_when_it_is_made(gates: Rigs) -> None:
    rig = await gates.start(servers=["http://127.0.0.1:9"])
    section = HeaderSection(rig.gateway.shared.rules, Noted([], REQUEST_RULES), "1.1")
    assert (section.public, HeadReader().section, Stray().cors) == (None,) * 3


def undefined(tree: ast.AST) -> Iterator[ast.AnnAssign]:
    """Defaults of None in a class, for what may be of two or more types besides."""
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for line in owner.body:
            if isinstance(line, ast.AnnAssign) and is_none(line.value) and ast.unparse(line.annotation).count("|") > 1:
                yield line


def test_no_class_has_a_default_that_would_be_undefined() -> None:
    assert places(undefined) == []


def test_a_default_that_would_be_undefined_is_found() -> None:
    tree = ast.parse("class C:\n  one: A | None = None\n  other: A | B | None = None\n")
    assert [found.lineno for found in undefined(tree)] == [3]


# ── a class that Python reads cannot be made from one that was compiled ─────────────────────────────────────────────
def bases(path: Path) -> Iterator[tuple[str, str]]:
    """The classes of a file, each with one that it is made from."""
    for owner in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(owner, ast.ClassDef):
            yield owner.name, ""
            yield from ((owner.name, ast.unparse(base).rpartition(".")[2]) for base in owner.bases)


def test_nobody_makes_a_class_from_a_compiled_one_but_who_is_compiled_too() -> None:
    compiled = set(hatch_build.sources(SOURCE))
    native = {name for path in compiled for name, _ in bases(path)}
    python = {path for folder in (SOURCE, TESTS) for path in folder.rglob("*.py")} - compiled
    assert {f"{path}: {name}" for path in python for name, base in bases(path) if base in native} == set()
