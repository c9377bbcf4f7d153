"""What a raw request is, and what must become of it. The words in which the tables of this folder are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HOST = b"Host: a.example\r\n"
LIMITS = {"head": "4KiB", "fields": 20, "target": "512B", "body": "1KiB"}
HOSTS = ["a.example", "a.example:8080", "[2001:db8::1]", "192.0.2.1"]
"""The policy that the tables are written for: these limits, these hosts, and one route for everything."""

NEXT = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
"""A good request, sent behind a case to see where the gateway thinks that the case ended."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Forwarded, exactly once, as this. `framing` is none, length or chunked."""

    method: bytes
    target: bytes
    framing: str = "none"
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """Answered by the gateway, the connection closed. The app hears nothing."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Answered by the gateway, and the connection goes on. The app hears nothing."""

    status: int
    code: str


Verdict = Passed | Refused | Answered


@dataclass(frozen=True, slots=True)
class Case:
    """`verdicts` in the order of the requests in `raw`. `ends` when the connection does without a refusal."""

    name: str
    raw: bytes
    verdicts: tuple[Verdict, ...]
    ends: bool = False

    @property
    def goes_on(self) -> bool:
        return not self.ends and not isinstance(self.verdicts[-1], Refused)

    @property
    def forwarded(self) -> list[Passed]:
        return [verdict for verdict in self.verdicts if isinstance(verdict, Passed)]

    @property
    def whole(self) -> bytes:
        """With a good request behind it, where the connection goes on."""
        return self.raw + NEXT if self.goes_on else self.raw


def refused(status: int, code: str, requests: Mapping[str, bytes]) -> Iterator[Case]:
    """Each is refused alike."""
    for name, raw in requests.items():
        yield Case(name, raw, (Refused(status, code),))


def answered(status: int, code: str, requests: Mapping[str, bytes]) -> Iterator[Case]:
    for name, raw in requests.items():
        yield Case(name, raw, (Answered(status, code),))


def passed(requests: Mapping[str, tuple[bytes, Passed]]) -> Iterator[Case]:
    for name, (raw, verdict) in requests.items():
        yield Case(name, raw, (verdict,))


def last(requests: Mapping[str, tuple[bytes, Passed]]) -> Iterator[Case]:
    """Each is forwarded, and its answer is the last of the connection."""
    for name, (raw, verdict) in requests.items():
        yield Case(name, raw, (verdict,), ends=True)


def get(*lines: bytes, line: bytes = b"GET /x HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(each + b"\r\n" for each in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"", line: bytes = b"POST /x HTTP/1.1") -> bytes:
    return get(*lines, line=line) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def asks(target: bytes) -> bytes:
    """A GET of this target."""
    return get(line=b"GET " + target + b" HTTP/1.1")
