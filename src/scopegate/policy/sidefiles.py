"""The files a policy file names: JSON Schemas and certificates of authorities, read and judged.

Pure: whoever calls brings `read`, which touches the disk. Each file is read once, however many places name it, and a
fault in it is named at each of them. Called by `compile`.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from scopegate.policy.draft import Draft
from scopegate.policy.schema import compile_schema
from scopegate.policy.spelling import parse_side_file
from scopegate.policy.tree import Fault, Loc, Source
from scopegate.types import Json

MAX_SIDE_FILE_BYTES = 1024 * 1024
PEM_MARK = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class SideFile:
    """`path` is absolute, also of a file that is not there. `fault` says why there is no content; of a file over
    MAX_SIDE_FILE_BYTES the content may be one byte longer than that."""

    path: str
    content: bytes
    fault: str | None = None


Read: TypeAlias = Callable[[str], SideFile]
"""The path as written in the policy file -> the file."""


def no_files(path: str) -> SideFile:
    """For a policy that comes from no place, so that nothing is beside it."""
    return SideFile(path, b"", "nothing can be read beside this policy")


@dataclass(frozen=True, slots=True)
class SideFiles:
    """What the named files hold, by their path as written. `paths` are absolute, in the order of the policy file."""

    schemas: Mapping[str, Json]
    paths: Mapping[str, str]
    contents: tuple[bytes, ...]
    faults: tuple[Fault, ...]

    def digest(self, of_file: str) -> str:
        """The policy's name: that of its text alone where it names no file."""
        if not self.contents:
            return of_file
        parts = [of_file, *(hashlib.sha256(content).hexdigest() for content in self.contents)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def gather(draft: Draft, source: Source, read: Read) -> SideFiles:
    """Reads every file that is named, and says what is wrong with it."""
    found: dict[str, SideFile] = {}
    schemas: dict[str, Json] = {}
    sentences: dict[tuple[str, str], str | None] = {}
    faults: list[Fault] = []
    for loc, written in _named(draft):
        kind = str(loc[-1])
        if written not in found:
            found[written] = read(written)
        if (written, kind) not in sentences:
            sentences[written, kind] = _judge(found[written], kind, written, schemas)
        sentence = sentences[written, kind]
        if sentence is not None:
            faults.append(Fault(source.at(loc), loc, f"{source.said(loc)}{sentence}"))
    paths = {written: file.path for written, file in found.items()}
    return SideFiles(schemas, paths, tuple(file.content for file in found.values()), tuple(faults))


def _named(draft: Draft) -> Iterator[tuple[Loc, str]]:
    """Every place that names a file in a way that can be one, whatever else is wrong around it."""
    upstreams = draft.data.get("upstreams")
    for name, upstream in upstreams.items() if isinstance(upstreams, dict) else ():
        yield from _path_at(("upstreams", name), upstream, ("tls", "ca"))
    for index, route in draft.listed("routes"):
        yield from _path_at(("routes", index), route, ("body", "json", "schema"))


def _path_at(loc: Loc, section: object, keys: tuple[str, ...]) -> Iterator[tuple[Loc, str]]:
    value = section
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        return
    try:
        yield (*loc, *keys), parse_side_file(value)
    except ValueError:
        return


def _judge(file: SideFile, kind: str, written: str, schemas: dict[str, Json]) -> str | None:
    """What is wrong with the file, to be read right after its name, or None. A schema that is right goes into
    `schemas`."""
    if file.fault is not None:
        return f": {file.fault}"
    if len(file.content) > MAX_SIDE_FILE_BYTES:
        return f" is larger than {MAX_SIDE_FILE_BYTES // 1024} KiB"
    if kind == "ca":
        return _authorities_fault(file.content)
    try:
        schemas[written] = _schema(file.content)
    except ValueError as error:
        return f" {error}"
    return None


def _authorities_fault(content: bytes) -> str | None:
    """A certificate that cannot be read is found here, and not by the first connection. What stands around the
    certificates is for people, in any encoding."""
    if PEM_MARK not in content:
        return " holds no certificate in PEM form"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except ssl.SSLError:
        return " holds a certificate that cannot be read"
    return None


def _schema(content: bytes) -> Json:
    try:
        schema: Json = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    compile_schema(schema)
    return schema


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError("holds a key twice in one object")
        found[key] = value
    return found


def _no_constant(_: str) -> Json:
    raise ValueError("is not JSON: it holds NaN or Infinity")
