"""`flags`: which visitors meet which variant of what, in the words of OpenFeature.

Flags stand here, or in a file as flagd has it; both are targeted by JsonLogic underneath (`policy/logic`), which
`edge/flags` evaluates. Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from scopegate import jsontext
from scopegate.policy import logic
from scopegate.policy.draft import Draft
from scopegate.policy.faults import closest
from scopegate.policy.kinds import Flag as YesNo
from scopegate.policy.kinds import Name, Shape, Text, Whole, as_list, option, parsed, written
from scopegate.policy.sections.switches import ON
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.policy.spelling import parse_name, parse_side_file
from scopegate.policy.tree import Fault, Loc
from scopegate.types import Json

FILE = "file"
"""The key of `flags` that names a file instead of a flag."""
MAX_FLAGS = 500
DEFAULT_KEY = ("user", "client_ip")

# Values


@dataclass(frozen=True, slots=True)
class FeatureFlag:
    """`variants` are names. `targeting` is JsonLogic that answers with one of them, or with anything else for
    `default`; None asks nobody. `targeting_key`: the attributes of which the first that is there tells visitors apart.
    Outside `starts_ms` to `ends_ms` (Unix), and while it is not `enabled`, everybody gets `default`."""

    name: str
    variants: tuple[str, ...]
    default: str
    targeting: Json = None
    targeting_key: tuple[str, ...] = DEFAULT_KEY
    enabled: bool = True
    starts_ms: int | None = None
    ends_ms: int | None = None

    def is_proven(self) -> bool:
        """Whether it asks who signed in. The key alone may: without anybody it takes the next that is there."""
        return any(name.startswith(logic.PROVEN) for name in logic.variables(self.targeting))


# Shapes


def parse_attribute(text: str) -> str:
    """`client_ip`, `header:X-Tester`, `claim:plan`: as limits spell their keys."""
    kind, colon, name = text.partition(":")
    found = f"{kind}.{name.lower() if kind == 'header' else name}" if colon else kind
    wrong = next(logic.problems({"var": found}), None)
    if wrong is not None or found.startswith("$") or found == "targetingKey":
        raise ValueError("is not known: write user, client_ip, host, method, path, claim:, header: or cookie:NAME")
    return found


def parse_moment(text: str) -> int:
    """RFC 3339 with its offset, as Unix milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a moment, write it like 2027-01-15T08:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("lacks its offset from UTC: end it with Z, or +01:00")
    return round(moment.astimezone(UTC).timestamp() * 1000)


Attribute: TypeAlias = Annotated[str, parsed(parse_attribute), written("header:X-Tester")]
Attributes: TypeAlias = Annotated[
    list[Attribute], BeforeValidator(as_list, json_schema_input_type=Attribute | list[Attribute])
]
Moment: TypeAlias = Annotated[int, parsed(parse_moment), written("2027-01-15T08:00:00Z")]
Values: TypeAlias = Annotated[
    list[Text], BeforeValidator(as_list, json_schema_input_type=Text | list[Text]), Field(min_length=1, max_length=1000)
]
Weight: TypeAlias = Annotated[Whole, Field(ge=0, le=1_000_000)]


class RuleShape(Shape):
    when: dict[Attribute, Values] = option(
        {}, "Attributes and the values they may have, all of them; a path may end in /**. Left out: everybody."
    )
    variant: Name | None = option(None, "What they get. Either this or `split`.")
    split: dict[Name, Weight] = option({}, "Variants and their weights, by `targeting_key`.", max_length=50)

    def to_logic(self, key: str) -> tuple[Json, Json]:
        """Whom it is for (None: everybody), and what they get."""
        held: list[Json] = [_holds(attribute, values) for attribute, values in self.when.items()]
        shares: list[Json] = [[name, weight] for name, weight in self.split.items()]
        served: Json = self.variant if self.variant is not None else {"fractional": [{"var": key}, *shares]}
        return ({"and": held} if held else None), served


def _holds(attribute: str, values: list[str]) -> Json:
    var: Json = {"var": attribute}
    below = [value.removesuffix("**") for value in values if attribute == "path" and value.endswith("/**")]
    if not below:
        return {"in": [var, list(values)]}
    exact: list[Json] = [value for value in values if not value.endswith("/**")]
    return {"or": [{"in": [var, exact]}, *({"starts_with": [var, prefix]} for prefix in below)]}


class FlagShape(Shape):
    variants: list[Name] = option(["on", "off"], "Their names.", min_length=2, max_length=50)
    default_variant: Name = option("off", "What everybody gets whom no rule is for.")
    targeting: list[RuleShape] = option([], "Rules from the top, the first that holds.", max_length=200)
    targeting_key: Attributes = option(
        ["user", "client_ip"], "What tells visitors apart in a split: the first of these that is there.", min_length=1
    )
    enabled: YesNo = option(True, "Off: everybody gets `default_variant`.")
    starts: Moment | None = option(None, "Rules hold from this moment on.")
    ends: Moment | None = option(None, "Rules hold until this moment.")

    def build(self, name: str) -> FeatureFlag:
        branches: list[Json] = []
        for rule in self.targeting:
            whom, served = rule.to_logic("targetingKey")
            branches += [True if whom is None else whom, served]
        return FeatureFlag(
            name=name,
            variants=tuple(self.variants),
            default=self.default_variant,
            targeting={"if": branches} if branches else None,
            targeting_key=tuple(self.targeting_key),
            enabled=self.enabled,
            starts_ms=self.starts,
            ends_ms=self.ends,
        )


def _without_file(value: object) -> object:
    return {name: one for name, one in value.items() if name != FILE} if isinstance(value, dict) else value


Flags: TypeAlias = Annotated[
    dict[Name, FlagShape], BeforeValidator(_without_file, json_schema_input_type=dict[Name, FlagShape | str])
]


# The file


def parse_file(content: bytes) -> Json:
    """flagd's `{"flags": {NAME: {state, variants, defaultVariant, targeting}}}`, judged whole; what is returned has no
    faults."""
    try:
        document = jsontext.parse(content, max_depth=2 * logic.MAX_DEPTH)
    except ValueError as error:
        raise ValueError(f"is {error}") from None
    flags = document.get("flags") if isinstance(document, Mapping) else None
    if not isinstance(flags, Mapping):
        raise ValueError('has no object "flags"')
    if len(flags) > MAX_FLAGS:
        raise ValueError(f"has more than {MAX_FLAGS} flags")
    for name, definition in flags.items():
        for wrong in _definition_problems(definition):
            raise ValueError(f"flag {name[:60]!r} {wrong}")
        try:
            parse_name(name)
        except ValueError as error:
            raise ValueError(f"flag {name[:60]!r} {error}") from None
    return dict(flags)


def _definition_problems(definition: Json) -> Iterator[str]:
    if not isinstance(definition, Mapping):
        yield "is no object"
        return
    unknown = set(definition) - {"state", "variants", "defaultVariant", "targeting", "metadata"}
    if unknown:
        yield f"has {sorted(unknown)[0][:60]!r}, which is not known"
    if definition.get("state") not in ("ENABLED", "DISABLED"):
        yield "needs a state: ENABLED or DISABLED"
    variants = definition.get("variants")
    if not isinstance(variants, Mapping) or not variants:
        yield "needs variants"
        return
    if definition.get("defaultVariant") not in variants:
        yield "has a defaultVariant that is none of its variants"
    targeting = definition.get("targeting")
    if targeting not in (None, {}):
        found = list(logic.problems(targeting))
        yield from found
        if not found:
            yield from (
                f"answers with {one[:60]!r}, which is no variant"
                for one in logic.results(targeting)
                if one not in variants
            )


FLAG_FILE = FilePlace(("flags", FILE), parse_file)


def build(found: Mapping[str, FlagShape], beside: SideFiles) -> dict[str, FeatureFlag]:
    flags = {name: shape.build(name) for name, shape in found.items()}
    for (_, place), meaning in beside.meanings.items():
        if place is FLAG_FILE and isinstance(meaning, Mapping):
            flags |= {name: _defined(name, definition) for name, definition in meaning.items()}
    return flags


def _defined(name: str, definition: Json) -> FeatureFlag:
    assert isinstance(definition, Mapping)
    variants, targeting = definition["variants"], definition.get("targeting")
    assert isinstance(variants, Mapping)
    return FeatureFlag(
        name=name,
        variants=tuple(variants),
        default=str(definition["defaultVariant"]),
        targeting=targeting or None,
        enabled=definition["state"] == "ENABLED",
    )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    yield from _file(draft)
    for name, flag in draft.named("flags", FlagShape).items():
        loc = ("flags", name)
        if len(set(flag.variants)) < len(flag.variants):
            yield draft.problem((*loc, "variants"), "names a variant twice")
        if flag.default_variant not in flag.variants:
            where = draft.tree.locate((*loc, "default_variant")).loc
            yield draft.problem(where, f"`default_variant` is {flag.default_variant}, which is none of its variants")
        for index, rule in enumerate(flag.targeting):
            yield from _rule(rule, flag, (*loc, "targeting", index), draft)
        if flag.starts is not None and flag.ends is not None and flag.starts >= flag.ends:
            yield draft.problem((*loc, "ends"), "is not after `starts`: its rules never hold")


def _file(draft: Draft) -> Iterator[Fault]:
    for loc, value in draft.found(("flags", FILE)):
        if not isinstance(value, str):
            yield draft.problem(loc, "must be the name of a file: a flag may not be called file")
            continue
        try:
            parse_side_file(value)
        except ValueError as error:
            yield draft.problem(loc, f"{draft.said(loc)} {error}")
        if len(draft.names("flags")) > 1:
            yield draft.problem(loc, "stands alone: flags are here, or in the file")


def _rule(rule: RuleShape, flag: FlagShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if (rule.variant is None) == (not rule.split):
        yield draft.problem(loc, "needs exactly one of `variant` and `split`")
    if rule.split and not sum(rule.split.values()):
        yield draft.problem((*loc, "split"), "has only weights of 0")
    for name in (*([] if rule.variant is None else [rule.variant]), *rule.split):
        if name not in flag.variants:
            yield draft.problem(loc, f"gives {name}, which is none of the variants")


# What names flags


@dataclass(frozen=True, slots=True)
class _Use:
    """A flag that something in the file names, there; `variant` is the one it asks for; `anonymous` says why nobody can
    have signed in."""

    loc: Loc
    flag: str
    variant: str | None = None
    anonymous: str = ""


def unfit(draft: Draft, beside: SideFiles) -> Iterator[Fault]:
    """Flags and variants that routes and switches name and nobody defines, and flags that are asked too early."""
    files = [file for _, file in draft.texts(FLAG_FILE.way)]
    if any((file, FLAG_FILE) not in beside.meanings for file in files):
        return  # what they hold is not known
    known = build(draft.named("flags", FlagShape), beside)
    named = {*known, *draft.names("flags")}
    for use in _uses(draft):
        flag = known.get(use.flag)
        if use.flag not in named:
            yield draft.problem(use.loc, f"no flag is called {use.flag}", closest(use.flag, sorted(named)))
        elif flag is not None:
            yield from _misfit(use, flag, draft)
    used = {use.flag for use in _uses(draft)}
    for name in draft.names("flags"):
        if name != FILE and name not in used:
            yield draft.warning_at_key(("flags", name), "nothing uses it")


def _misfit(use: _Use, flag: FeatureFlag, draft: Draft) -> Iterator[Fault]:
    if use.variant is not None and use.variant not in flag.variants:
        what = f"flag {flag.name} has no variant {use.variant}: it has {', '.join(flag.variants)}"
        yield draft.problem(use.loc, what, closest(use.variant, flag.variants))
    if use.anonymous and flag.is_proven():
        yield draft.problem(use.loc, f"flag {flag.name} asks who signed in, and {use.anonymous}")


def _uses(draft: Draft) -> Iterator[_Use]:
    signs_in = {loc[:2] for loc, _ in draft.found(("routes", int, "auth"))}

    def anonymous(loc: Loc) -> str:
        return "" if loc[:2] in signs_in else "the route has no `auth`"

    for loc, name in draft.texts(("routes", int, "flags", int)):
        yield _Use(loc, name, None, anonymous(loc))
    for loc, variant in draft.texts(("routes", int, "only_if", str)):
        yield _Use(loc, str(loc[-1]), variant, "a route is chosen before anybody does")
    for loc, _ in draft.found(("routes", int, "by_flag", str, str)):
        yield _Use(loc, str(loc[-2]), str(loc[-1]), anonymous(loc))
    for switch in ("maintenance", "read_only"):
        for loc, name in draft.texts(("server", switch, "flag")):
            yield _Use(loc, name, ON)
