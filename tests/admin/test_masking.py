"""What of a lead is shown to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.admin.credentials import ConsoleRole, Who
from scopegate.admin.masking import masked, masked_address, may_see_words
from scopegate.policy.policy import WordsShown
from scopegate.types import Json
from tests.admin import house


@pytest.mark.parametrize(
    ("words", "viewer", "operator"),
    [(WordsShown.NOBODY, False, False), (WordsShown.OPERATOR, False, True), (WordsShown.VIEWER, True, True)],
)
def test_the_policy_says_who_sees_words(words: WordsShown, viewer: bool, operator: bool) -> None:
    policy = house.policy()
    policy = replace(policy, admin=replace(policy.admin, lead_words=words))
    assert may_see_words(policy, Who("a", ConsoleRole.VIEWER, "token")) is viewer
    assert may_see_words(policy, Who("a", ConsoleRole.OPERATOR, "token")) is operator


def test_what_names_a_person_is_masked_and_the_rest_stays() -> None:
    result: Json = {
        "summary": "Call Anna at +1 (555) 010-9999 or anna.b@mail.example.com; see https://p.example/1.jpg?sig=SECRET.",
        "items": ["12 m2 of shingles", 3, None, True, {"note": "tel 5550109999"}],
        "total": "120.50",
        "message_id": "msg_job_12345678901_save",
    }
    assert masked(result) == {
        "summary": "Call Anna at ••• or •••@•••; see https://p.example/•••",
        "items": ["12 m2 of shingles", 3, None, True, {"note": "tel •••"}],
        "total": "120.50",
        "message_id": "msg_job_12345678901_save",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@photos.example/1.jpg?X-Amz-Signature=S", "https://photos.example/•••"),
        ("https://[broken", "•••"),
        ("javascript:alert(1)", "javascript:///•••"),
    ],
)
def test_a_photos_address_is_its_host(url: str, shown: str) -> None:
    assert masked_address(url) == shown
