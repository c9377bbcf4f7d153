"""How the words in a policy file are spelt: names, requests, path patterns, expressions, secrets.

Pure. Each function takes text and gives the value meant, in its one canonical form; it raises ValueError with a
sentence that never repeats the text, which may come from the environment. Addresses are for `addresses`. Called by the
sections, `kinds` and `settings`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,62}$"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods to speak of; a route may also name the rarer ones that the edge lets in."""
RARE_METHODS = frozenset(
    (
        *("QUERY", "COPY", "MOVE", "LOCK", "UNLOCK", "ACL", "BIND", "UNBIND", "REBIND", "LINK", "UNLINK", "SEARCH"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "MKCALENDAR", "REPORT", "ORDERPATCH", "CHECKIN", "CHECKOUT", "UNCHECKOUT"),
        *("VERSION-CONTROL", "MERGE", "LABEL", "UPDATE"),
    )
)
ANY = "ANY"
MIN_SECRET_BYTES = 16
MIN_SIGNING_KEY_BYTES = 32
"""RFC 7518 3.2: an HMAC key is at least as long as its hash, here SHA-256."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}", re.ASCII)
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-F]{2})+", re.ASCII)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]", re.ASCII)
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})", re.ASCII)


def parse_name(text: str) -> str:
    """A name that may stand in labels, headers and keys: lower-case letters, digits, dashes; at most 63."""
    if _NAME.fullmatch(text) is None:
        raise ValueError("is not a name: use lower-case letters, digits and dashes, a letter first, at most 63")
    return text


@dataclass(frozen=True, slots=True)
class RequestLine:
    """`methods` is None for ANY."""

    methods: frozenset[str] | None
    path: str


def parse_match(text: str) -> RequestLine:
    """`POST /api/leads`, `GET|POST /x/*`, `ANY /api/**`. That HEAD follows GET is for the edge to know."""
    words, path = _method_and_path(text)
    check_pattern(path)
    if words == [ANY]:
        return RequestLine(None, path)
    for word in words:
        _check_method(word)
    return RequestLine(frozenset(words), path)


def parse_request(text: str) -> tuple[str, str]:
    """`GET /api/leads?page=2` -> (method, target as a client would send it)."""
    words, target = _method_and_path(text)
    if len(words) != 1 or words == [ANY]:
        raise ValueError("names one request: one method, then a path")
    _check_method(words[0])
    if not re.fullmatch(r"/[\x21-\x7e]*", target) or "#" in target:
        raise ValueError("has a path that no client can send: ASCII without spaces or #")
    return words[0], target


def _method_and_path(text: str) -> tuple[list[str], str]:
    words, separator, path = text.partition(" ")
    if not separator or not path.startswith("/") or path != path.strip():
        raise ValueError("is not a request, write it like `POST /api/leads`")
    return words.split("|"), path


def _check_method(word: str) -> None:
    if word in METHODS or word in RARE_METHODS:
        return
    if word.upper() in METHODS or word.upper() == ANY:
        raise ValueError("writes its method in lower case: use capitals")
    raise ValueError(f"has no method out of {', '.join(METHODS)} or {ANY}")


def parse_method(text: str) -> str:
    """One method out of those the edge lets in."""
    if text not in METHODS and text not in RARE_METHODS:
        raise ValueError(f"is no method out of {', '.join(METHODS)}")
    return text


def check_pattern(path: str) -> None:
    """Segments after `/`: a literal in canonical spelling, `*` for exactly one, a last `**` for any number."""
    segments = path[1:].split("/")
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**" and not last:
            raise ValueError("has ** before its last segment")
        if segment in {"*", "**"} or (segment == "" and last):
            continue
        fault = _segment_fault(segment)
        if fault is not None:
            raise ValueError(fault)


def _segment_fault(segment: str) -> str | None:
    if segment == "":
        return "has an empty segment (//), which servers do not read alike"
    if segment in {".", ".."}:
        return "has a dot segment, which servers do not read alike"
    if "*" in segment:
        return "has * inside a segment: * stands for a whole segment"
    if "?" in segment or "#" in segment:
        return "has a ? or #: a route matches the path alone"
    if "{" in segment or "[" in segment:
        return "has a bracket: write * for a segment that varies"
    if ";" in segment:
        return "has a path parameter (;), which servers do not read alike"
    for match in _PERCENT.finditer(segment):
        character = chr(int(match[1], 16))
        if _UNRESERVED.fullmatch(character):
            return f"writes {match[0]} for {character}: write the character itself"
        if character in "/\\\x7f" or character < " ":
            return f"has {match[0]}, which servers do not read alike"
        if match[1] != match[1].upper():
            return "has a percent code in lower case: use capitals, like %C3"
    if _SEGMENT.fullmatch(segment) is None:
        return "has a character that stands percent-encoded in a path, like %20 for a space"
    return None


def parse_path(text: str) -> str:
    """A path with or without a query, as a client would send it."""
    if not re.fullmatch(r"/[\x21\x22\x24-\x7e]{0,500}", text):
        raise ValueError("is not a path, write it like `/api/health`")
    return text


def parse_side_file(text: str) -> str:
    """The path of a file that a policy file names, absolute or beside it."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,1000}", text) or text.endswith("/") or text != text.strip():
        raise ValueError("is not the path of a file")
    return text


def parse_field_name(text: str) -> str:
    """A header field or cookie name (RFC 9110 token)."""
    if _TOKEN.fullmatch(text) is None:
        raise ValueError("is not a field name")
    return text


def parse_media_type(text: str) -> str:
    lowered = text.lower()
    if _MEDIA_TYPE.fullmatch(lowered) is None:
        raise ValueError("is not a media type, write it like `application/json`")
    return lowered


JSON = "application/json"
FORM_DATA = "multipart/form-data"


def is_json_type(media_type: str) -> bool:
    return media_type == JSON or media_type.endswith("+json")


ROOTS = ("request", "response")


def parse_expression(text: str) -> str:
    """A JMESPath expression over `{request, response}`; one that looks elsewhere could only ever give null."""
    import jmespath  # half a megabyte, and a policy without offloads has none
    from jmespath.exceptions import JMESPathError

    try:
        parsed = jmespath.compile(text).parsed
    except (JMESPathError, ValueError) as error:
        position = getattr(error, "lex_position", None)
        at = "" if position is None else f" (character {position + 1})"
        raise ValueError(f"is not a JMESPath expression{at}") from None
    if any(root not in ROOTS for root in _roots(parsed)):
        raise ValueError("starts at neither `request` nor `response`")
    return text


_AT_ROOT_FIRST = frozenset(
    {"subexpression", "index_expression", "projection", "value_projection", "filter_projection", "flatten", "pipe"}
)


def _roots(tree: dict[str, Any]) -> Iterator[str]:
    """The fields an expression takes from the document itself: only the first part of a chain sees it."""
    if tree["type"] == "field":
        yield tree["value"]
        return
    if tree["type"] == "expref":  # &size is looked up in each item, not in the document
        return
    children = tree["children"][:1] if tree["type"] in _AT_ROOT_FIRST else tree["children"]
    for child in children:
        yield from _roots(child)


def parse_webhook_secret(text: str) -> str:
    """Standard Webhooks form `whsec_<base64>`, or raw text; the key is at least 16 bytes. Returns it as given."""
    if not text:
        raise ValueError("is empty")
    if text != text.strip():
        raise ValueError("starts or ends with a space or line break")
    if text.startswith("whsec_"):
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("starts with whsec_ and is not base64 after it") from None
    else:
        key = text.encode()
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes")
    return text


HMAC_KEY_BYTES = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""RFC 7518 3.2: an HMAC key is at least as long as its hash."""
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


def parse_algorithm(text: str) -> str:
    if text.lower() == "none":
        raise ValueError("would accept tokens that anybody can write")
    if text not in HMAC_KEY_BYTES and text not in ASYMMETRIC:
        raise ValueError(f"is no algorithm out of {', '.join((*ASYMMETRIC, *HMAC_KEY_BYTES))}")
    return text
