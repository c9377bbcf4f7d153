"""Policies for tests: from a text, or from a file as a process reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scopegate.errors import ConfigError
from scopegate.following.source import on_disk
from scopegate.policy import Policy, Review, compile_policy, draft_of
from scopegate.policy.sections.ai import Prices

HERE = Path(__file__).parent / "policy"
EXAMPLE = HERE / "example.yaml"
SECRET = "sixteen-bytes-of-secret"
ENVIRON = {"SCOPEGATE_WEBHOOK_SECRET": SECRET, "IDENTITY_SECRET": f"{SECRET}-twice-{SECRET}"}
"""What the example needs."""
EDGE = HERE / "edge.yaml"
KEY = "a key to sign identities, thirty-two bytes"
"""The IDENTITY_SECRET of EDGE, which uses every setting of the edge."""
MINIMAL = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: ANY /**, tier: lenient}]
"""
STANDARD = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
)
"""The fields of answers of a route that names no `headers`."""


def review(text: str | bytes, environ: Mapping[str, str] | None = None) -> Review:
    """Of a policy that names no files."""
    raw = text if isinstance(text, bytes) else text.encode()
    return compile_policy(draft_of(raw, "F", environ or {}))


def compiled(text: str | bytes, environ: Mapping[str, str] | None = None) -> Policy:
    found = review(text, environ)
    assert found.policy is not None, found.problems
    return found.policy


def route(**settings: Any) -> dict[str, Any]:
    return {"name": "all", "match": "ANY /**", "tier": "none", **settings}


def document(**sections: Any) -> dict[str, Any]:
    """One upstream and one route for everything, unless `sections` say something else."""
    upstreams = {"web": {"servers": ["http://127.0.0.1:3000"]}}
    return {"version": 1, "upstreams": upstreams, "routes": [route()], **sections}


def compiled_with(**sections: Any) -> Policy:
    return compiled(yaml.safe_dump(document(**sections)))


def examine(path: Path, environ: Mapping[str, str], prices: Prices | None = None) -> Review:
    """Secrets that the environment lacks are warnings."""
    return on_disk(path).examine(environ, prices, lenient=True)


def load(path: Path, environ: Mapping[str, str]) -> Policy:
    """The policy as it is served. ConfigError with every problem."""
    found = on_disk(path).examine(environ, lenient=False)
    if found.policy is None:
        raise ConfigError(found.problems)
    return found.policy
