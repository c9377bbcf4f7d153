"""Rules for bodies, end to end: what is refused the app never has a whole request of, what is good passes unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from tests.gateway.app import Answer, body_of
from tests.gateway.client import BrokenTransferError
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

MIB = 1024 * 1024
JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=B"
FIELD = b'Content-Disposition: form-data; name="a"\r\n'
FILE = b'Content-Disposition: form-data; name="f"; filename="x"\r\n'
SCHEMA = {"type": "object", "required": ["slug"], "properties": {"slug": {"type": "string", "maxLength": 20}}}


def route(name: str, match: str, tier: str = "none", **more: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "tier": tier, **more}


def routes(folder: Path) -> list[dict[str, Any]]:
    (folder / "lead.json").write_text(json.dumps(SCHEMA))
    notes = {"types": ["application/json", "text/plain"], "json": {}}
    found = [route("notes", "POST /notes", body=notes), route("plain", "ANY /**")]
    found.insert(0, route("typed", "ANY /typed", body={"types": ["application/json"]}))
    for name, at, mode in (("", "", "enforce"), ("-watched", "/watched", "watch")):
        lead = {"max": "8MiB", "json": {"depth": 8, "schema": str(folder / "lead.json")}}
        form = {"max": "8MiB", "multipart": {"parts": 4, "files": 2, "file": "3MiB"}}
        found.insert(0, route("lead" + name, f"ANY {at}/lead", body=lead, mode=mode))
        found.insert(0, route("form" + name, f"ANY {at}/form", body=form, mode=mode))
    return found


def head(path: str, *fields: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{each}\r\n" for each in fields).encode() + b"\r\n"


def sized(path: str, body: bytes, *fields: str) -> bytes:
    return head(path, f"Content-Length: {len(body)}", *fields) + body


def chunked(path: str, body: bytes, *fields: str, size: int = 100_000) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head(path, "Transfer-Encoding: chunked", *fields) + framed + b"0\r\n\r\n"


def part(content: bytes = b"v", lines: bytes = FIELD) -> bytes:
    return b"--B\r\n" + lines + b"\r\n" + content + b"\r\n"


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(parts) + end


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(rigs: Rigs, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return await rigs.start(routes=routes(tmp_path_factory.mktemp("schemas")))


@pytest_asyncio.fixture(loop_scope="module")
async def rig(house: Rig) -> AsyncIterator[Rig]:
    house.app.requests.clear()
    house.app.began = 0
    yield house
    await house.settled()


GOOD: dict[str, tuple[str, bytes, str]] = {
    "json": ("/lead", b' {"slug": "roof", "more": [1, 2.50]}\n', JSON),
    "json with a charset": ("/lead", b'{"slug": "d\xc3\xa4cher"}', JSON + '; charset="utf-8"'),
    "json larger than what streams": ("/lead", b'{"slug": "a", "x": "%b"}' % (b"y" * 3 * MIB), JSON),
    "form": ("/form", form(part(), part(b"\x00\xff\r\n--", FILE)), FORM),
    "form without parts": ("/form", form(), FORM),
    "form that streams": ("/form", form(part(b"x" * 2 * MIB, FILE), part(b"y" * 3 * MIB, FILE)), FORM),
    "form that streams, no CRLF at its end": ("/form", form(part(b"x" * 2 * MIB, FILE), end=b"--B--"), FORM),
    "another type, accepted": ("/notes", b"{{{", "Content-Type: text/plain"),
    "a typed body that is not judged": ("/typed", b"{{{", JSON),
}


@pytest.mark.parametrize("write", [sized, chunked])
@pytest.mark.parametrize("name", GOOD)
async def test_a_good_body_passes_unchanged(rig: Rig, name: str, write: Any) -> None:
    path, body, kind = GOOD[name]
    client = await rig.connect()
    reply = await client.ask(write(path, body, kind))
    assert reply.status == 200, reply
    assert [(each.target, each.body) for each in rig.app.requests] == [(path.encode(), body)]
    assert await client.is_open()


BAD: dict[str, tuple[str, bytes, str, int, str]] = {
    "no json": ("/lead", b"{", JSON, 400, "bad_json"),
    "empty json": ("/lead", b" ", JSON, 400, "bad_json"),
    "a repeated key": ("/lead", b'{"slug": "a", "slug": "b"}', JSON, 400, "bad_json"),
    "NaN": ("/lead", b'{"slug": NaN}', JSON, 400, "bad_json"),
    "1e999": ("/lead", b'{"slug": 1e999}', JSON, 400, "bad_json"),
    "a number of 1 MB": ("/lead", b'{"slug": %b}' % (b"1" * 1_000_000), JSON, 400, "bad_json"),
    "100,000 levels": ("/lead", b"[" * 100_000, JSON, 400, "json_too_deep"),
    "nine levels": ("/lead", b"[" * 9 + b"]" * 9, JSON, 400, "json_too_deep"),
    "against the schema": ("/lead", b'{"slug": 1}', JSON, 422, "schema_violation"),
    "against the schema, large": ("/lead", b'{"x": "%b"}' % (b"y" * 2 * MIB), JSON, 422, "schema_violation"),
    "json in another charset": ("/lead", b'{"slug": "a"}', JSON + "; charset=utf-16", 415, "unsupported_type"),
    "json, compressed": ("/lead", b'{"slug": "a"}', JSON + "\r\nContent-Encoding: gzip", 415, "unsupported_encoding"),
    "two types": ("/lead", b'{"slug": "a"}', JSON + "\r\n" + JSON, 415, "unsupported_type"),
    "json without a type": ("/lead", b'{"slug": "a"}', "X: y", 415, "unsupported_type"),
    "json as text": ("/lead", b'{"slug": 1}', "Content-Type: text/plain", 415, "unsupported_type"),
    "json as a form": ("/lead", form(), FORM, 415, "unsupported_type"),
    "form as json": ("/form", b"{}", JSON, 415, "unsupported_type"),
    "a form of fields": ("/form", b"a=b", "Content-Type: application/x-www-form-urlencoded", 415, "unsupported_type"),
    "two boundaries": ("/form", form(), FORM + "; boundary*=UTF-8''C", 400, "bad_multipart"),
    "no json at all": ("/lead", b"", JSON, 400, "bad_json"),
    "no json at all, and no type": ("/lead", b"", "X: y", 415, "unsupported_type"),
    "no form at all": ("/form", b"", FORM, 400, "bad_multipart"),
    "no form at all, and no type": ("/form", b"", "X: y", 415, "unsupported_type"),
    "no form": ("/form", b"hello", FORM, 400, "bad_multipart"),
    "no final delimiter": ("/form", part(), FORM, 400, "bad_multipart"),
    "no boundary": ("/form", form(), "Content-Type: multipart/form-data", 400, "bad_multipart"),
    "too many parts": ("/form", form(*[part()] * 5), FORM, 413, "too_many_parts"),
    "too many files": ("/form", form(*[part(b"x", FILE)] * 3), FORM, 413, "too_many_files"),
    "form, compressed": ("/form", form(), FORM + "\r\nContent-Encoding: br", 415, "unsupported_encoding"),
}


@pytest.mark.parametrize("write", [sized, chunked])
@pytest.mark.parametrize("name", BAD)
async def test_a_bad_body_never_reaches_the_app(rig: Rig, name: str, write: Any) -> None:
    path, body, kind, status, code = BAD[name]
    client = await rig.connect()
    reply = await client.ask(write(path, body, kind))
    assert (reply.status, reply.code) == (status, code)
    assert (rig.app.began, rig.app.requests) == (0, [])


STREAMED: dict[str, tuple[bytes, int, str]] = {
    "a file that is too large": (form(part(b"x" * 4 * MIB, FILE)), 413, "file_too_large"),
    "a fifth part": (form(part(b"x" * 2 * MIB), *[part()] * 4), 413, "too_many_parts"),
    "no final delimiter": (form(part(b"x" * 2 * MIB), end=b""), 400, "bad_multipart"),
    "half a final delimiter": (form(part(b"x" * 2 * MIB), end=b"--B-"), 400, "bad_multipart"),
    "an epilogue": (form(part(b"x" * 2 * MIB), end=b"--B--\r\n\r\n"), 400, "bad_multipart"),
    "a delimiter inside a line": (form(part(b"x" * 2 * MIB + b"--B\r\n")), 400, "bad_multipart"),
}


@pytest.mark.parametrize("write", [sized, chunked])
@pytest.mark.parametrize("name", STREAMED)
async def test_a_form_that_turns_bad_while_it_streams_is_broken_off(rig: Rig, name: str, write: Any) -> None:
    body, status, code = STREAMED[name]
    client = await rig.connect()
    lost = rig.app.lost
    reply = await client.ask(write("/form", body, FORM))
    assert (reply.status, reply.code, reply.get(b"connection")) == (status, code, [b"close"])
    await rig.app.until(lambda: rig.app.lost > lost)
    assert (rig.app.began, rig.app.requests) == (1, [])


async def test_what_completes_a_form_waits_for_the_last_byte(gates: Rigs, tmp_path: Path) -> None:
    """An app that reads forms loosely acts on the final delimiter: it must not see it while an epilogue may follow."""
    seen = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            seen.extend(data)
        writer.close()

    loose = await asyncio.start_server(listen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{loose.sockets[0].getsockname()[1]}"
    rig = await gates.start(routes=routes(tmp_path), servers=[url])
    body = form(part(b"x" * 2 * MIB))
    client = await rig.connect()
    try:
        client.send(head("/form", f"Content-Length: {len(body)}", FORM) + body[:-2])
        await eventually(lambda: len(seen) > 2 * MIB and rig.gateway.shared.held.bytes == 0)
        await asyncio.sleep(0.05)
        client.send(b"!!")
        assert (await client.answer()).code == "bad_multipart"
        await client.ends()
        assert seen.endswith(b"x\r\n")
    finally:
        loose.close()
        await client.close()


async def test_an_answer_that_has_begun_is_broken_by_a_bad_form(rig: Rig) -> None:
    rig.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"], early=True))
    client = await rig.connect()
    client.send(head("/form", f"Content-Length: {4 * MIB}", FORM) + part(b"x" * 2 * MIB))
    await eventually(lambda: client.reader._buffer)  # type: ignore[attr-defined]
    client.send(b"--Bx")
    with pytest.raises(BrokenTransferError):
        await client.answer()
    assert rig.app.requests == []


async def test_a_form_split_everywhere_arrives_whole(rig: Rig) -> None:
    body = form(part(b"\r\n--", FILE), part(b"x"))
    raw = chunked("/form", body, FORM, size=7)

    async def split(cut: int) -> None:
        client = await rig.connect()
        await client.send_slowly(raw[:cut], raw[cut:])
        assert (await client.answer()).status == 200

    for some in range(1, len(raw), 16):
        await asyncio.gather(*[split(cut) for cut in range(some, min(some + 16, len(raw)))])
    assert {request.body for request in rig.app.requests} == {body}


async def test_a_refusal_leaves_the_connection_to_the_next_request(rig: Rig) -> None:
    client = await rig.connect()
    client.send(sized("/lead", b"{", JSON) + sized("/lead", b'{"slug": "a"}', JSON))
    assert (await client.answer()).code == "bad_json"
    assert (await client.answer()).status == 200
    assert len(rig.app.requests) == 1


async def test_a_client_that_waits_for_leave_is_told_to_go_on(rig: Rig) -> None:
    client = await rig.connect()
    client.send(head("/lead", "Content-Length: 13", JSON, "Expect: 100-continue"))
    assert (await client.interim()).status == 100
    assert rig.app.began == 0
    client.send(b'{"slug": "a"}')
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
@pytest.mark.parametrize(
    ("path", "field", "status", "code"),
    [
        ("/lead", "X: y", 415, "unsupported_type"),
        ("/lead", JSON, 400, "bad_json"),
        ("/form", "X: y", 415, "unsupported_type"),
        ("/form", FORM, 400, "bad_multipart"),
    ],
)
async def test_a_body_that_is_missing_is_judged_as_an_empty_one(
    rig: Rig, method: bytes, path: str, field: str, status: int, code: str
) -> None:
    for raw in (head(path, field), sized(path, b"", field), chunked(path, b"", field)):
        client = await rig.connect()
        reply = await client.ask(method + raw.removeprefix(b"POST"))
        assert (reply.status, reply.code) == (status, code)
    assert rig.app.began == 0


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS"])
async def test_methods_that_need_no_body_pass_without_one(rig: Rig, method: bytes) -> None:
    client = await rig.connect()
    for path in ("/lead", "/form"):
        for raw in (head(path), sized(path, b"")):
            assert (await client.ask(method + raw.removeprefix(b"POST"))).status == 200


async def test_types_alone_ask_for_no_body(rig: Rig) -> None:
    client = await rig.connect()
    for raw in (head("/typed"), sized("/typed", b""), sized("/typed", b"", "Content-Type: text/plain")):
        assert (await client.ask(raw)).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json;x, text/plain", "application/json;x=multipart;boundary=B", "json", ""]
)
async def test_types_alone_hold_for_what_may_be_read_as_another_type(rig: Rig, kind: str) -> None:
    client = await rig.connect()
    reply = await client.ask(sized("/typed", b"{}", f"Content-Type: {kind}"))
    assert (reply.status, reply.code) == (415, "unsupported_type")
    assert rig.app.began == 0


async def test_json_that_cannot_be_held_is_turned_away(rig: Rig) -> None:
    before, rig.gateway.shared.held.most_bytes = rig.gateway.shared.held.most_bytes, 1000
    body = b'{"slug": "a"%b}' % (b" " * 2000)
    try:
        for raw in (sized("/lead", body, JSON), chunked("/lead", body, JSON, size=1500)):
            client = await rig.connect()
            await client.send_slowly(raw[:-100], raw[-100:])
            reply = await client.answer()
            assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "overloaded", [b"1"])
        assert rig.app.began == 0
        for raw in (sized("/watched/lead", body, JSON), chunked("/watched/lead", body, JSON, size=1500)):
            client = await rig.connect()
            await client.send_slowly(raw[:-100], raw[-100:])
            assert (await client.answer()).status == 200
    finally:
        rig.gateway.shared.held.most_bytes = before


async def test_watch_mode_counts_and_lets_pass(rig: Rig) -> None:
    client = await rig.connect()
    wanted: dict[tuple[str, str], int] = {}
    for name, (path, body, kind, _, code) in BAD.items():
        for write in (sized, chunked):
            assert (await client.ask(write("/watched" + path, body, kind))).status == 200, name
            key = (path[1:] + "-watched", code)
            wanted[key] = wanted.get(key, 0) + 1
    big, _, _ = STREAMED["a file that is too large"]
    assert (await client.ask(sized("/watched/form", big, FORM))).status == 200
    assert (await client.ask(sized("/watched/form", form(part()), FORM))).status == 200
    wanted[("form-watched", "file_too_large")] = 1
    rig.gateway.flush()
    counted = {
        (sample.labels["route"], sample.labels["reason"]): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "scopegate_watched_refusals_total"
        and sample.value
        and sample.labels["route"] in {route for route, _ in wanted}
    }
    assert counted == wanted
    assert len(rig.app.requests) == 2 * len(BAD) + 2


async def test_the_place_of_a_violation_is_told_and_the_text_is_not(rig: Rig) -> None:
    client = await rig.connect()
    reply = await client.ask(sized("/lead", b'{"slug": "a secret that is too long"}', JSON))
    assert reply.json()["detail"] == "The body breaks its schema at /slug: maxLength."
    assert b"secret" not in reply.body


async def test_a_lead_of_a_judged_route_is_ordered_only_when_it_is_good(gates: Rigs, tmp_path: Path) -> None:
    offload = {
        "when": {"status": [200]}, "lead_id": "response.id", "photos": "request.photos", "text": "request.text",
        "photo_hosts": ["a.example"], "deliver": {"url": "http://127.0.0.1:3000/hook", "secret": "${HOOK_SECRET}"},
    }  # fmt: skip
    lead = {"max": "2MiB", "types": ["application/json"], "json": {"depth": 4}}
    rig = await gates.start(
        routes=[route("lead", "POST /lead", body=lead, offload="work")],
        offloads={"work": offload},
        ai={"model": "claude-haiku-5-5"},
    )
    rig.app.default = body_of(b'{"id": "1"}')
    client = await rig.connect()
    assert (await client.ask(sized("/lead", b'{"text": "a", "text": "b"}', JSON))).code == "bad_json"
    assert rig.app.began == 0
    assert (await client.ask(sized("/lead", b'{"text": "%b"}' % (b"x" * MIB), JSON))).status == 200
    assert len(rig.app.requests) == 1
