"""A small web app as people have it before scopegate: a lead form, uploads by presigned address, a webhook to receive.

It has no rate limits and calls no model; it stands behind the gateway unchanged. Run as a process by the demo:
`python -m scopegate.demo.app --fd N --state DIR`, the webhook's secret in SCOPEGATE_WEBHOOK_SECRET.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scopegate.clock import Clock, SystemClock
from scopegate.demo import page, presign
from scopegate.demo.records import LeadRecord, Records, opened
from scopegate.leads import webhook
from scopegate.leads.photos import sniff
from scopegate.supervise.leash import Leash
from scopegate.types import Json

MAX_PHOTO_BYTES = 8 * 1024 * 1024
MAX_JSON_BYTES = 256 * 1024
PUT_LIFE_S = 10 * 60
GET_LIFE_S = 7 * 24 * 3600

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PhotoForm(_Strict):
    url: Annotated[str, StringConstraints(max_length=2048)]


class LeadForm(_Strict):
    """What a visitor sends."""

    name: Line
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")]
    contractorSlug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]  # noqa: N815 - JSON's own case
    projectDescription: Annotated[str, StringConstraints(min_length=10, max_length=4000)]  # noqa: N815 - likewise
    photos: Annotated[list[PhotoForm], Field(max_length=8)] = []


class UploadForm(_Strict):
    """What a visitor wants to upload."""

    contentType: Literal["image/jpeg", "image/png", "image/webp"]  # noqa: N815 - likewise
    bytes: Annotated[int, Field(gt=0, le=MAX_PHOTO_BYTES)]


class DeliveryData(BaseModel):
    """The part of a webhook's data that this app reads; it may carry more."""

    model_config = ConfigDict(extra="allow")
    lead_id: str
    score: int | None = None


class Delivery(BaseModel):
    """A Standard Webhooks message."""

    type: Literal["lead.analysis.completed", "lead.score.updated"]
    data: DeliveryData


@dataclass(frozen=True, slots=True)
class Site:
    """What the app is told at its start. `origin`: where photos can be fetched, `http://127.0.0.1:3000`."""

    state: Path
    origin: str
    webhook_secret: str
    presign_secret: bytes
    clock: Clock


def build(site: Site, when_serving: Callable[[], None] = lambda: None) -> Starlette:
    """The app. `when_serving` is called once its database is open."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        (site.state / "photos").mkdir(mode=0o700, parents=True, exist_ok=True)
        async with opened(site.state / "app.db") as records:
            app.state.site, app.state.records = site, records
            when_serving()
            yield

    return Starlette(
        routes=[
            Route("/", home),
            Route("/api/leads", create_lead, methods=["POST"], max_body_size=MAX_JSON_BYTES),
            Route("/api/leads/{lead_id}", show_lead),
            Route("/api/uploads/presign", presign_upload, methods=["POST"], max_body_size=MAX_JSON_BYTES),
            Route("/photos/{key}", put_photo, methods=["PUT"], max_body_size=MAX_PHOTO_BYTES),
            Route("/photos/{key}", get_photo),
            Route("/api/internal/lead-analysis", take_delivery, methods=["POST"], max_body_size=MAX_JSON_BYTES),
            Route("/api/health", health),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        lifespan=lifespan,
        exception_handlers={ValidationError: _invalid},
    )


async def _invalid(_request: Request, error: Exception) -> Response:
    """Each wrong field by name, never the value sent."""
    assert isinstance(error, ValidationError)
    found = error.errors(include_input=False, include_url=False, include_context=False)
    errors = [{"field": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in found]
    return JSONResponse({"error": "invalid", "errors": errors}, 422)


def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def _records(request: Request) -> Records:
    records: Records = request.app.state.records
    return records


# ── leads ───────────────────────────────────────────────────────────────────────────────────────────────────────────
async def home(request: Request) -> Response:
    return HTMLResponse(page.HTML, headers=page.fields(_site(request).origin))


async def create_lead(request: Request) -> Response:
    form = LeadForm.model_validate_json(await request.body())
    photos = tuple(photo.url for photo in form.photos)
    if any(not url.startswith(f"{_site(request).origin}/photos/") for url in photos):
        return JSONResponse({"error": "photos must be uploaded here first"}, 422)
    lead = LeadRecord(
        id=uuid.uuid4().hex,
        created_ms=_site(request).clock.now_ms(),
        name=form.name,
        email=form.email,
        contractor_slug=form.contractorSlug,
        project_description=form.projectDescription,
        photos=photos,
    )
    await _records(request).put(lead)
    return JSONResponse({"id": lead.id, "status": "received"}, 201, {"Location": f"/api/leads/{lead.id}"})


async def show_lead(request: Request) -> Response:
    """What the visitor's page shows: nothing about who sent it."""
    lead = await _records(request).get(request.path_params["lead_id"])
    if lead is None:
        return JSONResponse({"error": "no such lead"}, 404)
    return JSONResponse(
        {
            "id": lead.id,
            "status": "received" if lead.analysis is None else "analysed",
            "photos": len(lead.photos),
            "analysis": lead.analysis,
            "score": lead.score,
        },
        headers={"Cache-Control": "no-store"},
    )


async def take_delivery(request: Request) -> Response:
    """The result of the work that the gateway took over, told apart from forgeries by its signature."""
    site, body = _site(request), await request.body()
    now_ms = site.clock.now_ms()
    wrong = webhook.verify(site.webhook_secret, request.headers, body, now_ms / 1000)
    if wrong is not None:
        return JSONResponse({"error": wrong}, 401)
    message = Delivery.model_validate_json(body)
    data = message.data
    analysis: Json = data.model_dump(mode="json") if message.type == "lead.analysis.completed" else None
    outcome = await _records(request).take_delivery(
        request.headers[webhook.ID_FIELD], now_ms, data.lead_id, analysis=analysis, score=data.score
    )
    return JSONResponse({"status": outcome}, 404 if outcome == "unknown lead" else 200)


async def health(request: Request) -> Response:
    well = await _records(request).is_well()
    return JSONResponse({"status": "ok" if well else "broken"}, 200 if well else 503)


# ── photos ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def presign_upload(request: Request) -> Response:
    form = UploadForm.model_validate_json(await request.body())
    site = _site(request)
    now_s = site.clock.now_ms() // 1000
    key = f"{uuid.uuid4().hex}.{presign.TYPES[form.contentType]}"
    return JSONResponse(
        {
            "uploadUrl": presign.signed_path(site.presign_secret, "PUT", key, now_s + PUT_LIFE_S),
            "url": site.origin + presign.signed_path(site.presign_secret, "GET", key, now_s + GET_LIFE_S),
            "expiresAt": now_s + PUT_LIFE_S,
        },
        201,
    )


def _photo(request: Request, method: str) -> Path:
    """Where the photo of a permitted request lies."""
    key: str = request.path_params["key"]
    site = _site(request)
    if not presign.is_key(key):
        raise HTTPException(404)
    why = presign.refusal(site.presign_secret, method, key, request.query_params, site.clock.now_ms() / 1000)
    if why is not None:
        raise HTTPException(403, why)
    return site.state / "photos" / key


async def put_photo(request: Request) -> Response:
    """Take the picture the address was signed for. Written whole or not at all."""
    path = _photo(request, "PUT")
    body = await request.body()
    if sniff(body[:12]) != presign.media_type(path.name):
        return JSONResponse({"error": f"not {presign.media_type(path.name)}"}, 415)
    draft = path.with_suffix(f".{secrets.token_hex(4)}.part")
    await asyncio.to_thread(draft.write_bytes, body)
    await asyncio.to_thread(draft.replace, path)
    return Response(status_code=204)


async def get_photo(request: Request) -> Response:
    path = _photo(request, "GET")
    if not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type=presign.media_type(path.name), headers={"X-Content-Type-Options": "nosniff"})


# ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────────
def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scopegate.demo.app", description="The demo web app.")
    parser.add_argument("--fd", type=int, required=True, help="an inherited listening socket")
    parser.add_argument("--state", type=Path, required=True, help="a directory for the database and photos")
    parser.add_argument("--leash", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    sock = socket.socket(fileno=args.fd)
    host, port = sock.getsockname()[:2]
    site = Site(
        state=args.state,
        origin=f"http://{host}:{port}",
        webhook_secret=os.environ["SCOPEGATE_WEBHOOK_SECRET"],
        presign_secret=secrets.token_bytes(32),
        clock=SystemClock(),
    )
    asyncio.run(_serve(site, sock, args.leash))
    return 0


async def _serve(site: Site, sock: socket.socket, leash_fd: int | None) -> None:
    leash = None if leash_fd is None else Leash(leash_fd)
    app = build(site, leash.ready if leash is not None else lambda: None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3))
    if leash is not None:
        leash.watch(lambda: setattr(server, "should_exit", True), grace_s=5.0)
    await server.serve(sockets=[sock])


if __name__ == "__main__":
    raise SystemExit(main())
