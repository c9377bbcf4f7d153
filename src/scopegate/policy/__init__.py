"""What `gateway.yaml` means. `load` gives the policy to serve, `examine` everything `scopegate check` has to say.

The way of a file: `source` reads it into a `tree`, `document` gives it shape, `agreement` holds its parts to each
other, `compile` makes the frozen `Policy`; `promises` are what it says about itself. Nothing here waits or serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scopegate.errors import ConfigError, Problem
from scopegate.limits.pricing import PriceTable
from scopegate.policy.compile import Review, compile_policy
from scopegate.policy.source import MAX_FILE_BYTES

__all__ = ["Policy", "Review", "examine", "load"]

from scopegate.policy.policy import Policy


def load(path: str | Path, environ: Mapping[str, str], prices: PriceTable | None = None) -> Policy:
    """The policy to serve. ConfigError with every problem when the file or what it takes from the environment is
    wrong; values of the environment never show in it. With `prices`, a model without a price is a problem."""
    review = compile_policy(_bytes_of(path), str(path), environ, prices=prices)
    if review.policy is None:
        raise ConfigError(review.problems)
    return review.policy


def examine(path: str | Path, environ: Mapping[str, str], prices: PriceTable | None = None) -> Review:
    """Problems and warnings of a file. Secrets the environment lacks are warnings and empty in the policy: ask it
    questions, never serve it. ConfigError only when there is no file to read."""
    return compile_policy(_bytes_of(path), str(path), environ, prices=prices, lenient=True)


def _bytes_of(path: str | Path) -> bytes:
    """The file, or one byte more than may be read of it."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(str(path), "", _cannot_read(error))]) from None


def _cannot_read(error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "no such file"
        case IsADirectoryError():
            return "this is a directory, not a policy file"
        case PermissionError():
            return "the file may not be read by this user"
        case _:
            return f"the file cannot be read: {error.strerror or type(error).__name__}"
