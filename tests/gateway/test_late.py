"""Sign-in that is made by the first request that needs it, and once more when that failed."""

from __future__ import annotations

import asyncio
from typing import cast

from scopegate.gateway.exchange import Exchange, Pending
from scopegate.gateway.late import LateSignIn
from scopegate.gateway.signin import SignIn
from scopegate.policy.policy import Auth


class Made:
    """A sign-in that lets everybody pass, and remembers that it was closed."""

    closed = False

    def check(self, _x: Exchange, _auth: Auth) -> None:
        return None

    async def close(self) -> None:
        self.closed = True


class Making:
    """Fails as often as it is told to."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.made = Made()

    def __call__(self) -> SignIn:
        self.calls += 1
        if self.calls <= self.failures:
            raise RuntimeError("not now")
        return cast(SignIn, self.made)


async def passes(late: LateSignIn) -> bool:
    """Whether one request gets through; False when it met a failure."""
    x, auth = cast(Exchange, None), cast(Auth, None)
    outcome = late.check(x, auth)
    if not isinstance(outcome, Pending):
        return outcome is None
    await asyncio.wait({outcome.future})
    try:
        return outcome.then(x, outcome.future) is None
    except RuntimeError:
        return False


async def test_it_is_made_once_by_the_first_who_needs_it() -> None:
    making = Making(0)
    late = LateSignIn(making)
    assert making.calls == 0
    assert await asyncio.gather(*(passes(late) for _ in range(5))) == [True] * 5
    assert await passes(late)
    assert making.calls == 1
    await late.close()
    assert making.made.closed


async def test_a_failure_ends_with_those_who_waited_for_it() -> None:
    making = Making(1)
    late = LateSignIn(making)
    assert await asyncio.gather(*(passes(late) for _ in range(3))) == [False] * 3
    assert await passes(late)
    assert making.calls == 2
    await late.close()


async def test_what_was_never_needed_is_never_made() -> None:
    making = Making(0)
    await LateSignIn(making).close()
    assert making.calls == 0
