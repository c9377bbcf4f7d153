"""Forty faults of policy and environment: each is named with its place and its mend, without what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from scopegate.cli.main import main
from scopegate.settings import FROM_FILES, VARIABLES

POLICY = """\
version: 1
server:
  listen: 127.0.0.1:8080
upstreams:
  web: {servers: ["http://127.0.0.1:3000"]}
tiers:
  few: {limit: 5 per 10s, key: client_ip}
auth:
  staff: {jwt: {jwks: "https://id.example/keys", issuer: i, audience: a}}
offloads:
  photos: {lead_id: response.id, photos: "request.photos[].url", text: request.text,
    photo_hosts: ["*.s3.amazonaws.com"], deliver: {url: "https://a.example/in", secret: "${SECRET}"}}
ai:
  model: claude-haiku-5-5
  budgets: [{name: day, limit: 20 USD per day}]
routes:
  - {name: submit, match: POST /api/leads, tier: few, auth: staff, body: {types: [application/json]}, offload: photos}
  - {name: pages, match: GET /**, tier: lenient}
promises:
  - {request: POST /api/leads, route: submit, tier: few}
"""
SECRET = "PLANTED-PLANTED-PLANTED-PLANTED-"


class Fault(NamedTuple):
    """`old` -> `new` in the file, `environ` besides; what `check` says: where, and words of it that tell the mend."""

    old: str
    new: str
    where: str
    said: str
    environ: Mapping[str, str] = {}


def of_variable(name: str, value: str, said: str) -> Fault:
    return Fault("", "", name, said, {name: value})


FAULTS = [
    Fault("version: 1\n", "", "1:", "write version: 1"),
    Fault("version: 1", "version: 2", "1:", "at most 1"),
    Fault("listen:", "lisen:", "3:", "did you mean listen"),
    Fault("127.0.0.1:8080", "127.0.0.1", "3:", "write it like `0.0.0.0:8080`"),
    Fault("127.0.0.1:8080", "127.0.0.1:99999", "3:", "between 0 and 65535"),
    Fault("127.0.0.1:8080", "127.0.0.1:${PORT}", "3:", "PORT has 7 characters: letters", {"PORT": "PLANTED"}),
    Fault("127.0.0.1:8080", "127.0.0.1:${PORT}", "3:", "the environment has no PORT"),
    Fault("127.0.0.1:8080", "127.0.0.1:${PORT}", "3:", "PORT is empty", {"PORT": ""}),
    Fault("listen: 127", "\tlisten: 127", "3:", "indent with spaces"),
    Fault('["http://127.0.0.1:3000"]', "[127.0.0.1:3000]", "5:", "http://"),
    Fault('["http://127.0.0.1:3000"]', "[]", "5:", "may not be empty"),
    Fault('["http://127.0.0.1:3000"]', '["http://127.0.0.1:3000/app"]', "5:", "no path"),
    Fault("5 per 10s", "5 per 10", "7:", "10s"),
    Fault("5 per 10s", "5/10s", "7:", "10 per 10s"),
    Fault("5 per 10s", "0 per 10s", "7:", "outside 1 to"),
    Fault("key: client_ip", "key: client", "7:", "did you mean client_ip"),
    Fault("key: client_ip", "key: header", "7:", "header:NAME"),
    Fault("key: client_ip", "key: claim:org", "17:", "add it to `claims`"),
    Fault("few: {limit", "none: {limit", "7:", "that word means no limit"),
    Fault("https://id.example/keys", "id.example/keys", "9:", "https://"),
    Fault('"${SECRET}"', "PLANTED", "12:", 'write it like "${NAME}"'),
    Fault("response.id", "response..id", "11:", "JMESPath"),
    Fault("claude-haiku-5-5", "claude-haiku-9", "14:", "claude-haiku-5-5"),
    Fault("20 USD per day", "20 per day", "15:", "USD"),
    Fault("tier: few, auth", "auth", "17:", "`tier` is missing: name one of"),
    Fault("tier: few, auth", "tier: fw, auth", "17:", "did you mean few"),
    Fault("auth: staff", "auth: stuff", "17:", "did you mean staff"),
    Fault("offload: photos", "offload: photo", "17:", "did you mean photos"),
    Fault(", body: {types: [application/json]}", "", "17:", "write body: {types: [application/json]}"),
    Fault("POST /api/leads, tier", "GET /api/leads, tier", "17:", "match POST, PUT or PATCH alone"),
    Fault("POST /api/leads, tier", "POST api/leads, tier", "17:", "/"),
    Fault("name: pages", "name: submit", "18:", "route"),
    Fault("tier: few}\n", "tier: lenient}\n", "20:", "meets tier few"),
    Fault("submit, tier: few}", "pages}", "20:", "meets route submit"),
    of_variable("REDIS_URL", "http://PLANTED", "must start with redis://"),
    of_variable("REDIS_URL", "redis+sentinel://PLANTED", "redis+sentinel://host:26379"),
    of_variable("DATABASE_URL", "mysql://PLANTED", "must start with postgresql://"),
    of_variable("SCOPEGATE_ADMIN_TOKEN", "PLANTED", "shorter than 16 characters"),
    of_variable("SCOPEGATE_STATE_DIRR", "PLANTED", "did you mean SCOPEGATE_STATE_DIR"),
    of_variable("ANTHROPIC_API_KEY", "PLANTED PLANTED", "a space"),
    of_variable("ANTHROPIC_API_KEY_FILE", "/nowhere/PLANTED", "cannot be read: No such file"),
    of_variable("HTTPS_PROXY", "socks5://PLANTED", "written like http://"),
    of_variable("SCOPEGATE_LOG_LEVEL", "inof", "did you mean info"),
    of_variable("SCOPEGATE_LIMIT_TIMEOUT", "4s", "between 5ms and 1s"),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, *(f"{name}_FILE" for name in FROM_FILES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(tmp_path)


def test_the_file_is_fine_without_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text(POLICY)
    assert main(["check"]) == 0, capsys.readouterr().out


def test_there_are_forty() -> None:
    assert len(set(map(str, FAULTS))) >= 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.where}{fault.said}"[:60])
def test_each_is_named_with_its_place_and_its_mend(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fault.old in POLICY
    (tmp_path / "gateway.yaml").write_text(POLICY.replace(fault.old, fault.new, 1) if fault.old else POLICY)
    for name, value in fault.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["check", "--json"]) == 1
    out = capsys.readouterr().out
    place = fault.where if fault.where.isupper() or "_" in fault.where else f"gateway.yaml:{fault.where}"
    said = [
        f"{one['what']} {one['hint'] and 'did you mean ' + one['hint']}"
        for one in json.loads(out)["problems"]
        if one["where"].startswith(place)
    ]
    assert any(fault.said in each for each in said), out
    assert "PLANTED" not in out


def test_an_environment_that_no_start_can_use_ends_it_with_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.yaml").write_text(POLICY)
    monkeypatch.setenv("REDIS_URL", "redis+sentinel://PLANTED")
    for words in (["gateway"], ["worker"], ["limits", "show", "192.0.2.1"], ["status"]):
        assert main(words) == 78
        assert "REDIS_URL: is not like redis+sentinel://host:26379" in capsys.readouterr().err
