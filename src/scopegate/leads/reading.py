"""Two readers of one body: what the app's own parser makes of it, and what ours can say that it makes of it.

Pure. Whatever other readers may take differently (an encoding, a key that comes twice, a number without end) is
`Unreadable`, a state of its own: never the same as a body that is not there, or a value that was not sent.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from jmespath import Options, parser, visitor
from jmespath.exceptions import JMESPathError

from scopegate import jsontext
from scopegate.leads.job import Unreadable
from scopegate.types import Json

MAX_DEPTH: Final = 64

_JSON_TYPE = re.compile(r"(application/([!#$&^_.+a-z0-9-]+\+)?json|text/[!#$&^_.+a-z0-9-]+)?")
"""JSON by name, and what is only called text: a body of another type is no JSON to the app, whatever it looks like."""
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?\s*([^\";\s]*)")


def read_body(body: bytes, content_type: str = "", coding: str = "") -> Json | Unreadable:
    """The JSON value of a body; None where there is none. `content_type` and `coding` are what Content-Type and
    Content-Encoding say of it, several lines joined by commas.

    UTF-8 alone (RFC 8259 section 8.1): to a reader that believes `charset=utf-7`, the same bytes are other words.
    At most MAX_DEPTH levels, no key twice (RFC 7493 section 2.3).
    """
    if not body:
        return None
    if coding.strip().lower() not in ("", "identity"):
        return Unreadable("it is compressed", body)
    said = content_type.strip().lower()
    if not _JSON_TYPE.fullmatch(said.partition(";")[0].rstrip()):
        return Unreadable("its type is not JSON", body)
    if any(charset not in ("utf-8", "utf8", "us-ascii") for charset in _CHARSET.findall(said)):
        return Unreadable("its charset is not UTF-8", body)
    try:
        return jsontext.parse(body, max_depth=MAX_DEPTH)
    except jsontext.TooDeep:
        return Unreadable("it is nested too deeply", body)
    except jsontext.TooMany:
        return Unreadable("it holds too many values", body)
    except jsontext.BadNumber:
        return Unreadable("it holds a number that readers disagree about", body)
    except jsontext.RepeatedKey:
        return Unreadable("it holds a key twice", body)
    except jsontext.BadJson:
        return Unreadable("it is not JSON in UTF-8", body)


class NotReadError(Exception):
    """What an expression asks for is there, and cannot be read. `args[0]` is an Unreadable's reason."""


class BothSides(dict[str, Any]):
    """`{request, response}` for an expression. A side that cannot be read is only missed where it is asked for."""

    def __init__(self, request: Json | Unreadable, response: Json | Unreadable) -> None:
        super().__init__(request=request, response=response)

    def get(self, key: str, default: Any = None) -> Any:
        return self._read(key, super().get(key, default))

    def values(self) -> Any:
        return [self._read(*item) for item in self.items()]

    def _read(self, side: str, value: Any) -> Any:
        if isinstance(value, Unreadable):
            raise NotReadError(f"the {side} cannot be read: {value.reason}")
        return value


def search(expression: str, exchange: BothSides) -> Json:
    """What a JMESPath expression finds; None for what was not sent. Raises NotReadError where a value is of another
    kind than the expression goes through: a name where a list of photos should be is not the same as no photos."""
    try:
        return cast(Json, _Strict(Options()).visit(_parser.parse(expression).parsed, exchange))
    except JMESPathError:  # a function met a type it does not take, e.g. join() over numbers
        raise NotReadError("an expression does not fit this exchange") from None


_parser = parser.Parser()
"""Keeps the expressions that it has parsed."""


class _Strict(visitor.TreeInterpreter):  # type: ignore[misc]  # the library has no types
    """JMESPath, but null is found only where something is null or missing. An alternative (`a || b`) is taken where
    the first cannot be read."""

    def visit_field(self, node: Any, value: Any) -> Any:
        return super().visit_field(node, _of_kind(value, dict))

    def visit_index(self, node: Any, value: Any) -> Any:
        return super().visit_index(node, _of_kind(value, list))

    def visit_slice(self, node: Any, value: Any) -> Any:
        return super().visit_slice(node, _of_kind(value, list))

    def visit_flatten(self, node: Any, value: Any) -> Any:
        return super().visit_flatten(_done(node, self, value, list), value)

    def visit_projection(self, node: Any, value: Any) -> Any:
        return super().visit_projection(_done(node, self, value, list), value)

    def visit_filter_projection(self, node: Any, value: Any) -> Any:
        return super().visit_filter_projection(_done(node, self, value, list), value)

    def visit_value_projection(self, node: Any, value: Any) -> Any:
        return super().visit_value_projection(_done(node, self, value, dict), value)

    def visit_or_expression(self, node: Any, value: Any) -> Any:
        first, second = node["children"]
        try:
            found = self.visit(first, value)
        except NotReadError:
            found = self.visit(second, value)
            if found is None:
                raise
            return found
        return self.visit(second, value) if self._is_false(found) else found


def _done(node: Any, interpreter: _Strict, value: Any, kind: type) -> Any:
    """The node with its first child, what it goes through, already found: once, and of this kind."""
    through, *rest = node["children"]
    found = _of_kind(interpreter.visit(through, value), kind)
    return {**node, "children": [{"type": "literal", "value": found, "children": []}, *rest]}


def _of_kind(value: Any, kind: type) -> Any:
    if value is None or isinstance(value, kind):
        return value
    raise NotReadError("an expression goes through a value of another kind")
