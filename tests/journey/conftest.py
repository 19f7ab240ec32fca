"""What the story came to, for tests that tell it another way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journey.stages import Stages, inside
from tests.journey.world import figures


@pytest.fixture
def figures_at_the_end(stages: Stages, django_db_blocker: Any) -> dict[str, Any]:
    """The figures of the world that was played step by step, without a crash."""
    with django_db_blocker.unblock(), inside(stages.copy_of("closed"), stages.home):
        return figures()
