"""The identity that the app is given: signed for this request, and checked by the very code that the docs give apps."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from scopegate.gateway.signin import signature
from tests.engines import missing
from tests.gateway.app import Received
from tests.gateway.rig import HOST, JWT_SECRET, ON_ONE_LOOP, Rigs

pytestmark = ON_ONE_LOOP

DOCS = Path(__file__).parents[2] / "docs" / "identity.md"
AUTH = {"who": {"jwt": {"secret": "${JWT_SECRET}"}, "sign_with": "${JWT_SECRET}"}}
ROUTES = [
    {"name": "area", "match": "ANY /area/**", "tier": "none", "auth": "who"},
    {"name": "all", "match": "ANY /**", "tier": "none"},
]

NODE = """
%s
const { method, url, fields, key, now_s: nowS } = JSON.parse(process.argv[2]);
const found = identityOf({ method, url, key, nowS, field: (name) => fields[name] });
console.log(JSON.stringify(found && [found.user, found.claims]));
"""
PYTHON = """
%s
import sys
said = json.loads(sys.argv[1])
path, _, query = said["url"].partition("?")
told = (said["method"], unquote(path), query)
print(json.dumps(identity_of(*told, said["fields"].get, said["key"], said["now_s"])))
"""


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "user-1", "exp": 4_000_000_000, **claims}, JWT_SECRET, algorithm="HS256")


def get(path: str, *fields: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


def snippet(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(found) == 1, f"one {language} snippet in {DOCS.name}"
    return str(found[0])


@dataclass(frozen=True)
class Said:
    """A request as an app sees it. `url` is the target of its request line, or what a framework made of it."""

    method: str
    url: str
    fields: dict[str, str]
    key: str = JWT_SECRET
    now_s: float = 0.0


def said(request: Received) -> Said:
    fields = {name.decode().lower(): value.decode() for name, value in request.fields}
    signed_at = re.fullmatch("t=([0-9]+),v1=[0-9a-f]{64}", fields["x-scopegate-signature"])
    assert signed_at is not None
    return Said(request.method.decode(), request.target.decode(), fields, now_s=float(signed_at[1]))


def ask_the_app(runner: list[str], each: Said) -> Any:
    run = subprocess.run([*runner, json.dumps(each.__dict__)], capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def runner_for(language: str, folder: Path) -> list[str]:
    if language == "js":
        node = shutil.which("node") or missing("Node.js")
        (folder / "check.mjs").write_text(NODE % snippet("js"), "utf-8")
        return [node, str(folder / "check.mjs")]
    (folder / "check.py").write_text(PYTHON % snippet("python"), "utf-8")
    return [sys.executable, str(folder / "check.py")]


@pytest.mark.parametrize("language", ["js", "python"])
async def test_apps_check_the_signature_as_the_docs_say(gates: Rigs, tmp_path: Path, language: str) -> None:
    runner = runner_for(language, tmp_path)
    rig = await gates.start(auth=AUTH, routes=ROUTES)
    client = await rig.connect()
    bearer = f"Authorization: Bearer {token(sub='jörg@x y', role='contractor', n=1)}"
    assert (await client.ask(get("/area/a%20b?q=1&r=%C3%A4", bearer))).status == 200
    genuine = said(rig.app.requests[0])
    fields = genuine.fields
    assert ask_the_app(runner, genuine) == ["jörg@x y", {"role": "contractor", "n": "1"}]
    assert ask_the_app(runner, replace(genuine, now_s=genuine.now_s + 59)) is not None
    forged = [
        replace(genuine, now_s=genuine.now_s + 61),
        replace(genuine, method="POST"),
        replace(genuine, url="/area/a%20b?q=2&r=%C3%A4"),
        replace(genuine, url="/area/a%20b?q=1&r=%C3%A4&s"),
        replace(genuine, url="/area/a%20b?r=%C3%A4&q=1"),
        replace(genuine, url="/area/a%20b"),
        replace(genuine, url="/area/other?q=1&r=%C3%A4"),
        replace(genuine, url="//x/area/a%20b?q=1&r=%C3%A4"),
        replace(genuine, fields={**fields, "x-scopegate-target": "/area/a%20b"}),
        replace(genuine, url="/area/other", fields={**fields, "x-scopegate-target": "/area/other"}),
        replace(genuine, fields={name: value for name, value in fields.items() if name != "x-scopegate-target"}),
        replace(genuine, key=JWT_SECRET + "x"),
        replace(genuine, fields={**fields, "x-scopegate-user": "root"}),
        replace(genuine, fields={**fields, "x-scopegate-claims": '{"role":"admin"}'}),
        replace(genuine, fields={**fields, "x-request-id": "another"}),
        replace(genuine, fields={**fields, "x-scopegate-signature": "t=1,v1=" + "0" * 64}),
        replace(genuine, fields={name: value for name, value in fields.items() if name != "x-scopegate-signature"}),
    ]
    assert [ask_the_app(runner, each) for each in forged] == [None] * len(forged)


ODD = '/area/a%7C%7B%7D%22b/%20%25?b=%20"c&x={}|'
AS_NEXT_JS_TELLS_IT = [
    "http://localhost:3000/area/a%7C%7B%7D%22b/%20%25?b=+%22c&x=%7B%7D%7C",
    "http://localhost:3000/area/a%7C%7B%7D%22b/%20%25?b=+%22c&x=%7B%7D%7C&_rsc=abc",
    "http://a.example/area/a%7C%7B%7D%22b/%20%25?b=%20%22c&x={}|",
]
"""Recorded of version 16: the URL of a request in a route handler and in middleware."""


@pytest.mark.parametrize("language", ["js", "python"])
async def test_a_framework_may_tell_an_odd_target_in_its_own_spelling(
    gates: Rigs, tmp_path: Path, language: str
) -> None:
    runner = runner_for(language, tmp_path)
    rig = await gates.start(auth=AUTH, routes=ROUTES)
    forged = "X-Scopegate-Target: /area/forged"
    assert (await (await rig.connect()).ask(get(ODD, f"Authorization: Bearer {token()}", forged))).status == 200
    (request,) = rig.app.requests
    genuine = said(request)
    assert request.get(b"x-scopegate-target") == [request.target]
    assert genuine.url.endswith('?b=%20"c&x={}|')
    assert ask_the_app(runner, genuine) == ["user-1", {}]
    if language == "js":
        told = [ask_the_app(runner, replace(genuine, url=url)) for url in AS_NEXT_JS_TELLS_IT]
        assert told == [["user-1", {}]] * len(told)
        other = AS_NEXT_JS_TELLS_IT[0].replace("b=+", "b=")
        assert ask_the_app(runner, replace(genuine, url=other)) is None


async def test_a_signature_belongs_to_one_request(gates: Rigs) -> None:
    rig = await gates.start(auth=AUTH, routes=ROUTES)
    client = await rig.connect()
    bearer = f"Authorization: Bearer {token()}"
    for _ in range(2):
        assert (await client.ask(get("/area/x", bearer))).status == 200
    one, other = (request.get(b"x-scopegate-signature") for request in rig.app.requests)
    assert len(one) == len(other) == 1
    assert one != other


async def test_without_a_key_the_identity_goes_unsigned(gates: Rigs) -> None:
    rig = await gates.start(auth={"who": {"jwt": {"secret": "${JWT_SECRET}"}}}, routes=ROUTES)
    client = await rig.connect()
    assert (await client.ask(get("/area/x", f"Authorization: Bearer {token()}"))).status == 200
    (request,) = rig.app.requests
    assert request.get(b"x-scopegate-user") == [b"user-1"]
    assert request.get(b"x-scopegate-signature") == []
    assert request.get(b"x-scopegate-target") == []


SPELLINGS = [
    "X-Scopegate-User", "x-scopegate-user", "X-SCOPEGATE-USER", "X_Scopegate_User", "x_scopegate-user",
    "X.Scopegate.User", "x-scopegate.user", "X-Scopegate_User", "X!Scopegate!User", "X-Scopegate-Claims",
    "X_Scopegate_Claims", "X-Scopegate-Signature", "X_Scopegate_Signature", "x.scopegate.signature",
    "X-Scopegate-Target", "x_scopegate_target",
    "X-Scopegate-Anything-Else", "x-scopegate-",
]  # fmt: skip


@pytest.mark.parametrize("path", ["/open", "/area/x"])
async def test_nobody_outside_can_say_who_they_are(gates: Rigs, path: str) -> None:
    rig = await gates.start(auth=AUTH, routes=ROUTES)
    client = await rig.connect()
    forged = [f"{name}: forged" for name in SPELLINGS]
    assert (await client.ask(get(path, f"Authorization: Bearer {token()}", *forged))).status == 200
    (request,) = rig.app.requests
    told = {name for name, _ in request.fields if b"scopegate" in name.lower()}
    ours = {b"x-scopegate-user", b"x-scopegate-claims", b"x-scopegate-target", b"x-scopegate-signature"}
    assert told == (ours if path == "/area/x" else set())
    assert not any(value == b"forged" for _, value in request.fields)


async def test_the_signed_text_is_the_documented_one() -> None:
    """A known answer, so that a change of the scheme cannot go unseen."""
    made = signature(b"k" * 32, 1_795_507_200, b"r-1", "GET", b"/a?b", b"u", b"{}")
    assert made == b"t=1795507200,v1=a29765b14e1cc384531c5549e1781538f522ffabe0e6cdd63034580fd821fa44"
