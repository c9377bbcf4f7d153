"""Signed webhooks to the app: one POST per message, answered 2xx or not delivered.

The only file that names httpx for deliveries. What is signed and how is in `leads/webhook`; which errors are worth
another try is decided here, when to try again is decided by `worker/steps`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import httpx

from scopegate import __version__
from scopegate.clock import Clock
from scopegate.errors import DeliveryError
from scopegate.leads.webhook import signed_fields
from scopegate.policy.policy import Deliver
from scopegate.worker.retry_after import retry_after_s

DELIVERY_TIMEOUT_S: Final = 10.0
"""From the first attempt to connect to the head of the answer; its body is not read."""


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

        DeliveryError codes: `unreachable`, `timeout`, `unavailable` (408, 425, 429, 5xx; it may say how long to wait),
        all retryable; `redirected` and `rejected` (any other status) are final: sending the same again cannot help."""
        fields = _request_fields(to, message_id, self._clock.now_ms() // 1000, body)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(to.url, fields, body)
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryError("timeout", retryable=True) from None
        except httpx.HTTPError as error:
            raise DeliveryError("unreachable", type(error).__name__, retryable=True) from None
        _check(response)
        return response.status_code

    async def _post(self, url: str, fields: dict[str, str], body: bytes) -> httpx.Response:
        client = httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._timeout_s)
        async with client, client.stream("POST", url, headers=fields, content=body) as response:
            return response


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
