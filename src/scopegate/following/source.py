"""The policy file as a process reads it: from where it stands, or from the copy that its supervisor keeps.

The copy is the last good file with the files it names, in one file of the state directory. Children of a supervisor
read nothing else: all of them serve the same, and one that is started anew while the file is being mended starts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scopegate import policy as policies
from scopegate.limits.pricing import PriceTable
from scopegate.policy import Review
from scopegate.policy.sidefiles import Read, SideFile


@dataclass(slots=True)
class Source:
    """One reading of the file. `beside` fills as the policy asks for the files it names, by their paths as written."""

    config: Path
    text: bytes
    _read: Read
    beside: dict[str, SideFile] = field(default_factory=dict)

    def examine(self, environ: Mapping[str, str], prices: PriceTable, *, lenient: bool) -> Review:
        """See `policy.examine`."""
        return policies.compile_policy(
            self.text, str(self.config), environ, prices=prices, lenient=lenient, read=self._beside
        )

    def _beside(self, written: str) -> SideFile:
        if written not in self.beside:
            self.beside[written] = self._read(written)
        return self.beside[written]

    def save(self, place: Path) -> None:
        """Write the copy, at once and for us alone. Raises OSError."""
        beside = {written: _packed(file) for written, file in self.beside.items()}
        fresh = place.with_suffix(".fresh")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({"text": base64.b64encode(self.text).decode(), "beside": beside}), "utf-8")
        fresh.rename(place)


def on_disk(config: Path) -> Source:
    """Raises ConfigError when there is no file to read."""
    return Source(config, policies.text_of(config), policies.reader_beside(config))


def copied(config: Path, place: Path) -> Source:
    """What a supervisor saved there for `config`; the file itself when the copy is gone. ConfigError as `on_disk`."""
    try:
        kept = json.loads(place.read_text("utf-8"))
        beside = {written: _unpacked(file) for written, file in kept["beside"].items()}
        return Source(config, base64.b64decode(kept["text"]), policies.reader_beside(config), beside)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return on_disk(config)


def _packed(file: SideFile) -> dict[str, str | None]:
    return {"path": file.path, "content": base64.b64encode(file.content).decode(), "fault": file.fault}


def _unpacked(packed: dict[str, str]) -> SideFile:
    return SideFile(packed["path"], base64.b64decode(packed["content"]), packed["fault"])
