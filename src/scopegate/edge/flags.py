"""Which variant of a flag a request meets.

Pure. A split is weighted rendezvous hashing (Thaler and Ravishankar 1998, weights after Mosko): each variant draws a
number for a visitor from `SHA-256(flag NUL variant NUL key)`, and the smallest `-ln(number) / weight` wins. So whoever
knows flag, key and weights computes the same, and a variant whose weight grows only takes visitors in: nobody moves
between two others. `docs/flags.md` has it in JavaScript.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from scopegate.policy import logic
from scopegate.policy.sections.flags import FeatureFlag
from scopegate.types import Json


class Targeted(Protocol):
    """What a request says of whom it is from: an attribute's text, None where it has none (or two)."""

    def value(self, name: str) -> str | None: ...


AttributeOf = Callable[[str], Json]
_Evaluate = Callable[[AttributeOf], Json]


class CompiledFlag:
    """A flag, ready to be asked."""

    __slots__ = ("_evaluate", "_known", "flag")

    def __init__(self, flag: FeatureFlag) -> None:
        self.flag = flag
        self._known = frozenset(flag.variants)
        self._evaluate = _compiled(flag.targeting, flag.name) if flag.enabled and flag.targeting is not None else None

    def variant(self, asked: Targeted, now_ms: int) -> str:
        flag, evaluate = self.flag, self._evaluate
        if evaluate is None or not _is_on_time(flag, now_ms):
            return flag.default

        def value(name: str) -> Json:
            if name == "targetingKey":
                return targeting_key(flag, asked)
            return flag.name if name == "$flagd.flagKey" else asked.value(name)

        found = evaluate(value)
        if isinstance(found, bool):  # flagd: true and false stand for the variants of these names
            found = "true" if found else "false"
        return found if isinstance(found, str) and found in self._known else flag.default


def targeting_key(flag: FeatureFlag, asked: Targeted) -> str | None:
    """Whom a split tells apart: the first attribute that is there, with its name, so that no user is an address."""
    for name in flag.targeting_key:
        value = asked.value(name)
        if value:
            return f"{name}:{value}"
    return None


def drawn(flag: str, variant: str, key: str) -> float:
    """Between 0 and 1, both excluded: the first 53 bits of the hash, and a half."""
    digest = sha256(f"{flag}\0{variant}\0{key}".encode("utf-8", "surrogateescape")).digest()
    return ((int.from_bytes(digest[:8], "big") >> 11) + 0.5) / (1 << 53)


def split(flag: str, key: str, shares: Sequence[tuple[str, int]]) -> str | None:
    """The variant that `key` meets; None where no weight is above 0."""
    chosen, least = None, math.inf
    for variant, weight in shares:
        if weight > 0:
            score = -math.log(drawn(flag, variant, key)) / weight
            if score < least:
                chosen, least = variant, score
    return chosen


def _is_on_time(flag: FeatureFlag, now_ms: int) -> bool:
    if flag.starts_ms is not None and now_ms < flag.starts_ms:
        return False
    return flag.ends_ms is None or now_ms < flag.ends_ms


# ── JsonLogic ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _compiled(node: Json, flag: str) -> _Evaluate:
    """What was judged by `policy/logic` before."""
    found = logic.operation(node)
    if found is None:
        if isinstance(node, list):
            each = [_compiled(one, flag) for one in node]
            return lambda asked: [one(asked) for one in each]
        return lambda asked: node
    operator, operands = found
    if operator == "var":
        name = str(operands[0])
        return lambda asked: asked(name)
    if operator == "fractional":
        return _fractional(operands, flag)
    return _OPERATORS[operator]([_compiled(one, flag) for one in operands])


def _fractional(operands: list[Json], flag: str) -> _Evaluate:
    has_key = not logic.is_share(operands[0])
    key_of = _compiled(operands[0], flag) if has_key else None
    shares = [(str(share[0]), logic.weight_of(share)) for share in operands[has_key:] if isinstance(share, list)]

    def evaluate(asked: AttributeOf) -> Json:
        key = asked("targetingKey") if key_of is None else key_of(asked)
        return split(flag, key, shares) if isinstance(key, str) else None

    return evaluate


def _if(parts: list[_Evaluate]) -> _Evaluate:
    def evaluate(asked: AttributeOf) -> Json:
        for at in range(0, len(parts) - 1, 2):
            if parts[at](asked):
                return parts[at + 1](asked)
        return parts[-1](asked) if len(parts) % 2 else None

    return evaluate


def _and(parts: list[_Evaluate]) -> _Evaluate:
    def evaluate(asked: AttributeOf) -> Json:
        found: Json = True
        for part in parts:
            found = part(asked)
            if not found:
                break
        return found

    return evaluate


def _or(parts: list[_Evaluate]) -> _Evaluate:
    def evaluate(asked: AttributeOf) -> Json:
        found: Json = False
        for part in parts:
            found = part(asked)
            if found:
                break
        return found

    return evaluate


def _contains(one: Json, other: Json) -> bool:
    """A list holds it, or a text has it as a part."""
    if isinstance(other, list):
        return any(type(one) is type(each) and one == each for each in other)
    return isinstance(one, str) and isinstance(other, str) and one in other


def _equal(one: Json, other: Json) -> bool:
    return type(one) is type(other) and one == other


def _starts(one: Json, other: Json) -> bool:
    return isinstance(one, str) and isinstance(other, str) and one.startswith(other)


def _ends(one: Json, other: Json) -> bool:
    return isinstance(one, str) and isinstance(other, str) and one.endswith(other)


def _of_two(holds: Callable[[Json, Json], bool], *, wanted: bool = True) -> Callable[[list[_Evaluate]], _Evaluate]:
    def made(parts: list[_Evaluate]) -> _Evaluate:
        one, other = parts
        return lambda asked: holds(one(asked), other(asked)) is wanted

    return made


def _not(parts: list[_Evaluate]) -> _Evaluate:
    [one] = parts
    return lambda asked: not one(asked)


_OPERATORS: Mapping[str, Callable[[list[_Evaluate]], _Evaluate]] = {
    "if": _if,
    "and": _and,
    "or": _or,
    "!": _not,
    "==": _of_two(_equal),
    "!=": _of_two(_equal, wanted=False),
    "in": _of_two(_contains),
    "starts_with": _of_two(_starts),
    "ends_with": _of_two(_ends),
}
