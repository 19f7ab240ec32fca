"""The concentration cap: no ultimate parent sells more than its share of what trades in a product."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pricing import caps
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.eligibility import match_lines
from pricing.lines import Rules, canonical_json
from pricing.verify import verify_bundle
from tests.pricing import promises
from tests.pricing.drawn import CONVEX, by_seed, small_book
from tests.pricing.lines import bid, book, demand
from tests.pricing.optimum import best_welfare_micros

THIRD = Rules(concentration_ppm=340_000)
EU = {"DE": "EU", "FR": "EU"}


def sold(outcome, *names):
    return sum(award.units * (award.end_slot - award.start_slot) for award in outcome.awards if award.bid_id in names)


def reason(outcome, line_id):
    (found,) = [r for r in outcome.reasons if r.line_id == line_id]
    return found.code, found.detail


def market(*more, big=10, rules=THIRD, **other):
    """One cheap large seller, three dearer ones."""
    return book(demand("d", 3_000, 10), bid("big", 500, big), *(bid(f"s{n}", 1_000 + 500 * n, 3) for n in range(3)),
                *more, rules=rules, **other)


def test_without_a_rule_one_seller_may_sell_it_all():
    assert sold(clear(market(rules=None)), "big") == 10


def test_a_capped_seller_sells_its_share_at_the_price_of_all_and_is_told_what_that_costs():
    outcome = clear(market())

    (cap,) = outcome.allocation.caps
    total = sold(outcome, "big", "s0", "s1", "s2")
    assert sold(outcome, "big") == cap.units_max <= 0.34 * total
    assert total == 10  # the others make up for it
    prices = {cell.price_micros for cell in outcome.prices if cell.price_micros is not None}
    assert len(prices) == 1  # whoever is capped is paid what all are paid
    assert cap.rho_micros == prices.pop() - 500
    assert reason(outcome, "big") == ("cap_bound", {"rho_micros": cap.rho_micros})
    promises.no_parent_sells_more_than_its_share(outcome)
    promises.the_verifier_agrees(outcome)


def test_the_children_of_one_parent_share_one_cap():
    children = [bid(f"c{n}", 500, 2, parent="big") for n in range(5)]
    alone = book(demand("d", 3_000, 10), *children, *(bid(f"s{n}", 1_000 + 500 * n, 3) for n in range(3)), rules=THIRD)

    outcome = clear(alone)

    assert sold(outcome, *(line.id for line in children)) == sold(clear(market()), "big") == 3
    promises.no_parent_sells_more_than_its_share(outcome)


def test_a_country_of_the_same_zone_is_the_same_product_and_another_tier_is_not():
    german, french = (bid(f"c-{country}", 500, 5, parent="big", country=country) for country in ("DE", "FR"))
    better = bid("better", 500, 5, parent="big", tier=2)
    rest = [bid(f"s{n}", 1_000, 4) for n in range(3)]

    outcome = clear(book(demand("d", 3_000, 12), german, french, better, *rest, rules=THIRD, home_zones=EU))

    assert sold(outcome, german.id, french.id) * 100 <= 34 * sold(outcome, german.id, french.id, "s0", "s1", "s2")
    assert sold(outcome, "better") == 5  # a product with one parent cannot be shared: it is named instead
    assert outcome.allocation.caps_not_applicable == (("H100", "EU", 2),)


@pytest.mark.parametrize(("share", "parents", "applies"), [
    (340_000, 3, False), (340_000, 4, True), (500_000, 2, False), (500_000, 3, True), (1_000_000, 1, False),
    (1_000_000, 2, True),
])
def test_a_cap_needs_more_parents_than_could_fill_the_market_at_their_caps(share, parents, applies):
    outcome = clear(book(demand("d", 3_000, 9), *(bid(f"b{n}", 500 + 100 * n, 9) for n in range(parents)),
                         rules=Rules(share, None)))

    assert (outcome.allocation.caps_not_applicable == ()) is applies
    assert bool(outcome.allocation.caps) is (applies and share < 1_000_000)
    promises.no_parent_sells_more_than_its_share(outcome)


def test_a_cap_of_a_whole_product_never_binds():
    outcome = clear(market(rules=Rules(1_000_000, None)))

    assert outcome.allocation.caps == ()
    assert sold(outcome, "big") == 10


def test_who_is_too_dear_is_priced_out_and_not_capped():
    outcome = clear(market(bid("dear", 9_000, 50, parent="big")))

    assert reason(outcome, "dear")[0] == "priced_out"


@pytest.mark.parametrize(("ask", "trades"), [(9_000, 9), (9_100, 1_500)])
def test_a_parent_that_asks_more_than_anybody_would_pay_does_not_help_to_share_a_product(ask, trades):
    """Two of five can sell: a cap of a third would close the product for want of bids that are never taken."""
    outcome = clear(book(demand("d", 9_000, 1_500), *(bid(f"b{n}", 100, 1_000) for n in range(2)),
                         *(bid(f"c{n}", ask, 1) for n in range(3)), rules=Rules(340_000, None)))

    assert sum(award.units for award in outcome.awards) == trades
    assert (outcome.allocation.caps_not_applicable == ()) is (ask <= 9_000)
    promises.the_verifier_agrees(outcome)
    promises.no_parent_sells_more_than_its_share(outcome)


def test_caps_only_fall_and_jump_after_three_rounds():
    one = market(big=1_000)
    known = caps.none(one, match_lines(one))
    total, limits = 1_000, []
    while (tighter := caps.tighten(one, known, None, lambda *_, all_sold=total: np.array([all_sold, 3, 3, 3]))):
        known = tighter
        total = known.units_max[0] if known.units_max else 0
        limits.append(total)

    assert limits == sorted(limits, reverse=True)
    assert len(limits) <= caps.JUMP_AFTER + 2
    assert limits[-1] * 1_000_000 <= 340_000 * (limits[-1] + 9)


def test_units_beyond_53_bits_are_compared_exactly():
    one = market()
    huge = 1 << 54
    one = replace(one, rules=Rules(500_000, None))
    known = caps.none(one, match_lines(one))

    even = caps.tighten(replace(one, rules=Rules(500_000, None)), known, None,
                        lambda *_: np.array([huge, huge, 0, 0]))
    above = caps.tighten(replace(one, rules=Rules(500_000, None)), known, None,
                         lambda *_: np.array([huge + 1, huge, 0, 0]))

    assert even is None
    assert above is not None


def a_cap_between_two_ticks():
    """A unit-hour more under the cap would serve half of a window, which is worth a half tick."""
    return small_book(by_seed(308), least=1, kinds=CONVEX, rules=True, is_plain=True, demands=9, bids=9)


def test_where_a_cap_would_put_prices_between_two_ticks_its_bids_are_held_at_whole_units():
    outcome = clear(a_cap_between_two_ticks())

    caps_held = outcome.allocation.caps
    assert caps_held
    assert all(cap.is_held for cap in caps_held)
    assert all(cell.price_micros % 100 == 0 for cell in outcome.prices if cell.price_micros is not None)
    for promise in promises.PROMISES:
        promise(outcome)


def test_bids_that_a_cap_holds_count_with_what_they_sold_and_no_more():
    outcome = clear(a_cap_between_two_ticks())
    files = public_bundle(outcome, window="w")
    manifest = json.loads(files["manifest.json"])

    for cap in manifest["caps"]:
        cap["is_held"] = False
    report = verify_bundle({**files, "manifest.json": canonical_json(manifest) + b"\n"})

    assert "settled_bound" in report.failed()


def test_a_cap_that_holds_its_bids_takes_what_it_took_in_the_relaxation():
    files = public_bundle(clear(a_cap_between_two_ticks()), window="w")
    manifest = json.loads(files["manifest.json"])

    manifest["caps"][0]["rho_micros"] += 100
    report = verify_bundle({**files, "manifest.json": canonical_json(manifest) + b"\n"})

    assert "caps" in report.failed()


@pytest.mark.parametrize("seed", range(40))
def test_random_books_keep_their_caps_and_reach_the_best_welfare_under_them(seed):
    one = replace(small_book(by_seed(seed), least=4, kinds=CONVEX, whole_bids=seed % 4 == 0, rules=True, is_plain=True,
                             bids=9, demands=9), rules=Rules((250_000, 340_000, 500_000)[seed % 3], None))

    outcome = clear(one)

    promises.no_parent_sells_more_than_its_share(outcome)
    promises.the_certificate_is_true(outcome)
    promises.the_verifier_agrees(outcome)
    if promises.is_convex(one) and not outcome.allocation.is_rounded.any():
        best = best_welfare_micros(one, whole=False, caps=promises.caps_of(outcome))
        assert abs(outcome.welfare_micros - best) < 0.01
