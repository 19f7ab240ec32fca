"""Awards: every unit paired once, in long runs, the same whatever the order of the lines; and exact shares."""

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing import errors
from pricing.awards import cut_awards, route_units, share_pro_rata, traded_units, units_in_slot
from pricing.book import make_book
from tests.pricing.allocations import ZONES, Case, Trade, case, random_case
from tests.pricing.lines import bid, book, demand

SEEDS = st.integers(0, 2**32)


def rows(found: Case):
    columns = cut_awards(*found.parts)
    demands, bids = found.book.demands.ids, found.book.bids.ids
    return [
        (demands[i], bids[j], start, end, units, amount) for i, j, start, end, units, amount in zip(
            *(getattr(columns, name).tolist() for name in ("demand", "bid", "start", "end", "units", "amount_micros")),
            strict=True)
    ]


def hourly(trades):
    return [replace(trade, slot=t) for trade, slots in trades for t in slots]


# -- what always holds -------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_every_unit_of_demand_meets_exactly_one_unit_of_capacity(seed):
    found = random_case(seed)
    got, gave = Counter(), Counter()

    for demand_id, bid_id, start, end, units, _ in rows(found):
        for t in range(start, end):
            got[demand_id, t] += units
            gave[bid_id, t] += units

    for t in range(found.book.slots):
        wanted, had = units_in_slot(found.book, found.allocation, t)
        assert [got[name, t] for name in found.book.demands.ids] == wanted.tolist()
        assert [gave[name, t] for name in found.book.bids.ids] == had.tolist()


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_awards_keep_the_rules_stay_inside_both_lines_and_are_as_long_as_they_can_be(seed):
    found = random_case(seed)
    awards = cut_awards(*found.parts)
    demands, bids, eligibility = found.book.demands, found.book.bids, found.eligibility

    signature = eligibility.signature_of_bid[awards.bid]
    assert eligibility.accepts[eligibility.mask_of_demand[awards.demand], signature].all()
    assert (np.maximum(demands.start[awards.demand], bids.start[awards.bid]) <= awards.start).all()
    assert (awards.start < awards.end).all()
    assert (awards.end <= np.minimum(demands.end[awards.demand], bids.end[awards.bid])).all()
    assert (awards.units > 0).all()
    keys = list(zip(awards.demand.tolist(), awards.bid.tolist(), awards.start.tolist(), strict=True))
    assert keys == sorted(set(keys))
    for one, other in zip(range(len(awards)), range(1, len(awards)), strict=False):
        if keys[one][:2] == keys[other][:2]:
            assert awards.end[one] <= awards.start[other]
            assert awards.end[one] < awards.start[other] or awards.units[one] != awards.units[other]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_units_go_only_where_the_solver_sent_some_or_where_nothing_that_serves_is_cheaper(seed):
    found = random_case(seed)
    allocation, eligibility = found.allocation, found.eligibility
    masks = eligibility.masks + allocation.variant_masks
    used = set(zip(allocation.flow_slot.tolist(), allocation.flow_mask.tolist(), allocation.flow_group.tolist(),
                   strict=True))
    awards = cut_awards(*found.parts)

    for i, j, start, end in zip(awards.demand, awards.bid, awards.start, awards.end, strict=True):
        s, a = int(allocation.served_under[i]), eligibility.signature_of_bid[j]
        g = allocation.group_of_signature[a]
        for t in range(start, end):
            same = np.flatnonzero(allocation.group_of_signature == g)
            least = allocation.lam_micros[list(masks[s]), t].min()
            assert (t, s, g) in used or allocation.lam_micros[same, t].min() == least


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_amount_is_the_units_times_the_prices_of_the_slots(seed):
    found = random_case(seed)
    signature = dict(zip(found.book.bids.ids, found.eligibility.signature_of_bid, strict=True))

    for _, bid_id, start, end, units, amount in rows(found):
        assert amount == units * sum(found.allocation.lam_micros[signature[bid_id], start:end].tolist())


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_order_in_which_lines_are_handed_in_changes_nothing(seed):
    found = random_case(seed)
    shuffled = random.Random(seed)
    demands, bids = list(found.book.demands), list(found.book.bids)
    shuffled.shuffle(demands)
    shuffled.shuffle(bids)
    again = make_book(slots=found.book.slots, demands=demands, bids=bids, home_zones=ZONES, rules=found.book.rules)

    assert rows(Case(again, found.eligibility, found.allocation)) == rows(found)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_names_that_sort_alike_give_the_same_awards(seed):
    found = random_case(seed)
    renamed = make_book(
        slots=found.book.slots, home_zones=ZONES, rules=found.book.rules,
        demands=[replace(line, id=f"x-{line.id}") for line in found.book.demands],
        bids=[replace(line, id=f"y-{line.id}") for line in found.book.bids])

    assert [(f"x-{d}", f"y-{b}", *rest) for d, b, *rest in rows(found)] == rows(
        Case(renamed, found.eligibility, found.allocation))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_traded_units_are_those_of_the_bids(seed):
    found = random_case(seed)
    expected = np.zeros((len(found.eligibility.signatures), found.book.slots), dtype=np.int64)
    for t in range(found.book.slots):
        np.add.at(expected[:, t], found.eligibility.signature_of_bid, units_in_slot(*found.parts[::2], t)[1])

    assert (traded_units(found.book, found.eligibility, cut_awards(*found.parts)) == expected).all()


def test_a_book_without_lines_has_no_awards():
    assert rows(case(book())) == []
    assert rows(case(book(demand("d")))) == []
    assert rows(case(book(bid("b")))) == []


# -- few and long ------------------------------------------------------------------------------------------------------


def test_while_nothing_changes_a_pair_stays_one_award():
    lines = book(*(demand(f"d{n}", units=3, slots=(0, 4)) for n in range(3)), bid("b1", units=5, slots=(0, 4)),
                 bid("b2", units=4, slots=(0, 4)))
    trades = [(Trade(f"d{n}", "b1", 0, u), range(4)) for n, u in enumerate((1, 1, 3))]
    trades += [(Trade(f"d{n}", "b2", 0, u), range(4)) for n, u in enumerate((2, 2, 0))]

    found = rows(case(lines, *hourly(trades)))

    assert {(start, end) for _, _, start, end, _, _ in found} == {(0, 4)}
    assert len(found) <= 4  # three demands and two bids can be joined by four pairs


def test_a_pair_outlives_a_change_elsewhere():
    lines = book(demand("d1", units=2, slots=(0, 4)), demand("d2", units=2, slots=(0, 2)),
                 bid("b1", units=2, slots=(0, 4)), bid("b2", units=2, slots=(0, 4)))
    trades = [(Trade("d1", "b1", 0, 2), range(4)), (Trade("d2", "b2", 0, 2), range(2))]

    assert [row[:5] for row in rows(case(lines, *hourly(trades)))] == [
        ("d1", "b1", 0, 4, 2), ("d2", "b2", 0, 2, 2)]


def test_flows_that_swap_between_slots_do_not_cut_a_pair():
    lines = book(demand("d1", units=2, slots=(0, 2)), demand("d2", units=2, slots=(0, 2), tier_min=1),
                 bid("b1", units=2, slots=(0, 2)), bid("b2", units=2, slots=(0, 2), tier=2), slots=2)
    there = [Trade("d1", "b1", 0, 2), Trade("d2", "b2", 0, 2)]
    back = [Trade("d1", "b2", 1, 2), Trade("d2", "b1", 1, 2)]

    assert {(start, end) for _, _, start, end, _, _ in rows(case(lines, *there, *back))} == {(0, 2)}


def test_but_a_dearer_cell_that_the_solver_does_not_use_is_no_way_around():
    lines = book(demand("d1", units=2, slots=(0, 2)), demand("d2", units=2, slots=(0, 2)),
                 demand("d3", units=2, slots=(0, 2), tier_min=2),
                 bid("b1", units=4, slots=(0, 2)), bid("b2", units=2, slots=(0, 2), tier=2), slots=2)
    trades = [Trade("d1", "b1", 0, 2), Trade("d2", "b2", 0, 2), Trade("d3", "b2", 1, 2), Trade("d2", "b1", 1, 2)]
    prices = {1: [1_000, 1_000], 2: [1_000, 1_500]}
    found = case(lines, *trades)
    lam = [prices[a.attributes.tier] for a in found.eligibility.signatures]
    found = case(lines, *trades, lam=np.array(lam))

    assert {row[:2] for row in rows(found) if row[2] <= 1 < row[3]} == {("d2", "b1"), ("d3", "b2")}


def test_equal_sizes_meet_first_and_the_longest_of_them_each_other():
    lines = book(demand("d1", units=4, slots=(0, 1)), demand("d2", units=2, slots=(0, 3)),
                 demand("d3", units=2, slots=(0, 2)), bid("b1", units=2, slots=(0, 2)),
                 bid("b2", units=2, slots=(0, 3)), bid("b3", units=4, slots=(0, 1)))
    trades = [(Trade("d1", "b1", 0, 2), range(1)), (Trade("d1", "b2", 0, 2), range(1)),
              (Trade("d2", "b3", 0, 2), range(1)), (Trade("d3", "b3", 0, 2), range(1)),
              (Trade("d2", "b2", 0, 2), range(1, 3)), (Trade("d3", "b1", 0, 2), range(1, 2))]

    assert [row[:5] for row in rows(case(lines, *hourly(trades)))] == [
        ("d1", "b3", 0, 1, 4), ("d2", "b2", 0, 3, 2), ("d3", "b1", 0, 2, 2)]


def test_where_less_fits_the_smaller_pairs_stay():
    lines = book(demand("d1", units=5, slots=(0, 2)), demand("d2", units=2, slots=(0, 2)),
                 bid("b1", units=7, slots=(0, 2)), bid("b2", units=4, slots=(1, 2)), slots=2)
    trades = [Trade("d1", "b1", 0, 5), Trade("d2", "b1", 0, 2), Trade("d1", "b1", 1, 3), Trade("d1", "b2", 1, 2),
              Trade("d2", "b2", 1, 2)]

    assert [row[:5] for row in rows(case(lines, *trades))] == [
        ("d1", "b1", 0, 1, 5), ("d1", "b1", 1, 2, 1), ("d1", "b2", 1, 2, 4), ("d2", "b1", 0, 2, 2)]


def test_the_line_that_ends_last_is_sent_to_the_first_cell():
    lines = book(demand("d1", units=2, slots=(0, 1)), demand("d2", units=2, slots=(0, 3)),
                 demand("t", units=1, tier_min=2), bid("b1", units=2, slots=(0, 3)),
                 bid("b2", units=3, slots=(0, 1), tier=2))
    trades = [(Trade("d2", "b1", 0, 2), range(3)), (Trade("d1", "b2", 0, 2), range(1)),
              (Trade("t", "b2", 0, 1), range(1))]
    found = case(lines, *hourly(trades))
    first = found.allocation.group_of_signature[found.eligibility.signature_of_bid].tolist()

    pairs = {row[0]: row[1] for row in rows(found) if row[2] == 0}

    assert pairs["t"] == "b2"
    assert pairs["d2"] == ("b1" if first[0] < first[1] else "b2")
    assert pairs["d1"] == ("b2" if first[0] < first[1] else "b1")


def test_units_that_do_not_balance_are_refused():
    lines = book(demand("d", units=2), bid("b", units=2))
    assert len(rows(case(lines, Trade("d", "b", 0, 2)))) == 1
    found = case(lines, Trade("d", "b", 0, 2))
    short = replace(found.allocation, bid_units=np.array([1]))

    with pytest.raises(errors.SolverFailed, match="balance"):
        cut_awards(found.book, found.eligibility, short)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_routing_fills_every_need_and_keeps_the_most_that_any_routing_keeps(seed):
    rng = np.random.default_rng(seed)
    masks, groups = rng.integers(1, 9, 2)
    is_open = rng.random((masks, groups)) < rng.uniform(0.2, 0.9)
    flow = np.where(is_open, rng.integers(0, 6, (masks, groups)), 0)
    need, spare = flow.sum(axis=1), flow.sum(axis=0)
    other = np.where(is_open, rng.integers(0, 6, (masks, groups)), 0)
    keepable = np.minimum(other, 9)
    while (over := keepable.sum(axis=1) > need).any():  # as the clips before it leave it: within needs and spares
        keepable[over] = np.maximum(keepable[over] - 1, 0)
    while (over := keepable.sum(axis=0) > spare).any():
        keepable[:, over] = np.maximum(keepable[:, over] - 1, 0)

    routed = route_units(need, spare, keepable, is_open)

    assert (routed.sum(axis=1) == need).all()
    assert (routed.sum(axis=0) == spare).all()
    assert (routed >= 0).all()
    assert not routed[~is_open].any()
    assert np.minimum(routed, keepable).sum() == _most_kept(need, spare, keepable, is_open)


def test_routing_gives_back_what_an_earlier_path_took():
    need, spare = np.array([2, 7, 3, 1, 6]), np.array([4, 7, 1, 7])
    keepable = np.array([[0, 2, 0, 0], [0, 1, 1, 3], [0, 0, 0, 0], [0, 0, 0, 0], [2, 3, 0, 0]])
    is_open = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]]) > 0

    assert np.minimum(route_units(need, spare, keepable, is_open), keepable).sum() == 9


def test_routing_refuses_what_no_open_cell_can_carry_and_more_kept_than_there_is():
    one = np.ones(1, dtype=np.int64)
    assert route_units(one, one, np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.bool_)) == [[1]]
    with pytest.raises(errors.SolverFailed, match="balance"):
        route_units(one, one, np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=np.bool_))
    with pytest.raises(errors.SolverFailed, match="More is kept"):
        route_units(one, one, np.full((1, 1), 2), np.ones((1, 1), dtype=np.bool_))


def _most_kept(need, spare, keepable, is_open):
    masks, groups = is_open.shape
    size = masks * groups
    rows_of = np.kron(np.eye(masks), np.ones(groups))
    columns_of = np.kron(np.ones(masks), np.eye(groups))
    matrix = np.hstack([np.vstack([rows_of, columns_of])] * 2)
    bounds = [(0, k) for k in keepable.ravel()] + [(0, None if o else 0) for o in is_open.ravel()]
    found = scipy.optimize.linprog(np.r_[-np.ones(size), np.zeros(size)], A_eq=matrix, b_eq=np.r_[need, spare],
                                   bounds=bounds)
    assert found.status == 0
    return round(-found.fun)


# -- shares ------------------------------------------------------------------------------------------------------------


def share(groups, to_share):
    """`groups`: lists of (quantity, rank, tie)."""
    lines = [(g, *line) for g, members in enumerate(groups) for line in members]
    columns = [np.array(column, dtype=kind) for column, kind in zip(
        zip(*lines, strict=True), (np.int32, np.int64, np.int64, np.uint64), strict=True)]
    return share_pro_rata(columns[0], columns[1], np.array(to_share), columns[2], columns[3]).tolist()


def test_shares_follow_quantities_and_the_largest_remainder_gets_the_odd_unit():
    assert share([[(6, 0, 0), (3, 0, 1)]], [6]) == [4, 2]
    assert share([[(5, 0, 0), (3, 0, 1), (2, 0, 2)]], [4]) == [2, 1, 1]  # 2.0, 1.2, 0.8


def test_an_equal_remainder_goes_to_the_earlier_rank_then_to_the_smaller_hash_then_by_order():
    assert share([[(1, 2, 0), (1, 1, 9)]], [1]) == [0, 1]
    assert share([[(1, 1, 9), (1, 1, 2**64 - 1)]], [1]) == [1, 0]
    assert share([[(1, 1, 2**64 - 1), (1, 1, 9)]], [1]) == [0, 1]
    assert share([[(1, 1, 5), (1, 1, 5)]], [1]) == [1, 0]


LINES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_shares_add_up_and_stay_within_one_unit_of_the_exact_part_and_within_the_line(groups, rng):
    totals = [sum(q for q, _, _ in members) for members in groups]
    to_share = [rng.randint(0, total) for total in totals]

    shares = iter(share(groups, to_share))

    for members, total, units in zip(groups, totals, to_share, strict=True):
        got = [next(shares) for _ in members]
        assert sum(got) == units
        for (quantity, _, _), part in zip(members, got, strict=True):
            assert abs(part - Fraction(units * quantity, max(total, 1))) < 1
            assert 0 <= part <= quantity


def test_shares_are_exact_where_the_products_pass_63_bits():
    big = 2**40
    assert share([[(big, 0, 0), (big - 1, 0, 1)]], [2 * big - 2]) == [big - 1, big - 1]


def test_more_than_the_lines_hold_is_refused():
    assert share([[(3, 0, 0)]], [3]) == [3]
    with pytest.raises(errors.BadQuantity, match="no more units"):
        share([[(3, 0, 0)]], [4])
