"""Warm decoders: one zygote, a child for each picture, bounded and thrown away, whatever the picture does to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scopegate.errors import PhotoError
from scopegate.leads.photos import MAX_SIDE_PX, PhotoCode
from scopegate.worker.decoders import Decoders
from tests.worker.pictures import picture, png, zeros

JPEG = picture()
SIDE = 7141
"""Of a square just below MAX_PIXELS."""

_OPENED: list[Decoders] = []
_STRANGERS: set[int] = set()


def opened(script: str = "", timeout_s: float = 15.0) -> Decoders:
    """Decoders that are closed when their test is over; with a `script`, of children that were taken over by the file
    they read: it runs in place of reading it."""
    taken = f"""
import json, os, sys
from scopegate.worker import zygote
def taken(data):
    {script or "pass"}
    return b""
zygote.answer = taken
zygote.main(int(sys.argv[1]))
"""
    command = {"command": (sys.executable, "-I", "-c", taken)} if script else {}
    _OPENED.append(Decoders(timeout_s, **command))
    return _OPENED[-1]


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    _STRANGERS.clear()
    _STRANGERS.update(_children(os.getpid()))
    yield
    while _OPENED:
        await _OPENED.pop().close()
    assert _ours() == set()


async def _refused(decoders: Decoders, data: bytes = JPEG) -> tuple[str, bool]:
    with pytest.raises(PhotoError) as failed:
        await decoders.decode(data)
    return failed.value.code, failed.value.retryable


def _children(pid: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return set()


def _ours() -> set[int]:
    """Without the engines that other tests of this process share."""
    return _children(os.getpid()) - _STRANGERS


async def _zygote() -> int:
    (pid,) = _ours()
    return pid


async def _childless(pid: int) -> None:
    async with asyncio.timeout(5):
        while _children(pid):
            await asyncio.sleep(0.01)


async def test_one_zygote_serves_any_number_of_pictures_at_once() -> None:
    decoders = opened()
    found = await asyncio.gather(*(decoders.decode(picture(size=(64 + n, 48))) for n in range(20)))
    assert [one.parts[0].width_px for one in found] == [64 + n for n in range(20)]
    await _childless(await _zygote())


async def test_a_fork_copies_one_thread_and_no_more() -> None:
    await opened().decode(JPEG)
    assert len(os.listdir(f"/proc/{await _zygote()}/task")) == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_the_largest_picture_allowed_fits_into_the_bounds(kind: str) -> None:
    if kind == "PNG":
        data = png(SIDE, SIDE, zeros(SIDE * (SIDE * 4 + 1)), colour=6)
    else:
        data = picture("WEBP", (8064, 6048), method=0, quality=10)
    (part,) = (await opened().decode(data)).parts
    assert max(part.width_px, part.height_px) == MAX_SIDE_PX


async def test_a_photo_of_108_megapixels_is_no_bomb() -> None:
    (part,) = (await opened().decode(picture("JPEG", (12000, 9000), "L", quality=20))).parts
    assert (part.width_px, part.height_px) == (1568, 1176)


async def test_a_decoder_that_is_too_slow_is_a_bomb_and_leaves_no_process() -> None:
    decoders = opened("while True: pass", timeout_s=1.0)
    assert await _refused(decoders) == (PhotoCode.BOMB, False)
    await _childless(await _zygote())


async def test_a_cancelled_fetch_leaves_no_process() -> None:
    decoders = opened("import time; time.sleep(60)")
    task = asyncio.create_task(decoders.decode(JPEG))
    async with asyncio.timeout(10):
        while not (found := _ours()) or not _children(next(iter(found))):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _childless(await _zygote())


async def test_what_a_child_starts_ends_with_it() -> None:
    decoders = opened("os.fork(); import time; time.sleep(60)", timeout_s=1.0)
    assert await _refused(decoders) == (PhotoCode.BOMB, False)
    async with asyncio.timeout(5):
        while _of_session_leaders_below(await _zygote()):
            await asyncio.sleep(0.01)


def _of_session_leaders_below(zygote: int) -> list[int]:
    """Processes whose group was made by a child of this zygote and is not gone."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            cmdline, stat = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
        except OSError:
            continue
        if b"time.sleep(60)" in cmdline and b"zygote.answer" in cmdline and stat.rpartition(") ")[2][0] != "Z":
            found.append(int(entry.name))
    found.remove(zygote)
    return found


async def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from scopegate.worker.decoders import Decoders\n"
        "async def main():\n"
        "    decoders = Decoders()\n"
        "    await decoders.decode(open(sys.argv[1], 'rb').read())\n"
        "    print(decoders._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    (tmp_path / "a.jpg").write_bytes(JPEG)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "a.jpg"), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    zygote = int(await worker.stdout.readline())
    worker.kill()
    await worker.wait()
    async with asyncio.timeout(5):
        while os.path.exists(f"/proc/{zygote}"):
            await asyncio.sleep(0.01)


async def test_a_zygote_that_is_gone_is_replaced() -> None:
    decoders = opened()
    await decoders.decode(JPEG)
    first = await _zygote()
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(5):
        while os.path.exists(f"/proc/{first}"):
            await asyncio.sleep(0.01)
    assert (await decoders.decode(JPEG)).parts


async def test_a_damaged_file_has_its_code() -> None:
    assert await _refused(opened(), JPEG[:300]) == (PhotoCode.DAMAGED, False)


SAYS = "return {!r}"


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        ("os.kill(os.getpid(), 9)", PhotoCode.BOMB, False),
        ("os.kill(os.getpid(), 11)", PhotoCode.BOMB, False),
        ("sys.exit(1)", PhotoCode.DECODER_FAILED, True),
        ("pass", PhotoCode.DECODER_FAILED, True),
        ("os.kill(os.getppid(), 9)", PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"error": "bomb"}\n'), PhotoCode.BOMB, False),
        (SAYS.format(b'{"error": "word of its own"}\n'), PhotoCode.DAMAGED, False),
        (SAYS.format(b'{"error": 5}\n'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [[10, 10, 6]], "unseen": []}\nGIF89a'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [[9999, 10, 3]], "unseen": []}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [[0, 10, 3]], "unseen": []}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [[10, 10, 2]], "unseen": []}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [[10, 10]], "unseen": []}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"parts": [], "unseen": []}\n'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b"[" * 150 + b"\n\xff\xd8\xff"), PhotoCode.DECODER_FAILED, True),
        ("[os.write(0, bytes(1 << 20)) for _ in range(1000)]", PhotoCode.BOMB, False),
    ],
)
async def test_a_decoder_that_was_taken_over_gives_no_picture(script: str, code: PhotoCode, retryable: bool) -> None:
    assert await _refused(opened(script)) == (code, retryable)


async def test_the_decoder_knows_none_of_our_secrets_and_no_other_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "PLANTED")
    script = (
        "fds = [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}')]; "
        "clean = set(os.environ) <= {'PATH', 'LD_LIBRARY_PATH', 'LC_CTYPE'} and not fds; "
        "return json.dumps({'error': 'damaged' if clean else 'bomb'}).encode() + b'\\n'"
    )
    decoders = opened(script)
    assert await asyncio.gather(*(_refused(decoders) for _ in range(5))) == [(PhotoCode.DAMAGED, False)] * 5


async def test_without_a_decoder_the_fault_is_ours() -> None:
    decoders = Decoders(command=("/nowhere/python",))
    assert await _refused(decoders) == (PhotoCode.DECODER_FAILED, True)
