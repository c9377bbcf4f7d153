"""One model call as values: what is asked, what comes back, and the most it can bill.

No library is named here: `worker/claude` speaks to the API, `worker/metered` decides when, the steps build requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from scopegate.errors import AIError
from scopegate.limits.pricing import Usage

BATCH: Final = "batch"
"""The service tier of what is asked in a batch, as a bill names it."""

_ENVELOPE_TOKENS = 2_000
"""Room for what the API adds around a request: roles, labels, instructions for structured output."""

_COUNT_MARGIN_PERCENT = 10
_COUNT_MARGIN_TOKENS = 100
"""What a call may bill above a count that was asked for beforehand."""

_PATCH_PX = 24
"""The API counts about one token per 28 x 28 pixels; smaller patches keep the bound above it."""


@dataclass(frozen=True, slots=True)
class Image:
    """One picture as it will be sent, after its `label`: `Photo 2, part 1 of 3`. `media_type` is image/jpeg, image/png,
    image/gif or image/webp."""

    media_type: str
    data: bytes
    width_px: int
    height_px: int
    label: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """`schema` is a plain JSON Schema of the wanted answer; `timeout_s` bounds the whole call, to the last byte."""

    model: str
    system: str
    text: str
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    images: tuple[Image, ...] = ()

    def input_tokens_upper(self) -> int:
        """No fewer than the tokens the API will count: a token of text is at least one byte of UTF-8."""
        schema = json.dumps(self.schema, ensure_ascii=False)
        text = sum(len(part.encode("utf-8", "surrogatepass")) for part in (self.system, self.text, schema))
        return _ENVELOPE_TOKENS + text + sum(_image_tokens(image) for image in self.images)


def input_tokens_bound(counted: int) -> int:
    """No fewer than a call's, of which the API counted so many beforehand."""
    return counted + counted * _COUNT_MARGIN_PERCENT // 100 + _COUNT_MARGIN_TOKENS


def _image_tokens(image: Image) -> int:
    return -(-image.width_px // _PATCH_PX) * -(-image.height_px // _PATCH_PX) + 100


@dataclass(frozen=True, slots=True)
class ModelReply:
    """An answer that was billed. `text` may be anything: it is not yet validated. `stop_reason` is the API's word
    (`end_turn`, `max_tokens`, `refusal`, ...); `model` is the one that answered."""

    text: str
    usage: Usage
    stop_reason: str
    api_request_id: str | None
    model: str


class ModelClient(Protocol):
    """Whoever makes the call. Every failure is an AIError; an answer with a known usage is always a Reply."""

    async def call(self, request: ModelRequest) -> ModelReply: ...

    async def count_input(self, request: ModelRequest) -> int:
        """The input tokens of this request as the API counts them, which costs nothing. An estimate, it says, that a
        call may differ from by a little."""
        ...


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch as the API lists it: of ours, or of whoever else has the same key. `requests` counts what is in it."""

    batch_id: str
    created_ms: int
    has_ended: bool
    requests: int


class BatchClient(Protocol):
    """Whoever asks in batches. Every failure is an AIError."""

    async def create_batch(self, requests: Mapping[str, ModelRequest]) -> str:
        """The batch's id; `requests` by their custom ids."""
        ...

    async def list_batches(self, since_ms: int) -> Sequence[ListedBatch]:
        """Those created since then, newest first."""
        ...

    async def batch_results(self, batch_id: str) -> Mapping[str, ModelReply | AIError]:
        """Of a batch that has ended, by custom id. What was not answered is `batch_expired` or `batch_canceled`."""
        ...

    async def cancel_batch(self, batch_id: str) -> None: ...
