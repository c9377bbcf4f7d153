"""The redirecting port: its connections are those of the public port, with steps of their own. Nothing is forwarded.

What is answered is decided in `edge/redirect`; here a challenge's file is read.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import ExitStack
from typing import Any

from scopegate.edge.redirect import challenge, challenge_token, host_name, to_https
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Refusal
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.pipeline import admit, admit_caller, find_caller, read_fields
from scopegate.gateway.protocol import ClientConnection

MAX_CHALLENGE_BYTES = 4096
"""A key authorization has less than 200."""
_CHALLENGES = (".well-known", "acme-challenge")
_GONE = Refusal(404, "no_route", "Nothing is served here.", close=True)


def redirect(x: Exchange) -> Outcome:
    """To the same page by https, unless it is a challenge that is there."""
    server = x.rules.policy.server
    if server.redirect is None or server.hosts is None:
        return _GONE  # by a policy that was adopted since: the port itself waits for a start
    target = judge_target(x.head.method, x.head.target, x.notes.get(b"host"), None)
    if isinstance(target, Refusal):
        return target
    x.target, x.method, x.path = target, target.method, target.path
    x.keep_alive = False  # nobody comes back to this port
    answer = to_https(target, frozenset(map(host_name, server.hosts)), server.redirect.port)
    token, webroot = challenge_token(target), server.redirect.webroot
    if token is None or webroot is None or isinstance(answer, Refusal):
        return answer

    def told(_x: Exchange, reading: asyncio.Future[bytes | None]) -> Outcome:
        content = reading.result()
        return answer if content is None else challenge(content)

    return Pending(x.shared.loop.run_in_executor(None, read_challenge, webroot, token), told)


STEPS = (admit, read_fields, find_caller, admit_caller, redirect)


def read_challenge(webroot: str, token: str) -> bytes | None:
    """The content of a plain file that lies where an ACME client puts it, no link to another place; None when there is
    none, or none of a challenge's size. `token` is a file's name."""
    look = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        with ExitStack() as opened:
            at = os.open(webroot, look | os.O_DIRECTORY)
            opened.callback(os.close, at)
            for name in (*_CHALLENGES, token):
                at = os.open(name, look | os.O_NOFOLLOW, dir_fd=at)
                opened.callback(os.close, at)
            content = os.read(at, MAX_CHALLENGE_BYTES + 1) if stat.S_ISREG(os.fstat(at).st_mode) else b""
    except OSError:
        return None
    return content if 0 < len(content) <= MAX_CHALLENGE_BYTES else None


def connection(*, config: Any, server_state: Any, app_state: dict[str, Any]) -> ClientConnection:
    """One connection to the redirecting port; see `ClientConnection`."""
    return ClientConnection(config, server_state, {**app_state, "steps": STEPS})
