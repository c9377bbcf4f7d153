"""Files that a policy file names: named once, bounded, part of its digest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.policy import Policy, compile_policy, draft_of, files_named
from scopegate.policy.sidefiles import MAX_SIDE_FILE_BYTES, SideFile
from tests.policies import HERE, compiled_with, examine, load

GATEWAY = """\
version: 1
upstreams: {web: {servers: ["https://app.example"], tls: {ca: ca.pem}}}
routes:
  - {name: a, match: POST /a, tier: none, body: {types: [application/json], json: {schema: schemas/lead.json}}}
  - {name: b, match: POST /b, tier: none, body: {types: [application/json], json: {schema: schemas/lead.json}}}
"""
PEM = (HERE / "gallery" / "beside" / "ca.pem").read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "lead.json").write_text('{"type": "object"}')
    (tmp_path / "ca.pem").write_bytes(PEM)
    path = tmp_path / "gateway.yaml"
    path.write_text(GATEWAY)
    return path


def problems(file: Path) -> list[str]:
    return [f"{problem.path} {problem.what}" for problem in examine(file, {}).problems]


def test_a_path_may_be_absolute_and_come_from_the_environment(file: Path) -> None:
    file.write_text(GATEWAY.replace("ca: ca.pem", 'ca: "${CA}"'))
    environ = {"CA": str(file.parent / "schemas" / ".." / "ca.pem")}
    found = load(file, environ)
    assert found.upstreams["web"].tls.ca_file == environ["CA"]
    (file.parent / "ca.pem").write_text("")
    (problem,) = examine(file, environ).problems
    assert problem.what.startswith("'${CA}' (CA has ")
    assert problem.what.endswith(") holds no certificate in PEM form")


def test_the_digest_covers_what_the_files_hold(file: Path) -> None:
    before = load(file, {}).digest
    assert load(file, {}).digest == before
    digests = {before}
    for name, content in (
        ("schemas/lead.json", '{"type": "object" }'),
        ("ca.pem", "# an authority of our own: caf\u00e9\n" + PEM.decode()),
    ):
        (file.parent / name).write_text(content)
        digests.add(load(file, {}).digest)
    assert len(digests) == 3


def test_the_digest_is_the_same_wherever_the_files_lie(file: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "schemas").mkdir()
    for name in ("gateway.yaml", "ca.pem", "schemas/lead.json"):
        (elsewhere / name).write_bytes((file.parent / name).read_bytes())
    assert load(elsewhere / file.name, {}).digest == load(file, {}).digest


def test_a_file_is_named_once_however_many_places_name_it() -> None:
    draft = draft_of(GATEWAY.encode(), "F", {})
    assert files_named(draft) == ("ca.pem", "schemas/lead.json")
    files = {"ca.pem": SideFile("/etc/ca.pem", PEM), "schemas/lead.json": SideFile("/etc/schemas/lead.json", b"{}")}
    found = compile_policy(draft, files | {"other": SideFile("/etc/other", b"")}).policy
    assert found is not None
    assert found.files == ("/etc/ca.pem", "/etc/schemas/lead.json")


def test_a_file_under_a_section_with_faults_is_judged_too(file: Path) -> None:
    file.write_text(GATEWAY.replace("https://app.example", "ftp://app.example"))
    (file.parent / "ca.pem").write_text("")
    assert problems(file) == [
        "upstreams.web.servers[0] 'ftp://app.example' is not a URL that starts with http:// or https://",
        "upstreams.web.tls.ca 'ca.pem' holds no certificate in PEM form",
    ]


def test_as_large_as_allowed_and_one_byte_more(file: Path) -> None:
    schema = file.parent / "schemas" / "lead.json"
    schema.write_bytes(b"{}".ljust(MAX_SIDE_FILE_BYTES))
    assert problems(file) == []
    schema.write_bytes(b"{}".ljust(MAX_SIDE_FILE_BYTES + 1))
    assert problems(file) == [
        f"routes[{n}].body.json.schema 'schemas/lead.json' is larger than 1024 KiB" for n in (0, 1)
    ]


def test_json_too_deep_to_be_read(file: Path) -> None:
    (file.parent / "schemas" / "lead.json").write_text('{"not":' * 50_000 + "{}" + "}" * 50_000)
    assert problems(file)[0] == "routes[0].body.json.schema 'schemas/lead.json' is nested too deeply"


@pytest.mark.parametrize(("rule", "is_loaded"), [("json: {}", False), ("json: {schema: schemas/lead.json}", True)])
def test_the_library_is_loaded_by_those_who_need_it(file: Path, rule: str, is_loaded: bool) -> None:
    file.write_text(GATEWAY.replace("json: {schema: schemas/lead.json}", rule))
    script = """
import sys
from pathlib import Path
from scopegate.following.source import on_disk
assert on_disk(Path(sys.argv[1])).examine({}, lenient=False).policy is not None
print("jsonschema_rs" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"{is_loaded}\n"


def test_files_that_a_policy_names(edge: Policy) -> None:
    assert edge.files == (str(HERE / "gallery/beside/ca.pem"), str(HERE / "gallery/beside/lead.json"))
    assert compiled_with().files == ()
