"""Logs: one JSON object per line on standard error, or plain text on a terminal.

`log = logs.get("worker")`, then `log.info("job.finished", job_id=..., seconds=...)`: a dotted event name that never
varies, and fields. Ids bound with `logs.bound(request_id=...)` travel into every line below. Secrets are cut out by
field name, and the query of every URL goes: presigned photo addresses carry credentials there. A lead's own words
never belong in a field.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

_SECRET_NAME = re.compile(r"secret|token(?!s)|password|authorization|cookie|api_?key|signature|credential", re.I)
_URL_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?\"'<>#]+)[?#][^\s\"'<>]*", re.I)
_URL_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"'<>]+@", re.I)
_BEARER = re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+|\bsk-ant-[\w-]+|\bwhsec_[\w+/=-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_MAX_TEXT = 2000

_NOTHING: Mapping[str, object] = MappingProxyType({})
_bound: ContextVar[Mapping[str, object]] = ContextVar("scopegate_log_fields", default=_NOTHING)


def redact(name: str, value: object) -> object:
    """The value as it may be written: secrets by field name and by shape are cut, text is bounded."""
    if _SECRET_NAME.search(name):
        return "[redacted]"
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): redact(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(name, inner) for inner in value]
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """Free text with credentials, URL queries and user names in URLs cut out, at most 2000 characters."""
    text = _URL_USERINFO.sub(r"\1[redacted]@", text[: _MAX_TEXT * 2])
    text = _BEARER.sub("[redacted]", _URL_QUERY.sub(r"\1?[redacted]", text))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


class Log:
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
            fields = {**fields, "error": type(exc).__name__, "error_detail": str(exc), "stack": stack}
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"scopegate_fields": {**_bound.get(), **fields}})


def get(name: str) -> Log:
    return Log(name)


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
    return {name: redact(name, value) for name, value in fields.items()}


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
        return json.dumps(line | _fields_of(record), ensure_ascii=False, default=str, separators=(",", ":"))


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
