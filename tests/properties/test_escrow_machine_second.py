"""The other half of the steps of `test_escrow_machine.py`."""

from __future__ import annotations

from tests.properties.test_escrow_machine import run_machine, seeded


def test_escrow_answers_like_escrow_in_plain_python_on_other_markets() -> None:
    run_machine(seeded(4), 5_000)
