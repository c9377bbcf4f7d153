"""The exception tree. A refusal is a value (`edge/verdict`); an outage is one of these; a bug is an assertion.

ScopegateError
├── ConfigError              the policy file or the environment is wrong: exit 78, every problem at once
├── StoreError               a database or Redis did something we cannot use
│   ├── StoreUnusable        it can never be used as it is: a person has to mend its address, its rights or its schema
│   ├── StoreUnavailable     it is gone, slow, read-only or full: the caller chooses what that means
│   └── LeaseLost            another worker holds the job now: stop, write nothing more
├── ClientGone               the visitor closed the connection before we were done
├── UpstreamError            the app did not answer as HTTP should (kind says how)
├── PhotoError               a photo cannot be used (code says why)
├── DeliveryError            the app did not take the result (retryable or not)
└── AIError                  a model call did not give a usable answer
    ├── AITimeoutError
    ├── AIRateLimitError
    ├── AICircuitBreakerError
    ├── AIBudgetError        the money is spent or reserved: nothing was sent
    └── AIOutputError        it answered, it was paid, and the answer breaks the schema or a rule
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

EXIT_CONFIG = 78
"""sysexits.h EX_CONFIG: a supervisor must not restart on it."""


class ScopegateError(Exception):
    """Base of everything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a policy file or the environment.

    `where` is `file:line:col` or the name of a variable; `path` is the dotted place in the document
    (`routes[2].tier`), empty for the environment; `hint` completes "did you mean ...", or is None.
    """

    where: str
    path: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        path = f" {self.path}" if self.path else ""
        hint = f", did you mean {self.hint}?" if self.hint else ""
        return f"{self.where}{path}: {self.what}{hint}"


class ConfigError(ScopegateError):
    """All problems found, in file order. Never holds a secret's value."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "a ConfigError names at least one problem"
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StoreError(ScopegateError):
    """An engine answered in a way we cannot use."""


class StoreUnusable(StoreError):
    """A start on it ends with EXIT_CONFIG and this one line, which names no secret."""


class StoreUnavailable(StoreError):
    """An engine cannot be used right now. `kind` is a closed set, fit for a metric label."""

    Kind = Literal["connect", "timeout", "reset", "readonly", "full", "other"]

    def __init__(self, kind: Kind, detail: str = "") -> None:
        self.kind: StoreUnavailable.Kind = kind
        super().__init__(f"{kind}: {detail}" if detail else kind)


class LeaseLost(StoreError):
    """The fencing token on a job is no longer ours."""


class ClientGone(ScopegateError):
    """The visitor's connection ended before the exchange did."""


UpstreamFailure = Literal["connect", "tls", "timeout", "reset", "protocol"]
"""How an exchange with the app fails."""

UpstreamErrorKind = Literal[UpstreamFailure, "busy", "open"]


class UpstreamError(ScopegateError):
    """The app cannot be reached (`connect`), did not prove itself (`tls`), is too slow (`timeout`), hung up (`reset`)
    or spoke no HTTP (`protocol`). Or it was not asked: all its connections are taken (`busy`), its breaker is `open`.

    `sent` tells whether any byte of the request may have reached the app: False means it is safe to try elsewhere.
    `retry_after_s` is when to ask again, None where nobody knows.
    """

    def __init__(
        self, kind: UpstreamErrorKind, detail: str = "", *, sent: bool = True, retry_after_s: float | None = None
    ) -> None:
        self.kind: UpstreamErrorKind = kind
        self.sent = sent
        self.retry_after_s = retry_after_s
        super().__init__(f"{kind}: {detail}" if detail else kind)


class PhotoError(ScopegateError):
    """A photo cannot be used. `code` is a closed set named in `leads/photos`; `retryable` for a passing fault."""

    def __init__(self, code: str, detail: str = "", *, retryable: bool = False) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(f"{code}: {detail}" if detail else code)


DeliveryCode = Literal["timeout", "unreachable", "unavailable", "redirected", "rejected"]


class DeliveryError(ScopegateError):
    """The app did not take the result. `retry_after_s` is how long it asked to be left alone, None where it did not."""

    def __init__(
        self, code: DeliveryCode, detail: str = "", *, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {detail}" if detail else code)


AICallCode = Literal[
    "rate_limited",
    "overloaded",
    "timeout",
    "server_error",
    "connection",
    "auth",
    "bad_request",
    "spend_limit",
    "refused",
    "truncated",
    "invalid_output",
    "batch_expired",
    "batch_canceled",
]
"""How a call that was made can fail. The last two were never answered: their batch ended before."""

AICode = Literal[AICallCode, "batched", "breaker_open", "no_budget", "no_retries", "unknown_price"]
"""`batched` is under way in a batch; the last four were not made."""


class AIError(ScopegateError):
    """A model call gave no usable answer.

    `code` is fit for labels and history; `retryable` says whether the same call may succeed later; `retry_after_s`
    is what the API asked for, uncapped; `status` is the HTTP status, None when there was no answer. `maybe_billed`:
    the request reached the API, and no usage came back that says what it cost. `cost_usd_micros` is what all tries of
    the call were booked at, set by the metered client before the error leaves it.
    """

    def __init__(
        self,
        code: AICode,
        detail: str = "",
        *,
        retryable: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
        maybe_billed: bool = False,
    ) -> None:
        self.code = code
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.maybe_billed = maybe_billed
        self.cost_usd_micros = 0
        super().__init__(f"{code}: {detail}" if detail else code)


class AITimeoutError(AIError):
    """No complete answer within the step's time-out."""


class AIRateLimitError(AIError):
    """429, and only the kind that waiting helps; spend limits are a plain AIError that is not retryable."""


class AICircuitBreakerError(AIError):
    """The breaker is open: nothing was sent. `retry_after_s` is the rest of the cool-down."""


class AIBatchedError(AIError):
    """The question is asked in a batch: its answer is looked at when it is there, and no later than `until_ms`."""

    def __init__(self, until_ms: int) -> None:
        self.until_ms = until_ms
        super().__init__("batched", retryable=True)


class AIBudgetError(AIError):
    """A budget has no room for the worst case of this call: nothing was sent. `budget` names it; `reset_ms` is
    the Unix millisecond at which its period ends, None for a cap without a period. `is_spent`: the money is gone; else
    it is only set aside for calls in flight, and there may be room once they are settled."""

    def __init__(self, budget: str, reset_ms: int | None, *, is_spent: bool = True) -> None:
        self.budget = budget
        self.reset_ms = reset_ms
        self.is_spent = is_spent
        super().__init__("no_budget", budget, retryable=not is_spent, retry_after_s=None if is_spent else 5.0)


class AIOutputError(AIError):
    """Paid for, and not usable. `rules` are the ids of the broken rules (`schema`, `total_sum`, ...)."""

    def __init__(self, code: AICode, rules: Sequence[str], detail: str = "", *, request_id: str | None = None) -> None:
        self.rules = tuple(rules)
        super().__init__(code, detail or ", ".join(rules), retryable=True, request_id=request_id)
