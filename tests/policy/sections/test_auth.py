from __future__ import annotations

from scopegate.policy.policy import Policy
from tests.policies import KEY


def test_a_key_that_signs_identities(edge: Policy) -> None:
    key = edge.auths["contractor"].sign_with
    assert key is not None
    assert key.get_secret_value() == KEY
    assert KEY not in repr(edge)
