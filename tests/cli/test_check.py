from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.cli import check
from scopegate.cli.main import main
from scopegate.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "policy" / "example.yaml"
MINIMAL = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes:
  - {name: all, match: GET /**, tier: lenient}
server: {listen: 127.0.0.1:8080}
promises:
  - {request: GET /x, route: all, tier: lenient}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(MINIMAL)
    return path


def test_a_fine_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tier lenient: a busy key costs 1,556 bytes in memory, at most 1,740 in Redis",
        "fine: 1 route, 1 tier, 0 offloads, 1 promise kept",
    ]


def test_problems_with_their_places(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL.replace("tier: lenient}\nserver", "tier: leniant, mod: watch}\nserver"))
    assert main(["check", "-c", str(file)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{file}:4:39 routes[0].tier: no tier is named 'leniant', did you mean lenient?",
        f"{file}:4:48 routes[0].mod: unknown key, did you mean mode?",
        "2 problems",
    ]


def test_a_broken_promise_is_a_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL + "  - {request: GET /x, answers: 401}\n")
    assert main(["check", str(file)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{file}:8:5 promises[1].answers: GET /x meets what the app answers, not 401",
        "1 problem",
    ]


def test_warnings_stop_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL + "tiers:\n  slow: {limit: 1 per 1s}\n")
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}:9:3 tiers.slow: no route uses it (warning)",
        "tier lenient: a busy key costs 1,556 bytes in memory, at most 1,740 in Redis",
        "tier slow: a busy key costs 440 bytes in memory, at most 255 in Redis",
        "fine: 1 route, 2 tiers, 0 offloads, 1 promise kept, 1 warning",
    ]


def test_flags_and_caches_are_counted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = "lenient, flags: [new], cache: {}}\n  - {name: more, match: ANY /x, tier: none, cache: {}}\n"
    file.write_text(MINIMAL.partition("promises:")[0].replace("lenient}\n", more) + "flags: {new: {}}\n")
    assert main(["check", str(file)]) == 0
    counted = "fine: 2 routes, 1 tier, 0 offloads, 1 flag, 2 routes with a cache, 0 promises kept"
    assert capsys.readouterr().out.splitlines()[-1].startswith(counted)


def test_answers_that_nobody_could_share_are_told(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    file.write_text(MINIMAL.replace("lenient}\n", "lenient, cache: {}}\n", 1) + "cache: {redis: 64MiB}\n")
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.startswith("REDIS_URL cache.redis: not set: ")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:6379/0")
    assert main(["check", str(file)]) == 0
    assert "REDIS_URL" not in capsys.readouterr().out


def test_secrets_need_not_be_there() -> None:
    review = check.review_of(EXAMPLE, {})
    assert review.policy is not None
    assert [warning.what for warning in review.warnings] == [
        "the environment has no IDENTITY_SECRET: it is needed at start",
        "the environment has no SCOPEGATE_WEBHOOK_SECRET: it is needed at start",
    ]
    secrets = dict.fromkeys(("SCOPEGATE_WEBHOOK_SECRET", "IDENTITY_SECRET"), "thirty-two bytes that are a secret")
    assert check.review_of(EXAMPLE, secrets).warnings == ()


def test_a_model_without_a_price(file: Path) -> None:
    file.write_text(MINIMAL + "ai: {model: claude-haiku-55}\n")
    problem = check.review_of(file, {}).problems[0]
    assert (problem.where, problem.path) == (f"{file}:8:13", "ai.model")
    assert problem.hint == "claude-haiku-5-5"


def test_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(file)]) == 0
    fine = json.loads(capsys.readouterr().out)
    assert (fine["ok"], len(fine["digest"]), fine["problems"]) == (True, 12, [])
    file.write_text(MINIMAL + "tires: {}\n")
    assert main(["check", "--json", str(file)]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "digest": None,
        "busy_key_bytes": {},
        "promises_by_route": {},
        "problems": [{"where": f"{file}:8:1", "path": "tires", "what": "unknown key", "hint": "tiers"}],
        "warnings": [],
    }


def test_no_file_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.yaml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'none.yaml'}: no such file\n"
    assert main(["check", "--json", str(tmp_path / "none.yaml")]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem["what"] == "no such file"
    with pytest.raises(ConfigError):
        check.review_of(tmp_path, {})


def test_two_files_are_one_too_many(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file), "-c", "other.yaml"]) == 2
    assert "FILE and -c name two" in capsys.readouterr().err


def test_the_command_itself_loads_no_engine(file: Path) -> None:
    script = (
        "import sys; from scopegate.cli.main import main; code = main(); print(*sys.modules); raise SystemExit(code)"
    )
    argv = [sys.executable, "-c", script, "check", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True, env=dict(os.environ))
    assert not {"anthropic", "redis", "arq", "sqlalchemy", "httpx", "starlette"} & set(done.stdout.split())


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a", "redis+sentinel://a:0/m", "redis+sentinel://u@a/m", "redis://h/x"]
)
def test_an_environment_that_a_start_would_refuse_is_named(
    file: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert main(["check", str(file)]) == check.EXIT_PROBLEMS
    said = capsys.readouterr().out
    assert "REDIS_URL: " in said
    assert "1 problem" in said
    assert url not in said
    monkeypatch.setenv("REDIS_URL", "redis+sentinel://a:26379/mymaster/0")
    assert main(["check", str(file)]) == check.EXIT_FINE


def test_routes_that_no_promise_speaks_of_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    routes = "  - {name: other, match: GET /other, tier: lenient}\n  - {name: all"
    file.write_text(MINIMAL.replace("  - {name: all", routes))
    assert main(["check", str(file)]) == 0
    assert "promises cover 1 of 2 routes, not: other" in capsys.readouterr().out.splitlines()
    assert main(["check", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["promises_by_route"] == {"other": 0, "all": 1}


def test_annotations_of_a_pull_request(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL.replace("GET /**", "POST /**") + "tires: {}\n")
    assert main(["check", "--format", "github", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"::error file={file},line=8,col=1::tires: unknown key, did you mean tiers?"
    assert lines[1].startswith(f"::warning file={file},line=4,col=24::routes[0].match: anybody may write (POST)")
    assert main(["check", "--format", "github", str(file.parent / "none.yaml")]) == 1
    assert capsys.readouterr().out.startswith("::error::")
