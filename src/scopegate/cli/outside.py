"""What `scopegate doctor` asks others: Redis, the database, the apps, the model's API. Each answers within seconds or
is said not to; none of them is changed, and nothing that costs money is sent."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scopegate.cli.diagnosis import Diagnosis, failed, ok, unasked, warning
from scopegate.errors import AIError, ConfigError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from scopegate.policy.policy import Origin, Policy, Upstream
    from scopegate.settings import Settings
    from scopegate.worker.claude import ClaudeCaller

CONNECT_S = 2.0
ASKED_S = 10.0
MAX_CLOCK_OFF_S = 1.0


async def redis(settings: Settings) -> Iterator[Diagnosis]:
    """Redis, and our clock beside its: limits count by its time, leases by ours."""
    from scopegate.stores.embedded import running_url
    from scopegate.stores.redis_desk import RedisDesk

    url = settings.redis_url or running_url(settings.state_dir)
    if url is None:
        said = "REDIS_URL is not set and no embedded Valkey runs"
        mend = "`scopegate up` starts one; several gateways need REDIS_URL to count together"
        return iter([unasked("redis", f"{said} ({mend})"), unasked("clock", "nobody to compare it with")])
    try:
        desk = RedisDesk(url)
        try:
            about = await desk.about()
        finally:
            await desk.close()
    except (StoreUnavailable, ConfigError, TimeoutError) as fault:
        mend = "start it, or correct REDIS_URL (its host, port, user or password)"
        return iter([failed("redis", f"does not answer: {fault}", mend), unasked("clock", "nobody to compare it with")])
    name = "embedded" if settings.redis_url is None else "at REDIS_URL"
    said = f"{name}, version {about.version}, answered in {about.took_ms} ms, {about.memory_policy}"
    found = ok("redis", said)
    if about.memory_policy != "noeviction":
        mend = "set maxmemory-policy noeviction: evicted windows admit their clients again"
        found = warning("redis", said, mend)
    return iter([found, clock(about.ahead_s)])


def clock(ahead_s: float) -> Diagnosis:
    """`ahead_s`: how far Redis' clock is before ours."""
    said = f"{abs(ahead_s) * 1000:.0f} ms {'behind' if ahead_s > 0 else 'before'} that of Redis"
    if abs(ahead_s) > MAX_CLOCK_OFF_S:
        return warning("clock", said, "have both kept by NTP: tokens and leases are judged by this clock")
    return ok("clock", said)


async def database(settings: Settings) -> Diagnosis:
    from scopegate.stores.upgrade import look

    name = "at DATABASE_URL" if settings.database_url is not None else str(settings.state_dir / "scopegate.db")
    try:
        async with asyncio.timeout(ASKED_S):
            plan = await look(settings.database)
    except StoreUnavailable as fault:
        return failed("database", f"does not answer: {fault}", "start it, or correct DATABASE_URL")
    except StoreError as fault:
        return failed("database", str(fault), "correct DATABASE_URL, or run the program that this database belongs to")
    except TimeoutError:
        return failed("database", f"no answer within {ASKED_S:g} s", "start it, or correct DATABASE_URL")
    if plan.number is None:
        return ok("database", f"{name} has no tables yet: the first start makes them")
    if plan.left:
        return failed(
            "database", f"{name} is at revision {plan.number}, older than this program", "`scopegate migrate`"
        )
    return ok("database", f"{name}, revision {plan.number}, {plan.jobs:,} jobs, {plan.calls:,} calls")


async def upstreams(policy: Policy) -> list[Diagnosis]:
    asked = [(each, origin) for each in policy.upstreams.values() for origin in each.servers]
    return list(await asyncio.gather(*(_upstream(*one) for one in asked)))


async def _upstream(upstream: Upstream, origin: Origin) -> Diagnosis:
    """A connection, and a handshake where it is https; nothing is asked of the app."""
    name = f"{upstream.name} at {origin.scheme}:{'' if origin.scheme == 'unix' else '//'}{origin.authority}"
    began = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_S):
            writer = await _dial(upstream, origin)
    except TimeoutError:
        return failed("upstream", f"{name}: no connection within {CONNECT_S:g} s", "start it, or correct its address")
    except ssl.SSLError as fault:
        mend = "set `tls.ca` or `tls.server_name` of the upstream, or renew its certificate"
        return failed("upstream", f"{name}: {getattr(fault, 'verify_message', '') or fault.reason}", mend)
    except OSError as fault:
        why = os.strerror(fault.errno) if fault.errno and fault.errno > 0 else str(fault)
        return failed("upstream", f"{name}: {why}", f"start the app, or correct `upstreams.{upstream.name}.servers`")
    writer.transport.abort()
    return ok("upstream", f"{name}, connected in {(time.monotonic() - began) * 1000:.1f} ms")


async def _dial(upstream: Upstream, origin: Origin) -> asyncio.StreamWriter:
    if origin.scheme == "unix":
        return (await asyncio.open_unix_connection(origin.host))[1]
    if origin.scheme == "http":
        return (await asyncio.open_connection(origin.host, origin.port))[1]
    trust = ssl.create_default_context(cafile=upstream.tls.ca_file)
    name = upstream.tls.server_name or origin.host
    return (await asyncio.open_connection(origin.host, origin.port, ssl=trust, server_hostname=name))[1]


async def claude(settings: Settings, policy: Policy) -> list[Diagnosis]:
    """Whether the key opens each model that may be asked: by counting the tokens of one word, which costs nothing."""
    if policy.ai is None or not policy.offloads:
        return [ok("claude", "not needed: no offloads")]
    if settings.anthropic_api_key is None:
        return [
            failed("claude", "ANTHROPIC_API_KEY is not set, and offloads need it", "set it, or ANTHROPIC_API_KEY_FILE")
        ]
    from scopegate.wiring import claude_caller

    caller = claude_caller(settings)
    try:
        return [await _model(caller, model) for model in policy.ai.models()]
    finally:
        await caller.close()


async def _model(caller: ClaudeCaller, model: str) -> Diagnosis:
    from scopegate.worker.call import ModelRequest

    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    try:
        await caller.count_input(ModelRequest(model, "Answer.", "Hello", schema, 16, ASKED_S))
    except AIError as fault:
        return _of_model(model, fault)
    return ok("claude", f"the key is taken, and opens {model}")


def _of_model(model: str, fault: AIError) -> Diagnosis:
    said = f"{model}: {fault}"
    if fault.code == "auth":
        return failed("claude", said, "set a valid ANTHROPIC_API_KEY: this one is refused")
    if fault.status == 404:
        return failed("claude", said, "name a model in `ai.model` that this key may ask")
    if fault.retryable:
        return warning("claude", said, "look again; if it stays, see HTTPS_PROXY, ANTHROPIC_BASE_URL and the way out")
    return failed("claude", said, "see ANTHROPIC_BASE_URL and the account of the key")
