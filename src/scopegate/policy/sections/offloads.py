"""`offloads`: which work leaves the request, what it is about, and where its result goes.

Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import Field, PlainValidator, SecretStr

from scopegate.limits.window import Quota
from scopegate.policy.addresses import is_local, parse_photo_host, url_host
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import (
    Choice,
    Count,
    Duration,
    Limit,
    Shape,
    Url,
    Whole,
    option,
    parsed,
    required,
    secret,
    section,
    written,
    written_secret,
)
from scopegate.policy.quantities import DURATION_PATTERN, parse_duration_ms
from scopegate.policy.spelling import parse_expression, parse_webhook_secret
from scopegate.policy.tree import Fault, Loc

# Values


class OnUnreadable(StrEnum):
    """A request that our reader cannot read is refused before the app hears it, or its order waits for a person."""

    HOLD = "hold"
    REFUSE = "refuse"


class OnDatabaseError(StrEnum):
    """While the database takes no order, leads are refused, or kept on this machine's disk until it does."""

    REFUSE = "refuse"
    SPOOL = "spool"


class Priority(StrEnum):
    """Jobs of a higher one are begun before all others."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class OffloadUrgency(StrEnum):
    """A `low` one asks the model in batches, at half price."""

    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Deliver:
    """`secrets` sign every message: the one in use first, then the one that the app may still know alone. A message
    that the app does not take is tried again until `retry_for_s` seconds after its first attempt."""

    url: str
    secrets: tuple[SecretStr, ...]
    retry_for_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where the app says what became of an order, and which answers mean that it has the lead, or has not."""

    url: str
    found: frozenset[int]
    absent: frozenset[int]


@dataclass(frozen=True, slots=True)
class Offload:
    """Which work leaves the request. `lead_id`, `contractor`, `photos` and `text` are JMESPath expressions over
    `{"request": <parsed body>, "response": <parsed body>}`. `same_key_ms` and `same_body_ms`: how long a request with
    the same Idempotency-Key, or without one the same body, is the same lead; None: it never is. Jobs that ask in
    batches do so until they are `batch_for_s` seconds old."""

    name: str
    when_status: frozenset[int]
    lead_id: str
    contractor: str | None
    photos: str
    text: str
    photo_hosts: tuple[str, ...]
    deliver: Deliver
    starts: Quota | None
    on_unreadable: OnUnreadable = OnUnreadable.HOLD
    on_store_error: OnDatabaseError = OnDatabaseError.REFUSE
    same_key_ms: int | None = None
    same_body_ms: int | None = None
    lookup: Lookup | None = None
    priority: Priority = Priority.NORMAL
    at_once_per_contractor: int | None = None
    urgency: OffloadUrgency = OffloadUrgency.NORMAL
    batch_for_s: float = 43_200.0


# Shapes


def _span_ms(text: str) -> int | None:
    return None if text == "off" else parse_duration_ms(text)


def _webhook_secret(value: object) -> SecretStr:
    key = secret(value)
    if key.get_secret_value():
        parse_webhook_secret(key.get_secret_value())
    return key


Expression: TypeAlias = Annotated[str, parsed(parse_expression), written("request.photos[].url")]
PhotoHost: TypeAlias = Annotated[str, parsed(parse_photo_host), written("*.s3.*.amazonaws.com")]
Span: TypeAlias = Annotated[int | None, parsed(_span_ms), written("30s", f"^off$|{DURATION_PATTERN}")]
"""A duration, or `off`."""
WebhookSecret: TypeAlias = Annotated[
    SecretStr, PlainValidator(_webhook_secret), written_secret("${SCOPEGATE_WEBHOOK_SECRET}")
]


class WhenShape(Shape):
    status: Annotated[list[Annotated[Whole, Field(ge=200, le=299)]], Field(min_length=1)] = option(
        [200, 201], "Answers of the app that mean: lead accepted."
    )


class DeliverShape(Shape):
    url: Url = required("Where the app takes the result.")
    secret: WebhookSecret = required("Signs the result (Standard Webhooks): whsec_... or at least 16 bytes.")
    previous_secret: WebhookSecret | None = option(
        None, "Signs it as well, while the app changes from this secret to the other one."
    )
    retry_for: Annotated[Duration, Field(le=7 * 86_400)] = option(
        "1d", "How long a result that the app does not take is tried again, up to 7d."
    )

    def build(self) -> Deliver:
        secrets = (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)
        return Deliver(self.url, secrets, self.retry_for)


class LookupShape(Shape):
    url: Url = required("Where the app is asked, by a signed POST, what became of an order.")
    found: list[Annotated[Whole, Field(ge=200, le=299)]] = option(
        [200], "Answers that mean: the lead is here. Their bodies are read as its first answer is.", min_length=1
    )
    absent: list[Annotated[Whole, Field(ge=400, le=499)]] = option(
        [404, 410], "Answers that mean: there is no such lead, and none will come."
    )

    def build(self) -> Lookup:
        return Lookup(self.url, frozenset(self.found), frozenset(self.absent))


class OffloadShape(Shape):
    when: WhenShape = section(WhenShape, "Which exchanges make a job.")
    lead_id: Expression = required("JMESPath over {request, response}: the lead's id.")
    contractor: Expression | None = option(None, "JMESPath: the contractor, for budgets and reports.")
    photos: Expression = required("JMESPath: a list of photo URLs.")
    text: Expression = required("JMESPath: the visitor's own words.")
    on_unreadable: Choice[OnUnreadable] = option(
        "hold", "A request that cannot be read as a lead: `hold` its order for a person, or `refuse` it before the app."
    )
    on_store_error: Choice[OnDatabaseError] = option(
        "refuse", "While the database is away or full: `refuse` leads, or `spool` their orders to this machine's disk."
    )
    same_key: Span = option(
        "24h", "For so long a request with the `Idempotency-Key` of an earlier one gets its answer, and makes no lead."
    )
    same_body: Span = option("off", "For so long a request without a key and with the same body does, too.")
    lookup: LookupShape | None = option(None, "Where the app says what became of an order that nobody settled.")
    photo_hosts: list[PhotoHost] = required("The only hosts photos are fetched from.", min_length=1)
    deliver: DeliverShape = required("How the result reaches the app.")
    starts: Limit = option("10 per 1m", "The most job starts, over all workers.")
    priority: Choice[Priority] = option(
        "normal", "Jobs of a `high` offload are begun before all others, `low` ones last."
    )
    at_once_per_contractor: Count | None = option(
        None, "The most jobs of one contractor at a time, over all workers. Left out: any number, in turn with others."
    )

    urgency: Choice[OffloadUrgency] = option(
        "normal", "A `low` one asks the model in batches: half the price, and hours instead of seconds."
    )
    batch_for: Annotated[Duration, Field(le=7 * 86_400)] = option(
        "12h", "How old a job that asks in batches may be; from then on it asks directly, at the whole price."
    )

    def build(self, name: str) -> Offload:
        return Offload(
            name=name,
            when_status=frozenset(self.when.status),
            lead_id=self.lead_id,
            contractor=self.contractor,
            photos=self.photos,
            text=self.text,
            photo_hosts=tuple(self.photo_hosts),
            deliver=self.deliver.build(),
            starts=self.starts,
            on_unreadable=self.on_unreadable,
            on_store_error=self.on_store_error,
            same_key_ms=self.same_key,
            same_body_ms=self.same_body,
            lookup=None if self.lookup is None else self.lookup.build(),
            priority=self.priority,
            at_once_per_contractor=self.at_once_per_contractor,
            urgency=self.urgency,
            batch_for_s=self.batch_for,
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    if draft.names("offloads") and not draft.has("ai"):
        what = "an offload needs the section `ai` (`ai: {}` takes every default)"
        yield draft.problem_at_key(("offloads",), what)
    for name, offload in draft.named("offloads", OffloadShape).items():
        yield from _in_the_open(draft, ("offloads", name, "deliver", "url"), offload.deliver.url, "the result")
        if offload.lookup is not None:
            yield from _in_the_open(draft, ("offloads", name, "lookup", "url"), offload.lookup.url, "the question")


def _in_the_open(draft: Draft, loc: Loc, url: str, what: str) -> Iterator[Fault]:
    if url.startswith("http://") and not is_local(url_host(url)):
        yield draft.warning(loc, f"{what} travels without TLS")
