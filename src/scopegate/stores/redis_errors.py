"""What Redis' failures mean in our words: its error answers by their first word, redis-py's exceptions by their class.

redis-py is loaded by those who met one of its exceptions: the limits of every request do without it (see
`redis_address`). Used by all that talk to Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scopegate.errors import StoreUnavailable

_ANSWERS: dict[str, StoreUnavailable.Kind] = {
    "READONLY": "readonly",
    "OOM": "full",
    "MISCONF": "full",  # it cannot write its file, and takes no writes for that
    "NOAUTH": "connect",
    "WRONGPASS": "connect",
    "LOADING": "connect",  # starting up
}
"""By the prefix of an error answer."""

_MAX_CHARS = 200


def kind_of_answer(text: str) -> StoreUnavailable.Kind:
    """What an error answer of the server means."""
    return _ANSWERS.get(text.partition(" ")[0], "other")


@contextmanager
def translated() -> Iterator[None]:
    """Turns every exception of redis-py and of its sockets into StoreUnavailable; others pass."""
    try:
        yield
    except Exception as error:
        kind = kind_of(error)
        if kind is None:
            raise
        raise StoreUnavailable(kind, str(error)[:_MAX_CHARS] or type(error).__name__) from error


def kind_of(error: BaseException) -> StoreUnavailable.Kind | None:
    """What an exception of redis-py or its sockets means, None for one that is none of theirs."""
    from redis import exceptions

    match error:
        case TimeoutError() | exceptions.TimeoutError():
            return "timeout"
        case exceptions.ReadOnlyError():
            return "readonly"
        case exceptions.OutOfMemoryError():
            return "full"
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case exceptions.ConnectionError():
            return _of_connection(str(error))
        case OSError():
            return "connect"
        case exceptions.RedisError():
            return kind_of_answer(str(error))
        case _:
            return None


def _of_connection(text: str) -> StoreUnavailable.Kind:
    """redis-py has one class for the hang-up of a connection in use and for the failure to make one."""
    in_use = ("closed by server", "while reading", "while writing")  # no host's name has a space in it
    return "reset" if any(words in text for words in in_use) else "connect"
