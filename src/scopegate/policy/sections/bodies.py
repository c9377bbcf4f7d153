"""`body` of a route: how large a body may be, of which types, and what it may hold.

Pure. Called by `routes`, and by `document` for the schemas that bodies name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import Field

from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Choice, Count, FileName, Shape, Size, Whole, option, parsed, written
from scopegate.policy.schema import compile_schema
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.policy.spelling import FORM_DATA, JSON, is_json_type, parse_media_type
from scopegate.policy.tree import Fault, Loc
from scopegate.types import Json

MAX_JSON_BODY_BYTES = 16 * 1024**2

# Values


@dataclass(frozen=True, slots=True)
class JsonRule:
    """What a JSON body may be. `schema` is a parsed JSON Schema (draft 2020-12 unless it names another), None for any
    JSON; `schema_file` is where it was read from, for people."""

    max_depth: int
    schema: Json = None
    schema_file: str | None = None


@dataclass(frozen=True, slots=True)
class MultipartRule:
    """What a multipart/form-data body may hold. A file is a part with a file name or with a type other than
    text/plain; `max_file_bytes` bounds each, and every part that tells a type."""

    max_parts: int
    max_files: int
    max_file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BodyRule:
    """`types` are the content types accepted, and none besides; empty means any, and is never so with `json` or
    `multipart`, which rule bodies of their types: then a POST, PUT or PATCH without content is judged, too.
    `buffer`: whether a body is held back before the app hears of the request; None for one that is judged alone."""

    max_bytes: int
    types: frozenset[str]
    json: JsonRule | None = None
    multipart: MultipartRule | None = None
    buffer: bool | None = None


# Shapes


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


SCHEMAS = FilePlace(("routes", int, "body", "json", "schema"), _schema)

MediaType: TypeAlias = Annotated[str, parsed(parse_media_type), written("application/json")]


class JsonShape(Shape):
    depth: Count = option(32, "How deep objects and lists may be nested.", le=128)
    schema_: FileName | None = option(
        None,
        "A file with the JSON Schema that bodies must meet, beside this file. At most 1MiB, nothing remote.",
        alias="schema",
    )

    def build(self, beside: SideFiles) -> JsonRule:
        if self.schema_ is None:
            return JsonRule(self.depth)
        return JsonRule(self.depth, beside.meanings[self.schema_, SCHEMAS], beside.paths[self.schema_])


class MultipartShape(Shape):
    parts: Count = option(50, "Parts of one body, files and fields.", le=1000)
    files: Annotated[Whole, Field(ge=0, le=1000)] = option(10, "Files among them.")
    file: Size | None = option(None, "The largest file. Left out: as large as the body.")

    def build(self) -> MultipartRule:
        return MultipartRule(self.parts, self.files, self.file)


class Buffer(StrEnum):
    ON = "on"
    OFF = "off"


class BodyShape(Shape):
    max: Size | None = option(None, "The largest body. Left out: server.limits.body.")
    types: list[MediaType] = option(
        [], "Content types accepted. Left out: those that `json` and `multipart` rule; any where neither stands."
    )
    json_: JsonShape | None = option(None, "What a JSON body may be; at most 16MiB is read.", alias="json")
    multipart: MultipartShape | None = option(None, "What a multipart/form-data body may hold.")
    buffer: Choice[Buffer] | None = option(
        None,
        "Whether a body is held back, up to 1MiB, before the app hears of it; `off` passes it on as it comes. Left "
        "out: a body that `json` or `multipart` rule is held, any other is not.",
    )

    @property
    def accepted(self) -> frozenset[str]:
        """The content types accepted; empty for any, which no rule goes with: one of another type would slip past."""
        ruled = ((self.json_, JSON), (self.multipart, FORM_DATA))
        return frozenset(self.types or [media for rule, media in ruled if rule is not None])

    def build(self, most_bytes: int, beside: SideFiles) -> BodyRule:
        """`most_bytes`: the largest body where nothing is said."""
        return BodyRule(
            max_bytes=self.max or most_bytes,
            types=self.accepted,
            json=None if self.json_ is None else self.json_.build(beside),
            multipart=None if self.multipart is None else self.multipart.build(),
            buffer=None if self.buffer is None else self.buffer is Buffer.ON,
        )


# Checks


def checks(body: BodyShape, most_bytes: int, loc: Loc, draft: Draft) -> Iterator[Fault]:
    """Of the body that stands at `loc`. `most_bytes`: the largest where it says nothing, 0 when that is not known."""
    if body.json_ is not None and body.buffer is Buffer.OFF:
        what = "a JSON body is judged whole, before the app hears of it: it cannot be passed on as it comes"
        yield draft.problem((*loc, "buffer"), what)
    if body.json_ is not None:
        yield from _json(body, body.max or most_bytes, loc, draft)
    if body.multipart is not None:
        yield from _multipart(body.multipart, body, body.max or most_bytes, loc, draft)


def _json(body: BodyShape, most_bytes: int, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if not any(is_json_type(media) for media in body.accepted):
        yield draft.problem((*loc, "types"), "no JSON among them, which `json` rules: add application/json")
    if most_bytes > MAX_JSON_BODY_BYTES:
        where = (*loc, "json" if body.max is None else "max")
        yield draft.problem_at_key(where, "a JSON body is read whole, in memory: at most 16MiB (`max`)")


def _multipart(form: MultipartShape, body: BodyShape, most_bytes: int, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if FORM_DATA not in body.accepted:
        yield draft.problem((*loc, "types"), f"no forms among them, which `multipart` rules: add {FORM_DATA}")
    if form.file is not None and form.file > most_bytes > 0:
        where = (*loc, "multipart", "file")
        yield draft.warning(where, "never reached: it is more than the whole body may be")
    if "files" in form.model_fields_set and form.files > form.parts:
        where = (*loc, "multipart", "files")
        yield draft.warning(where, f"never reached: there are at most {form.parts} parts")
