"""Tokens, sessions and the tokens of forms."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import SecretStr

from scopegate.admin import credentials
from scopegate.admin.credentials import SESSION_S, ConsoleRole, Credentials, Who, WrongTries
from scopegate.clock import ManualClock
from tests.admin import house

VIEWER = "the-token-of-a-viewer"


def made(clock: ManualClock | None = None, token: str = house.TOKEN) -> Credentials:
    return Credentials(SecretStr(token), clock or ManualClock(), SecretStr("app" * 6), SecretStr(VIEWER))


def test_each_token_opens_what_it_is_for() -> None:
    known = made()
    assert known.role_of(house.TOKEN) is ConsoleRole.OPERATOR
    assert known.role_of(VIEWER) is ConsoleRole.VIEWER
    assert [known.role_of(text) for text in ("", house.TOKEN[:-1], "app" * 6, "\ud800")] == [None] * 4
    assert known.is_reader("app" * 6)
    assert not known.is_reader(house.TOKEN)
    assert Credentials(None, ManualClock()).role_of("") is None


def test_a_session_says_who_it_is_until_it_ends() -> None:
    clock = ManualClock()
    known = made(clock)
    cookie = known.begin("Anna ü", ConsoleRole.VIEWER)
    who = known.of_session(cookie)
    assert who is not None
    assert (who.name, who.role, who.by, who.may_act) == ("Anna ü", ConsoleRole.VIEWER, "session", False)
    assert made(clock).of_session(cookie) == who, "it outlives a restart"
    clock.advance(SESSION_S - 1)
    assert known.of_session(cookie) is not None
    clock.advance(1)
    assert known.of_session(cookie) is None


def test_a_session_ends_when_it_is_left_or_a_token_changes() -> None:
    known = made()
    one, other = known.begin("a", ConsoleRole.OPERATOR), known.begin("a", ConsoleRole.OPERATOR)
    who = known.of_session(one)
    assert who is not None
    known.end(who)
    assert known.of_session(one) is None
    assert known.of_session(other) is not None
    assert made(token="another-token-altogether").of_session(other) is None


def test_nobody_seals_a_session_but_us() -> None:
    known = made()
    packed, _, seal = known.begin("a", ConsoleRole.VIEWER).partition(".")
    said = json.loads(base64.urlsafe_b64decode(packed + "=="))
    raised = base64.urlsafe_b64encode(json.dumps(said | {"r": "operator"}).encode()).decode().rstrip("=")
    for forged in (f"{raised}.{seal}", f"{packed}.", f"{packed}", "", ".", f"{packed}.{seal}x", "ü.ü", "\ud800.\ud800"):
        assert known.of_session(forged) is None, forged


def test_sessions_that_ended_are_remembered_within_bounds() -> None:
    known = made()
    for n in range(credentials.MAX_ENDED + 50):
        known.end(Who("a", ConsoleRole.VIEWER, "session", str(n)))
    assert len(known._ended) == credentials.MAX_ENDED


@pytest.mark.parametrize(
    "other",
    [
        Who("b", ConsoleRole.OPERATOR, "session", "s"),
        Who("a", ConsoleRole.OPERATOR, "session", "t"),
        Who("a", ConsoleRole.OPERATOR, "identity", "s"),
    ],
)
def test_a_forms_token_is_of_one_session(other: Who) -> None:
    known, mine = made(), Who("a", ConsoleRole.OPERATOR, "session", "s")
    assert known.is_form_token(mine, known.form_token(mine))
    assert not known.is_form_token(mine, known.form_token(other))
    assert not known.is_form_token(mine, "")
    assert not known.is_form_token(mine, "ü\ud800")


def test_the_memory_of_wrong_tries_is_bounded() -> None:
    tries = WrongTries(ManualClock())
    for n in range(credentials.MAX_ADDRESSES + 500):
        tries.add(f"10.0.{n // 256}.{n % 256}")
    assert len(tries._tries) == credentials.MAX_ADDRESSES
