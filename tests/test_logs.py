"""A line is one line, one object, and tells nobody's secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from scopegate import logs
from tests.growth import LINEAR, growth

log = logs.get("test")


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """The root logger as it was."""
    root, ours = logging.getLogger(), logging.getLogger("scopegate")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    logs.configure("debug", "json", out)
    return out


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def written(**fields: object) -> str:
    out = io.StringIO()
    logs.configure("debug", "json", out)
    log.info("thing.happened", **fields)
    return out.getvalue()


# ── shape ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_line_is_one_object_with_its_four_fields_first(stream: io.StringIO) -> None:
    log.info("job.finished", job_id="job_1", seconds=1.5, ok=True, score=None)
    [line] = lines(stream)
    assert list(line)[:4] == ["ts", "level", "source", "event"]
    assert line["ts"].endswith("Z")
    assert (line["level"], line["source"], line["event"]) == ("info", "test", "job.finished")
    assert (line["job_id"], line["seconds"], line["ok"], line["score"]) == ("job_1", 1.5, True, None)


def test_a_field_cannot_forge_the_line_s_own(stream: io.StringIO) -> None:
    log.info("job.finished", ts="1970", level="debug", source="root", event="other")
    [line] = lines(stream)
    assert (line["level"], line["source"], line["event"]) == ("info", "test", "job.finished")
    assert (line["field_event"], line["field_ts"]) == ("other", "1970")


def test_levels_below_the_wish_are_not_written() -> None:
    out = io.StringIO()
    logs.configure("warning", "json", out)
    log.debug("a.a")
    log.info("b.b")
    log.warning("c.c")
    log.error("d.d")
    assert [line["event"] for line in lines(out)] == ["c.c", "d.d"]


def test_an_error_carries_type_text_and_the_end_of_the_stack(stream: io.StringIO) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError as fault:
        log.error("x.failed", exc=fault)
    [line] = lines(stream)
    assert (line["error"], line["error_detail"]) == ("ValueError", "no such thing")
    assert line["stack"].rstrip().endswith("ValueError: no such thing")


def test_the_end_of_a_long_stack_is_kept(stream: io.StringIO) -> None:
    try:
        raise ValueError("start " * 2000 + "end-of-it")
    except ValueError as fault:
        log.error("x.failed", exc=fault)
    [line] = lines(stream)
    assert line["stack"].rstrip().endswith("end-of-it")
    assert len(line["stack"]) < 2100
    assert line["error_detail"].startswith("start ")


def test_a_library_s_line_has_the_same_shape(stream: io.StringIO) -> None:
    library = logging.getLogger("some.library")
    library.info("not written below warning")
    try:
        raise KeyError("x")
    except KeyError:
        library.exception("failed with %s", "https://h/p?token=abc")
    [line] = lines(stream)
    assert (line["source"], line["event"], line["level"]) == ("some.library", "library.some.library", "error")
    assert line["message"] == "failed with https://h/p?[redacted]"
    assert "KeyError" in line["stack"]


def test_configuring_twice_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", "json", first)
    logs.configure("info", "json", second)
    log.info("x.y")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_text_for_people() -> None:
    out = io.StringIO()
    logs.configure("info", "text", out)
    log.warning("job.held", job_id="job_1", budgets=["day"], until=None)
    [line] = out.getvalue().splitlines()
    assert line.endswith(' warn test job.held job_id=job_1 budgets=["day"] until=null')


@pytest.mark.parametrize(("tty", "form"), [(True, "text"), (False, "json")])
def test_auto_asks_the_stream(tty: bool, form: str) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return tty

    out = Stream()
    logs.configure("info", "auto", out)
    log.info("x.y")
    assert out.getvalue().startswith("{") is (form == "json")


# ── ids that travel ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_bound_fields_join_every_line_inside_and_no_other(stream: io.StringIO) -> None:
    with logs.bound(request_id="r1"), logs.bound(job_id="j1"):
        log.info("a.a")
        log.info("b.b", job_id="own")
    log.info("c.c")
    one, two, three = lines(stream)
    assert (one["request_id"], one["job_id"]) == ("r1", "j1")
    assert two["job_id"] == "own"
    assert "request_id" not in three


async def test_bound_fields_stay_with_their_task(stream: io.StringIO) -> None:
    async def work(name: str) -> None:
        with logs.bound(request_id=name):
            await asyncio.sleep(0)
            log.info("a.a", expected=name)

    await asyncio.gather(*(work(f"r{n}") for n in range(20)))
    assert len(lines(stream)) == 20
    assert all(line["request_id"] == line["expected"] for line in lines(stream))


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "name",
    [
        "secret", "webhook_secret", "token", "admin_token", "access-token", "password", "PASSWORD", "passwd",
        "db_passwd", "passphrase", "authorization", "Authorization", "proxy_authorization", "cookie",
        "set-cookie", "api_key", "apikey",
        "x-api-key", "ANTHROPIC_API_KEY", "private_key", "signature", "x-amz-signature", "credential", "jwt",
        "dsn", "db.dsn", "user-pwd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["hunter2", 12345678, ["hunter2"], {"x": "hunter2"}, b"hunter2"])
def test_a_secret_s_name_is_enough(name: str, value: object) -> None:
    for line in (written(**{name: value}), written(headers={name: value}), written(rows=[{name: value}])):
        assert "hunter2" not in line
        assert "12345678" not in line
        assert "[redacted]" in line


@pytest.mark.parametrize(
    "name", ["input_tokens", "max_tokens", "tokens", "key", "pass", "author", "secondary", "job_id"]
)
def test_what_only_looks_like_one_is_kept(name: str) -> None:
    assert "kept-value" in written(**{name: "kept-value"})


SECRETS = [
    "Bearer hunter2.abc",
    "authorization: Bearer hunter2abc",
    "bearer\thunter2==",
    "Basic hunter2==",
    "sk-ant-api03-hunter2-x",
    "key is sk-proj-hunter2hunter2",
    "whsec_hunter2+/=",
    "AKIAHUNTER2HUNTER222",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2sig",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nhunter2",
    "redis://:hunter2@10.0.0.1:6379/0",
    "redis://default:hun/ter2?hunter2#hunter2@10.0.0.1:6379/0",
    "postgresql+asyncpg://app:hunter2@db/scopegate?ssl=require",
    "https://user:hunter2@example.com/path",
    "https://hunter2@example.com/",
    "https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
    "https://example.com/#access_token=hunter2",
    "GET https://example.com/a?hunter2 failed",
    "password=hunter2",
    "password: hunter2",
    '{"password": "hunter2 with spaces"}',
    "{'api_key': 'hunter2'}",
    "ANTHROPIC_API_KEY=hunter2",
    "client-secret = hunter2",
    "connect failed: token=hunter2&x=1",
    "Cookie: hunter2",
    "mail hunter2@example.com",
    "call +1 (415) 555-0123 hunter two",
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_s_shape_is_enough(text: str, form: str) -> None:
    out = io.StringIO()
    logs.configure("info", form, out)
    log.info("x.y", detail=text, inside={"list": [text]})
    log.error("x.z", exc=RuntimeError(text))
    logging.getLogger("library").warning("said %s", text)
    assert "hunter2" not in out.getvalue()
    assert "555-0123" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3


def test_a_pydantic_secret_stays_one() -> None:
    assert "hunter2" not in written(value=SecretStr("hunter2"), settings={"x": SecretStr("hunter2")})


@pytest.mark.parametrize("filler", ["x ", f"https://h/p?{'q' * 186} ", "\n"])
@pytest.mark.parametrize(
    "secret", ["redis://:hunter2secret@10.0.0.1/0", "sk-ant-hunter2secret", "password=hunter2secret"]
)
def test_a_secret_on_the_cut_is_not_half_written(filler: str, secret: str) -> None:
    for length in range(3960, 4010, 3):
        text = (filler * length)[:length]
        assert "hunter2" not in written(detail=text + secret + " tail")
        assert "hunter2" not in str(logs.redact("stack", "head " + secret + text))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://example.com/api/leads", "https://example.com/api/leads"),
        ("http://127.0.0.1:3000/@user/2x", "http://127.0.0.1:3000/@user/2x"),
        ("redis://10.0.0.1:6379/0", "redis://10.0.0.1:6379/0"),
        ("2026-11-24T08:18:20.000Z took 12.345 s", "2026-11-24T08:18:20.000Z took 12.345 s"),
        ("203.0.113.9 and 2001:db8::1", "203.0.113.9 and 2001:db8::1"),
        ("job_b19f5e3552fa4edc827e9fa732f77a10", "job_b19f5e3552fa4edc827e9fa732f77a10"),
        ("rule total_sum broken: 3 != 4", "rule total_sum broken: 3 != 4"),
        ("1,200 tokens, 20 USD per day", "1,200 tokens, 20 USD per day"),
    ],
)
def test_ordinary_words_are_left_alone(text: str, kept: str) -> None:
    assert logs.redact_text(text) == kept


# ── hostile values ──────────────────────────────────────────────────────────────────────────────────────────────────
class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_value_that_cannot_be_written_does_not_lose_the_line() -> None:
    line = json.loads(
        written(
            rude=Rude(), nan=float("nan"), inf=float("-inf"), huge=10**5000, small=-(2**63), deep=[[[[[[[[[1]]]]]]]]]
        )
    )
    assert line["rude"] == "[Rude: RuntimeError in its text]"
    assert (line["nan"], line["inf"], line["huge"], line["small"]) == ("nan", "-inf", "[huge number]", -(2**63))
    assert line["deep"]


def test_size_is_bounded() -> None:
    line = written(text="word " * 100_000, rows=["x"] * 10_000, table={str(n): n for n in range(10_000)})
    assert len(line) < 5_000


def test_a_loop_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert len(written(loop=loop)) < 500


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "a\r\nfake",
        "\x00",
        "\x1b[31mred",
        "\x9b31m",
        "\x85next",
        "\u2028",
        "\u2029",
        "\x7f",
        "\ud800",
        "\x0b\x0c\x1c",
    ],
)
def test_no_value_breaks_a_line_or_colours_a_terminal(form: str, text: str) -> None:
    out = io.StringIO()
    logs.configure("info", form, out)
    log.info("x.y", detail=text, headers={text: text})
    whole = out.getvalue()
    assert len(whole.splitlines()) == 1
    assert all(character.isprintable() for character in whole[:-1])
    whole.encode()
    if form == "json":
        assert json.loads(whole)["detail"] == text


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=20), st.recursive(st.none() | st.text() | st.floats() | st.integers(), st.lists))
)
def test_any_fields_make_one_parseable_line(fields: dict[str, object]) -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    log.info("x.y", fields=fields)
    [line] = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "x.y"


@pytest.mark.parametrize("piece", ["a-", "a.", "eyJ-", "a@", "1 ", "a://", "token_", "Basic "])
def test_no_text_makes_redaction_slow(piece: str) -> None:
    """Texts of the most characters that are not cut away before they are searched."""
    assert growth(lambda size: piece * (size // len(piece)), logs.redact_text, 4_000) < LINEAR


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250Z"),
        (0.9996, "1970-01-01T00:00:00.999Z"),
    ],
)
def test_timestamps_are_rfc_3339(seconds: float, text: str) -> None:
    assert logs.timestamp(seconds) == text


def test_what_nobody_can_catch_is_one_line_and_told_once_for_each_kind(stream: io.StringIO) -> None:
    told, no_ascii = logs.Unraisable(), UnicodeDecodeError("ascii", b"\xff", 0, 1, "no")
    for error in (no_ascii, no_ascii, None, ValueError("x")):
        told(SimpleNamespace(exc_type=type(error), exc_value=error, object=b"\xff.example"))
    found = lines(stream)
    assert [line.get("error") for line in found] == ["UnicodeDecodeError", None, "ValueError"]
    assert {(line["event"], line["within"]) for line in found} == {("error.unraisable", "bytes")}
    assert "example" not in stream.getvalue()
