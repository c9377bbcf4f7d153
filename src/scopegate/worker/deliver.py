"""Signed messages to the app: webhooks, one POST each, answered 2xx or not delivered; and questions about its leads.

The only file that names httpx for them. What is signed and how is in `leads/webhook`; which errors are worth
another try is decided here, when to try again is decided by `worker/steps`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import httpx

from scopegate import __version__
from scopegate.clock import Clock
from scopegate.errors import DeliveryError
from scopegate.leads.webhook import signed_fields
from scopegate.policy.policy import Deliver
from scopegate.worker.retry_after import retry_after_s

DELIVERY_TIMEOUT_S: Final = 10.0
"""From the first attempt to connect to the head of the answer, and to its end where its body is read."""
MAX_ANSWER_BYTES: Final = 1024 * 1024


class AppAnswer(NamedTuple):
    """What the app says to a question. `coding` is its Content-Encoding."""

    status: int
    body: bytes
    coding: str


class Courier:
    """Delivers messages. Holds no connection: there are two deliveries per lead, and the app may restart between."""

    def __init__(
        self, clock: Clock, *, timeout_s: float = DELIVERY_TIMEOUT_S, tls: ssl.SSLContext | None = None
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    async def deliver(self, to: Deliver, message_id: str, body: bytes) -> int:
        """The 2xx status with which the app took the message. The same `message_id` marks a repeat for the app.

        DeliveryError codes: `unreachable`, `timeout`, `unavailable` (408, 425, 429, 5xx), all retryable; `redirected`
        and `rejected` (any other status) are final: sending the same again cannot help."""
        async with self._posted(to, to.url, message_id, body) as response:
            _check(response)
            return response.status_code

    async def ask(self, to: Deliver, url: str, message_id: str, body: bytes) -> AppAnswer:
        """The app's answer to a question at `url`, whatever its status. DeliveryError: `unreachable`, `timeout`, or
        `rejected` for an answer of more than MAX_ANSWER_BYTES."""
        async with self._posted(to, url, message_id, body) as response:
            answer = bytearray()
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise DeliveryError("rejected", "the answer is too large", retryable=False)
            return AppAnswer(response.status_code, bytes(answer), response.headers.get("content-encoding", ""))

    @asynccontextmanager
    async def _posted(self, to: Deliver, url: str, message_id: str, body: bytes) -> AsyncIterator[httpx.Response]:
        fields = _request_fields(to, message_id, self._clock.now_ms() // 1000, body)
        client = httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._timeout_s)
        try:
            posting = client.stream("POST", url, headers=fields, content=body)
            async with asyncio.timeout(self._timeout_s), client, posting as response:
                yield response
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryError("timeout", retryable=True) from None
        except httpx.HTTPError as error:
            raise DeliveryError("unreachable", type(error).__name__, retryable=True) from None


def _request_fields(to: Deliver, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    return {
        **signed_fields((secret.get_secret_value() for secret in to.secrets), message_id, timestamp_s, body),
        "content-type": "application/json",
        "user-agent": f"scopegate/{__version__}",
    }


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in (408, 425, 429) or status >= 500:
        wait_s = retry_after_s(response.headers)
        raise DeliveryError("unavailable", str(status), retryable=True, retry_after_s=wait_s)
    raise DeliveryError("redirected" if 300 <= status < 400 else "rejected", str(status), retryable=False)
