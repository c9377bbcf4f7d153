"""Who stands outside in a simulation: the app, the provider of the model, the place of photos, Redis, and a disk.

Each outlives the processes that ask it. What was sent arrives although its sender dies on the way; what is answered
may never be heard. Each keeps what really happened, which is what the books are held against at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from scopegate.bills.statement import BilledCall
from scopegate.demo.answers import MessageRequest, SeenPicture, answer, wrong_answer
from scopegate.errors import (
    AIError,
    AIRateLimitError,
    AITimeoutError,
    DeliveryError,
    PhotoError,
    StoreUnavailable,
    UpstreamError,
)
from scopegate.leads.job import OrderState, Settlement
from scopegate.leads.photos import Part, PhotoCode, Picture
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.limits.pricing import Usage
from scopegate.policy.policy import Deliver
from scopegate.stores import spool as spool_format
from scopegate.stores.memory import MemoryBreakers
from scopegate.types import Json
from scopegate.worker.call import ModelReply, ModelRequest
from scopegate.worker.deliver import AppAnswer, Courier
from scopegate.worker.fetch import PhotoFetcher
from tests.simulation.loop import OUTSIDE, Process, current

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWER_TIMEOUT_S = 10.0


def ask(world: World, process: Process, serve: Callable[[], Any], wait_s: float = 0.0) -> asyncio.Future[Any]:
    """Have `serve` called outside, and hear what it gives or raises `wait_s` later."""
    heard: asyncio.Future[Any] = world.loop.create_future()

    def arrive() -> None:
        told: Any
        try:
            told = serve()
        except Exception as error:
            told = error
        world.loop.call_in(OUTSIDE, wait_s + world.wait_s(), _settle, heard, told)

    world.loop.call_in(OUTSIDE, world.wait_s(), arrive)
    return heard


def _settle(heard: asyncio.Future[Any], told: Any) -> None:
    if heard.done():
        return
    if isinstance(told, Exception):
        heard.set_exception(told)
    else:
        heard.set_result(told)


# ── the app ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class App:
    """Takes leads and results. Every lead that it hears and does not refuse is one of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.leads: dict[str, str] = {}
        """Order by lead id."""
        self.unreadable: dict[str, None] = {}
        """Orders that it took and answered so that nobody finds the lead in it."""
        self.bodies: dict[str, Json] = {}
        """What was sent, by order."""
        self.messages: dict[str, Json] = {}
        self.changed: list[str] = []
        """Messages that came again and said something else."""
        self.times: dict[str, int] = {}

    async def create(self, order_id: str, body: Json) -> tuple[int, Json]:
        """Raises UpstreamError."""
        world, process = self._world, current()
        if world.fails("app_unreached"):
            raise UpstreamError("connect", sent=False)
        slow_s = 2 * ANSWER_TIMEOUT_S if world.fails("app_hangs") else 0.0
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                heard = await ask(world, process, lambda: self._create(process, order_id, body), slow_s)
        except TimeoutError:
            raise UpstreamError("timeout") from None
        if world.fails("app_away"):
            raise UpstreamError("reset")
        status, said = heard
        return status, said

    def _create(self, process: Process, order_id: str, body: Json) -> tuple[int, Json]:
        world = self._world
        world.happened(process, "app lead", order_id)
        self.bodies[order_id] = body
        if world.fails("app_refuses"):
            return 422, {}
        if world.fails("app_broken"):
            return 500, {}
        if world.fails("app_poor"):
            self.unreadable[order_id] = None
            return 201, {"id": None}
        lead_id = f"lead-{len(self.leads) + 1}"
        self.leads[lead_id] = order_id
        return 201, {"id": lead_id}

    def take(self, process: Process, message_id: str, body: bytes) -> int:
        self._world.happened(process, "app message", message_id)
        if self._world.fails("app_refuses"):
            return 422
        if self._world.fails("app_broken"):
            return 503
        data = json.loads(body)["data"]
        if self.messages.setdefault(message_id, data) != data:
            self.changed.append(message_id)
        self.times[message_id] = self.times.get(message_id, 0) + 1
        return 204

    def look_up(self, process: Process, body: bytes) -> AppAnswer:
        order_id = json.loads(body)["data"]["order_id"]
        self._world.happened(process, "app look-up", order_id)
        if self._world.fails("app_broken"):
            return AppAnswer(503, b"", "")
        for lead_id, taken in self.leads.items():
            if taken == order_id:
                return AppAnswer(200, json.dumps({"id": lead_id}).encode(), "")
        if order_id in self.unreadable:
            return AppAnswer(200, b'{"id": null}', "")
        return AppAnswer(404, b"", "")


class SimulatedCourier(Courier):
    """Of one process, to the app."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def deliver(self, to: Deliver, message_id: str, body: bytes) -> int:
        process = current()
        status = int(await self._send(lambda: self._world.app.take(process, message_id, body)))
        if status == 503:
            raise DeliveryError("unavailable", "503", retryable=True)
        if status != 204:
            raise DeliveryError("rejected", str(status), retryable=False)
        return status

    async def ask(self, to: Deliver, url: str, message_id: str, body: bytes) -> AppAnswer:
        process = current()
        said: AppAnswer = await self._send(lambda: self._world.app.look_up(process, body))
        return said

    async def _send(self, serve: Callable[[], Any]) -> Any:
        world, process = self._world, current()
        if world.fails("app_unreached"):
            raise DeliveryError("unreachable", "ConnectError", retryable=True)
        slow_s = 2 * ANSWER_TIMEOUT_S if world.fails("app_hangs") else 0.0
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                heard = await ask(world, process, serve, slow_s)
        except TimeoutError:
            raise DeliveryError("timeout", retryable=True) from None
        if world.fails("app_away"):
            raise DeliveryError("unreachable", "ReadError", retryable=True)
        return heard


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Provider:
    """What it was asked, and what it bills."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.billed: list[BilledCall] = []
        self.asked = 0

    def answer(self, process: Process, request: ModelRequest) -> ModelReply:
        world = self._world
        self.asked += 1
        request_id = f"req_{self.asked}"
        world.happened(process, "model asked", request_id)
        self._refuse(request_id)
        question = _question(request)
        text, stop = answer(question), "end_turn"
        if world.fails("model_wrong"):
            text = wrong_answer(question)
        if world.fails("model_refuses"):
            text, stop = "", "refusal"
        tokens = len(text) // 4 + 1
        if tokens > request.max_tokens or world.fails("model_short"):
            text, stop, tokens = text[: len(text) // 2], "max_tokens", min(tokens, request.max_tokens)
        usage = Usage(question.input_tokens(), tokens)
        at_ms = world.now_ms()
        self.billed.append(BilledCall(f"call {self.asked}", (request_id,), at_ms, request.model, usage))
        if world.fails("model_cut"):
            raise AIError("connection", "ReadError", retryable=True, maybe_billed=True)
        return ModelReply(text, usage, stop, request_id, request.model)

    def _refuse(self, request_id: str) -> None:
        """Unbilled."""
        world = self._world
        if world.fails("model_busy"):
            if world.faulty.random() < 0.5:
                wait_s = world.faulty.choice((None, 1.0, 20.0))
                raise AIRateLimitError(
                    "rate_limited", "429", retryable=True, status=429, retry_after_s=wait_s, request_id=request_id
                )
            raise AIError("overloaded", "529", retryable=True, status=529, request_id=request_id)
        if world.fails("model_broken"):
            in_own_words = world.faulty.random() < 0.5
            raise AIError("server_error", "500", retryable=True, status=500, maybe_billed=not in_own_words)
        if world.fails("model_poor"):
            raise AIError("spend_limit", "402", retryable=False, status=402, request_id=request_id)


class SimulatedModel:
    """`ModelClient` of one process."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def call(self, request: ModelRequest) -> ModelReply:
        world, process = self._world, current()
        if world.fails("model_unreached"):
            raise AIError("connection", "ConnectError", retryable=True)
        slow_s = request.timeout_s * 1.5 if world.fails("model_hangs") else world.faulty.choice((0.0, 0.1, 1.0, 4.0))
        try:
            async with asyncio.timeout(request.timeout_s):
                reply = await ask(world, process, lambda: world.provider.answer(process, request), slow_s)
        except TimeoutError:
            raise AITimeoutError("timeout", "simulated", retryable=True, maybe_billed=True) from None
        assert isinstance(reply, ModelReply)
        return reply

    async def count_input(self, request: ModelRequest) -> int:
        if self._world.fails("model_broken"):
            raise AIError("server_error", "500", retryable=True, status=500)
        return int(await ask(self._world, current(), lambda: _question(request).input_tokens()))


def _question(request: ModelRequest) -> MessageRequest:
    seen = tuple(
        SeenPicture(image.width_px, image.height_px, ("brown",), hashlib.sha256(image.data).hexdigest())
        for image in request.images
    )
    return MessageRequest(request.model, request.system, request.text, request.schema, request.max_tokens, seen)


# ── photos ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SimulatedFetcher(PhotoFetcher):
    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, url: str, allowed_hosts: Sequence[str]) -> Picture:
        world = self._world
        if world.fails("photo_away"):
            await asyncio.sleep(0.1)
            raise PhotoError(PhotoCode.UNREACHABLE, retryable=True)
        picture: Picture = await ask(world, current(), lambda: _picture(url))
        return picture


@lru_cache(maxsize=64)
def _picture(url: str) -> Picture:
    return Picture((Part(url.encode(), 640, 480),), hashlib.sha256(url.encode()).hexdigest())


# ── Redis and the disk ──────────────────────────────────────────────────────────────────────────────────────────────


class SimulatedMessenger:
    """Wakes any worker, or none."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def wake(self, job_id: str) -> None:
        world = self._world
        if not world.plan.has_redis:
            return
        if world.fails("redis_down"):
            raise StoreUnavailable("connect", "simulated")
        await ask(world, current(), lambda: None)
        if not world.fails("redis_forgets"):
            world.loop.call_in(OUTSIDE, world.wait_s(), world.wake, job_id)

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class SimulatedBreakers:
    """`BreakerStore`: that of Redis, or of one process."""

    def __init__(self, world: World, breakers: MemoryBreakers) -> None:
        self._world = world
        self._breakers = breakers

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
        await self._reach()
        return await self._breakers.admit(name, rule)

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None:
        await self._reach()
        await self._breakers.record(name, rule, permit, outcome)

    async def state(self, name: str, rule: BreakerRule) -> str:
        await self._reach()
        return await self._breakers.state(name, rule)

    async def close(self) -> None: ...

    async def _reach(self) -> None:
        if self._world.plan.has_redis:
            await asyncio.sleep(self._world.wait_s())
            if self._world.fails("redis_down"):
                raise StoreUnavailable("connect", "simulated")


class SimulatedSpool:
    """`OrderSpool` of one machine: its files, written as the real one writes them."""

    def __init__(self, world: World, process: Process, files: dict[str, bytes]) -> None:
        self._world = world
        self._process = process
        self._files = files

    async def keep(self, settled: Settlement) -> None:
        world, order = self._world, settled.order
        if world.fails("spool_full"):
            await asyncio.sleep(0)
            raise StoreUnavailable("full", "simulated")
        last = "0" if settled.state is OrderState.PENDING else "1"
        name = f"{order.received_ms:014}-{order.order_id}-{last}"
        text = spool_format._written(settled)
        await ask(world, self._process, lambda: self._write(name, text))

    def _write(self, name: str, text: bytes) -> None:
        """The disk of a machine goes on with what it was given, whoever dies."""
        self._world.spooled[name] = None
        self._world.happened(self._process, "spooled", name)
        self._files[name] = text

    async def empty(self, take: Callable[[Settlement], Awaitable[None]]) -> None:
        holder = self._world.emptying
        if holder is not None and holder.alive and holder is not self._process:
            return
        self._world.emptying = self._process
        try:
            for name in sorted(self._files):
                await take(spool_format._read(self._files[name]))
                await asyncio.sleep(0)
                self._files.pop(name, None)
        finally:
            if self._world.emptying is self._process:
                self._world.emptying = None
