"""The policy file as a process reads and judges it: from where it stands, or from the copy that its supervisor keeps.

The copy is the last good file with the files it names, in one file of the state directory. Children of a supervisor
read nothing else: all of them serve the same, and one that is started anew while the file is being mended starts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from scopegate import jsontext
from scopegate.edge.foresee import decider
from scopegate.errors import ConfigError, Problem
from scopegate.policy import Policy, Review, compile_policy, draft_of, files_named, secrets_named
from scopegate.policy.promises import broken
from scopegate.policy.sections.ai import Prices
from scopegate.policy.sidefiles import MAX_SIDE_FILE_BYTES, SideFile
from scopegate.policy.text import MAX_FILE_BYTES

Read: TypeAlias = Callable[[str], SideFile]
"""The path as written in the policy file -> the file."""
Needs: TypeAlias = Callable[[Policy], list[Problem]]
"""What a process needs from its environment to serve a policy, and does not have."""


@dataclass(slots=True)
class Source:
    """One reading of the file. `beside` fills as the policy asks for the files it names, by their paths as written;
    `secrets` are those of them that are never copied."""

    config: Path
    text: bytes
    _read: Read
    beside: dict[str, SideFile] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    def examine(
        self, environ: Mapping[str, str], prices: Prices | None = None, *, lenient: bool, advise: bool = False
    ) -> Review:
        """Problems and warnings of the file, the files it names, and the policy when there are no problems; values of
        the environment never show in them. With `prices`, a model without a price is a problem. `lenient`: secrets the
        environment lacks are warnings and empty in the policy: ask it questions, never serve it. `advise` as in
        `compile_policy`."""
        draft = draft_of(self.text, str(self.config), environ, lenient=lenient)
        self.secrets |= secrets_named(draft)
        for written in files_named(draft):
            if written not in self.beside:
                self.beside[written] = self._read(written)
        return compile_policy(draft, self.beside, prices, advise=advise)

    def save(self, place: Path) -> None:
        """Write the copy, at once and for us alone. Raises OSError."""
        beside = {written: _packed(file) for written, file in self.beside.items() if written not in self.secrets}
        fresh = place.with_suffix(".fresh")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({"text": base64.b64encode(self.text).decode(), "beside": beside}), "utf-8")
        fresh.rename(place)


def look(
    config: Path, copy: Path | None, environ: Mapping[str, str], prices: Prices, needs: Needs
) -> tuple[Review, Source | None]:
    """Everything that speaks against serving this file, the promises it breaks and what is needed for it included. One
    that lacks but secrets is asked all of it too. `copy`: where a supervisor keeps the file. No source without one."""
    file = str(config.absolute())
    try:
        source = on_disk(config) if copy is None else copied(config, copy)
    except ConfigError as exc:
        return Review(None, exc.problems, (), (file,)), None
    review = source.examine(environ, prices, lenient=False)
    policy = review.policy or source.examine(environ, prices, lenient=True).policy
    problems = list(review.problems)
    if policy is not None:
        problems += broken(policy.promises, decider(policy), str(config))
        problems += needs(policy)
    found = tuple(problems)
    return Review(None if found else policy, found, review.warnings, (file, *review.files)), source


def on_disk(config: Path) -> Source:
    """Raises ConfigError when there is no file to read."""
    return Source(config, _text_of(config), reader_beside(config))


def copied(config: Path, place: Path) -> Source:
    """What a supervisor saved there for `config`; the file itself when the copy is gone. ConfigError as `on_disk`."""
    try:
        kept: Any = jsontext.parse(place.read_bytes(), max_depth=3)
        beside = {written: _unpacked(file) for written, file in kept["beside"].items()}
        return Source(config, base64.b64decode(kept["text"]), reader_beside(config), beside)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return on_disk(config)


def in_force(config: Path, copy: Path | None, digest: str, environ: Mapping[str, str]) -> tuple[Source, str] | None:
    """The reading that gave the policy of this digest, with the digest it gives; else what is there now; None where
    nothing is. Of the supervisor's copy, and the file itself. Blocks."""
    found = None
    for place in (copy, None):
        try:
            source = on_disk(config) if place is None else copied(config, place)
        except ConfigError:
            continue
        policy = source.examine(environ, lenient=True).policy
        found = (source, "" if policy is None else policy.digest)
        if found[1] == digest:
            return found
    return found


def reader_beside(config: Path) -> Read:
    """Reads the files that a policy file there names; relative paths are relative to it."""
    folder = config.absolute().parent

    def read(written: str) -> SideFile:
        found = folder / written
        try:
            if found.exists() and not found.is_file():
                return SideFile(str(found), b"", "this is not a file")
            return SideFile(str(found), _start_of(found, MAX_SIDE_FILE_BYTES))
        except OSError as error:
            return SideFile(str(found), b"", _cannot_read(error))

    return read


def _text_of(config: Path) -> bytes:
    """The file, or one byte more than may be read of it. ConfigError when there is none to read."""
    try:
        return _start_of(config, MAX_FILE_BYTES)
    except IsADirectoryError:
        raise ConfigError([Problem(str(config), "", "this is a directory, not a policy file")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(config), "", _cannot_read(error))]) from None


def _start_of(path: Path, most_bytes: int) -> bytes:
    """The file, or one byte more than may be read of it."""
    with path.open("rb") as file:
        return file.read(most_bytes + 1)


def _cannot_read(error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "no such file"
        case PermissionError():
            return "the file may not be read by this user"
        case _:
            return f"the file cannot be read: {error.strerror or type(error).__name__}"


def _packed(file: SideFile) -> dict[str, str | None]:
    return {"path": file.path, "content": base64.b64encode(file.content).decode(), "fault": file.fault}


def _unpacked(packed: dict[str, str]) -> SideFile:
    return SideFile(packed["path"], base64.b64decode(packed["content"]), packed["fault"])
