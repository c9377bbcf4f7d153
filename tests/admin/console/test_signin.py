"""Signing in and out."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from scopegate.admin.app import create_admin
from scopegate.admin.console.signin import own_path
from scopegate.admin.credentials import COOKIE
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, browser, form_token, sign_in

VIEWER = "the-token-of-a-viewer"


def shut(home: House) -> Starlette:
    return create_admin(home.sources(), SecretStr(house.TOKEN), None, SecretStr(VIEWER))


async def test_a_page_asks_who_is_not_signed_in_and_leads_back(home: House) -> None:
    async with browser(shut(home)) as client:
        asked = await client.get("/jobs?state=failed")
        assert asked.status_code == 401
        assert 'value="/jobs?state=failed"' in asked.text
        assert "Basic" not in asked.headers["www-authenticate"], "no box of the browser's own"
        answer = await client.post("/signin", data={"name": "Anna", "token": house.TOKEN, "next": "/jobs?state=failed"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
        page = await client.get("/jobs?state=failed")
        assert page.status_code == 200
        assert "Anna" in page.text


async def test_a_session_opens_until_it_is_left(home: House) -> None:
    async with browser(shut(home)) as client:
        await sign_in(client)
        cookie = client.cookies[COOKIE]
        left = await client.post("/signout", data={"form": form_token((await client.get("/jobs")).text)})
        assert (left.status_code, left.headers["location"]) == (303, "/signin")
        assert COOKIE not in client.cookies
        assert (await client.get("/jobs", headers={"cookie": f"{COOKIE}={cookie}"})).status_code == 401


async def test_the_cookie_is_for_our_server_alone(home: House) -> None:
    async with browser(shut(home)) as client:
        plain = (await sign_in(client)).headers["set-cookie"].lower()
        https = await client.post(
            "/signin", data={"name": "a", "token": house.TOKEN}, headers={"origin": "https://console.example"}
        )
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip() for part in plain.split(";")}
    assert "secure" not in plain
    assert "; secure" in https.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("token", "name", "status"),
    [
        ("wrong", "Anna", 401),
        ("", "Anna", 401),
        (house.TOKEN, "", 400),
        (house.TOKEN, "x" * 81, 400),
        (house.TOKEN, "a\x00", 400),
    ],
)
async def test_who_gives_no_token_or_no_name_stays_outside(home: House, token: str, name: str, status: int) -> None:
    async with browser(shut(home)) as client:
        answer = await sign_in(client, token, name)
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers
        assert token == "" or token not in answer.text


async def test_tries_are_limited_by_address(home: House) -> None:
    async with browser(shut(home)) as client:
        for _ in range(10):
            assert (await sign_in(client, "wrong")).status_code == 401
        assert (await sign_in(client)).status_code == 429
        home.clock.advance(61)
        assert (await sign_in(client)).status_code == 303


async def test_another_site_signs_nobody_in_or_out(home: House) -> None:
    app = shut(home)
    async with house.client(app, headers=HTML) as stranger:
        for fields in ({}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            data = {"name": "a", "token": house.TOKEN}
            assert (await stranger.post("/signin", data=data, headers=fields)).status_code == 403
    async with browser(app) as client:
        await sign_in(client)
        assert (await client.post("/signout", data={"form": "0" * 64})).status_code == 403
        assert (await client.get("/jobs")).status_code == 200


async def test_a_session_changes_the_api_only_with_its_forms_token(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    async with browser(shut(home)) as client:
        await sign_in(client)
        path = f"/api/jobs/{job.job_id}/cancel"
        assert (await client.post(path)).json()["code"] == "form"
        token = form_token((await client.get("/jobs")).text)
        assert (await client.post(path, headers={"x-scopegate-form": token})).status_code == 200
    [action] = await home.jobs.actions()
    assert (action.actor, action.name, action.subject) == ("Anna", "cancel", job.job_id)


async def test_a_viewer_may_leave(home: House) -> None:
    async with browser(shut(home)) as client:
        await sign_in(client, VIEWER)
        token = form_token((await client.get("/jobs")).text)
        assert (await client.post("/signout", data={"form": token})).status_code == 303


async def test_without_a_token_nobody_signs_in(home: House) -> None:
    async with house.client(create_admin(home.sources(), None), headers=HTML | SAME) as client:
        assert (await client.get("/signin")).headers["location"] == "/"
        assert (await sign_in(client)).status_code == 404


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/jobs?state=failed", "/jobs?state=failed"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/jobs\r\nset-cookie: a", "/"),
        ("/ü", "/"),
        ("/signin?next=/signin", "/"),
        ("", "/"),
    ],
)
def test_after_the_sign_in_goes_to_a_path_of_ours(text: str, path: str) -> None:
    assert own_path(text) == path
