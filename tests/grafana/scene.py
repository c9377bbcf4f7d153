"""Processes for a Prometheus to watch: `python -m tests.grafana.scene ROLE DIRECTORY`, until standard input ends.

`gateway` and `worker` count everything the catalogue holds, five times a second; `admin` serves the real admin
application over a real SQLite file on a port it prints.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

from pydantic import SecretStr

from scopegate.metrics import exposition
from tests.admin import house


def play_gateway() -> None:
    from scopegate.metrics import catalogue as metrics

    metrics.POLICY_LOADED.set_to_current_time()
    metrics.POLICY_STALE.set(0)
    metrics.RELOADS.labels("applied").inc()
    metrics.IN_FLIGHT.inc(2)
    metrics.CONNECTIONS.inc(5)
    metrics.CERTIFICATE_ENDS.set(time.time() + 30 * 86_400)
    metrics.STREAMS.labels("websocket").set(1)
    metrics.STREAMS.labels("events").set(1)
    metrics.UPSTREAM_CONNECTIONS.labels("web", "idle").set(3)
    metrics.UPSTREAM_SERVERS.labels("web", "up").set(1)
    for status in ("200", "429", "502"):
        metrics.REQUESTS.labels("submit-lead", status).inc()
    metrics.REQUEST_SECONDS.labels("submit-lead").observe(0.02)
    metrics.REFUSALS.labels("submit-lead", "rate_limited").inc()
    metrics.WATCHED.labels("submit-lead", "bad_json").inc()
    for decision in ("admitted", "limited", "would_limit"):
        metrics.LIMIT_DECISIONS.labels("submit-lead", "strict", decision).inc()
    metrics.LIMIT_STORE_ERRORS.labels("timeout").inc()
    metrics.REQUEST_BYTES.labels("submit-lead").inc(500)
    metrics.RESPONSE_BYTES.labels("submit-lead").inc(900)
    metrics.UPSTREAM_SECONDS.labels("web").observe(0.01)
    metrics.UPSTREAM_ERRORS.labels("web", "reset").inc()
    metrics.ORDERS.labels("lead-photos", "accepted").inc()
    metrics.ORDERS_UNRECORDED.set(0)
    metrics.SPOOLED_ORDERS.labels("waiting").set(1)
    metrics.FLAG_EXPOSURES.labels("checkout", "on").inc()


def play_worker() -> None:
    from scopegate.metrics import catalogue as metrics

    metrics.JOBS_FINISHED.labels("lead-photos", "done").inc()
    for what in ("photos", "leads", "orders", "calls"):
        metrics.RETENTION_DELETED.labels(what).inc()
    metrics.JOB_SECONDS.labels("lead-photos").observe(12)
    for step in ("photo_analysis", "scope", "estimate"):
        metrics.STEP_ATTEMPTS.labels(step, "done").inc()
        metrics.STEP_SECONDS.labels(step).observe(3)
        metrics.AI_CALLS.labels("claude-haiku-5-5", step, "ok").inc()
        metrics.AI_CALL_SECONDS.labels("claude-haiku-5-5", step).observe(2)
        metrics.AI_TOKENS.labels("claude-haiku-5-5", step, "input").inc(900)
        metrics.AI_COST_USD.labels("claude-haiku-5-5", step).inc(0.001)
        metrics.AI_RETRIES.labels(step, "overloaded").inc()
    metrics.PHOTOS.labels("used").inc(3)
    metrics.DELIVERIES.labels("lead-photos", "delivered").inc()
    metrics.BREAKER_OPEN.labels("claude").set(0)


def play(role: str, directory: Path) -> None:
    exposition.prepare(directory, role)
    from scopegate.metrics import catalogue as metrics

    metrics.declare(house.policy())
    step, ended = {"gateway": play_gateway, "worker": play_worker}[role], threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, daemon=True).start()
    step()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not ended.wait(0.2):
        step()


async def serve(directory: Path) -> None:
    exposition.prepare(directory, "admin")
    import uvicorn

    from scopegate.admin.app import create_admin
    from scopegate.admin.sources import Sources
    from scopegate.clock import ManualClock
    from scopegate.metrics import catalogue as metrics
    from scopegate.stores.database import open_database
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.stores.retention import SqlRetention

    metrics.declare(house.policy())
    database = await open_database(f"sqlite:///{directory.parent}/scene.db")
    jobs, ledger, outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
    job = await house.add_job(outbox, "lead-1")
    await house.book(ledger, job, 500_000)
    await house.fail_job(jobs, await house.add_job(outbox, "lead-2"))
    clock = ManualClock(house.NOW_MS + 5_000)
    sources = Sources(house.policy, jobs, ledger, outbox, SqlRetention(database), clock, metrics_directory=directory)
    app = create_admin(sources, SecretStr(house.TOKEN))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", proxy_headers=False))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await running
    await database.close()


if __name__ == "__main__":
    role, directory = sys.argv[1], Path(sys.argv[2])
    if role == "admin":
        asyncio.run(serve(directory))
    else:
        play(role, directory)
