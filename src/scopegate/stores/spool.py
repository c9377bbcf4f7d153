"""Lead orders on this machine's own disk, while the database does not take them: one file each, there whole or not.

A file is written beside, brought to the disk, and only then gets its name; what a killed process left half-written has
none, and is swept. Its first line is a digest of the rest: a file that a failing disk changed is put aside, and told.
All gateways of a machine share the folder, and one of them at a time empties it. Called by `gateway/intake`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scopegate import jsontext, logs
from scopegate.clock import SystemClock, monotonic_s
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import Claim, KeptAnswer, Lead, LeadOrder, OrderState, Settlement, Unreadable
from scopegate.metrics import catalogue as metrics
from scopegate.process import lockfile

MOST_ENTRIES: Final = 10_000
MOST_BYTES: Final = 256 * 1024 * 1024

_BAD: Final = "bad"
"""The folder of what cannot be read."""
_DONE, _FRESH = ".json", ".fresh"
_STALE_S: Final = 60.0
"""So old, a file without its name belongs to a process that was killed."""
_COUNT_EVERY_S: Final = 1.0
_MAX_DEPTH: Final = 72
_KINDS: Final[dict[int, StoreUnavailable.Kind]] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "readonly",
}
_log = logs.get("spool")


class Spool:
    """The folder at `path`, which need not exist. `most_entries` and `most_bytes` bound it."""

    def __init__(self, path: Path, *, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._counted_s = 0.0
        self._entries = self._bytes = 0

    async def keep(self, settled: Settlement) -> None:
        """On the disk when it returns. An order without its outcome is kept as a pending one. Raises
        StoreUnavailable."""
        with _translated():
            await asyncio.to_thread(self._keep, settled)

    def _keep(self, settled: Settlement) -> None:
        text = _written(settled)
        self._count(len(text))
        order = settled.order
        last = "0" if settled.state is OrderState.PENDING else "1"  # the outcome comes after the order itself
        name = f"{order.received_ms:014}-{order.order_id}-{last}"
        fresh = self._path / f"{name}-{os.getpid()}{_FRESH}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            fresh.rename(self._path / f"{name}{_DONE}")
            self._sync_folder()
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        self._tell(self._entries)

    def _count(self, more_bytes: int) -> None:
        """Whether there is room, by a count that is a second old at most, and what was added since."""
        now_s = monotonic_s()
        if now_s - self._counted_s >= _COUNT_EVERY_S:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sizes = [entry.stat().st_size for entry in os.scandir(self._path) if entry.is_file()]
            self._entries, self._bytes, self._counted_s = len(sizes), sum(sizes), now_s
        self._entries += 1
        self._bytes += more_bytes
        if self._entries > self._most_entries or self._bytes > self._most_bytes:
            raise StoreUnavailable("full", "the spool has no room")

    def _sync_folder(self) -> None:
        folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # ── emptying ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def empty(self, take: Callable[[Settlement], Awaitable[None]]) -> None:
        """Hand over what is kept, oldest first, and let go of what was taken. Ends where `take` raises
        StoreUnavailable; what it fails over in another way is put aside. Does nothing while another process is at
        it."""
        with _translated(), self._alone() as alone:
            for path in self._waiting() if alone else ():
                settled = self._read(path)
                if settled is not None and await self._is_taken(path, settled, take):
                    path.unlink(missing_ok=True)
            if alone:
                self._tell(len(self._waiting()))

    async def _is_taken(self, path: Path, settled: Settlement, take: Callable[[Settlement], Awaitable[None]]) -> bool:
        try:
            await take(settled)
        except StoreUnavailable:
            raise
        except Exception as bug:
            _log.error("spool.not_taken", exc=bug, order_id=settled.order.order_id)
            self._put_aside(path, type(bug).__name__)
            return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process may empty the folder, until the end of the block: nobody else does then."""
        try:
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            yield lockfile.try_lock(folder)
        finally:
            os.close(folder)

    def _waiting(self) -> list[Path]:
        """What is kept, oldest first. Sweeps what killed processes left half-written."""
        found = []
        for path in sorted(self._path.iterdir()):
            if path.suffix == _DONE:
                found.append(path)
            elif path.suffix == _FRESH and SystemClock().now_ms() / 1000 - path.stat().st_mtime > _STALE_S:
                path.unlink(missing_ok=True)
        return found

    def _read(self, path: Path) -> Settlement | None:
        """What a file keeps. One that cannot be read is put aside, and None."""
        digest, _, text = path.read_bytes().partition(b"\n")
        try:
            if hashlib.sha256(text).hexdigest().encode() != digest:
                raise ValueError("it was changed")
            return _read(text)
        except (ValueError, KeyError, TypeError) as fault:
            self._put_aside(path, str(fault) or type(fault).__name__)
            return None

    def _put_aside(self, path: Path, reason: str) -> None:
        """Nobody tries it again, and a person is told."""
        bad = self._path / _BAD
        bad.mkdir(mode=0o700, exist_ok=True)
        path.rename(bad / path.name)
        _log.error("spool.put_aside", file=str(bad / path.name), reason=reason)

    def _tell(self, waiting: int) -> None:
        metrics.SPOOLED_ORDERS.labels("waiting").set(waiting)
        metrics.SPOOLED_ORDERS.labels("bad").set(self._count_bad())

    def _count_bad(self) -> int:
        bad = self._path / _BAD
        return sum(1 for _ in bad.iterdir()) if bad.exists() else 0

    async def check(self) -> None:
        """Raises StoreUnavailable when a person has to see to it: files were put aside, or it is nearly full."""
        with _translated():
            if bad := self._count_bad():
                raise StoreUnavailable("other", f"{bad} spooled orders cannot be read")
            if self._path.exists() and len(self._waiting()) > self._most_entries * 0.8:
                raise StoreUnavailable("full", "the spool is nearly full")


def _write(descriptor: int, data: bytes) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(_KINDS.get(error.errno or 0, "other"), error.strerror or "") from error


# ── how it is written ───────────────────────────────────────────────────────────────────────────────────────────────


def _written(settled: Settlement) -> bytes:
    """Two lines: what came of the order, and its request as it was read."""
    order, lead, answer = settled.order, settled.lead, settled.answer
    unread = order.request if isinstance(order.request, Unreadable) else None
    outcome = {
        "order": [order.order_id, order.offload, order.route, order.request_id, order.received_ms],
        "unreadable": None if unread is None else [unread.reason, _text(unread.body)],
        "claim": None if order.claim is None else [order.claim.key, order.claim.body, order.claim.until_ms],
        "state": settled.state.value,
        "status": settled.status,
        "lead": None if lead is None else [lead.lead_id, lead.contractor, lead.text, [*lead.photos]],
        "answer": None if answer is None else [answer.status, _text(answer.fields), _text(answer.body)],
    }
    lines = (outcome, None if unread is not None else order.request)
    return b"\n".join(json.dumps(line, separators=(",", ":")).encode() for line in lines)


def _read(text: bytes) -> Settlement:
    first, _, second = text.partition(b"\n")
    outcome = jsontext.parse_as_written(first, max_depth=_MAX_DEPTH)
    unread, claim, lead, answer = (outcome[name] for name in ("unreadable", "claim", "lead", "answer"))
    request = jsontext.parse_as_written(second, max_depth=_MAX_DEPTH)
    order_id, offload, route, request_id, received_ms = outcome["order"]
    order = LeadOrder(
        order_id,
        offload,
        route,
        request_id,
        received_ms,
        request if unread is None else Unreadable(unread[0], b64decode(unread[1])),
        None if claim is None else Claim(*claim),
    )
    return Settlement(
        order,
        OrderState(outcome["state"]),
        outcome["status"],
        None if lead is None else Lead(lead[0], lead[1], lead[2], tuple(lead[3])),
        None if answer is None else KeptAnswer(answer[0], b64decode(answer[1]), b64decode(answer[2])),
    )


def _text(data: bytes) -> str:
    return b64encode(data).decode()
