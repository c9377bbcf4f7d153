"""A policy file that is followed, as the command line hands it over."""

from __future__ import annotations

from pathlib import Path

from scopegate import settings
from scopegate.following import source
from scopegate.following.loaded import Loaded
from scopegate.following.source import Source
from scopegate.following.stamps import stamp
from scopegate.policy import Review
from scopegate.worker import prices

TEXT = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
admin: {listen: 127.0.0.1:9900}
routes: [{name: all, match: ANY /**, tier: none}]
"""
BROKEN = "version: 1\nroutez: []\n"


def loaded(folder: Path, copy: Path | None = None) -> Loaded:
    """Of a file made there, with the state directory beside it."""
    config, state = folder / "gateway.yaml", folder / "state"
    config.write_text(TEXT)
    state.mkdir()

    def look() -> tuple[Review, Source | None]:
        return source.look(config, copy, {}, prices.load, lambda _policy: [])

    review, read = look()
    assert review.policy is not None
    assert read is not None
    environment = settings.load({"SCOPEGATE_STATE_DIR": str(state)})
    return Loaded(environment, review.policy, read, stamp([str(config)]), config, copy, state, ["gateway"], look)


def digest(text: str, folder: Path) -> str:
    """Of the policy that this text is."""
    place = folder / "another.yaml"
    place.write_text(text)
    policy = source.on_disk(place).examine({}, lenient=False).policy
    assert policy is not None
    return policy.digest
