"""What `scopegate doctor` finds: one thing looked at, in one line, with its mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    """`warning` serves, and not as it should; `failed` does not serve; `unasked` could not be looked at from here."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNASKED = "unasked"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`of` names what was looked at, `said` what was found, without a secret; `mend` is what to do, empty where nothing
    is to be done."""

    of: str
    state: State
    said: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def ok(of: str, said: str) -> Diagnosis:
    return Diagnosis(of, State.OK, said)


def warning(of: str, said: str, mend: str) -> Diagnosis:
    return Diagnosis(of, State.WARNING, said, mend)


def failed(of: str, said: str, mend: str) -> Diagnosis:
    return Diagnosis(of, State.FAILED, said, mend)


def unasked(of: str, said: str) -> Diagnosis:
    return Diagnosis(of, State.UNASKED, said)


def as_lines(diagnoses: Sequence[Diagnosis]) -> list[str]:
    """`failed   database     no file at x: run ...`. What came from outside is shown as escapes where it is no text."""
    from scopegate.cli.tables import shown

    wide = max((len(one.of) for one in diagnoses), default=0)
    return [
        f"{one.state.value:<7}  {one.of:<{wide}}  {shown(one.said)}{f': {shown(one.mend)}' if one.mend else ''}"
        for one in diagnoses
    ]
