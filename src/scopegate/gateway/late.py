"""Sign-in that is loaded by the first request that needs it: the libraries behind it weigh as much as the rest of the
gateway's own code, and a policy may ask for it only after a reload. Called by the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.lazy import Lazy

if TYPE_CHECKING:
    from scopegate.gateway.signin import SignIn
    from scopegate.policy.policy import Auth


class LateSignIn:
    """`SignIn` made by `make`, once, in a thread."""

    def __init__(self, make: Callable[[], SignIn]) -> None:
        self._signin = Lazy.in_thread(make)

    def check(self, x: Exchange, auth: Auth) -> Outcome:
        if self._signin.made is not None:
            return self._signin.made.check(x, auth)

        def made(x: Exchange, future: asyncio.Future[SignIn]) -> Outcome:
            return future.result().check(x, auth)

        return Pending(asyncio.ensure_future(self._signin.get()), made)

    async def close(self) -> None:
        if (signin := await self._signin.stop()) is not None:
            await signin.close()
