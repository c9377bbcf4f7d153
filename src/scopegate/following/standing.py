"""What each process says of the policy it serves, in a folder of the state directory (`process/board`), for `scopegate
reload` to read. Knows nothing of what a policy is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scopegate import jsontext
from scopegate.process import board
from scopegate.process.board import here

FOLDER = "gateway"
_MAX_PROBLEMS = 50
_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """`leader` is the pid of the process that reads the file and hears SIGHUP: a gateway's supervisor, or itself.
    `heard` is how many requests to reload it had got when its last reload began; `outcome` is empty before the first.
    `processes` is how many processes serve for a leader that serves nothing itself, when all of them do; 0 for another.
    """

    pid: int
    leader: int
    config: str
    digest: str
    at_ms: int
    heard: int = 0
    outcome: str = ""
    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    processes: int = 0
    host: str = field(default_factory=here)


class Post(board.Note):
    """This process's place in the folder."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir / FOLDER)

    def say(self, standing: Standing) -> bool:
        """See `Note.write`: a process serves all the same."""
        bounded = asdict(standing) | {"problems": [text[:_MAX_CHARS] for text in standing.problems[:_MAX_PROBLEMS]]}
        return self.write(json.dumps(bounded))


def living(state_dir: Path) -> list[Standing]:
    """What the living processes last said."""
    found = map(_read, board.living(state_dir / FOLDER))
    return [standing for standing in found if standing is not None]


def _read(text: bytes) -> Standing | None:
    try:
        said: Any = jsontext.parse(text, max_depth=2)
        return Standing(**said | {name: tuple(said[name]) for name in ("problems", "needs_restart")})
    except (ValueError, TypeError, KeyError):
        return None
