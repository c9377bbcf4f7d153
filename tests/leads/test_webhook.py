"""Webhooks: the published test vector, and every way in which a message is not genuine."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from scopegate.leads.webhook import SIGNATURE_FIELD, TOLERANCE_S, message, secret_bytes, sign, signed_fields, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330


def test_the_signature_is_the_one_other_libraries_make() -> None:
    # The worked example that the Standard Webhooks libraries test against.
    assert sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, "plain text", "schlüssel"])
def test_what_we_sign_verifies(secret: str) -> None:
    assert verify(secret, signed_fields([secret], "msg_1", NOW, BODY), BODY, NOW) is None


@pytest.mark.parametrize("offset", [-TOLERANCE_S, 0, TOLERANCE_S])
def test_clocks_may_differ_a_little(offset: int) -> None:
    assert verify(SECRET, signed_fields([SECRET], "msg_1", NOW, BODY), BODY, NOW + offset) is None


def test_one_of_several_signatures_is_enough() -> None:
    fields = signed_fields([SECRET], "msg_1", NOW, BODY)
    fields[SIGNATURE_FIELD] = f"v1a,AAAA v1,BBBB {fields[SIGNATURE_FIELD]}"
    assert verify(SECRET, fields, BODY, NOW) is None


GOOD = signed_fields([SECRET], "msg_1", NOW, BODY)


@pytest.mark.parametrize(
    ("fields", "body", "now", "why"),
    [
        ({}, BODY, NOW, "unsigned"),
        ({**GOOD, "webhook-id": ""}, BODY, NOW, "unsigned"),
        ({**GOOD, "webhook-signature": ""}, BODY, NOW, "unsigned"),
        ({**GOOD, "webhook-timestamp": "now"}, BODY, NOW, "timestamp is not a number of seconds"),
        ({**GOOD, "webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, BODY, NOW, "timestamp is not a number of seconds"),
        ({**GOOD, "webhook-timestamp": "9" * 16}, BODY, NOW, "timestamp is not a number of seconds"),
        ({**GOOD, "webhook-timestamp": str(NOW + 1)}, BODY, NOW, "signature does not fit"),
        ({**GOOD, "webhook-id": "msg_2"}, BODY, NOW, "signature does not fit"),
        ({**GOOD, "webhook-signature": "v1,é"}, BODY, NOW, "signature does not fit"),
        ({**GOOD, "webhook-signature": GOOD[SIGNATURE_FIELD].removeprefix("v1,")}, BODY, NOW, "signature does not fit"),
        ({**GOOD, "webhook-signature": "v1,x " * 20 + GOOD[SIGNATURE_FIELD]}, BODY, NOW, "signature does not fit"),
        (GOOD, BODY + b" ", NOW, "signature does not fit"),
        (GOOD, BODY, NOW + TOLERANCE_S + 1, "timestamp is too far from now"),
        (GOOD, BODY, NOW - TOLERANCE_S - 1, "timestamp is too far from now"),
        (signed_fields(["whsec_YWFhYQ=="], "msg_1", NOW, BODY), BODY, NOW, "signature does not fit"),
    ],
)
def test_anything_else_is_not_genuine(fields: dict[str, str], body: bytes, now: int, why: str) -> None:
    assert verify(SECRET, fields, body, now) == why


def test_a_prefixed_secret_and_its_bytes_are_one_key() -> None:
    assert secret_bytes("whsec_YWFhYQ==") == secret_bytes("aaaa") == b"aaaa"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError):
        secret_bytes(secret)


def test_a_message_has_three_parts() -> None:
    assert message("lead.x", "2026-11-24T00:00:00Z", {"a": 1}) == {
        "type": "lead.x",
        "timestamp": "2026-11-24T00:00:00Z",
        "data": {"a": 1},
    }


@pytest.mark.parametrize("known", [SECRET, "the secret that was before"])
def test_while_a_secret_is_changed_either_one_verifies(known: str) -> None:
    fields = signed_fields([SECRET, "the secret that was before"], "msg_1", NOW, BODY)
    assert verify(known, fields, BODY, NOW) is None
    assert verify("another one", fields, BODY, NOW) == "signature does not fit"


def test_the_public_library_takes_what_we_sign_with_either_secret() -> None:
    now = datetime.now(UTC)
    before = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    fields = signed_fields([SECRET, before], "msg_1", int(now.timestamp()), BODY)
    for known in (SECRET, before):
        assert Webhook(known).verify(BODY, fields) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", fields)


def test_we_take_what_the_public_library_signs() -> None:
    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    fields = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}
    assert verify(SECRET, fields, BODY, NOW) is None
