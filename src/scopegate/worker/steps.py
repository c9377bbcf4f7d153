"""The steps of a lead's job: analyse the photos, write the scope, draft the estimate, save to the app, score.

Each step is one short method from what earlier steps stored to what this one stores, and nothing else: when a step
runs, how often, and what its failure means is `worker/life`'s business. Steps raise the errors of the clients that
they use; a result is a JSON value, complete and validated.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar, assert_never

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import DeliveryError, PhotoError
from scopegate.leads import prompts
from scopegate.leads.findings import Broken, Finding, Trade, Urgency, restore, schema
from scopegate.leads.job import LeadJob
from scopegate.leads.photos import MAX_SEEN, PhotoCode, Picture, Unseen
from scopegate.leads.questions import estimate, photo_analysis, scope
from scopegate.leads.questions.estimate import Estimate
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeOfWork
from scopegate.leads.score import score
from scopegate.leads.webhook import message
from scopegate.limits.steps import StepName
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import Offload, OffloadUrgency
from scopegate.types import Json
from scopegate.worker.batches import BatchLane, Collected
from scopegate.worker.call import Image
from scopegate.worker.deliver import Courier
from scopegate.worker.fetch import PhotoFetcher
from scopegate.worker.metered import MeteredClaude, Purpose

log = logs.get("steps")

ANALYSED: Final = "analysed"
NO_PHOTOS: Final = "no_photos"
NO_USABLE_PHOTOS: Final = "no_usable_photos"
"""How photo_analysis can end. Without a usable photo no model is asked, and the job goes on from the text alone."""

USED: Final = "used"
"""The outcome of a photo that the model saw; any other is a PhotoCode."""

COMPLETED: Final = "lead.analysis.completed"
SCORED: Final = "lead.score.updated"

Found = TypeVar("Found", bound=Finding)


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt of one step. `job` has the results of the steps before it; `is_last_try` says that a failure of
    this attempt ends the job."""

    job: LeadJob
    offload: Offload
    step: StepName
    attempt_n: int
    is_last_try: bool

    @property
    def in_batches(self) -> bool:
        return self.job.in_batches or self.offload.urgency is OffloadUrgency.LOW

    @property
    def batch_until_ms(self) -> int:
        return self.job.created_ms + round(self.offload.batch_for_s * 1000)

    def purpose(self) -> Purpose:
        lead = self.job.lead
        return Purpose(self.job.job_id, lead.lead_id, lead.contractor, self.step, self.attempt_n, self.offload.name)

    def stored(self, step: StepName) -> Mapping[str, Json]:
        """An earlier step's result: always an object."""
        result = self.job.results()[step]
        assert isinstance(result, Mapping), step
        return result

    def finding(self, step: StepName, name: str, shape: type[Found]) -> Found:
        return restore(shape, self.stored(step)[name])


@dataclass(frozen=True, slots=True)
class Photos:
    """What became of a lead's photos: the usable ones, and a word for each one in the order sent."""

    usable: tuple[Picture, ...]
    outcomes: tuple[str, ...]

    def to_json(self) -> list[Json]:
        """`unseen` says of a used one what of it the model did not see."""
        used = iter(self.usable)
        return [self._told(n, outcome, used) for n, outcome in enumerate(self.outcomes, 1)]

    @staticmethod
    def _told(n: int, outcome: str, used: Iterator[Picture]) -> Json:
        if outcome != USED:
            return {"photo": n, "outcome": outcome}
        picture = next(used)
        return {"photo": n, "outcome": outcome, "parts": len(picture.parts), "unseen": [*picture.unseen]}


class Steps:
    """One instance serves any number of jobs."""

    def __init__(
        self,
        model: MeteredClaude,
        fetcher: PhotoFetcher,
        courier: Courier,
        clock: Clock,
        new_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
        lane: BatchLane | None = None,
    ) -> None:
        self._model = model
        self._fetcher = fetcher
        self._courier = courier
        self._clock = clock
        self._new_nonce = new_nonce
        self._lane = lane

    async def perform(self, work: Work) -> Json:
        """The step's result. Raises AIError, PhotoError, DeliveryError, StoreUnavailable."""
        match work.step:
            case StepName.PHOTO_ANALYSIS:
                return await self._analyse(work)
            case StepName.SCOPE:
                return await self._scope(work)
            case StepName.ESTIMATE:
                return await self._estimate(work)
            case StepName.SAVE:
                return await self._save(work)
            case StepName.SCORE:
                return await self._score(work)
            case other:
                assert_never(other)

    # ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _analyse(self, work: Work) -> Json:
        batched = await self._batched(work, lambda given: partial(photo_analysis.parse, photos=_used(given)))
        if batched.value is not None:
            return {**batched.given, "analysis": batched.value.to_json()}
        photos = await self._photos(work)
        if not photos.usable:
            outcome = NO_USABLE_PHOTOS if work.job.lead.photos else NO_PHOTOS
            return {"outcome": outcome, "photos": photos.to_json(), "analysis": from_text_alone().to_json()}
        prompt = photo_analysis.prompt(work.job.lead.text, len(photos.usable), self._new_nonce())
        images = tuple(image for n, picture in enumerate(photos.usable, 1) for image in _images(n, picture))
        parse = partial(photo_analysis.parse, photos=len(photos.usable))
        given: dict[str, Json] = {"outcome": ANALYSED, "photos": photos.to_json(), "prompt": prompt.version}
        analysis = await self._ask(work, batched, prompt, given, PhotoAnalysis, parse, images)
        return {**given, "analysis": analysis.to_json()}

    async def _scope(self, work: Work) -> Json:
        batched = await self._batched(work, lambda _: scope.parse)
        if batched.value is not None:
            return {**batched.given, "scope": batched.value.to_json()}
        analysis = work.finding(StepName.PHOTO_ANALYSIS, "analysis", PhotoAnalysis)
        prompt = scope.prompt(work.job.lead.text, analysis, self._new_nonce())
        given: dict[str, Json] = {"prompt": prompt.version}
        found = await self._ask(work, batched, prompt, given, ScopeOfWork, scope.parse)
        return {**given, "scope": found.to_json()}

    async def _estimate(self, work: Work) -> Json:
        wanted = work.finding(StepName.SCOPE, "scope", ScopeOfWork)
        parse = partial(estimate.parse, scope=wanted)
        batched = await self._batched(work, lambda _: parse)
        if batched.value is not None:
            return {**batched.given, "estimate": batched.value.to_json()}
        prompt = estimate.prompt(wanted, self._new_nonce())
        given: dict[str, Json] = {"prompt": prompt.version}
        found = await self._ask(work, batched, prompt, given, Estimate, parse)
        return {**given, "estimate": found.to_json()}

    async def _batched(
        self, work: Work, parse_of: Callable[[Mapping[str, Json]], Callable[[str], Found | Broken]]
    ) -> Collected[Found]:
        """What a batch has said to this step's question, where it is asked in one."""
        if self._lane is None or not work.in_batches:
            return Collected(may_ask=False)
        return await self._lane.collect(work.purpose(), work.batch_until_ms, parse_of)

    async def _ask(
        self,
        work: Work,
        batched: Collected[Found],
        prompt: prompts.Prompt,
        given: Mapping[str, Json],
        shape: type[Found],
        parse: Callable[[str], Found | Broken],
        images: tuple[Image, ...] = (),
    ) -> Found:
        """`given`: what the step's result holds besides the answer."""
        purpose = work.purpose()
        request = self._model.request(work.step, prompt.system, prompt.text, schema(shape), images)
        if self._lane is not None and batched.may_ask:
            await self._lane.ask(purpose, request, given, work.batch_until_ms)
        return (await self._model.run(purpose, request, parse, content=prompt.content, after=batched.error)).value

    # ── photos ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _photos(self, work: Work) -> Photos:
        """Every photo of the lead, or PhotoError while a passing fault keeps one away and there are tries left: money
        is not spent on half the evidence. On the last try the job goes on with what there is."""
        hosts = work.offload.photo_hosts
        urls = work.job.lead.photos
        async with asyncio.TaskGroup() as group:
            fetching = [group.create_task(self._photo(n, url, hosts)) for n, url in enumerate(urls[:MAX_SEEN], 1)]
        found = [task.result() for task in fetching] + [PhotoError(PhotoCode.TOO_MANY) for _ in urls[MAX_SEEN:]]
        passing = [fault for fault in found if isinstance(fault, PhotoError) and fault.retryable]
        if passing and not work.is_last_try:
            raise passing[0]
        photos = _without_repeats(found)
        for outcome, count in Counter(photos.outcomes).items():
            metrics.PHOTOS.labels(outcome).inc(count)
        return photos

    async def _photo(self, n: int, url: str, hosts: tuple[str, ...]) -> Picture | PhotoError:
        try:
            return await self._fetcher.fetch(url, hosts)
        except PhotoError as fault:
            log.warning("photo.unusable", photo=n, code=fault.code, detail=str(fault), retryable=fault.retryable)
            return fault

    # ── the app ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _save(self, work: Work) -> Json:
        analysis = work.stored(StepName.PHOTO_ANALYSIS)
        data: dict[str, Json] = {
            "outcome": analysis["outcome"],
            "photos": analysis["photos"],
            "photo_analysis": analysis["analysis"],
            "scope": work.stored(StepName.SCOPE)["scope"],
            "estimate": work.stored(StepName.ESTIMATE)["estimate"],
        }
        return await self._deliver(work, COMPLETED, data)

    async def _score(self, work: Work) -> Json:
        points = score(
            work.job.lead.text,
            _used(work.stored(StepName.PHOTO_ANALYSIS)),
            work.finding(StepName.PHOTO_ANALYSIS, "analysis", PhotoAnalysis),
            work.finding(StepName.SCOPE, "scope", ScopeOfWork),
            work.finding(StepName.ESTIMATE, "estimate", Estimate),
        )
        scored: dict[str, Json] = {"score": points.total, "parts": points.parts()}
        return scored | await self._deliver(work, SCORED, scored)

    async def _deliver(self, work: Work, kind: str, data: Mapping[str, Json]) -> dict[str, Json]:
        """One message per job and step, however often it is sent: the app can tell a repeat by its id."""
        lead, message_id = work.job.lead, f"msg_{work.job.job_id}_{work.step}"
        about: dict[str, Json] = {"lead_id": lead.lead_id, "contractor": lead.contractor, "job_id": work.job.job_id}
        body = json.dumps(message(kind, logs.timestamp(self._clock.now_ms() / 1000), about | dict(data))).encode()
        try:
            status = await self._courier.deliver(work.offload.deliver, message_id, body)
        except DeliveryError as fault:
            metrics.DELIVERIES.labels(work.offload.name, fault.code).inc()
            raise
        metrics.DELIVERIES.labels(work.offload.name, "delivered").inc()
        return {"message_id": message_id, "status": status}


def _without_repeats(found: list[Picture | PhotoError]) -> Photos:
    usable: dict[str, Picture] = {}
    outcomes: list[str] = []
    for one in found:
        if isinstance(one, PhotoError):
            outcomes.append(one.code)
        elif one.digest in usable:
            outcomes.append(PhotoCode.DUPLICATE)
        else:
            usable[one.digest] = one
            outcomes.append(USED)
    return Photos(tuple(usable.values()), tuple(outcomes))


def _used(given: Mapping[str, Json]) -> int:
    """How many photos the model has seen, by a result of `photo_analysis`."""
    photos = given["photos"]
    assert isinstance(photos, list)
    return sum(photo["outcome"] == USED for photo in photos)


def _images(n: int, picture: Picture) -> list[Image]:
    """A photo as it is sent, numbered from 1 among the usable ones; what is missing of it is said before it."""
    cut = ", cut off below" if Unseen.LOWER_END in picture.unseen else ""
    count = len(picture.parts)
    return [
        Image(
            "image/jpeg", part.jpeg, part.width_px, part.height_px,
            f"Photo {n}{cut}" if count == 1 else f"Photo {n}{cut}, part {at} of {count}",
        )
        for at, part in enumerate(picture.parts, 1)
    ]  # fmt: skip


def from_text_alone() -> PhotoAnalysis:
    """The analysis of a lead without a usable photo: it claims nothing, with confidence 0."""
    return PhotoAnalysis(
        summary="No photo of this request could be used. What follows rests on the text alone.",
        photos=[],
        damages=[],
        trades=[Trade.GENERAL],
        urgency=Urgency.NORMAL,
        confidence=Decimal(0),
    )
