"""Who would step in for each award: the cheapest capacity elsewhere that passes every rule and is free throughout."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing import backups
from pricing.awards import cut_awards
from pricing.backups import NONE, find_backups
from tests.benchmarks.scale_book import scale_book
from tests.pricing.allocations import Trade, case, random_case
from tests.pricing.lines import bid, book, demand


def find(found):
    """(demand, bid, start) -> (backup, strike)"""
    awards = cut_awards(*found.parts)
    columns = find_backups(*found.parts, awards)
    demands, bids = found.book.demands.ids, found.book.bids.ids
    return {
        (demands[i], bids[j], start): (None if b == NONE else bids[b], strike) for i, j, start, b, strike in zip(
            *(column.tolist() for column in (awards.demand, awards.bid, awards.start, columns.bid,
                                             columns.strike_micros)), strict=True)
    }


def backup_among(*others, wanted=None, hours=2):
    """The backup of an award of 2 units of `b` in berlin, with these other bids in the book."""
    wanted = wanted or demand("d", 5_000, 2, (0, hours))
    lines = book(wanted, bid("b", 1_000, 2, (0, hours), site="berlin"), *others)
    ((backup, strike),) = find(case(lines, *(Trade("d", "b", t, 2) for t in range(hours)), lam=1_000)).values()
    return backup, strike


def other(name="x", ask=1_500, units=2, slots=(0, 2), site="paris", **traits):
    return bid(name, ask, units, slots, site=site, **traits)


# -- what always holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [2, 128])
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_backup_is_the_first_that_fits_by_plain_search(block, seed):
    found = random_case(seed)
    awards = cut_awards(*found.parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "BLOCK", block)
        columns = find_backups(*found.parts, awards)

    assert columns.bid.tolist() == [plain_backup(found, awards, k) for k in range(len(awards))]
    chosen = columns.bid != NONE
    assert (columns.strike_micros[~chosen] == NONE).all()
    if chosen.any():
        assert (columns.strike_micros[chosen] == found.book.bids.ask[columns.bid[chosen]]).all()


def plain_backup(found, awards, k):
    lines, eligibility, allocation = found.parts
    i, j, units = int(awards.demand[k]), int(awards.bid[k]), int(awards.units[k])
    slots, wanted = range(int(awards.start[k]), int(awards.end[k])), lines.demands[i]
    if wanted.is_one_site and (
        (slots.start, slots.stop) != (wanted.start_slot, wanted.end_slot)
        or units != allocation.demand_units[allocation.demand_ptr[i]]
    ):
        return NONE
    mask = eligibility.masks[eligibility.mask_of_demand[i]]

    def is_fit(b):
        one, primary = lines.bids[b], lines.bids[j]
        return (
            eligibility.signature_of_bid[b] in mask and one.parent != primary.parent and one.minimum_units == 0
            and one.attributes.site != primary.attributes.site
            and all(one.start_slot <= t < one.end_slot and one.quantity_units - int(
                allocation.bid_units[allocation.bid_ptr[b] + t - one.start_slot]) >= units for t in slots)
        )

    fitting = [b for b in range(len(lines.bids)) if is_fit(b)]
    return min(fitting, key=lambda b: (int(lines.bids.ask[b]), b), default=NONE)


# -- one by one --------------------------------------------------------------------------------------------------------


def test_the_cheapest_that_fits_is_the_backup_at_its_adjusted_ask():
    assert backup_among(other("x", 1_500), other("y", 1_400, quality_bps=9_000)) == ("x", 1_500)
    assert backup_among(other("x", 1_700), other("y", 1_400, quality_bps=9_000)) == ("y", 1_600)
    assert backup_among(other("z", 1_500), other("y", 1_500)) == ("y", 1_500)


def test_without_other_bids_there_is_none():
    assert backup_among() == (None, NONE)


@pytest.mark.parametrize(
    "unfit",
    [
        {"site": "berlin"},
        {"parent": "seller-b"},
        {"resource_class": "A100"},
        {"units": 1},
        {"slots": (0, 1)},
        {"slots": (1, 2)},
        {"minimum_units": 2},
    ],
    ids=lambda unfit: "_".join(unfit),
)
def test_one_thing_that_does_not_fit_makes_it_no_backup(unfit):
    assert backup_among(other()) == ("x", 1_500)
    assert backup_among(other(**unfit)) == (None, NONE)


def test_units_that_are_sold_in_some_slot_back_nothing_up_in_it():
    lines = book(demand("d", 5_000, 2, (0, 3)), demand("e", 5_000, 1, (0, 3)), bid("b", 1_000, 2, (0, 3)),
                 other(slots=(0, 3)))
    kept = [Trade("d", "b", t, 2) for t in range(3)]

    assert find(case(lines, *kept))["d", "b", 0] == ("x", 1_500)
    for t in range(3):
        assert find(case(lines, *kept, Trade("e", "x", t, 1)))["d", "b", 0] == (None, NONE)


def test_several_awards_may_name_the_same_units():
    lines = book(demand("d", 5_000, 2), demand("e", 5_000, 2), bid("b", 1_000, 4), other(slots=(0, 1)))

    found = find(case(lines, Trade("d", "b", 0, 2), Trade("e", "b", 0, 2)))

    assert found == {("d", "b", 0): ("x", 1_500), ("e", "b", 0): ("x", 1_500)}


def test_a_one_site_demand_moves_as_a_whole_or_not_at_all():
    wanted = demand("d", 5_000, 2, (0, 2), kind="window", is_one_site=True)
    assert backup_among(other(), wanted=wanted) == ("x", 1_500)

    lines = book(wanted, bid("b", 1_000, 1, (0, 2)), bid("c", 1_000, 1, (0, 2)), other())
    halves = case(lines, *(Trade("d", name, t, 1) for name in "bc" for t in range(2)))
    assert set(find(halves).values()) == {(None, NONE)}


def test_ten_thousand_awards_are_found_within_seconds():
    lines = scale_book(8_000)
    rng = np.random.default_rng(1)
    empty = case(lines)
    awards = replace_awards(lines, empty, rng, 10_000)

    began = time.process_time()  # what others do on the machine is not counted
    columns = find_backups(*empty.parts, awards)

    assert time.process_time() - began < 20  # .3 s on a quiet machine
    assert (columns.bid != NONE).mean() > 0.3


def replace_awards(lines, found, rng, count):
    """Awards between random lines that accept each other; the residual is the whole of every bid."""
    demands = rng.integers(0, len(lines.demands), 40 * count)
    bids = rng.integers(0, len(lines.bids), 40 * count)
    start = np.maximum(lines.demands.start[demands], lines.bids.start[bids])
    end = np.minimum(lines.demands.end[demands], lines.bids.end[bids])
    fits = (start < end) & found.eligibility.accepts[
        found.eligibility.mask_of_demand[demands], found.eligibility.signature_of_bid[bids]]
    chosen = np.flatnonzero(fits)[:count]
    assert len(chosen) == count
    none = cut_awards(*found.parts)
    units = np.minimum(lines.demands.quantity[demands], lines.bids.quantity[bids])
    return replace(none, demand=demands[chosen], bid=bids[chosen], start=start[chosen], end=end[chosen],
                   units=units[chosen], amount_micros=units[chosen])
