"""What the admin port is made of. Filled by `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scopegate.admin.health import Check
from scopegate.clock import Clock
from scopegate.policy.policy import Policy
from scopegate.stores.ports import JobStore, Ledger, LimitDesk, Messenger, OutboxDesk, PurgeDesk, RetentionStore


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The text that the policy in force was read from, where `digest` says so; else the file as it is now. `problems`:
    why it is refused as it is now."""

    path: str
    text: str
    digest: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Serving:
    """What a process says of the policy it serves, see `following/standing`. `leads`: it reads the file itself."""

    pid: int
    host: str
    digest: str
    at_ms: int
    outcome: str
    problems: tuple[str, ...]
    needs_restart: tuple[str, ...]
    leads: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """What the admin port shows. `policy` gives the one in force; `checks` besides the database, e.g. `redis`;
    `metrics_directory` is where the processes count (`exposition.active_directory()`), None when this one alone does;
    `messenger` wakes a worker for a replay, None where the workers' sweep must find it; `limits` looks at windows, None
    where each gateway counts in its own memory, under keys that are hashed with `limit_secret`; `top`: what each
    gateway tells of the keys it refuses and admits most; `is_stopping`: open streams are to end."""

    policy: Callable[[], Policy]
    jobs: JobStore
    ledger: Ledger
    outbox: OutboxDesk
    retention: RetentionStore
    clock: Clock
    messenger: Messenger | None = None
    checks: Mapping[str, Check] | None = None
    metrics_directory: Path | None = None
    limits: LimitDesk | None = None
    purges: PurgeDesk | None = None
    limit_secret: bytes = b""
    top: Callable[[], Iterable[bytes]] = tuple
    policy_file: Callable[[], PolicyFile] = lambda: PolicyFile("gateway.yaml", "")
    serving: Callable[[], Iterable[Serving]] = tuple
    is_stopping: Callable[[], bool] = lambda: False
