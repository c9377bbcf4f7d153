"""Checks are bounded, asked together, and never spoil one another; a role that vanished is noticed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.admin.health import HealthChecks, is_ready, limit_store
from scopegate.errors import StoreUnavailable
from tests.admin.test_app import failing, fine, hanging


async def test_a_check_that_hangs_is_cut_off_and_the_others_still_answer() -> None:
    health = HealthChecks({"database": hanging, "redis": failing, "disk": fine, "app": hanging}, None, timeout_s=0.05)
    states = await health.states()
    assert states == {"database": "timeout", "redis": "failed", "disk": "ok", "app": "timeout"}
    assert not is_ready(states)


async def test_checks_are_asked_together() -> None:
    """Each of these is fine once the other has been asked as well."""
    both = asyncio.Barrier(2)

    async def meet() -> None:
        await both.wait()

    assert await HealthChecks({"one": meet, "two": meet}, None).states() == {"one": "ok", "two": "ok"}


async def test_a_check_that_raises_a_timeout_of_its_own_is_a_timeout() -> None:
    async def slow() -> None:
        raise TimeoutError

    assert await HealthChecks({"x": slow}, None).states() == {"x": "timeout"}


@pytest.mark.parametrize(("said", "is_well"), [((), True), ((1, 1), True), ((1, 0), False)])
async def test_a_gateway_without_its_limit_store_is_noticed(
    tmp_path: Path, said: tuple[int, ...], is_well: bool
) -> None:
    code = (
        "import sys; from pathlib import Path; from scopegate.metrics import exposition; "
        "exposition.prepare(Path('.'), 'gateway'); from scopegate.metrics import catalogue; "
        "catalogue.LIMIT_STORE_UP.set(int(sys.argv[1])); print(flush=True); input()"
    )
    gateways = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(one)], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for one in said
    ]
    try:
        for gateway in gateways:
            assert gateway.stdout is not None
            await asyncio.to_thread(gateway.stdout.readline)
        if is_well:
            await limit_store(tmp_path)
        else:
            with pytest.raises(StoreUnavailable):
                await limit_store(tmp_path)
    finally:
        for gateway in gateways:
            gateway.kill()
            gateway.communicate()


async def test_a_role_is_spoken_of_once_seen_and_missed_when_gone(tmp_path: Path) -> None:
    health = HealthChecks({"database": fine}, tmp_path)
    assert await health.states() == {"database": "ok"}
    code = (
        "from pathlib import Path; from scopegate.metrics import exposition; exposition.prepare(Path('.'), 'worker'); "
        "print(flush=True); input()"
    )
    worker = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    assert worker.stdin is not None
    await asyncio.to_thread(worker.stdout.readline)
    assert await health.states() == {"database": "ok", "worker": "ok"}
    worker.kill()
    await asyncio.to_thread(worker.wait)
    worker.stdout.close()
    worker.stdin.close()
    states = await health.states()
    assert states == {"database": "ok", "worker": "gone"}
    assert not is_ready(states)
