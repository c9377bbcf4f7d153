"""What every answer of the admin port carries, and how a problem looks."""

from __future__ import annotations

import json

import pytest

from scopegate.admin.answers import FIXED_FIELDS, AsciiJson, problem


@pytest.mark.parametrize("text", ["plain", "Ü", "屋根", "\ud800", 'a"b\\\x00'])
def test_json_is_ascii_and_means_the_same(text: str) -> None:
    body = bytes(AsciiJson({"lead_id": text}).body)
    assert body.isascii()
    assert json.loads(body) == {"lead_id": text}


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        AsciiJson({"cost": float("nan")})


def test_a_problem_is_one_of_rfc_9457() -> None:
    answer = problem(404, "no_job", "There is no such job.", {"retry-after": "1"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:scopegate:problem:no_job",
        "title": "Not Found",
        "status": 404,
        "code": "no_job",
        "detail": "There is no such job.",
    }
    assert dict(answer.headers).items() >= (FIXED_FIELDS | {"retry-after": "1"}).items()


def test_nothing_is_kept_framed_or_run() -> None:
    assert FIXED_FIELDS["cache-control"] == "no-store"
    assert "default-src 'none'" in FIXED_FIELDS["content-security-policy"]
    assert "frame-ancestors 'none'" in FIXED_FIELDS["content-security-policy"]
