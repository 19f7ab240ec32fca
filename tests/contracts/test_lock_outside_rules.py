"""M-062, the fourth route on any chain: the escrow contract refuses a lock outside its mandate, and takes good ones."""

from __future__ import annotations

from tests.contracts.outside_rules import SENTENCES, attempt
from tests.contracts.world import USD, World


def test_E3_locks_outside_the_mandate_are_refused_and_good_ones_beside_them(market: World) -> None:
    found = attempt(market, attempts=100, good_max=10)

    assert (found.accepted, found.locked_by_bad) == (0, 0)
    assert found.told == SENTENCES
    assert (found.good_accepted, found.locked_by_good) == (found.good, found.good * USD)
    assert found.good == 10
