"""Logs: one JSON object per line on standard error, or plain text on a terminal.

`log = logs.get("worker")`, then `log.info("job.finished", job_id=..., seconds=...)`: a dotted event name that never
varies, and fields. Ids bound with `logs.bound(request_id=...)` travel into every line below. Secrets are cut out by
field name and by shape, and the query of every URL goes: presigned photo addresses carry credentials there. A lead's
own words never belong in a field; e-mail addresses and telephone numbers are cut out where they slip in.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, TextIO

_SECRET_NAME = re.compile(
    r"secret|token(?!s)|passw|passphrase|authorization|cookie|api[-_]?key|private[-_]?key|signature|credential"
    r"|(?:^|[-_.])(?:jwt|pwd|dsn)(?:$|[-_.])",
    re.I,
)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)([^\s\"'<>]*)", re.I)
_SHAPES = re.compile(
    r"\b(?:bearer|basic)\s+[\w.~+/=-]+"  # an Authorization field
    r"|\bsk-[\w-]{8,}|\bwhsec_[\w+/=-]+|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # API, webhook and cloud keys
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JWT
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.I | re.S,
)
_ASSIGNED = re.compile(
    r"""\b((?:[\w-]{0,40}[-_])?(?:secret|token|password|passwd|passphrase|authorization|cookie|api[-_]?key|signature|credential)s?)"""
    r"""(["']?\s*[=:]\s*)("[^"]*"?|'[^']*'?|[^\s"',;&)}\]]+)""",
    re.I,
)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d[\d ().-]{7,17}\d|\(\d{3}\)[ -]?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?!\w)"
)
_PLAIN_WORD = re.compile(r"(?!.*(?:sk-|whsec_|A[KS]IA|eyJ|\d{3}[.-]\d{3}[.-]\d{4}))[A-Za-z0-9_./-]{0,80}\Z")
"""Most values: an id, a code, a path, an address. Nothing below can be in one."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_CUT = "[redacted]"
_MAX_TEXT = 2000
_MAX_ITEMS = 50
_MAX_DEPTH = 6

_NOTHING: Mapping[str, object] = MappingProxyType({})
_bound: ContextVar[Mapping[str, object]] = ContextVar("scopegate_log_fields", default=_NOTHING)


def redact(name: str, value: object, depth: int = 0) -> object:
    """The value as it may be written: secrets by field name and by shape are cut, text, items and depth are bounded."""
    if _is_secret(name):
        return _CUT
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {redact_text(str(key)): redact(str(key), value[key], depth + 1) for key in islice(value, _MAX_ITEMS)}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [redact(name, inner, depth + 1) for inner in islice(value, _MAX_ITEMS)]
    return redact_text(_string(value), keep_end=name == "stack")


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _number(value: int | float) -> int | float | str:
    """JSON has no NaN and no infinity, and Python refuses to write integers of thousands of digits."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if -(2**63) <= value < 2**64 else "[huge number]"


def _string(value: object) -> str:
    try:
        return str(value)
    except Exception as broken:  # a line must be written whatever a value's own code does
        return f"[{type(value).__name__}: {type(broken).__name__} in its text]"


def redact_text(text: str, *, keep_end: bool = False) -> str:
    """Free text with credentials, URL queries, user names in URLs, e-mail addresses and telephone numbers cut out, at
    most 2000 characters: the first ones, or the last."""
    if _PLAIN_WORD.match(text):
        return text
    text = _bounded(text, _MAX_TEXT * 2, keep_end)
    text = _SHAPES.sub(_CUT, _URL.sub(_clean_url, text))
    text = _ASSIGNED.sub(rf"\1\2{_CUT}", text)
    text = _PHONE.sub("[phone]", _EMAIL.sub("[email]", text))
    if len(text) <= _MAX_TEXT:
        return text
    return "…" + text[-_MAX_TEXT:] if keep_end else text[:_MAX_TEXT] + "…"


def _bounded(text: str, limit: int, keep_end: bool) -> str:
    """Cut at a space: half a secret would not be known by its shape."""
    if len(text) <= limit:
        return text
    if keep_end:
        return text[-limit:].partition(" ")[2] or _CUT
    return text[:limit].rpartition(" ")[0] or _CUT


def _clean_url(match: re.Match[str]) -> str:
    """Scheme, host and path. Credentials end at the last `@` of the authority; outside http a password may hold `/`,
    `?` and `#` unencoded, so there everything before the last `@` goes."""
    scheme, rest = match[1], match[2]
    end = len(re.split(r"[/?#]", rest, maxsplit=1)[0]) if scheme.lower() in ("http://", "https://") else len(rest)
    at = rest.rfind("@", 0, end)
    host = f"{_CUT}@{rest[at + 1 :]}" if at >= 0 else rest
    kept = re.split(r"[?#]", host, maxsplit=1)
    return scheme + kept[0] + (f"?{_CUT}" if len(kept) > 1 else "")


class Logger:
    """A named source of events. `event` is a constant dotted name; everything that varies is a field."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"scopegate.{name}")

    def debug(self, event: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """With `exc`, its type, text and stack join the line."""
        if exc is not None:
            stack = "".join(traceback.format_exception(exc)[-8:])
            fields = {**fields, "error": type(exc).__name__, "error_detail": _string(exc), "stack": stack}
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"scopegate_fields": {**_bound.get(), **fields}})


class Unraisable:
    """For `sys.unraisablehook`: an error that nobody can catch, in one line like any other. Once for each kind, since a
    visitor may cause some at will (a server name in a TLS handshake that is no ASCII)."""

    def __init__(self) -> None:
        self._told: set[tuple[object, object]] = set()

    def __call__(self, what: sys.UnraisableHookArgs, /) -> None:
        kind = (what.exc_type, type(what.object))
        if kind not in self._told:
            self._told.add(kind)
            get("python").error("error.unraisable", exc=what.exc_value, within=type(what.object).__name__)


def get(name: str) -> Logger:
    return Logger(name)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add fields to every line written inside, across awaits."""
    mark = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(mark)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    fields: Any = getattr(record, "scopegate_fields", None)
    if fields is None:  # a library's own line
        fields = {"message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["stack"] = "".join(traceback.format_exception(record.exc_info[1])[-8:])
    return {_field_name(name): redact(name, value) for name, value in fields.items()}


_OWN_FIELDS = ("ts", "level", "source", "event")


def _field_name(name: str) -> str:
    """A field never takes the place of a line's own four."""
    return f"field_{name}" if name in _OWN_FIELDS else name


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03d}Z"


def event_name(record: logging.LogRecord) -> str:
    return str(record.msg) if hasattr(record, "scopegate_fields") else f"library.{record.name}"


class JsonLines(logging.Formatter):
    """One line, one object: `ts`, `level`, `source`, `event`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "source": record.name.removeprefix("scopegate."),
            "event": event_name(record),
        }
        text = json.dumps(line | _fields_of(record), ensure_ascii=False, separators=(",", ":"))
        return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class PlainLines(logging.Formatter):
    """For a person at a terminal. Control characters are shown as escapes: no line can forge another."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_plain(value)}" for name, value in _fields_of(record).items())
        clock = timestamp(record.created)[11:23]
        source = record.name.removeprefix("scopegate.")
        return f"{clock} {record.levelname[:4].lower()} {source} {event_name(record)} {fields}".rstrip()


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send every line to `stream` (standard error). `form`: `json`, `text`, or `auto` (text on a terminal)."""
    stream = stream or sys.stderr
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainLines() if text else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("scopegate").setLevel(level.upper())
