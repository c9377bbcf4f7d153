"""Sign-in that is loaded by the first request that needs it: the libraries behind it weigh as much as the rest of the
gateway's own code, and a policy may ask for it only after a reload. Called by the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopegate.gateway.exchange import Exchange, Outcome, Pending

if TYPE_CHECKING:
    from scopegate.gateway.signin import SignIn
    from scopegate.policy.policy import Auth


class LateSignIn:
    """`SignIn` made by `make`, once, in a thread."""

    def __init__(self, make: Callable[[], SignIn]) -> None:
        self._make = make
        self._made: SignIn | None = None
        self._making: asyncio.Task[SignIn] | None = None

    def check(self, x: Exchange, auth: Auth) -> Outcome:
        if self._made is not None:
            return self._made.check(x, auth)

        def made(x: Exchange, future: asyncio.Future[None]) -> Outcome:
            future.result()
            return self.check(x, auth)

        return Pending(asyncio.ensure_future(self._ready()), made)

    async def _ready(self) -> None:
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        self._made = await asyncio.shield(self._making)

    async def close(self) -> None:
        if self._making is not None and self._made is None:
            await asyncio.gather(self._making, return_exceptions=True)
        if self._made is not None:
            await self._made.close()
