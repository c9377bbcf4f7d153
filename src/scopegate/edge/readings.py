"""How servers read a path: a target is judged under every reading that a known server has of it, not under ours alone.

Pure. A reading is the path after some of the steps that servers take before they look for a handler; each step is left
out by some server. Letter case, the last of them, is for `routes`, which knows how the policy writes its paths.

| step                                                         | taken by                                           |
| ------------------------------------------------------------ | -------------------------------------------------- |
| `;parameters` dropped, before or after decoding              | Tomcat, Jetty, Spring (`/..;/`)                    |
| backslash taken for a slash                                  | IIS, and URL parsers as browsers have them (Node)  |
| `//` merged                                                  | nginx, Apache, Werkzeug                            |
| dot segments resolved, `%2e` among them                      | nearly all: before decoding, after it, or both     |
| percent-decoded, encoded slashes kept                        | by segment, as Express and Spring do; Kestrel      |
| percent-decoded, encoded slashes as slashes                  | nginx, Go, apps of CGI, WSGI and ASGI              |
| percent-decoded twice                                        | an app behind a proxy that has decoded already     |
| cut at an encoded `?`, `#`, NUL, or at a space or control    | apps that parse, or send on, what they have decoded|
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from scopegate.policy.policy import PathStep

MAX_READINGS = 128
MAX_READ_CHARS = 32 * 1024
"""What is looked at for one target: more readings than that, or longer ones together, no honest path has."""

_LOWER_HEX = re.compile(r"%(?:[0-9A-F][a-f]|[a-f][0-9A-Fa-f])")
_OTHER_ESCAPE = re.compile("%(?!2F)")
_PARAMETER = re.compile(r";[^/]*")
_SLASHES = re.compile(r"/{2,}")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2E){1,2}(?=/|\Z)")
_TAILS = tuple(map(re.compile, (r"\?", "#", "\x00", "[\x01-\x20\x7f-\x9f]")))


class Reading(NamedTuple):
    """`is_raw`: the escapes in it stand as they were sent, their digits in capitals, and count as they stand."""

    path: str
    is_raw: bool


def readings(path: str) -> list[Reading] | None:
    """Every reading of a path, as sent first; None when there are too many. `path` is printable ASCII and begins with
    a slash, and each `%` in it with two digits."""
    raw = _every([_with_capital_digits(path)], _BEFORE_DECODING)
    read = raw if raw is None or "%" not in path else _every(raw, _FROM_DECODING_ON)
    if raw is None or read is None:
        return None
    return [Reading(each, "%" in each and each in raw) for each in read]


def read_as(path: str, steps: Collection[PathStep]) -> Reading:
    """The one reading of a server that takes these steps."""
    text = _with_capital_digits(path)
    if PathStep.PARAMETERS in steps:
        text = _PARAMETER.sub("", text)
    if PathStep.SLASHES in steps:
        text = text.replace("%2F", "/").replace("%5C", "/").replace("\\", "/")
    if PathStep.ESCAPES in steps:
        text = _decoded_but_for_slashes(text)
    if PathStep.DOUBLES in steps:
        text = _SLASHES.sub("/", text)
    if PathStep.DOTS in steps:
        text = _without_dot_segments(text)
    return Reading(text, "%" in path and PathStep.ESCAPES not in steps)


_Step = Callable[[str], Iterable[str]]
"""From a reading to those that one step more makes of it; none where it changes nothing."""


def _every(texts: Iterable[str], steps: Iterable[_Step]) -> dict[str, None] | None:
    """These texts, and whatever becomes of them where each of the steps is taken or left out."""
    found = dict.fromkeys(texts)
    chars = sum(map(len, found))
    for step in steps:
        for other in (other for text in tuple(found) for other in step(text)):
            if other not in found:
                found[other] = None
                chars += len(other)
                if len(found) > MAX_READINGS or chars > MAX_READ_CHARS:
                    return None
    return found


def _with_capital_digits(path: str) -> str:
    """RFC 3986 6.2.2.1: no server tells `%2f` from `%2F`."""
    return _LOWER_HEX.sub(lambda escape: escape[0].upper(), path) if "%" in path else path


def _parameters(text: str) -> Iterator[str]:
    if ";" in text:
        yield _PARAMETER.sub("", text)


def _backslashes(text: str) -> Iterator[str]:
    if "\\" in text:
        yield text.replace("\\", "/")


def _dots_and_doubles(text: str) -> Iterator[str]:
    """Either first: `/a//../b` is `/a/b` to one server and `/b` to another."""
    has_doubles = "//" in text
    if has_doubles:
        yield _SLASHES.sub("/", text)
    if _DOT_SEGMENT.search(text) is not None:
        resolved = _without_dot_segments(text)
        yield resolved
        if has_doubles:
            yield _SLASHES.sub("/", resolved)
            yield _without_dot_segments(_SLASHES.sub("/", text))


def _escapes(text: str) -> Iterator[str]:
    for once in _decoded(text):
        yield once
        if once != text:
            yield from _decoded(once)


def _decoded(text: str) -> Iterator[str]:
    if "%" in text:
        text = _with_capital_digits(text)  # decoding once may have brought lower ones to light
        yield unquote(text)
        if "%2F" in text:
            yield _decoded_but_for_slashes(text)


def _tails(text: str) -> Iterator[str]:
    for tail in _TAILS:
        found = tail.search(text)
        if found is not None:
            yield text[: found.start()]


_BEFORE_DECODING: tuple[_Step, ...] = (_parameters, _backslashes, _dots_and_doubles)
_FROM_DECODING_ON: tuple[_Step, ...] = (_escapes, _tails, *_BEFORE_DECODING)


def _decoded_but_for_slashes(text: str) -> str:
    return unquote(text.replace("%2F", "%252F")) if _OTHER_ESCAPE.search(text) is not None else text


def _without_dot_segments(path: str) -> str:
    """RFC 3986 5.2.4 on an absolute path: `/a/./b/../c` is `/a/c`, `/a/..` is `/`, `/../a` is `/a`."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        plain = segment.replace("%2E", ".") if len(segment) <= 6 else segment
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if plain in (".", ".."):
        kept.append("")  # a dot segment at the end leaves a directory
    return "/" + "/".join(kept)
