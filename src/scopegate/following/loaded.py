"""What a process was started from, and how it looks at the same again. Made by `cli/role`, followed by `member` and
`leader`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scopegate.following.source import Source
from scopegate.following.stamps import Stamp
from scopegate.policy import Review
from scopegate.policy.policy import Policy
from scopegate.settings import Settings

Look = Callable[[], tuple[Review, Source | None]]
"""`source.look` with what it was given at the start. Without a source there is no file to read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """`read`: the files the policy was read from, itself first, as they looked before; `source` has their contents.
    `config` is absolute, `copy` is where a supervisor keeps the file for this process, `directory` is the state
    directory, and `roles` are those that this process or its children play."""

    settings: Settings
    policy: Policy
    source: Source
    read: Stamp
    config: Path
    copy: Path | None
    directory: Path
    roles: Sequence[str]
    look: Look
