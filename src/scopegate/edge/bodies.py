"""What a route's rule says of a body: which judge its content type calls for, and the verdict on a JSON body.

Pure. A ruleset compiles each route's rule once (`compile_bodies`), the gateway asks it per request. A refusal never
holds the client's values: a place in the body is named only as far as the route's own schema knows the way.
Multipart bodies are read in `multipart`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scopegate import jsontext
from scopegate.edge.multipart import BOUNDARY, MultipartReader
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import BodyRule, JsonRule, MultipartRule
from scopegate.policy.schema import compile_schema
from scopegate.types import Json

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_MAX_TYPE_BYTES = 1024
_FORM_PARAMETERS = frozenset(["boundary", "charset"])
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rb"(" + _TOKEN + rb")/(" + _TOKEN + rb")")
_PARAMETER = re.compile(
    rb"[ \t]*;[ \t]*(?:(" + _TOKEN + rb")=(?:(" + _TOKEN + rb')|"([^"\\\x00-\x08\x0a-\x1f\x7f-\xff]*)"))?'
)
_HIDDEN = "..."
_OTHER_TYPE = re.compile(r"multipart|boundary|octet-stream|urlencoded", re.IGNORECASE)
_OTHER_FORM = re.compile(r"octet-stream|urlencoded", re.IGNORECASE)
"""Words by which loose readers know a type, wherever in the field they stand."""


class JsonJudge:
    """A route's rule for JSON bodies, compiled."""

    __slots__ = ("_known", "_max_depth", "_validator")

    def __init__(self, rule: JsonRule) -> None:
        """ValueError for what is no schema."""
        self._max_depth = rule.max_depth
        self._validator: Validator | None = None if rule.schema is None else compile_schema(rule.schema)
        self._known = frozenset(_property_names(rule.schema))

    def judge(self, body: bytes) -> Refusal | None:
        """Why this whole body is refused, or None."""
        try:
            value = jsontext.parse(body, max_depth=self._max_depth)
        except jsontext.TooDeep:
            return _refused(400, "json_too_deep", f"The body is nested deeper than {self._max_depth} levels.")
        except jsontext.TooMany:
            return _refused(413, "json_too_large", f"The body holds more than {jsontext.MAX_VALUES} values.")
        except jsontext.BadJson as error:
            return _refused(400, "bad_json", f"The body is not strict JSON ({error}).")
        return None if self._validator is None else self._by_schema(self._validator, value)

    def _by_schema(self, validator: Validator, value: Json) -> Refusal | None:
        import jsonschema_rs  # loaded already: by whoever compiled the schema

        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            what = error.kind.name
            if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
                what = f"required ({error.kind.property})"
            detail = f"The body breaks its schema at {self._pointer(error.instance_path)}: {what}."
            return _refused(422, "schema_violation", detail)
        return None

    def _pointer(self, path: Sequence[str | int]) -> str:
        """A JSON pointer (RFC 6901); a segment that the schema does not name is the client's text and stays hidden."""
        return "".join(f"/{self._segment(each)}" for each in path) or "its root"

    def _segment(self, segment: str | int) -> str:
        if isinstance(segment, int):
            return str(segment)
        return segment.replace("~", "~0").replace("/", "~1") if segment in self._known else _HIDDEN


def _property_names(schema: Json) -> Iterator[str]:
    """Every property that a schema speaks of by name, at any depth."""
    if isinstance(schema, Mapping):
        named = schema.get("properties")
        if isinstance(named, Mapping):
            yield from named
        for inner in schema.values():
            yield from _property_names(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from _property_names(inner)


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type in lower case and its parameters, names in lower case."""

    kind: str
    parameters: Mapping[str, str]


def content_type(values: Sequence[bytes]) -> ContentType | None:
    """The one Content-Type of a message (RFC 9110 8.3.1); None when there is none, more than one, or one that readers
    may take for another: no type, a parameter twice, a quoted pair."""
    if len(values) != 1 or len(values[0]) > _MAX_TYPE_BYTES:
        return None
    value = values[0].strip(b" \t")
    head = _TYPE.match(value)
    if head is None:
        return None
    parameters: dict[str, str] = {}
    at = head.end()
    while at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None:
            return None
        at = found.end()
        if found[1] is not None:
            name = found[1].decode().lower()
            if name in parameters:
                return None
            parameters[name] = (found[2] if found[3] is None else found[3]).decode()
    return ContentType(head[0].decode().lower(), parameters)


def _is_json(kind: str) -> bool:
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def accepted_type(accepted: frozenset[str], values: Sequence[bytes]) -> ContentType | Refusal:
    """The Content-Type of a message, if it is one of those accepted (not empty), to every reader."""
    found = content_type(values)
    if found is None or found.kind not in accepted or _speaks_of_another(found):
        return _unsupported_type(f"Send {' or '.join(sorted(accepted))} here.")
    return found


def _speaks_of_another(found: ContentType) -> bool:
    """Whether a parameter may be taken for another type. A form's boundary is its own: browsers write the word into it.
    An extended parameter (RFC 8187) says what the plain one says, or something else; a form's are for `_reader`."""
    is_form = found.kind.startswith("multipart/")
    for name, value in found.parameters.items():
        if is_form and name.startswith("boundary"):
            if _OTHER_FORM.search(value):
                return True
        elif _OTHER_TYPE.search(f"{name} {value}") or ("*" in name and not is_form):
            return True
    return False


class BodyJudges:
    """A route's rules for bodies, compiled."""

    __slots__ = ("_json", "_multipart", "_types")

    def __init__(self, types: frozenset[str], json: JsonJudge | None, multipart: MultipartRule | None) -> None:
        """`types`: the content types accepted, and none besides."""
        self._types = types
        self._json = json
        self._multipart = multipart

    def choose(self, types: Sequence[bytes], codings: Sequence[bytes]) -> JsonJudge | MultipartReader | Refusal | None:
        """Who judges a body with these Content-Type and Content-Encoding values: None for a type that is accepted and
        that no rule speaks of."""
        found = accepted_type(self._types, types)
        if isinstance(found, Refusal):
            return found
        judge: JsonJudge | MultipartReader | Refusal | None = None
        if self._json is not None and _is_json(found.kind):
            judge = self._json if _is_utf8(found) else _unsupported_type("JSON is sent in UTF-8.")
        elif self._multipart is not None and found.kind == "multipart/form-data":
            judge = _reader(self._multipart, found)
        if judge is None or isinstance(judge, Refusal) or _is_plain(codings):
            return judge
        return Refusal(415, "unsupported_encoding", "Send the body without a content coding.", close=True)


def _is_utf8(found: ContentType) -> bool:
    return found.parameters.get("charset", "utf-8").lower() == "utf-8"


def _is_plain(codings: Sequence[bytes]) -> bool:
    return all(coding.strip(b" \t").lower() == b"identity" for coding in codings)


def _reader(rule: MultipartRule, found: ContentType) -> MultipartReader | Refusal:
    if not found.parameters.keys() <= _FORM_PARAMETERS or not _is_utf8(found):
        return _refused(400, "bad_multipart", "A form is sent with a boundary, in UTF-8, and with no other parameter.")
    boundary = found.parameters.get("boundary", "").encode()
    if BOUNDARY.fullmatch(boundary) is None:
        return _refused(400, "bad_multipart", "A boundary of 1 to 70 plain characters is needed.")
    return MultipartReader(boundary, rule)


def _unsupported_type(detail: str) -> Refusal:
    return Refusal(415, "unsupported_type", detail, close=True)


def _refused(status: int, code: str, detail: str) -> Refusal:
    return Refusal(status, code, detail)


def compile_bodies(rule: BodyRule) -> BodyJudges | None:
    """The judges of a route; None when its rule asks for none."""
    if rule.json is None and rule.multipart is None:
        return None
    return BodyJudges(rule.types, None if rule.json is None else JsonJudge(rule.json), rule.multipart)
