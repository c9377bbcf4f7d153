"""One call to the Messages API: a Reply with its usage, or a typed AIError. The only importer of `anthropic`.

No retry, no price, no validation of what the model said: those belong to `worker/metered`. The SDK's own retries are
off, because it sleeps for as long as Retry-After says. Whatever comes back with a usage is a Reply, also a refused or
truncated answer: its bill must not be lost. Importing this module costs seconds and tens of megabytes.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import anthropic
import httpx2
from anthropic.types import MessageParam, OutputConfigParam
from pydantic import SecretStr

from scopegate import jsontext
from scopegate.errors import AICode, AIError, AIRateLimitError, AITimeoutError
from scopegate.limits.pricing import Usage
from scopegate.worker.call import BATCH, ListedBatch, ModelReply, ModelRequest
from scopegate.worker.retry_after import retry_after_s

PUBLIC_URL: Final = "https://api.anthropic.com"
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_MAX_DEPTH: Final = 64
_CONNECT_TIMEOUT_S: Final = 5.0
_COUNT_TIMEOUT_S: Final = 5.0
BATCH_TIMEOUT_S: Final = 60.0
"""Of each question about batches: a new one carries its pictures."""
_PAGE: Final = 100
_MAX_PAGES: Final = 20

_SPEND_LIMITS: Final = frozenset({
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "linked_organization_billing_unavailable",
})  # fmt: skip
"""Error codes that no waiting heals, though two of them come with status 429."""

_TERMS: Final = ("inference_geo", "service_tier", "speed")
"""What a usage says in words, and a price may depend on."""

_READ: Final = frozenset({
    *_TERMS,
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
    "output_tokens_details",
})  # fmt: skip
"""Every field of a usage whose meaning is known; the details of the output are part of it."""

_TYPES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that belongs to an error's type: needed when the error arrives inside a 200."""


class ClaudeCaller:
    """Speaks to one base URL with one key. `base_url` None means the public API. `proxy` is the URL of an HTTP proxy
    that tunnels, `trust` replaces the authorities that the SDK brings. The environment has no other say."""

    def __init__(
        self,
        api_key: SecretStr,
        base_url: str | None = None,
        *,
        proxy: str | None = None,
        trust: ssl.SSLContext | None = None,
        connections: int = 100,
    ) -> None:
        # The SDK would add whatever fields this names to every call, and has no argument against it.
        os.environ.pop("ANTHROPIC_CUSTOM_HEADERS", None)
        # A redirect is never followed: it would carry lead photos and the key to wherever it points.
        http = anthropic.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=False,
            proxy=proxy,
            verify=trust or True,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            event_hooks={"response": [_bound_body]},
        )
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key.get_secret_value(),
            base_url=base_url or PUBLIC_URL,
            max_retries=0,
            http_client=http,
        )

    async def call(self, request: ModelRequest) -> ModelReply:
        """Raises AITimeoutError when the last byte is not there after `timeout_s`, however the bytes trickle."""
        answer = await _named(self._send(request), request.timeout_s)
        return _read(answer.http_response)

    async def count_input(self, request: ModelRequest) -> int:
        """As the port says. Raises the same errors as a call."""
        timeout_s = min(_COUNT_TIMEOUT_S, request.timeout_s)
        sending = self._client.messages.with_raw_response.count_tokens(
            model=request.model,
            system=request.system,
            messages=[_message(request)],
            output_config=_output_config(request),
            timeout=httpx2.Timeout(timeout_s),
        )
        answer = await _named(sending, timeout_s)
        body = _json(answer.http_response.content)
        try:
            return _count(body["input_tokens"])
        except (KeyError, TypeError, ValueError):
            raise AIError("server_error", "a count that is none", retryable=True) from None

    async def _send(self, request: ModelRequest) -> Any:
        return await self._client.messages.with_raw_response.create(
            **_params(request),
            timeout=httpx2.Timeout(request.timeout_s, connect=min(_CONNECT_TIMEOUT_S, request.timeout_s)),
        )

    # ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_batch(self, requests: Mapping[str, ModelRequest]) -> str:
        """As the port says."""
        asked: list[Any] = [{"custom_id": name, "params": _params(request)} for name, request in requests.items()]
        creating = self._client.messages.batches.with_raw_response.create(requests=asked, timeout=BATCH_TIMEOUT_S)
        return _batch((await self._about_batches(creating)).content).batch_id

    async def list_batches(self, since_ms: int) -> Sequence[ListedBatch]:
        """As the port says; at most 2,000."""
        found: list[ListedBatch] = []
        after: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            listing = self._client.messages.batches.with_raw_response.list(
                limit=_PAGE, timeout=BATCH_TIMEOUT_S, **after
            )
            page, has_more = _page((await self._about_batches(listing)).content)
            found += [batch for batch in page if batch.created_ms >= since_ms]
            if not has_more or not page or page[-1].created_ms < since_ms:
                break
            after = {"after_id": page[-1].batch_id}
        return found

    async def batch_results(self, batch_id: str) -> Mapping[str, ModelReply | AIError]:
        """As the port says. The address is ours: one that the API names might be anybody's."""
        path = f"/v1/messages/batches/{batch_id}/results"
        options: Any = {"timeout": BATCH_TIMEOUT_S}
        response = await _named(self._client.get(path, cast_to=httpx2.Response, options=options), BATCH_TIMEOUT_S)
        lines = [_json(line) for line in response.content.splitlines() if line.strip()]
        try:
            return {line["custom_id"]: _result(line["result"]) for line in lines}
        except (KeyError, TypeError):
            raise AIError("server_error", "results that are none", retryable=True) from None

    async def cancel_batch(self, batch_id: str) -> None:
        await self._about_batches(
            self._client.messages.batches.with_raw_response.cancel(batch_id, timeout=BATCH_TIMEOUT_S)
        )

    async def _about_batches(self, asking: Awaitable[Any]) -> httpx2.Response:
        answer = await _named(asking, BATCH_TIMEOUT_S)
        response: httpx2.Response = answer.http_response
        return response

    async def close(self) -> None:
        await self._client.close()


def _params(request: ModelRequest) -> dict[str, Any]:
    """What is asked of the model, by the API's names."""
    return {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": request.system,
        "messages": [_message(request)],
        "output_config": _output_config(request),
    }


async def _named(sending: Awaitable[Any], timeout_s: float) -> Any:
    """The raw answer; every failure by its name in the error table."""
    try:
        async with asyncio.timeout(timeout_s):
            return await sending
    except TimeoutError:
        raise AITimeoutError(
            "timeout", f"no complete answer within {timeout_s:g} s", retryable=True, maybe_billed=True
        ) from None
    except anthropic.APIStatusError as error:
        raise _from_status(error.status_code, error.body, error.response.headers) from None
    except anthropic.APIConnectionError as error:
        raise _from_connection(error) from None
    except anthropic.AnthropicError as error:
        raise AIError("bad_request", type(error).__name__, retryable=False) from None


def _output_config(request: ModelRequest) -> OutputConfigParam:
    return {"format": {"type": "json_schema", "schema": _api_schema(request.schema)}}


def _api_schema(schema: Mapping[str, Any]) -> dict[str, object]:
    """The schema in the subset that the API enforces; bounds move into descriptions."""
    return dict(anthropic.transform_schema(dict(schema)))


def _message(request: ModelRequest) -> MessageParam:
    """Every picture with its label before it, then the text."""
    blocks: list[Any] = []
    for image in request.images:
        source = {"type": "base64", "media_type": image.media_type, "data": base64.b64encode(image.data).decode()}
        blocks += [{"type": "text", "text": f"{image.label}:"}, {"type": "image", "source": source}]
    blocks.append({"type": "text", "text": request.text})
    return {"role": "user", "content": blocks}


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that breaks off beyond the bound: an answer is a few kilobytes, memory is not for whoever sends more."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._inner:
            received += len(chunk)
            if received > _MAX_ANSWER_BYTES:
                raise httpx2.RemoteProtocolError("answer too large")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bound_body(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _BoundedStream(response.stream)


# ── what came back ──────────────────────────────────────────────────────────────────────────────────────────────────


def _read(response: httpx2.Response) -> ModelReply:
    """A 2xx answer. One that is no message with a usage may have been billed: nobody can say at what."""
    request_id = response.headers.get("request-id")
    body = _json(response.content)
    if isinstance(body, dict) and body.get("type") == "error":
        raise _from_error_inside(body, response)
    try:
        return _reply(body, request_id)
    except (KeyError, TypeError, ValueError):
        raise AIError(
            "server_error",
            "a 200 that is no message",
            retryable=True,
            status=response.status_code,
            request_id=request_id,
            maybe_billed=True,
        ) from None


def _json(content: bytes) -> Any:
    try:
        return jsontext.parse(content, max_depth=_MAX_DEPTH)
    except jsontext.BadJson:
        return None


def _reply(body: Any, request_id: str | None) -> ModelReply:
    texts = [block["text"] for block in body["content"] if block["type"] == "text"]
    if body["type"] != "message" or not all(isinstance(text, str) for text in texts):
        raise ValueError("not a message")
    return ModelReply(
        text="".join(texts),
        usage=_usage(body["usage"]),
        stop_reason=str(body["stop_reason"]),
        api_request_id=request_id,
        model=str(body["model"]),
    )


def _usage(raw: Any) -> Usage:
    """Cache writes come as a total and, newer, by lifetime; what the detail leaves unexplained is the 5-minute kind."""
    written = _count(raw.get("cache_creation_input_tokens"))
    detail = raw.get("cache_creation") or {}
    hour = _count(detail.get("ephemeral_1h_input_tokens"))
    minutes = max(_count(detail.get("ephemeral_5m_input_tokens")), written - hour)
    return Usage(
        input_tokens=_count(raw["input_tokens"]),
        output_tokens=_count(raw["output_tokens"]),
        cache_read_tokens=_count(raw.get("cache_read_input_tokens")),
        cache_write_5m_tokens=minutes,
        cache_write_1h_tokens=hour,
        terms=tuple((kind, _word(raw[kind]) or "unreadable") for kind in _TERMS if raw.get(kind) is not None),
        unread=_unread(raw, detail),
    )


def _unread(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what is counted or said beside what is read here: somebody may be asked to pay for it."""
    beside = {**{f"cache_creation.{name}": value for name, value in detail.items()}, **raw}
    return tuple(
        sorted(_word(name.replace(".", "_")) or "unreadable" for name in beside.keys() - _READ if _says(beside[name]))
    )


def _says(value: object) -> bool:
    """Anything but nothing: a count of zero, an empty or an all-zero object."""
    return any(map(_says, value.values())) if isinstance(value, Mapping) else bool(value)


def _count(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a token count is a whole number")
    return value


def _page(content: bytes) -> tuple[list[ListedBatch], bool]:
    body = _json(content)
    try:
        return [_listed(one) for one in body["data"]], body["has_more"] is True
    except (KeyError, TypeError, ValueError):
        raise AIError("server_error", "a list of batches that is none", retryable=True) from None


def _batch(content: bytes) -> ListedBatch:
    """Of an answer to its creation: whoever cannot read it does not know whether there is one."""
    try:
        return _listed(_json(content))
    except (KeyError, TypeError, ValueError):
        raise AIError("server_error", "a batch that is none", retryable=True, maybe_billed=True) from None


def _listed(body: Any) -> ListedBatch:
    batch_id = _word(body["id"])
    if batch_id is None:
        raise ValueError("an id that is none")
    return ListedBatch(
        batch_id,
        created_ms=round(datetime.fromisoformat(body["created_at"]).timestamp() * 1000),
        has_ended=body["processing_status"] == "ended",
        requests=sum(map(_count, body["request_counts"].values())),
    )


def _result(result: Mapping[str, Any]) -> ModelReply | AIError:
    """What came of one request of a batch. A message is billed in the batch's tier, whatever it says of itself."""
    match result["type"]:
        case "succeeded":
            try:
                reply = _reply(result["message"], None)
            except (KeyError, TypeError, ValueError):
                return AIError("server_error", "a result that is no message", retryable=True, maybe_billed=True)
            terms = tuple(term for term in reply.usage.terms if term[0] != "service_tier")
            return replace(reply, usage=replace(reply.usage, terms=(*terms, ("service_tier", BATCH))))
        case "errored":
            kind, _ = _error_words(result["error"])
            return _from_status(_TYPES.get(str(kind), 500), result["error"], httpx2.Headers())
        case "canceled":
            return AIError("batch_canceled", retryable=True)
        case _:
            return AIError("batch_expired", retryable=True)


# ── what went wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


def _from_error_inside(body: Mapping[str, Any], response: httpx2.Response) -> AIError:
    """A 200 whose body is an error object: treated as the status that its type stands for."""
    error = body.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return _from_status(_TYPES.get(str(kind), 500), body, response.headers)


def _from_status(status: int, body: object, headers: httpx2.Headers) -> AIError:
    """The error table. Retried: 408, 409, 429 unless a spend limit, 5xx and 529; nothing else. A spend limit is waited
    out by the job (`leads/progress`)."""
    wait_s, request_id = retry_after_s(headers), headers.get("request-id")
    kind, error_code = _error_words(body)
    detail = " ".join(word for word in (str(status), kind, error_code) if word)
    if status == 402 or error_code in _SPEND_LIMITS or (status == 400 and _lacks_credit(body)):
        return AIError("spend_limit", detail, retryable=False, status=status, request_id=request_id)
    if status == 429:
        return AIRateLimitError(
            "rate_limited", detail, retryable=True, status=429, retry_after_s=wait_s, request_id=request_id
        )
    code, retryable = _verdict(status)
    # An error in the API's own words was not billed. From an intermediary it says only that nobody waited any longer.
    maybe_billed = kind is None and (status == 408 or status >= 500)
    error_class = AITimeoutError if code == "timeout" else AIError
    return error_class(
        code,
        detail,
        retryable=retryable,
        status=status,
        retry_after_s=wait_s if retryable else None,
        request_id=request_id,
        maybe_billed=maybe_billed,
    )


def _verdict(status: int) -> tuple[AICode, bool]:
    """(code, retryable) of a status that is no 402 and no 429."""
    match status:
        case 401 | 403:
            return "auth", False
        case 408 | 504:
            return "timeout", True
        case 409:
            return "server_error", True
        case 529:
            return "overloaded", True
        case _ if status >= 500:
            return "server_error", True
        case _:
            return "bad_request", False


def _lacks_credit(body: object) -> bool:
    """An account without credit is told so in the words of a 400 alone."""
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else None
    return isinstance(message, str) and "credit balance is too low" in message.lower()


def _error_words(body: object) -> tuple[str | None, str | None]:
    """(type, error_code) of the API's error object; only closed-set words leave here, never the message."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return None, None
    details = error.get("details")
    return _word(error.get("type")), _word(details.get("error_code") if isinstance(details, Mapping) else None)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value.isascii() and value.isidentifier() and len(value) <= 64 else None


def _from_connection(error: anthropic.APIConnectionError) -> AIError:
    """Nothing was billed when no connection was made; after that nobody can say."""
    cause = error.__cause__
    detail = type(cause).__name__
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return AIError("connection", detail, retryable=True)
    if isinstance(error, anthropic.APITimeoutError):
        return AITimeoutError("timeout", detail, retryable=True, maybe_billed=True)
    return AIError("connection", detail, retryable=True, maybe_billed=True)
