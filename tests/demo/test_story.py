"""The story against a small stand-in for gateway, admin port and app: what it asks, and where it stops.

With the real ones it is played in `tests/flows/test_demo.py`.
"""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from scopegate.clock import ManualClock
from scopegate.demo import stage as stages
from scopegate.demo import story
from scopegate.demo.narrator import Narrator
from scopegate.demo.report import QUICK_LEADS, STEPS, complaints
from scopegate.demo.stage import RealAPI, Stage

CALL = {"call_n": 1, "outcome": "ok", "input_tokens": 10, "output_tokens": 5, "duration_ms": 3, "cost_usd_micros": 7}


class World:
    """One server that plays all parts. Twice it makes the last visitor wait; the job ends at the third look."""

    def __init__(self) -> None:
        self.leads = self.looks = 0
        self.faults: list[Any] = []
        self.pictures: list[int] = []
        self.job_state = "done"
        self.app = Starlette(
            routes=[
                Route("/api/leads", self.create, methods=["POST"]),
                Route("/api/leads/{id}", self.lead),
                Route("/api/uploads/presign", self.presign, methods=["POST"]),
                Route("/photos/{n}", self.put, methods=["PUT"]),
                Route("/_sim/faults", self.fail, methods=["POST"]),
                Route("/api/jobs", self.jobs),
                Route("/api/jobs/{id}", self.job),
                Route("/api/usage", self.usage),
                Route("/metrics", self.metrics),
            ]
        )

    async def create(self, request: Request) -> Response:
        self.leads += 1
        is_quick = self.leads <= QUICK_LEADS
        limits = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": str(max(0, 10 - self.leads))}
        limits |= {"x-ratelimit-reset": "10"}
        if (is_quick and self.leads > 10) or ((await request.json())["name"] == "Ada Homeowner" and self.leads < 28):
            return JSONResponse({}, 429, limits | {"retry-after": "7"}, media_type="application/problem+json")
        return JSONResponse({"id": f"lead-{self.leads}"}, 201, limits)

    async def lead(self, request: Request) -> Response:
        analysis = {"scope": {"summary": "Repair"}, "estimate": {"total_cents": 12_345}}
        return JSONResponse({"analysis": analysis, "score": 70})

    async def presign(self, request: Request) -> Response:
        return JSONResponse({"uploadUrl": f"/photos/{len(self.pictures)}", "url": "http://x/photo"}, 201)

    async def put(self, request: Request) -> Response:
        self.pictures.append(len(await request.body()))
        return Response(status_code=204)

    async def fail(self, request: Request) -> Response:
        self.faults += await request.json()
        return JSONResponse({})

    async def jobs(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer token"
        lead = request.query_params.get("lead")
        return JSONResponse({"jobs": [{"job_id": "j1", "lead_id": lead, "state": "done"}]})

    async def job(self, request: Request) -> Response:
        self.looks += 1
        done = self.looks >= 3
        steps = [{"name": name, "state": "done", "attempts": [{"n": 1, "error_code": None}]} for name in STEPS]
        calls = [{**CALL, "step": step, "call_id": step} for step in STEPS[:3]]
        calls += [{**CALL, "step": "scope", "call_id": n, "outcome": "overloaded", "cost_usd_micros": 0} for n in "12"]
        state = self.job_state if done else "running"
        job = {"job_id": "j1", "lead_id": f"lead-{self.leads}", "state": state, "error_code": None}
        return JSONResponse(job | {"steps": steps, "calls": calls, "cost_usd_micros": 21})

    async def usage(self, request: Request) -> Response:
        return JSONResponse({"rows": [{"key": f"lead-{self.leads}", "cost_usd_micros": 21}]})

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse("# TYPE scopegate_requests counter\n# TYPE python_gc counter\n")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def stage(tmp_path: Path, world: World) -> AsyncIterator[Stage]:
    sock = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(world.app, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server._serve([sock]))
    await stages.answering(f"http://{address}/metrics")
    yield Stage(tmp_path, address, address, address, address, "token", ())
    server.should_exit = True
    await task


async def test_it_plays_to_the_end_and_waits_as_it_is_told(stage: Stage, world: World) -> None:
    told, clock = io.StringIO(), ManualClock()
    outcome = await story.play(stage, Narrator(told), clock)
    assert complaints(outcome) == []
    assert world.faults == [{"kind": "error", "status": 529}, {"kind": "error", "status": 500}]
    assert len(world.pictures) == 3
    assert clock.slept.count(7) == 2
    assert outcome.metrics_families == 1
    text = told.getvalue()
    assert "10 accepted, 5 answered 429" in text
    assert "estimate 123.45 USD, lead score 70" in text
    assert "simulated Claude" in text


async def test_with_the_real_api_nothing_is_made_to_fail(stage: Stage, world: World) -> None:
    live = Stage(stage.state, stage.gateway, stage.admin, stage.app, None, "token", (), RealAPI("key", None))
    outcome = await story.play(live, Narrator(io.StringIO()), ManualClock())
    assert outcome.promised_failures is None
    assert world.faults == []


@pytest.mark.parametrize(
    ("live", "named"),
    [
        (RealAPI("key", None), "the real API"),
        (RealAPI("key", "http://127.0.0.1:9"), "the API at http://127.0.0.1:9"),
        (RealAPI("key", "http://127.0.0.1:9", is_simulated=True), "a simulated Claude at http://127.0.0.1:9"),
    ],
)
async def test_the_story_calls_what_answers_by_its_name(stage: Stage, live: RealAPI, named: str) -> None:
    told = io.StringIO()
    there = Stage(stage.state, stage.gateway, stage.admin, stage.app, None, "token", (), live)
    await story.play(there, Narrator(told), ManualClock())
    assert f"model calls go to {named}: nothing is made to fail there" in told.getvalue()
    assert ("real API" in told.getvalue()) == (live.base_url is None)
    assert ("(simulated Claude, real prices: nothing is charged)" in told.getvalue()) == live.is_simulated
    assert "fails twice" not in told.getvalue()


async def test_a_job_that_never_ends_breaks_the_story(stage: Stage, world: World) -> None:
    world.job_state = "running"
    with pytest.raises(story.StoryBroken, match="waited 2 s for the job of lead lead-28 to end"):
        await story.play(stage, Narrator(io.StringIO()), ManualClock(), patience_s=2)


async def test_a_port_that_does_not_answer_breaks_the_story(stage: Stage) -> None:
    dead = Stage(stage.state, stages.free_addresses(1)[0], stage.admin, stage.app, None, "token", ())
    with pytest.raises(story.StoryBroken, match="ConnectError"):
        await story.play(dead, Narrator(io.StringIO()), ManualClock())
