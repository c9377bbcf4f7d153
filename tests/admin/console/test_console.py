"""The console as a whole: every page refuses without a credential, names its parameters, and shows hostile words as
words."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr
from starlette.routing import Route

from scopegate.admin.app import create_admin
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, Reader
from tests.admin.console.hostile import TEXTS

OPEN = {"/livez", "/readyz", "/signin"}


def pages(app: object) -> list[str]:
    """The console's own, by path."""
    routes = [route for route in app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    found = [route.path for route in routes if "GET" in (route.methods or ())]
    return [path for path in found if not path.startswith(("/api", "/live", "/readyz", "/metrics"))]


async def test_every_route_refuses_a_browser_without_a_credential(home: House) -> None:
    app = create_admin(home.sources(), SecretStr(house.TOKEN))
    async with house.client(app, headers=HTML | SAME) as client:
        for route in app.routes:
            if isinstance(route, Route) and route.path not in OPEN:
                path = route.path.replace("{job_id}", "job_1")
                for method in route.methods or ():
                    answer = await client.request(method, path)
                    assert answer.status_code == 401, (method, path)


async def test_every_page_refuses_a_parameter_that_it_does_not_know(home: House) -> None:
    app = create_admin(home.sources(), None)
    job = await house.add_job(home.outbox, "a")
    async with house.client(app, headers=HTML) as client:
        for path in pages(app):
            if path not in ("/", "/signin"):
                answer = await client.get(path.replace("{job_id}", job.job_id), params={"stat": "failed"})
                assert answer.status_code == 400, path
                assert "no such parameter" in answer.text


async def test_no_hostile_text_becomes_a_tag_or_an_attribute(home: House) -> None:
    """Pages with plain words have the same tags and attributes."""
    plain = await shown(home, ["words"])
    for path, page in (await shown(home, TEXTS)).items():
        beside = plain["/jobs/0" if path.startswith("/jobs/") else path]
        assert set(page.tags) == set(beside.tags), path
        assert page.tags.count("script") == 1, path
        assert {name for name, _ in page.attributes} == {name for name, _ in beside.attributes}, path
        addresses = [value for name, value in page.attributes if name in ("href", "action", "src", "formaction")]
        assert all(value.startswith(("/", "#")) and value[1:2] not in ("/", "\\") for value in addresses), path
        assert not {name for name, _ in page.attributes if name.startswith("on") or name == "style"}, path


async def shown(home: House, texts: Sequence[str]) -> dict[str, Reader]:
    """Each job's page, and all others with every text on them."""
    jobs = [await house.hostile_job(home.outbox, home.jobs, home.ledger, text) for text in texts]
    app = create_admin(home.sources(), None)
    paths = {f"/jobs/{n}": f"/jobs/{job.job_id}" for n, job in enumerate(jobs)}
    paths |= {path: path for path in pages(app) if "{" not in path and path not in ("/", "/signin", "/money.csv")}
    async with house.client(app, headers=HTML) as client:
        answers = {name: await client.get(path) for name, path in paths.items()}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: Reader(answer.text) for name, answer in answers.items()}
