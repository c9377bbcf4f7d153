"""What is said of a request that nobody has sent, and that the gateway says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scopegate.cli.main import main

FILE = """\
version: 1
server: {hosts: [app.example.com]}
upstreams: {web: {servers: ["http://127.0.0.1:3000", "http://[::1]:3000"]}}
tiers: {ours: {limit: 5 per 1m, key: [client_ip, "header:x-team"], in_flight: 2}}
auth: {staff: {jwt: {jwks: "https://id.example/keys", issuer: i, audience: a}}}
routes:
  - {name: submit, match: POST /api/leads, tier: ours, body: {max: 64KiB, types: [application/json]}}
  - {name: jobs, match: GET /api/jobs/*, tier: none, auth: staff}
  - {name: pages, match: GET /**, tier: lenient, mode: watch}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    return str(path)


def test_each_thing_is_told_with_its_line(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "POST", "/api/leads", "-c", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"route     submit (POST /api/leads), {file}:7",
        "limits    ours: 5 per 60s, 2 in flight by client_ip and header:x-team",
        "sign-in   none",
        "body      at most 65,536 bytes, application/json",
        "offload   none",
        "upstream  web: http://127.0.0.1:3000, http://[::1]:3000",
        "cache     none",
        "flags     none",
        "mode      enforce",
        "answer    the app's",
    ]


KEPT = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}, next: {servers: ["http://127.0.0.1:3001"]}}
flags: {beta: {}, checkout: {}}
routes:
  - {name: beta, match: GET /beta, tier: none, upstream: web, only_if: {beta: "on"}}
  - name: pages
    match: GET /**
    tier: lenient
    upstream: web
    flags: [beta]
    by_flag: {checkout: {"on": {upstream: next, tier: none}}}
    cache: {ttl: 30s, stale_if_error: 1h, key: {query: [page], cookies: [plan]}}
"""


def test_what_is_kept_and_what_flags_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(KEPT)
    said = {}
    for path in ("/beta", "/x"):
        assert main(["explain", "GET", path, "-c", str(file), "--json"]) == 0
        said[path] = json.loads(capsys.readouterr().out)
    assert (said["/beta"]["cache"], said["/beta"]["flags"]) == ("none", "only where beta is on")
    kept = "as the app says, else 30s; by path, query page, cookie plan; stale for 3600s while the app fails"
    assert said["/x"]["cache"] == f"{kept}; at most 1,048,576 bytes"
    assert said["/x"]["flags"] == "where checkout is on: next, no tier; tells the app beta"


@pytest.mark.parametrize(
    ("words", "answer", "code"),
    [
        (["GET", "/api/jobs/7"], "401, by the gateway", 1),
        (["GET", "/api/jobs/7", "-H", "Authorization: Bearer x"], "the app's", 0),
        (["GET", "https://app.example.com/x?y"], "the app's", 0),
        (["GET", "https://other.example/x"], "421, by the gateway", 1),
        (["GET", "/x", "-H", "Host: other.example"], "421, by the gateway", 1),
        (["PUT", "/x"], "405, by the gateway", 1),
        (["GET", "/%zz"], "400, by the gateway", 1),
    ],
)
def test_who_answers(file: str, capsys: pytest.CaptureFixture[str], words: list[str], answer: str, code: int) -> None:
    assert main(["explain", *words, "-c", file, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["answer"] == answer


@pytest.mark.parametrize("words", [["GET", "x"], ["GET", "ftp://a/b"], ["GET", "/", "-H", "nothing"], ["GET"]])
def test_what_is_no_request_is_wrong_usage(file: str, words: list[str]) -> None:
    assert main(["explain", *words, "-c", file]) == 2


def test_a_file_with_problems_is_explained_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("version: 2\n")
    assert main(["explain", "GET", "/", "-c", str(tmp_path / "bad.yaml")]) == 1
    assert "bad.yaml:1" in capsys.readouterr().err
