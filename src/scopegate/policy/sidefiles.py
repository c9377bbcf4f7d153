"""The files a policy file names, such as JSON Schemas and certificates of authorities: what they hold, and judged.

Pure: whoever reads the disk asks `names` which files are meant and brings their contents. What a content means is for
the section that names the file. A fault in a file is named at each place that names it. Called by `compile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from scopegate.policy.draft import Draft, Way
from scopegate.policy.spelling import parse_side_file
from scopegate.policy.tree import Fault, Loc
from scopegate.types import Json

MAX_SIDE_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SideFile:
    """`path` is absolute, also of a file that is not there. `fault` says why there is no content; of a file over
    MAX_SIDE_FILE_BYTES the content may be one byte longer than that."""

    path: str
    content: bytes
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where a policy file names another one. `meaning` reads what is in such a file; ValueError with a sentence to be
    read after the file's name. `is_secret`: nobody keeps a copy of its content."""

    way: Way
    meaning: Callable[[bytes], Json]
    is_secret: bool = False


Contents: TypeAlias = Mapping[str, SideFile]
"""By the path as written in the policy file."""


@dataclass(frozen=True, slots=True)
class SideFiles:
    """What the named files hold, by their path as written; `meanings` also by how they are read. `paths` are absolute,
    in the order of the policy file; `digests` are hex SHA-256 of the contents, in that order."""

    meanings: Mapping[tuple[str, FilePlace], Json]
    paths: Mapping[str, str]
    digests: Mapping[str, str]
    faults: tuple[Fault, ...]

    def digest(self, of_file: str) -> str:
        """The policy's name: that of its text alone where it names no file."""
        if not self.digests:
            return of_file
        return hashlib.sha256("".join([of_file, *self.digests.values()]).encode()).hexdigest()[:12]


def names(draft: Draft, places: Iterable[FilePlace]) -> tuple[str, ...]:
    """The paths as written, each once, of every file that is named in a way that can be one."""
    return tuple(dict.fromkeys(written for _, _, written in _named(draft, places)))


def gather(draft: Draft, places: Iterable[FilePlace], contents: Contents) -> SideFiles:
    """What every named file means, and what is wrong with it. `contents` holds all of `names`."""
    judged: dict[tuple[str, FilePlace], Json | ValueError] = {}
    paths: dict[str, str] = {}
    faults: list[Fault] = []
    for loc, place, written in _named(draft, places):
        file = contents[written]
        paths[written] = file.path
        if (written, place) not in judged:
            judged[written, place] = _judge(file, place)
        verdict = judged[written, place]
        if isinstance(verdict, ValueError):
            faults.append(draft.problem(loc, f"{draft.said(loc)}{verdict}"))
    meanings = {key: verdict for key, verdict in judged.items() if not isinstance(verdict, ValueError)}
    digests = {written: hashlib.sha256(contents[written].content).hexdigest() for written in paths}
    return SideFiles(meanings, paths, digests, tuple(faults))


def _named(draft: Draft, places: Iterable[FilePlace]) -> Iterator[tuple[Loc, FilePlace, str]]:
    """Every place that names a file, whatever else is wrong around it."""
    for place in places:
        for loc, value in draft.texts(place.way):
            try:
                yield loc, place, parse_side_file(value)
            except ValueError:
                continue  # its shape says so


def _judge(file: SideFile, place: FilePlace) -> Json | ValueError:
    """What the file means, or what is wrong with it, to be read right after its name."""
    if file.fault is not None:
        return ValueError(f": {file.fault}")
    if len(file.content) > MAX_SIDE_FILE_BYTES:
        return ValueError(f" is larger than {MAX_SIDE_FILE_BYTES // 1024} KiB")
    try:
        return place.meaning(file.content)
    except ValueError as error:
        return ValueError(f" {error}")
