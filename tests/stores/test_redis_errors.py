"""Each failure of Redis has one name, whichever of our two ways to Redis met it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from scopegate.errors import StoreUnavailable
from scopegate.stores.redis_errors import kind_of, kind_of_answer, translated

ANSWERS = [
    ("READONLY You can't write against a read only replica.", "readonly"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "full"),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "full"),
    ("NOAUTH Authentication required.", "connect"),
    ("WRONGPASS invalid username-password pair or user is disabled.", "connect"),
    ("LOADING Redis is loading the dataset in memory", "connect"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", "other"),
    ("NOPERM this user has no permissions to run the 'evalsha' command", "other"),
    ("ERR unknown command", "other"),
]


@pytest.mark.parametrize(("answer", "kind"), ANSWERS, ids=lambda value: str(value).partition(" ")[0])
def test_an_error_answer_means_the_same_read_by_us_and_by_redis_py(answer: str, kind: str) -> None:
    assert kind_of_answer(answer) == kind
    assert kind_of(BaseParser.parse_error(answer)) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RedisTimeout("Timeout connecting to server"), "timeout"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (RedisConnectionError("Connection closed by server."), "reset"),
        (RedisConnectionError("Error while reading from 127.0.0.1:6379 : (104, 'Connection reset by peer')"), "reset"),
        (RedisConnectionError("Error 32 while writing to socket. Broken pipe."), "reset"),
        (RedisConnectionError("Error 111 connecting to reading.example:6379. Connection refused."), "connect"),
        (RedisConnectionError("No connection available."), "connect"),
        (ConnectionRefusedError(), "connect"),
        (ResponseError(""), "other"),
        (ValueError(), None),
    ],
    ids=repr,
)
def test_every_failure_has_one_name(error: Exception, kind: str | None) -> None:
    assert kind_of(error) == kind


def test_a_failure_leaves_as_an_outage_that_says_why() -> None:
    with pytest.raises(StoreUnavailable, match=r"reset: Connection closed by server\.") as caught, translated():
        raise RedisConnectionError("Connection closed by server.")
    assert caught.value.kind == "reset"
    with pytest.raises(StoreUnavailable, match="timeout: TimeoutError"), translated():
        raise TimeoutError


def test_what_is_none_of_redis_passes() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        _ = 1 // 0


def test_the_words_are_known_without_redis_py() -> None:
    script = "import sys, scopegate.stores.redis_errors; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
