"""What `gateway.yaml` means. `load` gives the policy to serve, `examine` everything `scopegate check` has to say.

The way of a file: `source` reads it into a `tree`, `document` gives it shape, `agreement` holds its parts to each
other, `sidefiles` reads the files it names, `build` makes the frozen `Policy`; `promises` are what it says about
itself. Nothing here waits or serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scopegate.errors import ConfigError, Problem
from scopegate.limits.pricing import PriceTable
from scopegate.policy.compile import Review, compile_policy
from scopegate.policy.policy import Policy
from scopegate.policy.sidefiles import MAX_SIDE_FILE_BYTES, Read, SideFile
from scopegate.policy.source import MAX_FILE_BYTES

__all__ = ["Policy", "Review", "compile_policy", "examine", "load", "reader_beside", "text_of"]


def load(path: str | Path, environ: Mapping[str, str], prices: PriceTable | None = None) -> Policy:
    """The policy to serve. ConfigError with every problem when the file or what it takes from the environment is
    wrong; values of the environment never show in it. With `prices`, a model without a price is a problem."""
    review = examine(path, environ, prices, lenient=False)
    if review.policy is None:
        raise ConfigError(review.problems)
    return review.policy


def examine(
    path: str | Path, environ: Mapping[str, str], prices: PriceTable | None = None, *, lenient: bool = True
) -> Review:
    """Problems and warnings of a file, and the files it names. `lenient`: secrets the environment lacks are warnings
    and empty in the policy: ask it questions, never serve it. ConfigError only when there is no file to read."""
    return compile_policy(text_of(path), str(path), environ, prices=prices, lenient=lenient, read=reader_beside(path))


def reader_beside(path: str | Path) -> Read:
    """Reads the files that a policy file at `path` names; relative paths are relative to it."""
    folder = Path(path).absolute().parent

    def read(written: str) -> SideFile:
        found = folder / written
        try:
            if found.exists() and not found.is_file():
                return SideFile(str(found), b"", "this is not a file")
            return SideFile(str(found), _read(found, MAX_SIDE_FILE_BYTES))
        except OSError as error:
            return SideFile(str(found), b"", _cannot_read(error))

    return read


def text_of(path: str | Path) -> bytes:
    """The file, or one byte more than may be read of it. ConfigError when there is none to read."""
    try:
        return _read(Path(path), MAX_FILE_BYTES)
    except IsADirectoryError:
        raise ConfigError([Problem(str(path), "", "this is a directory, not a policy file")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), "", _cannot_read(error))]) from None


def _read(path: Path, most_bytes: int) -> bytes:
    """The file, or one byte more than may be read of it."""
    with path.open("rb") as file:
        return file.read(most_bytes + 1)


def _cannot_read(error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "no such file"
        case PermissionError():
            return "the file may not be read by this user"
        case _:
            return f"the file cannot be read: {error.strerror or type(error).__name__}"
