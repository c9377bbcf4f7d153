"""A simulated Claude: a local server that speaks the Messages API well enough for the real SDK. It is not a model.

For demonstrations, tests and trying out failures without a key. It checks what the real API checks (key, version, body
shape, pictures), counts tokens, answers by the schema it is asked for from the pictures really sent, and fails on
demand: `POST /_sim/faults`. Every answer says `x-simulated-claude: 1`. The words it answers with are in `demo/answers`.

Run alone: `python -m scopegate.demo.claude --port 8099`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import json
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import uvicorn
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scopegate.clock import Clock, SystemClock
from scopegate.demo.answers import MessageRequest, SeenPicture, UnreadablePicture, answer, look, wrong_answer
from scopegate.demo.batches import BadBatch, NoSuchBatch, SimulatedBatches

MODELS: Final = ("claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5-2")
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_LOG_LENGTH: Final = 100_000

_STATUS_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

FAULTS: Final = {
    "error": "an error answer: status, error_code, retry_after, type, message",
    "error_in_200": "status 200 with an error object inside: type",
    "hang": "no answer for `seconds`",
    "reset": "the connection is reset before any answer",
    "cut_body": "the answer's bytes end half way",
    "cut_json": "a whole answer whose bytes are half a JSON document",
    "html": "status 200 with a page of HTML",
    "no_usage": "a message without its usage",
    "drip": "one byte every `seconds`",
    "huge": "an answer of `bytes` bytes",
    "truncated": "the text is cut and stop_reason is max_tokens",
    "refusal": "stop_reason is refusal and there is no text",
    "wrong_schema": "valid JSON of another shape",
    "answer": "the model says `text`",
    "usage": "the bill says `usage` besides",
    "expired": "of a batch: the request was not answered in its day",
    "redirect": "status 307 to `location`",
    "none": "no fault: holds a place in the queue",
}
"""What can be ordered by `POST /_sim/faults` with `[{"kind": ..., ...}]`: each is used once, in order."""


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True)
class Injected:
    """One fault on order; which of the fields count is said in FAULTS."""

    kind: str
    status: int = 500
    type: str | None = None
    error_code: str | None = None
    retry_after: str | None = None
    seconds: float = 3600.0
    bytes: int = 64 * 1024 * 1024
    text: str = ""
    location: str = "/elsewhere"
    message: str = "simulated"
    usage: dict[str, Any] = field(default_factory=dict)


_FAULTS: Final = TypeAdapter(list[Injected])


@dataclass(frozen=True, slots=True)
class SeenCall:
    """One request as the simulation saw it. Never the key, never the text. `at_ms` is when it was answered."""

    n: int
    at_ms: int
    request_id: str
    model: str
    schema: str
    pictures: tuple[SeenPicture, ...]
    fault: str
    status: int
    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Simulation:
    """All state of one simulated API. `api_key` None accepts any key; `latency_s` comes before every answer;
    `clock` is that of batches."""

    api_key: str | None = None
    latency_s: float = 0.0
    faults: deque[Injected] = field(default_factory=deque)
    calls: deque[SeenCall] = field(default_factory=lambda: deque(maxlen=_LOG_LENGTH))
    requests: int = 0
    since_ms: int = field(default_factory=SystemClock().now_ms)
    batches: SimulatedBatches = field(default_factory=SimulatedBatches)
    clock: Clock = field(default_factory=SystemClock)

    def accepts(self, headers: Mapping[str, str]) -> bool:
        """The key arrives as `x-api-key`, or as a bearer token, which is how newer SDKs send it."""
        bearer = headers.get("authorization", "")
        key = headers.get("x-api-key") or bearer.removeprefix("Bearer ")
        return bool(key) and (self.api_key is None or hmac.compare_digest(key.encode(), self.api_key.encode()))


class _Refused(Exception):
    """The request is not one the API would take."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def create_app(simulation: Simulation | None = None) -> Starlette:
    """The application; its state is `app.state.simulation`."""
    routes = [
        Route("/", _home),
        Route("/v1/messages", _messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        Route("/v1/messages/batches", _create_batch, methods=["POST"]),
        Route("/v1/messages/batches", _list_batches),
        Route("/v1/messages/batches/{batch_id}", _show_batch),
        Route("/v1/messages/batches/{batch_id}/results", _show_results),
        Route("/v1/messages/batches/{batch_id}/cancel", _cancel_batch, methods=["POST"]),
        Route("/_sim/faults", _set_faults, methods=["POST"]),
        Route("/_sim/settings", _set_settings, methods=["POST"]),
        Route("/_sim/calls", _show_calls),
        Route("/_sim/reset", _reset, methods=["POST"]),
    ]
    app = Starlette(routes=routes, max_body_size=_MAX_BODY_BYTES)
    app.state.simulation = simulation or Simulation()
    return app


# ── the API ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _messages(request: Request) -> Response:
    simulation: Simulation = request.app.state.simulation
    simulation.requests += 1
    request_id = f"req_sim_{simulation.requests:08d}"
    if simulation.latency_s:
        await asyncio.sleep(simulation.latency_s)
    try:
        if not simulation.accepts(request.headers):
            raise _Refused(401, "invalid x-api-key")
        question = _question(request.headers, await request.body())
    except _Refused as refused:
        return _error(refused.status, request_id, message=str(refused))
    fault = simulation.faults.popleft() if simulation.faults else Injected("none")
    response, usage = await _respond(request, question, fault, request_id)
    simulation.calls.append(_seen(simulation, request_id, question, fault, response.status_code, usage))
    return response


def _seen(
    simulation: Simulation,
    request_id: str,
    question: MessageRequest,
    fault: Injected,
    status: int,
    usage: tuple[int, int],
) -> SeenCall:
    input_tokens, output_tokens = usage
    return SeenCall(
        simulation.requests,
        SystemClock().now_ms(),
        request_id,
        question.model,
        str(question.schema.get("title", "")),
        question.pictures,
        fault.kind,
        status,
        input_tokens,
        output_tokens,
    )


async def _count_tokens(request: Request) -> Response:
    """Free, and neither counted nor failed as a call."""
    simulation: Simulation = request.app.state.simulation
    try:
        if not simulation.accepts(request.headers):
            raise _Refused(401, "invalid x-api-key")
        question = _question(request.headers, await request.body(), max_tokens=1)
    except _Refused as refused:
        return _error(refused.status, "req_sim_count", message=str(refused))
    return JSONResponse({"input_tokens": question.input_tokens()}, headers=_headers("req_sim_count"))


def _question(headers: Mapping[str, str], content: bytes, **given: int) -> MessageRequest:
    """The request's body, checked as the API would."""
    if "anthropic-version" not in headers:
        raise _Refused(400, "anthropic-version: header is required")
    try:
        body = json.loads(content) | given
        model, max_tokens, messages = body["model"], body["max_tokens"], body["messages"]
        schema = body.get("output_config", {}).get("format", {}).get("schema", {})
        blocks = [block for message in messages for block in _blocks(message["content"])]
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _Refused(400, f"the body is not a message request ({type(fault).__name__})") from None
    if model not in MODELS:
        raise _Refused(404, "model: not found")
    if not isinstance(max_tokens, int) or max_tokens < 1 or not blocks:
        raise _Refused(400, "max_tokens and messages are required")
    text = "\n".join(str(block["text"]) for block in blocks if block.get("type") == "text")
    pictures = tuple(_picture(block) for block in blocks if block.get("type") == "image")
    return MessageRequest(model, str(body.get("system", "")), text, schema, max_tokens, pictures)


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _picture(block: Mapping[str, Any]) -> SeenPicture:
    try:
        source = block["source"]
        data = base64.b64decode(source["data"], validate=True)
        return look(data, str(source["media_type"]))
    except (KeyError, TypeError, binascii.Error, UnreadablePicture):
        raise _Refused(400, "image: could not process image") from None


async def _respond(
    request: Request, question: MessageRequest, fault: Injected, request_id: str
) -> tuple[Response, tuple[int, int]]:
    """The answer and what it bills: (input, output) tokens, zero for errors."""
    nothing = (0, 0)
    match fault.kind:
        case "error":
            return _fault_error(fault, request_id), nothing
        case "error_in_200":
            return _error(200, request_id, kind=fault.type or "overloaded_error"), nothing
        case "hang":
            await _wait_for_client(request, fault.seconds)
            return _error(504, request_id), nothing
        case "reset":
            _reset_connection(request.state.transport)
            return Response(), nothing
        case "html":
            return Response("<html><body>Bad gateway</body></html>", media_type="text/html"), nothing
        case "redirect":
            return Response(status_code=307, headers={"location": fault.location}), nothing
        case "huge":
            return StreamingResponse(_spaces(fault.bytes), media_type="application/json"), nothing
        case _:
            return _message(question, fault, request_id)


def _message_body(
    question: MessageRequest, fault: Injected, request_id: str, tier: str = "standard"
) -> tuple[dict[str, Any], tuple[int, int]]:
    text, stop_reason = _words(question, fault)
    usage = (question.input_tokens(), max(1, min(question.max_tokens, len(text.encode()) // 4)))
    body: dict[str, Any] = {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage[0],
            "output_tokens": usage[1],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "service_tier": tier,
        },
    }
    body["usage"] |= fault.usage
    if fault.kind == "no_usage":
        del body["usage"]
    return body, usage


def _message(question: MessageRequest, fault: Injected, request_id: str) -> tuple[Response, tuple[int, int]]:
    """A 200 that carries a message, or is about to."""
    body, usage = _message_body(question, fault, request_id)
    content, headers = json.dumps(body).encode(), _headers(request_id)
    if fault.kind == "cut_json":
        return Response(content[: len(content) // 2], media_type="application/json", headers=headers), usage
    if fault.kind == "cut_body":
        headers["content-length"] = str(len(content))
        return StreamingResponse(_half(content), media_type="application/json", headers=headers), usage
    if fault.kind == "drip":
        drops = _drip(content, fault.seconds)
        return StreamingResponse(drops, media_type="application/json", headers=headers), usage
    return Response(content, media_type="application/json", headers=headers), usage


def _words(question: MessageRequest, fault: Injected) -> tuple[str, str]:
    """(text, stop_reason)."""
    match fault.kind:
        case "refusal":
            return "", "refusal"
        case "answer":
            return fault.text, "end_turn"
        case "wrong_schema":
            return wrong_answer(question), "end_turn"
        case _:
            return _right_words(question, fault)


def _right_words(question: MessageRequest, fault: Injected) -> tuple[str, str]:
    text = answer(question)
    longest = question.max_tokens * 4
    if fault.kind == "truncated" or len(text.encode()) > longest:
        return text[: min(longest, len(text) // 2)], "max_tokens"
    return text, "end_turn"


def _fault_error(fault: Injected, request_id: str) -> Response:
    body = _error_body(fault.status, request_id, fault.type, fault.error_code, fault.message)
    response = JSONResponse(body, status_code=fault.status, headers=_headers(request_id))
    if fault.retry_after is not None:
        response.headers["retry-after"] = fault.retry_after
    return response


def _error(status: int, request_id: str, *, kind: str | None = None, message: str = "simulated") -> Response:
    body = _error_body(status, request_id, kind, None, message)
    return JSONResponse(body, status_code=status, headers=_headers(request_id))


def _error_body(status: int, request_id: str, kind: str | None, error_code: str | None, message: str) -> dict[str, Any]:
    kind = kind or _STATUS_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error: dict[str, Any] = {"type": kind, "message": message}
    if error_code is not None:
        error["details"] = {"error_code": error_code}
    return {"type": "error", "error": error, "request_id": request_id}


def _headers(request_id: str) -> dict[str, str]:
    return {
        "request-id": request_id,
        "x-simulated-claude": "1",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
        "anthropic-ratelimit-requests-reset": "2026-11-24T00:01:00Z",
        "anthropic-ratelimit-input-tokens-limit": "2000000",
        "anthropic-ratelimit-input-tokens-remaining": "1999000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-24T00:01:00Z",
        "anthropic-ratelimit-output-tokens-limit": "400000",
        "anthropic-ratelimit-output-tokens-remaining": "399000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-24T00:01:00Z",
    }


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _create_batch(request: Request) -> Response:
    """An ordered fault of these kinds is the creation's: `error`, `reset` (made, and nobody hears of it), `hang`."""
    simulation = _accepted(request)
    if simulation is None:
        return _error(401, "req_sim_batch", message="invalid x-api-key")
    head = simulation.faults[0] if simulation.faults else Injected("none")
    if head.kind == "error":
        return _fault_error(simulation.faults.popleft(), "req_sim_batch")
    try:
        body = json.loads(await request.body())
        batch = simulation.batches.create(body, simulation.clock.now_ms())
    except (ValueError, BadBatch) as wrong:
        return _error(400, "req_sim_batch", message=str(wrong))
    if head.kind == "reset":
        simulation.faults.popleft()
        _reset_connection(request.state.transport)
    elif head.kind == "hang":
        await _wait_for_client(request, simulation.faults.popleft().seconds)
    return JSONResponse(batch.to_json(), headers=_headers("req_sim_batch"))


async def _list_batches(request: Request) -> Response:
    simulation = _accepted(request)
    if simulation is None:
        return _error(401, "req_sim_batch", message="invalid x-api-key")
    try:
        found, has_more = simulation.batches.page(
            int(request.query_params.get("limit", "20")), request.query_params.get("after_id")
        )
    except (ValueError, NoSuchBatch):
        return _error(400, "req_sim_batch", message="limit, after_id")
    data = [batch.to_json() for batch in found]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return JSONResponse({"data": data, "has_more": has_more, **ends}, headers=_headers("req_sim_batch"))


async def _show_batch(request: Request) -> Response:
    simulation = _accepted(request)
    if simulation is None:
        return _error(401, "req_sim_batch", message="invalid x-api-key")
    try:
        return JSONResponse(simulation.batches.find(request.path_params["batch_id"]).to_json())
    except NoSuchBatch:
        return _error(404, "req_sim_batch")


async def _show_results(request: Request) -> Response:
    simulation = _accepted(request)
    if simulation is None:
        return _error(401, "req_sim_batch", message="invalid x-api-key")
    try:
        batch = simulation.batches.find(request.path_params["batch_id"])
    except NoSuchBatch:
        return _error(404, "req_sim_batch")
    if batch.results is None:
        return _error(404, "req_sim_batch", message="no results yet")
    lines = "".join(json.dumps(result) + "\n" for result in batch.results)
    return Response(lines, media_type="application/x-jsonl", headers=_headers("req_sim_batch"))


async def _cancel_batch(request: Request) -> Response:
    simulation = _accepted(request)
    if simulation is None:
        return _error(401, "req_sim_batch", message="invalid x-api-key")
    try:
        batch = simulation.batches.find(request.path_params["batch_id"])
    except NoSuchBatch:
        return _error(404, "req_sim_batch")
    if batch.results is None and batch.cancelled_ms is None:
        batch.cancelled_ms = simulation.clock.now_ms()
    return JSONResponse(batch.to_json(), headers=_headers("req_sim_batch"))


def _accepted(request: Request) -> Simulation | None:
    """The simulation with its batches as they are by now; None where the key is not accepted."""
    simulation: Simulation = request.app.state.simulation
    if not simulation.accepts(request.headers):
        return None
    simulation.batches.move_on(simulation.clock.now_ms(), lambda params: _result(simulation, params))
    return simulation


def _result(simulation: Simulation, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One request of a batch, answered as a call is; of the faults those that make no connection break."""
    simulation.requests += 1
    request_id = f"req_sim_{simulation.requests:08d}"
    fault = simulation.faults.popleft() if simulation.faults else Injected("none")
    if fault.kind == "expired":
        return {"type": "expired"}
    if fault.kind == "error":
        body = _error_body(fault.status, request_id, fault.type, fault.error_code, fault.message)
        return {"type": "errored", "error": body}
    try:
        question = _question({"anthropic-version": "of the batch"}, json.dumps(params).encode())
    except _Refused as refused:
        return {"type": "errored", "error": _error_body(refused.status, request_id, None, None, str(refused))}
    message, usage = _message_body(question, fault, request_id, "batch")
    simulation.calls.append(_seen(simulation, request_id, question, fault, 200, usage))
    return {"type": "succeeded", "message": message}


async def _wait_for_client(request: Request, seconds: float) -> None:
    """Keep silent for so long, or until the caller hangs up."""
    try:
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass


def _reset_connection(transport: asyncio.Transport) -> None:
    """Closing with no linger sends RST instead of FIN."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _half(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]


async def _drip(content: bytes, seconds: float) -> AsyncIterator[bytes]:
    for byte in content:
        yield bytes([byte])
        await asyncio.sleep(seconds)


async def _spaces(count: int) -> AsyncIterator[bytes]:
    block = b" " * 65_536
    for _ in range(count // len(block)):
        yield block


# ── its own endpoints ───────────────────────────────────────────────────────────────────────────────────────────────


async def _home(request: Request) -> Response:
    about = {
        "simulated": True,
        "what": "A simulated Claude for demonstrations and tests. Not a model; nothing here is charged.",
        "models": list(MODELS),
        "faults": FAULTS,
    }
    return JSONResponse(about, headers={"x-simulated-claude": "1"})


async def _set_faults(request: Request) -> Response:
    """`[{"kind": "error", "status": 529}, ...]`: queued behind those still waiting."""
    simulation: Simulation = request.app.state.simulation
    try:
        wanted = _FAULTS.validate_json(await request.body())
    except ValidationError as fault:
        return JSONResponse({"error": f"a list of faults is needed: {fault.errors()[0]['msg']}"}, status_code=400)
    unknown = sorted({fault.kind for fault in wanted} - FAULTS.keys())
    if unknown:
        return JSONResponse({"error": f"unknown kinds: {', '.join(unknown)}"}, status_code=400)
    simulation.faults.extend(wanted)
    return JSONResponse({"queued": len(simulation.faults)})


async def _set_settings(request: Request) -> Response:
    """`{"api_key": "..." | null, "latency_s": 0.2, "batch_s": 60}`: what is not named stays."""
    simulation: Simulation = request.app.state.simulation
    try:
        wanted = dict(await request.json())
        latency_s = float(wanted.pop("latency_s", simulation.latency_s))
        batch_s = float(wanted.pop("batch_s", simulation.batches.lasts_s))
        api_key = wanted.pop("api_key", simulation.api_key)
    except (ValueError, TypeError):
        return JSONResponse({"error": "an object of settings is needed"}, status_code=400)
    in_range = 0 <= latency_s <= 3600 and 0 <= batch_s <= 86_400
    if wanted or not in_range or not (api_key is None or isinstance(api_key, str)):
        what = "settings are api_key (text or null), latency_s (0..3600) and batch_s (0..86400)"
        return JSONResponse({"error": what}, status_code=400)
    simulation.latency_s, simulation.batches.lasts_s, simulation.api_key = latency_s, batch_s, api_key
    return JSONResponse({"latency_s": latency_s, "batch_s": batch_s, "api_key_required": api_key is not None})


async def _show_calls(request: Request) -> Response:
    """Every request counts, also refused ones; the list holds those that passed the checks."""
    simulation: Simulation = request.app.state.simulation
    kept = list(simulation.calls)
    since_ms = simulation.since_ms if len(kept) < _LOG_LENGTH else kept[0].at_ms
    return JSONResponse(
        {
            "requests": simulation.requests,
            "faults_left": len(simulation.faults),
            "since_ms": since_ms,
            "until_ms": SystemClock().now_ms(),
            "calls": [asdict(call) for call in kept],
        }
    )


async def _reset(request: Request) -> Response:
    """Forget calls, faults and batches; settings stay."""
    simulation: Simulation = request.app.state.simulation
    simulation.faults.clear()
    simulation.calls.clear()
    simulation.batches.made.clear()
    simulation.requests, simulation.since_ms = 0, SystemClock().now_ms()
    return JSONResponse({"requests": 0})


# ── serving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _OpenProtocol(HttpToolsProtocol):
    """Gives a handler its connection, so that it can be reset on purpose."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


def server(simulation: Simulation) -> uvicorn.Server:
    """A server for `server.run(sockets=[...])` or `await server.serve(sockets=[...])`; it logs nothing."""
    config = uvicorn.Config(
        create_app(simulation),
        http=_OpenProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    return socket.create_server((host, port), backlog=256)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped. The first line on standard output is `{"url": ...}`."""
    parser = argparse.ArgumentParser(prog="python -m scopegate.demo.claude", description="A simulated Claude.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--api-key", help="the only key accepted; any key when left out")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before every answer")
    wanted = parser.parse_args(argv)
    listener = listen(wanted.host, wanted.port)
    host, port = listener.getsockname()[:2]
    print(json.dumps({"simulated": "claude", "url": f"http://{host}:{port}"}), flush=True)
    server(Simulation(wanted.api_key, wanted.latency)).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
