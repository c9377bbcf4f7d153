"""JsonLogic, as far as flagd's flag definitions use it to target: what may be written, read strictly.

Pure. An operator that nobody here knows, or one with the wrong number of operands, is a problem of the file, never an
answer at run time. `edge/flags` evaluates it; words as in https://flagd.dev/reference/flag-definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from scopegate.policy.faults import closest
from scopegate.types import Json

MAX_DEPTH: Final = 32
MAX_NODES: Final = 5000

OPERANDS: Final[Mapping[str, tuple[int, int]]] = {
    "var": (1, 1),
    "if": (2, MAX_NODES),
    "==": (2, 2),
    "!=": (2, 2),
    "!": (1, 1),
    "in": (2, 2),
    "and": (1, MAX_NODES),
    "or": (1, MAX_NODES),
    "starts_with": (2, 2),
    "ends_with": (2, 2),
    "fractional": (1, 50),
}
"""Every operator with the least and most operands it takes."""

ATTRIBUTES: Final = ("user", "client_ip", "host", "method", "path", "targetingKey", "$flagd.flagKey")
"""What `var` may name, besides those of PREFIXES."""
PREFIXES: Final = ("claim.", "header.", "cookie.")
PROVEN: Final = ("user", "claim.")
"""Known only once a visitor has signed in."""


def operation(node: Json) -> tuple[str, list[Json]] | None:
    """Operator and operands of a node; None for a constant or a list of nodes."""
    if not isinstance(node, Mapping):
        return None
    [(operator, operands)] = node.items()
    return operator, operands if isinstance(operands, list) else [operands]


def problems(node: Json, depth: int = 0) -> Iterator[str]:
    """What is wrong with it, to be read after the name of where it stands."""
    if depth == 0 and _count(node) > MAX_NODES:
        yield f"has more than {MAX_NODES} parts"
    elif depth > MAX_DEPTH:
        yield f"is more than {MAX_DEPTH} levels deep"
    elif isinstance(node, list):
        for each in node:
            yield from problems(each, depth + 1)
    elif isinstance(node, Mapping):
        yield from _operator(node, depth)


def _operator(node: Mapping[str, Json], depth: int) -> Iterator[str]:
    if len(node) != 1:
        yield "holds an object that is no operation: it has one key, the operator"
        return
    [operator] = node
    found = operation(node)
    assert found is not None
    operands = found[1]
    bounds = OPERANDS.get(operator)
    if bounds is None:
        hint = closest(operator, sorted(OPERANDS))
        yield f"uses the operator {operator[:40]!r}, which is not known" + (f" (did you mean {hint}?)" if hint else "")
        return
    if not bounds[0] <= len(operands) <= bounds[1]:
        yield f"gives {operator} {len(operands)} operands"
        return
    if operator == "var":
        yield from _variable(operands[0])
        return
    if operator == "fractional":
        yield from _shares(operands)
        operands = operands[: not is_share(operands[0])]
    for each in operands:
        yield from problems(each, depth + 1)


def _variable(name: Json) -> Iterator[str]:
    if not isinstance(name, str):
        yield "has a var without a name"
    elif name not in ATTRIBUTES and not any(name.startswith(p) and len(name) > len(p) for p in PREFIXES):
        yield f"asks for {name[:60]!r}: known are {', '.join(ATTRIBUTES)}, claim.NAME, header.NAME and cookie.NAME"


def _shares(operands: list[Json]) -> Iterator[str]:
    """[variant, weight] each; what stands before them says who is whom."""
    shares = operands if is_share(operands[0]) else operands[1:]
    if not shares:
        yield "has a fractional without shares"
    elif not all(is_share(share) for share in shares):
        yield "has a share that is not [VARIANT, WEIGHT], with a weight from 0 to 1000000"
    elif not sum(weight_of(share) for share in shares):
        yield "has shares whose weights are all 0"


def is_share(node: Json) -> bool:
    if not isinstance(node, list) or not 1 <= len(node) <= 2 or not isinstance(node[0], str):
        return False
    weight = node[1] if len(node) == 2 else 1
    return isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight <= 1_000_000


def weight_of(share: Json) -> int:
    assert isinstance(share, list)
    weight = share[1] if len(share) == 2 else 1
    assert isinstance(weight, int)
    return weight


def variables(node: Json) -> Iterator[str]:
    """Every attribute that it looks at."""
    found = operation(node)
    if found is not None and found[0] == "var":
        yield str(found[1][0])
    for each in found[1] if found is not None else node if isinstance(node, list) else ():
        yield from variables(each)


def results(node: Json) -> Iterator[str]:
    """Every variant that it may answer with, as far as it is spelt out."""
    found = operation(node)
    if found is None:
        if isinstance(node, str):
            yield node
        return
    operator, operands = found
    if operator == "if":
        for each in (*operands[1::2], *operands[-1:]):
            yield from results(each)
    elif operator == "fractional":
        yield from (str(share[0]) for share in operands if is_share(share) and isinstance(share, list))


def _count(node: Json) -> int:
    """At most a few more than MAX_NODES are counted."""
    waiting: list[Json] = [node]
    count = 0
    while waiting and count <= MAX_NODES:
        one = waiting.pop()
        count += 1
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, Mapping):
            waiting += one.values()
    return count
