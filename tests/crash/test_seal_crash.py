"""kill -9 while sealed bids are opened: all of them are open afterwards, or none."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from ledger import faults
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import close_bidding
from marketplace.supply import holders
from tests.crash.test_crash import in_a_child
from tests.journey import world


@pytest.mark.parametrize("place", ["supply.open_bids.before", "supply.open_bids.after_write"])
def test_an_opening_that_is_killed_leaves_every_bid_sealed_and_is_done_again(
    place: str, own_world: Callable[[str], str]
) -> None:
    own_world("bidding")
    window = world.window()

    def die() -> None:
        with faults.armed(place, "kill"):
            close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))

    assert in_a_child(die) == -signal.SIGKILL
    assert world.window().state == "BIDDING"
    assert set(m.Bid.objects.filter(window=window).values_list("state", "price_ask_micros")) == {("sealed", None)}
    assert holders.released_shares(window) == 2  # given for good: the second try needs no holder again

    assert cycle.advance_until_quiet(now=clock.now())
    assert m.Clearing.objects.filter(window=window).exists()
    assert m.AuditLine.objects.filter(action="open_bids", subject=window.name).count() == 1
