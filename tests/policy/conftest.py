from __future__ import annotations

import pytest

from scopegate.policy import Policy
from tests.policies import EDGE, KEY, load


@pytest.fixture(scope="session")
def edge() -> Policy:
    return load(EDGE, {"IDENTITY_SECRET": KEY})
