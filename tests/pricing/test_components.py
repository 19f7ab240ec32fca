"""What a price is made of, to the micro-USD, and a planted compliance premium found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.awards import cut_awards
from pricing.book import make_book
from pricing.components import compliance_premium, split_prices
from tests.pricing.allocations import ZONES, Case, Trade, case, random_case
from tests.pricing.lines import bid, demand

SEEDS = st.integers(0, 2**32)
PARTS = ("base_micros", "scarcity_micros", "locality_micros", "tier_micros", "sla_micros")


def split(found):
    return split_prices(*found.parts, cut_awards(*found.parts))


def premium(found):
    return compliance_premium(*found.parts, cut_awards(*found.parts))


def priced(lines, trades, price_of, slots=1):
    """The case in which each bid's capacity trades at the price named for the bid."""
    book = make_book(slots=slots, home_zones=ZONES, demands=[x for x in lines if hasattr(x, "price_limit_micros")],
                     bids=[x for x in lines if hasattr(x, "price_ask_micros")])
    found = case(book, *trades)
    lam = np.zeros((len(found.eligibility.signatures), slots), dtype=np.int64)
    for j, line in enumerate(book.bids):
        lam[found.eligibility.signature_of_bid[j]] = price_of[line.id]
    return case(book, *trades, lam=lam)


def parts_of(found, bid_id, slot=0):
    columns, j = split(found), found.book.bids.ids.index(bid_id)
    return tuple(int(getattr(columns, part)[found.eligibility.signature_of_bid[j], slot]) for part in PARTS)


# -- components --------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_no_part_is_negative_and_all_add_up_to_the_price_to_the_micro(seed):
    found = random_case(seed)
    columns = split(found)

    parts = np.stack([getattr(columns, part) for part in PARTS])
    assert (parts >= 0).all()
    assert (parts.sum(axis=0) == np.where(columns.is_traded, found.allocation.lam_micros, 0)).all()


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_each_part_is_what_the_definition_says_cell_by_cell(seed):
    found = random_case(seed)
    columns, (book, eligibility, allocation) = split(found), found.parts
    known = [signature.attributes for signature in eligibility.signatures]
    awards = cut_awards(*found.parts)

    for a, t in np.argwhere(columns.is_traded):
        def least(*names, a=a, t=t):
            return min(int(allocation.lam_micros[b, t]) for b in range(len(known)) if columns.is_traded[b, t] and all(
                trait(known[b], name) == trait(known[a], name) for name in names))

        def trait(one, name):
            return book.home_zone(one) if name == "zone" else getattr(one, name)

        p0, p1 = least("resource_class"), least("resource_class", "zone")
        p2, p3 = least("resource_class", "zone", "tier"), least("resource_class", "zone", "tier", "sla_bps")
        sold = [k for k in range(len(awards)) if awards.start[k] <= t < awards.end[k] and known[
            eligibility.signature_of_bid[awards.bid[k]]].resource_class == known[a].resource_class]
        money = sum(int(awards.units[k]) * int(book.bids.ask[awards.bid[k]]) for k in sold)
        base = min(p0, money // sum(int(awards.units[k]) for k in sold) // 100 * 100)
        price = int(allocation.lam_micros[a, t])
        assert tuple(int(getattr(columns, part)[a, t]) for part in PARTS) == (
            base, p0 - base, (p1 - p0) + (price - p3), p2 - p1, p3 - p2)


def test_a_price_above_the_cheapest_is_split_by_zone_then_tier_then_sla():
    wanted = [demand(f"d{n}", 9_000) for n in range(4)]
    offers = [
        bid("dallas", 1_000, country="US", tier=1, sla_bps=9_900), bid("berlin", 1_000, tier=1, sla_bps=9_900),
        bid("better", 1_000, tier=2, sla_bps=9_900), bid("best", 1_000, tier=2, sla_bps=9_990),
    ]
    trades = [Trade(f"d{n}", offer.id, 0, 1) for n, offer in enumerate(offers)]
    found = priced([*wanted, *offers], trades, {"dallas": 1_200, "berlin": 1_500, "better": 1_900, "best": 2_400})

    assert parts_of(found, "dallas") == (1_000, 200, 0, 0, 0)
    assert parts_of(found, "berlin") == (1_000, 200, 300, 0, 0)
    assert parts_of(found, "better") == (1_000, 200, 300, 400, 0)
    assert parts_of(found, "best") == (1_000, 200, 300, 400, 500)


def test_two_countries_of_one_home_zone_count_as_one_place_and_a_dearer_site_as_locality():
    offers = [bid("dallas", country="US"), bid("berlin", country="DE"), bid("paris", country="FR", site="paris")]
    trades = [Trade(f"d{n}", offer.id, 0, 1) for n, offer in enumerate(offers)]
    found = priced([*(demand(f"d{n}", 9_000) for n in range(3)), *offers], trades,
                   {"dallas": 1_000, "berlin": 1_100, "paris": 1_350})

    assert parts_of(found, "paris") == (1_000, 0, 350, 0, 0)


def test_other_classes_slots_and_cells_without_a_trade_do_not_count():
    offers = [bid("h", 500), bid("a", 100, resource_class="A100"), bid("idle", 100, tier=2)]
    wanted = [demand("d", 9_000), demand("e", 9_000, accepted_classes=("A100",))]
    found = priced([*wanted, *offers], [Trade("d", "h", 0, 1), Trade("e", "a", 0, 1)],
                   {"h": 2_000, "a": 300, "idle": 150})

    assert parts_of(found, "h") == (500, 1_500, 0, 0, 0)
    assert parts_of(found, "idle") == (0, 0, 0, 0, 0)


def test_the_mean_ask_is_weighted_by_units_and_rounded_down_to_the_tick():
    offers = [bid("cheap", 1_000, 2), bid("dear", 1_400, 1)]
    found = priced([demand("d", 9_000, 3), *offers], [Trade("d", "cheap", 0, 2), Trade("d", "dear", 0, 1)],
                   {"cheap": 2_000, "dear": 2_000})

    assert parts_of(found, "cheap") == (1_100, 900, 0, 0, 0)  # 3,400 / 3 = 1,133


# -- the compliance premium --------------------------------------------------------------------------------------------


def planted(premiums, slots, **rule):
    """In slot t free buyers pay 1,000,000 in Dallas, and buyers with the rule premiums[t] parts in a hundred more."""
    lines, trades = [], []
    for t in range(slots):
        here = (t, t + 1)
        lines += [demand(f"free{t}", 9_000_000, 7, here), demand(f"bound{t}", 9_000_000, 5, here, **rule)]
        trades += [Trade(f"free{t}", "us", t, 7), Trade(f"bound{t}", "eu", t, 5)]
    lines += [bid("us", 900_000, 7, (0, slots), country="US"), bid("eu", 900_000, 5, (0, slots), tier=2)]
    found = priced(lines, trades, {"us": 0, "eu": 0}, slots)
    lam = np.zeros((len(found.eligibility.signatures), slots), dtype=np.int64)
    for j, name in enumerate(found.book.bids.ids):
        extra = np.array(premiums) * 10_000 if name == "eu" else 0
        lam[found.eligibility.signature_of_bid[j]] = 1_000_000 + extra
    return case(found.book, *trades, lam=lam)


@pytest.mark.parametrize("rule", [{"countries": ("DE",)}, {"control_countries": ("DE",)}, {"tier_min": 2}])
def test_a_planted_premium_of_24_percent_comes_back_exactly(rule):
    measured = premium(planted([24] * 6, 6, **rule))

    assert (measured.premium_ppm, measured.low_ppm, measured.high_ppm) == (240_000, 240_000, 240_000)
    assert measured.unit_hours == 6 * 5


def test_a_premium_that_varies_has_an_interval_around_24_percent():
    measured = premium(planted([14, 34] * 12, 24, countries=("DE",)))

    assert measured.premium_ppm == 240_000
    assert 190_000 < measured.low_ppm < 225_000 < 255_000 < measured.high_ppm < 290_000


def test_who_asks_for_no_compliance_pays_no_premium_and_no_trade_has_none():
    assert premium(planted([24] * 6, 6)) is None
    assert premium(case(planted([24], 1, tier_min=2).book)) is None


def test_bound_buyers_who_are_served_at_the_cheapest_price_count_as_none():
    found = planted([0, 24], 2, tier_min=2)

    assert premium(found).premium_ppm == 120_000


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_same_book_has_the_same_interval(seed):
    found = random_case(seed)

    one, again = premium(found), premium(Case(*found.parts))
    assert one == again
    assert one is None or 0 <= one.low_ppm <= one.high_ppm
