"""The other half of the steps of `test_escrow_machine.py`."""

from __future__ import annotations

import pytest

from tests.properties.test_escrow_machine import run_machine, seeded


@pytest.mark.parametrize("steps", [2_500, pytest.param(5_000, marks=pytest.mark.slow)])
def test_escrow_answers_like_escrow_in_plain_python_on_other_markets(steps: int) -> None:
    run_machine(seeded(4), steps)
