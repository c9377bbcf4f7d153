"""JSON from outside, read strictly where readers disagree (RFC 8259), in time and memory that its length bounds.

Pure. UTF-8 without a byte order mark, no NaN or Infinity by any spelling, no number that a double cannot hold or that
is absurdly long, bounded nesting, nothing after the value. Depth is judged before anything is built, by counting.
Nothing that is raised here quotes the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, cast

from scopegate.types import Json

MAX_NUMBER_CHARS = 300
"""Of one number. A double has 309 digits at most, so what is shorter never reads as Infinity; and reading digits takes
quadratic time."""

MAX_VALUES = 200_000
"""In one text. A megabyte of empty lists takes twenty times its size and a sixth of a second to build."""

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class BadJson(ValueError):
    """The text is not JSON, or means different things to different readers."""


class TooDeep(BadJson):
    """Nested deeper than allowed."""


class TooMany(BadJson):
    """More than MAX_VALUES values."""


class BadNumber(BadJson):
    """A number that is none, or is longer or larger than allowed."""


class RepeatedKey(BadJson):
    """An object holds a key twice, or two that are one to readers without half characters: which one counts, readers
    disagree about."""


def parse(text: bytes, *, max_depth: int, repeated_keys: bool = False) -> Json:
    """The value of a JSON text. Raises BadJson.

    With `repeated_keys` the last of equal keys counts, as in ECMAScript; otherwise they are refused. A lone surrogate
    (half an emoji, cut by a script) becomes U+FFFD: it has no UTF-8 form, so nothing could hold it. Keys that become
    equal by that are equal keys.
    """
    value: Json = parse_as_written(text, max_depth=max_depth, repeated_keys=repeated_keys)
    build = dict if repeated_keys else _object
    return _mended(value, build) if _LONE_SURROGATE.search(text) else value


def parse_as_written(
    text: bytes,
    *,
    max_depth: int,
    repeated_keys: bool = False,
    real: Callable[[str], Any] | None = None,
    whole: Callable[[str], Any] | None = None,
) -> Any:
    """As `parse`, but lone surrogates stay as they are, and numbers are what `real` and `whole` make of their digits:
    they raise BadNumber for what they refuse."""
    if is_deeper(text, max_depth):
        raise TooDeep("nested too deeply")
    if _separators(text) >= MAX_VALUES and _separators(_outside_strings(text)) >= MAX_VALUES:
        raise TooMany("too many values")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=None if repeated_keys else _object,
            parse_constant=_no_constant,
            parse_float=real or _float,
            parse_int=whole or _int,
        )
    except UnicodeDecodeError:
        raise BadJson("not UTF-8") from None
    except RecursionError:
        raise TooDeep("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at character {error.pos}") from None


def is_deeper(text: bytes, max_depth: int) -> bool:
    """Whether objects and lists are nested more than `max_depth` levels. What stands in strings is not counted."""
    if text.count(b"[") + text.count(b"{") <= max_depth:
        return False
    left = _outside_strings(text).translate(_ALIKE, _NOT_BRACKETS)
    for _ in range(max_depth):  # each turn takes away what has nothing in it any more
        size = len(left)
        left = left.replace(b"[]", b"")
        if len(left) in (0, size):
            break
    return b"[]" in left or left.count(b"[") > max_depth


def _separators(text: bytes) -> int:
    """One less than the values in it, or more: each begins the text, or follows one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _outside_strings(text: bytes) -> bytes:
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2]) if b'"' in text else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedKey("a key is repeated")
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadNumber(f"{name} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise BadNumber("a number is too long")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_NUMBER_CHARS:
        raise BadNumber("a number is too long")
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise BadNumber("a number is out of range")
    return number


def _mended(value: Json, build: Callable[[list[tuple[str, Json]]], dict[str, Json]]) -> Json:
    """The value without lone surrogates, objects made by `build`. As deep as it was judged to be, so the recursion is
    bounded."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return build([(cast(str, _mended(key, build)), _mended(inner, build)) for key, inner in value.items()])
    if isinstance(value, list):
        return [_mended(inner, build) for inner in value]
    return value
