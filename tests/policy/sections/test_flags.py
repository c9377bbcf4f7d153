"""`flags`: what a policy says, and a file as flagd has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scopegate.following.source import Source, reader_beside
from scopegate.policy import Review
from scopegate.policy.sections.flags import FeatureFlag, parse_attribute, parse_moment

ROUTES = [{"name": "all", "match": "ANY /**", "tier": "none", "auth": "visitor", "flags": ["new"]}]
AUTH = {"visitor": {"jwt": {"jwks": "https://id.example/keys", "audience": "a"}, "sign_with": "${KEY}"}}


def review(folder: Path, flags: Any, routes: Any = ROUTES, **sections: Any) -> Review:
    upstreams = {"web": {"servers": ["http://127.0.0.1:3000"]}}
    document: dict[str, Any] = {"version": 1, "upstreams": upstreams, "routes": routes, "flags": flags, "auth": AUTH}
    document |= sections
    file = folder / "gateway.yaml"
    raw = yaml.safe_dump(document, sort_keys=False).encode()
    return Source(file, raw, reader_beside(file)).examine({"KEY": "k" * 32}, lenient=True)


def flag(folder: Path, **shape: Any) -> FeatureFlag:
    found = review(folder, {"new": shape})
    assert found.policy is not None, found.problems
    return found.policy.flags["new"]


def problems(found: Review) -> list[str]:
    return [f"{problem.where} {problem.what}" for problem in found.problems]


def test_rules_become_logic(tmp_path: Path) -> None:
    found = flag(
        tmp_path,
        targeting=[
            {"when": {"claim:plan": "pro", "header:X-Tester": ["a", "b"]}, "variant": "on"},
            {"when": {"path": ["/beta/**", "/new"]}, "split": {"on": 50, "off": 50}},
            {"split": {"on": 10, "off": 90}},
        ],
        targeting_key="cookie:sid",
        starts="2027-01-15T09:00:00+01:00",
    )
    by_key = [{"var": "targetingKey"}, ["on", 50], ["off", 50]]
    assert found.targeting == {
        "if": [
            {"and": [{"in": [{"var": "claim.plan"}, ["pro"]]}, {"in": [{"var": "header.x-tester"}, ["a", "b"]]}]},
            "on",
            {
                "and": [
                    {"or": [{"in": [{"var": "path"}, ["/new"]]}, {"starts_with": [{"var": "path"}, "/beta/"]}]},
                ]
            },
            {"fractional": by_key},
            True,
            {"fractional": [{"var": "targetingKey"}, ["on", 10], ["off", 90]]},
        ]
    }
    assert (found.targeting_key, found.starts_ms, found.ends_ms) == (("cookie.sid",), 1_800_000_000_000, None)
    assert (found.variants, found.default, found.is_proven()) == (("on", "off"), "off", True)
    assert not flag(tmp_path, targeting=[{"split": {"on": 1}}]).is_proven()


@pytest.mark.parametrize("text", ["color", "targetingKey", "$flagd.flagKey", "claim:", "", "api_key", "claim"])
def test_an_attribute_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        parse_attribute(text)


@pytest.mark.parametrize("text", ["tomorrow", "2027-01-15T08:00:00", "2027-13-01T00:00:00Z", "2027-01-15"])
def test_a_moment_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|offset"):
        parse_moment(text)


FLAGD = {
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "flags": {
        "new": {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": "off",
            "targeting": {"if": [{"in": [{"var": "user"}, ["alice"]]}, "on", None]},
        },
        "old": {"state": "DISABLED", "variants": {"a": 1, "b": {}}, "defaultVariant": "b"},
    },
}
TWO = [{**ROUTES[0], "flags": ["new", "old"]}]


def test_a_file_as_flagd_has_it(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text(json.dumps(FLAGD))
    found = review(tmp_path, {"file": "flags.json"}, TWO)
    assert found.policy is not None, found.problems
    assert found.policy.flags == {
        "new": FeatureFlag("new", ("on", "off"), "off", FLAGD["flags"]["new"]["targeting"]),  # type: ignore[index]
        "old": FeatureFlag("old", ("a", "b"), "b", enabled=False),
    }
    assert found.policy.files == (str(tmp_path / "flags.json"),)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is not JSON"),
        ('{"flags": {"new": {"state": "ENAB', "is not JSON"),
        ("[]", 'has no object "flags"'),
        ('{"flags": []}', 'has no object "flags"'),
        ('{"flags": {"new": 1}}', "flag 'new' is no object"),
        (
            '{"flags": {"New": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a"}}}',
            "flag 'New' is not a",
        ),
        ('{"flags": {"new": {"state": "on", "variants": {"a": 1}, "defaultVariant": "a"}}}', "needs a state"),
        ('{"flags": {"new": {"state": "ENABLED", "variants": {}, "defaultVariant": "a"}}}', "needs variants"),
        (
            '{"flags": {"new": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}}}',
            "none of its variants",
        ),
        ('{"flags": {"new": {"state": "ENABLED", "variants": {"a": 1}, "dflt": "a"}}}', "has 'dflt'"),
        (
            '{"flags": {"new": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a", "targeting": "b"}}}',
            "answers with 'b', which is no variant",
        ),
        (
            '{"flags": {"new": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a",'
            ' "targeting": {"sem_ver": [1, 2, 3]}}}}',
            "the operator 'sem_ver', which is not known",
        ),
    ],
)
def test_a_file_that_cannot_be_taken_is_named(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "flags.json").write_text(content)
    [found] = problems(review(tmp_path, {"file": "flags.json"}))
    assert "'flags.json' " in found
    assert what in found


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"file": "gone.json"}, "no such file"),
        ({"file": 7}, "must be the name of a file"),
        ({"file": "https://x/y.json"}, "https://x/y.json"),
        ({"file": "gone.json", "new": {}}, "stands alone"),
        ({"new": {"variants": ["a", "a"], "default_variant": "a"}}, "names a variant twice"),
        ({"new": {"default_variant": "maybe"}}, "`default_variant` is maybe"),
        ({"new": {"targeting": [{}]}}, "exactly one of `variant` and `split`"),
        ({"new": {"targeting": [{"variant": "on", "split": {"on": 1}}]}}, "exactly one of `variant` and `split`"),
        ({"new": {"targeting": [{"variant": "of"}]}}, "gives of, which is none of the variants"),
        ({"new": {"targeting": [{"split": {"on": 0, "off": 0}}]}}, "only weights of 0"),
        ({"new": {"targeting": [{"when": {"shoe": "1"}, "variant": "on"}]}}, "is not known"),
        ({"new": {"starts": "2027-01-02T00:00:00Z", "ends": "2027-01-01T00:00:00Z"}}, "is not after `starts`"),
        ({"other": {}}, "no flag is called new"),
    ],
)
def test_what_does_not_make_sense_is_named(tmp_path: Path, flags: Any, what: str) -> None:
    found = problems(review(tmp_path, flags))
    assert any(what in one for one in found), found


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ({"only_if": {"new": "maybe"}}, "flag new has no variant maybe"),
        ({"only_if": {"nwe": "on"}}, "no flag is called nwe"),
        ({"only_if": {"pro": "on"}}, "asks who signed in, and a route is chosen before"),
        ({"flags": ["pro"]}, "asks who signed in, and the route has no `auth`"),
        ({"by_flag": {"pro": {"on": {"tier": "none"}}}}, "asks who signed in, and the route has no `auth`"),
        ({"by_flag": {"new": {"maybe": {"upstream": "web"}}}}, "flag new has no variant maybe"),
        ({"by_flag": {"new": {"on": {"upstream": "wbe"}}}}, "wbe"),
        ({"by_flag": {"new": {"on": {"tier": "strickt"}}}}, "strickt"),
        ({"by_flag": {"new": {}, "pro": {}}}, "at most 1"),
    ],
)
def test_routes_name_flags_and_variants_that_are_there(tmp_path: Path, route: dict[str, Any], what: str) -> None:
    flags = {"new": {}, "pro": {"targeting": [{"when": {"claim:plan": "pro"}, "variant": "on"}]}}
    found = problems(review(tmp_path, flags, [{"name": "all", "match": "ANY /**", "tier": "none", **route}]))
    assert any(what in one for one in found), found


@pytest.mark.parametrize("switch", ["maintenance", "read_only"])
def test_a_switch_needs_a_flag_with_the_variant_on(tmp_path: Path, switch: str) -> None:
    flags = {"new": {"variants": ["a", "b"], "default_variant": "a"}}
    assert any("no variant on" in one for one in problems(review(tmp_path, flags, server={switch: {"flag": "new"}})))
    assert any("no flag is" in one for one in problems(review(tmp_path, flags, server={switch: {"flag": "x"}})))


def test_a_flag_that_nothing_uses_is_told(tmp_path: Path) -> None:
    found = review(tmp_path, {"new": {}, "spare": {}})
    assert [f"{one.where} {one.what}".split()[-3:] for one in found.warnings] == [["nothing", "uses", "it"]]
