"""Which variant a request meets: rules, splits, moments, and a hash that anybody can compute."""

from __future__ import annotations

import json
import math
import subprocess
from hashlib import sha256

import pytest

from scopegate.edge.flags import CompiledFlag, drawn, split, targeting_key
from scopegate.policy.sections.flags import FeatureFlag
from scopegate.types import Json


class Visitor:
    def __init__(self, **values: str) -> None:
        self._values = {name.replace("__", "."): value for name, value in values.items()}

    def value(self, name: str) -> str | None:
        return self._values.get(name)


def met(targeting: Json, visitor: Visitor, **changes: object) -> str:
    flag = FeatureFlag("f", ("on", "off", "true", "false"), "off", targeting, **changes)  # type: ignore[arg-type]
    return CompiledFlag(flag).variant(visitor, 1000)


ALICE = Visitor(user="alice", claim__plan="pro", path="/app/x", method="GET", host="a.example")


@pytest.mark.parametrize(
    ("targeting", "variant"),
    [
        (None, "off"),
        ("on", "on"),
        ("unknown", "off"),
        (7, "off"),
        (True, "true"),
        ({"if": [{"==": [{"var": "user"}, "alice"]}, "on"]}, "on"),
        ({"if": [{"==": [{"var": "user"}, "bob"]}, "on"]}, "off"),
        ({"if": [{"!=": [{"var": "user"}, "bob"]}, "on"]}, "on"),
        ({"if": [False, "off", {"in": [{"var": "claim.plan"}, ["team", "pro"]]}, "on", "off"]}, "on"),
        ({"if": [{"in": ["pp/", {"var": "path"}]}, "on"]}, "on"),
        ({"if": [{"in": [{"var": "cookie.x"}, ["y"]]}, "on"]}, "off"),
        ({"if": [{"in": [1, [True]]}, "on"]}, "off"),
        ({"if": [{"starts_with": [{"var": "path"}, "/app/"]}, "on"]}, "on"),
        ({"if": [{"ends_with": [{"var": "host"}, ".example"]}, "on"]}, "on"),
        ({"if": [{"starts_with": [{"var": "header.x"}, ""]}, "on"]}, "off"),
        ({"if": [{"and": [{"var": "user"}, {"!": [{"var": "header.x"}]}]}, "on"]}, "on"),
        ({"if": [{"or": [{"var": "header.x"}, {"var": "user"}]}, "on"]}, "on"),
        ({"if": [{"==": [{"var": "$flagd.flagKey"}, "f"]}, "on"]}, "on"),
        ({"if": [{"==": [{"var": "targetingKey"}, "user:alice"]}, "on"]}, "on"),
        ({"fractional": [["on", 1], ["off", 0]]}, "on"),
        ({"fractional": [{"var": "cookie.none"}, ["on", 1]]}, "off"),
    ],
)
def test_what_targeting_answers(targeting: Json, variant: str) -> None:
    assert met(targeting, ALICE) == variant


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({"enabled": False}, "off"),
        ({"starts_ms": 1001}, "off"),
        ({"starts_ms": 1000}, "on"),
        ({"ends_ms": 1000}, "off"),
        ({"ends_ms": 1001}, "on"),
    ],
)
def test_rules_hold_while_a_flag_is_on_and_on_time(changes: dict[str, object], variant: str) -> None:
    assert met("on", ALICE, **changes) == variant


def test_no_user_is_an_address() -> None:
    flag = FeatureFlag("f", ("on", "off"), "off")
    assert targeting_key(flag, Visitor(user="10.0.0.1", client_ip="10.0.0.2")) == "user:10.0.0.1"
    assert targeting_key(flag, Visitor(client_ip="10.0.0.1")) == "client_ip:10.0.0.1"
    assert targeting_key(flag, Visitor(user="")) is None


def test_the_hash_is_as_it_is_written_down() -> None:
    digest = sha256(b"new\0on\0user:alice").hexdigest()
    assert drawn("new", "on", "user:alice") == ((int(digest[:16], 16) >> 11) + 0.5) / 2**53


JAVASCRIPT = """
const { createHash } = require("node:crypto");
const drawn = (flag, variant, key) => {
  const bits = createHash("sha256").update(`${flag}\\0${variant}\\0${key}`).digest().readBigUInt64BE(0) >> 11n;
  return (Number(bits) + 0.5) / 2 ** 53;
};
const variant = (flag, key, weights) =>
  Object.entries(weights).filter(([, weight]) => weight > 0)
    .map(([name, weight]) => [-Math.log(drawn(flag, name, key)) / weight, name])
    .reduce((least, one) => (one[0] < least[0] ? one : least))[1];
const [keys, weights] = JSON.parse(process.argv[1]);
console.log(JSON.stringify(keys.map((key) => variant("new", key, weights))));
"""


def test_an_app_computes_the_same() -> None:
    keys = [f"user:ü{n}" for n in range(300)]
    weights = {"red": 20, "blue": 30, "none": 0, "green": 50}
    words = ["node", "-e", JAVASCRIPT, json.dumps([keys, weights])]
    told = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=30).stdout)
    assert told == [split("new", key, tuple(weights.items())) for key in keys]


KEYS = [f"user:{n}" for n in range(100_000)]


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 5, "b": 15, "c": 80}, {"a": 1, "b": 99}])
def test_each_share_is_within_half_a_percent_of_its_weight(weights: dict[str, int]) -> None:
    counts = dict.fromkeys(weights, 0)
    for key in KEYS:
        chosen = split("share", key, tuple(weights.items()))
        assert chosen is not None
        counts[chosen] += 1
    for name, weight in weights.items():
        assert math.isclose(counts[name] / len(KEYS), weight / sum(weights.values()), abs_tol=0.005)


def test_a_weight_that_grows_takes_in_and_moves_nobody_else() -> None:
    before, after = (("a", 10), ("b", 30), ("c", 60)), (("a", 10), ("b", 30), ("c", 90))
    moved = {(split("g", key, before), split("g", key, after)) for key in KEYS[:20_000]}
    assert {(one, other) for one, other in moved if one != other} == {("a", "c"), ("b", "c")}


def test_one_flag_says_nothing_of_another() -> None:
    halves = (("on", 1), ("off", 1))
    both = sum(split("one", key, halves) == split("two", key, halves) for key in KEYS[:20_000])
    assert 0.48 < both / 20_000 < 0.52
