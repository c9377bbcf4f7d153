"""Routes with rules for bodies: the pipeline's step that has a body judged, before the app hears of it as far as it may
be held, and a form also while it streams.

A JSON body is gathered whole. A form is read on its way; what completes it waits for the verdict, so the app never has
a whole request that was refused. What is right and wrong is decided in `edge/bodies`; a route in watch mode counts and
lets pass.
"""

from __future__ import annotations

import asyncio
from functools import partial

from scopegate.edge.bodies import BodyJudges, JsonJudge
from scopegate.edge.multipart import MultipartReader
from scopegate.edge.verdict import Refusal
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.incoming import Incoming
from scopegate.gateway.ruleset import RoutePlan

_FULL = Refusal(503, "overloaded", "Too many request bodies are held right now.", ((b"retry-after", b"1"),), close=True)


class FormJudge:
    """What a body asks of each piece of a form (`incoming.BodyJudge`)."""

    __slots__ = ("_kept", "_reader")

    def __init__(self, reader: MultipartReader) -> None:
        self._reader = reader
        self._kept = b""

    def take(self, payload: bytes, done: bool) -> bytes | Refusal:
        """What may go on to the app, in order: all but the final delimiter and what follows it until `done`."""
        reader = self._reader
        refusal = reader.feed(payload) or (reader.end() if done else None)
        if refusal is not None:
            return refusal
        if done:
            return self._kept + payload
        passing = len(payload) - reader.closing
        self._kept += payload[passing:]
        return payload[:passing]


class WatchedForm:
    """The same in watch mode: everything passes, and the first refusal is counted."""

    __slots__ = ("_plan", "_reader")

    def __init__(self, reader: MultipartReader, plan: RoutePlan) -> None:
        self._reader: MultipartReader | None = reader
        self._plan = plan

    def take(self, payload: bytes, done: bool) -> bytes | Refusal:
        if self._reader is not None:
            refusal = self._reader.feed(payload) or (self._reader.end() if done else None)
            if refusal is not None:
                self._plan.tally.watch(refusal.code)
                self._reader = None
        return payload


def judge_body(x: Exchange, plan: RoutePlan, judges: BodyJudges) -> Outcome:
    """A request with a body, or without one where it should have one, on a route with rules for bodies."""
    judge = judges.choose(x.notes.get(b"content-type"), x.notes.get(b"content-encoding"))
    incoming = x.incoming
    if incoming is None:
        return _verdict(plan, _of_nothing(judge))
    if isinstance(judge, JsonJudge):
        return _gather(x, incoming, plan, judge)
    if isinstance(judge, MultipartReader):
        incoming.judge = FormJudge(judge) if plan.enforced else WatchedForm(judge, plan)
        return hold(incoming, plan, unless_said=plan.enforced)
    if judge is not None:
        if plan.enforced:
            return judge
        plan.tally.watch(judge.code)
    return hold(incoming, plan)


def hold(incoming: Incoming, plan: RoutePlan, *, unless_said: bool = False) -> Outcome:
    """Where the route says so a body is here before the app hears of it, as far as it may be held. `unless_said`: what
    holds where the route says nothing."""
    wanted = unless_said if plan.buffer is None else plan.buffer
    return Pending(incoming.hold(), go_on) if wanted else None


def go_on(_x: Exchange, future: asyncio.Future[None]) -> Outcome:
    future.result()
    return None


def _gather(x: Exchange, incoming: Incoming, plan: RoutePlan, judge: JsonJudge) -> Outcome:
    if not x.shared.held.may_add(x.caller.group, max(incoming.length, 0)):
        return _FULL if plan.enforced else None
    return Pending(incoming.hold(whole=True), partial(_judge, incoming, plan, judge))


def _judge(incoming: Incoming, plan: RoutePlan, judge: JsonJudge, x: Exchange, future: asyncio.Future[None]) -> Outcome:
    future.result()
    if not x.body_done:
        return _FULL if plan.enforced else None
    return _verdict(plan, judge.judge(incoming.held()))


def _of_nothing(judge: JsonJudge | MultipartReader | Refusal | None) -> Refusal | None:
    """The verdict on an empty body."""
    if isinstance(judge, JsonJudge):
        return judge.judge(b"")
    return judge.end() if isinstance(judge, MultipartReader) else judge


def _verdict(plan: RoutePlan, refusal: Refusal | None) -> Outcome:
    if refusal is None or plan.enforced:
        return refusal
    plan.tally.watch(refusal.code)
    return None
