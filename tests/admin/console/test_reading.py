"""Queries and forms, read strictly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from scopegate.admin.console import reading
from scopegate.admin.console.reading import bare_form_of, day_starts_ms, form_of, query_of, read
from scopegate.admin.credentials import ConsoleRole, Credentials, Who
from scopegate.clock import ManualClock

WHO = Who("a", ConsoleRole.OPERATOR, "session", "s")
FORM = b"application/x-www-form-urlencoded"


def asking(query: str = "", body: bytes = b"", kind: bytes = FORM) -> Request:
    async def receive() -> Mapping[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http", "method": "POST", "path": "/", "query_string": query.encode(),
        "headers": [(b"content-type", kind)], "state": {"who": WHO},
    }  # fmt: skip
    return Request(scope, receive)  # type: ignore[arg-type]


def test_a_query_holds_known_names_once() -> None:
    assert query_of(asking("state=failed&lead="), ["state", "lead"]) == {"state": "failed"}
    for query, said in (("stat=failed", "Known: state"), ("state=a&state=b", "once"), (f"state={'x' * 501}", "500")):
        with pytest.raises(HTTPException, match=said) as refused:
            query_of(asking(query), ["state"])
        assert refused.value.status_code == 400


def test_a_value_is_one_of_those_allowed() -> None:
    assert read({"n": "7"}, "n", int, "a number") == 7
    assert read({}, "n", int, "a number") is None
    with pytest.raises(HTTPException, match="n must be one of: a number"):
        read({"n": "x"}, "n", int, "a number")


def test_days_begin_in_utc() -> None:
    assert day_starts_ms("2027-01-15") == 1_799_971_200_000
    assert day_starts_ms("2027-01-15", 1) - day_starts_ms("2027-01-15") == 86_400_000
    with pytest.raises(OverflowError):
        day_starts_ms("9999-12-31", 1)


async def test_a_form_is_of_this_session() -> None:
    known = Credentials(None, ManualClock())
    token = known.form_token(WHO)
    form = await form_of(asking(body=f"form={token}&job=a&job=b&text=%C3%BC".encode()), known)
    assert (form.all("job"), form.one("text"), form.one("none")) == (["a", "b"], "ü", "")
    with pytest.raises(HTTPException, match="once"):
        form.one("job")
    for body in (b"job=a", b"form=&job=a", b"form=" + b"0" * 64):
        with pytest.raises(HTTPException) as refused:
            await form_of(asking(body=body), known)
        assert refused.value.status_code == 403


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=b", b"text/plain", 415),
        (b"a=b", b"multipart/form-data; boundary=x", 415),
        (b"a=" + b"x" * reading.MAX_FORM_BYTES, FORM, 413),
        (b"a=%ff", FORM, 400),
        (b"a=\xc3\xbc", FORM, 400),
        (b"&".join(b"a=1" for _ in range(reading.MAX_FORM_FIELDS + 1)), FORM, 400),
    ],
)
async def test_what_is_no_form_is_refused(body: bytes, kind: bytes, status: int) -> None:
    with pytest.raises(HTTPException) as refused:
        await bare_form_of(asking(body=body, kind=kind))
    assert refused.value.status_code == status
