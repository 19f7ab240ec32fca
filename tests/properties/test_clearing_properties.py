"""Promises of every clearing, on small books that hypothesis draws."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.book import adjusted_ask_micros, make_book
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.eligibility import match_lines
from pricing.verify import verify_bundle
from tests.pricing.lines import bid, book, demand
from tests.pricing.optimum import best_welfare_micros

SLOTS = 4
COUNTRIES = ("DE", "FR", "US")
CLASSES = ("A", "B")
SITES = ("berlin", "lyon")
PARENTS = ("acme", "bolt", "core")

prices = st.integers(1, 12).map(lambda ticks: ticks * 100)
spans = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, SLOTS)).map(
    lambda pair: (pair[0], max(pair[0] + 1, pair[1]))
)
some = st.lists(st.sampled_from(COUNTRIES), min_size=1, max_size=3, unique=True).map(tuple)

demand_terms = st.fixed_dictionaries({
    "limit": prices, "units": st.integers(1, 4), "slots": spans, "kind": st.sampled_from(["divisible", "window"]),
    "parent": st.sampled_from(PARENTS), "accepted_rank": st.integers(0, 2), "tier_min": st.integers(0, 2),
    "countries": st.none() | some, "control_countries": st.none() | some, "sla_bps_min": st.sampled_from([0, 9_900]),
    "accepted_classes": st.lists(st.sampled_from(CLASSES), min_size=1, max_size=2, unique=True).map(tuple),
    "vantage": st.just("paris"), "latency_ms_max": st.none() | st.sampled_from([10, 30]),
})
bid_terms = st.fixed_dictionaries({
    "ask": prices, "units": st.integers(1, 4), "slots": spans, "parent": st.sampled_from(PARENTS),
    "accepted_rank": st.integers(0, 2), "quality_bps": st.sampled_from([10_000, 9_900, 8_130]),
    "resource_class": st.sampled_from(CLASSES), "country": st.sampled_from(COUNTRIES),
    "keys_country": st.sampled_from(COUNTRIES), "tier": st.integers(0, 2), "site": st.sampled_from(SITES),
    "sla_bps": st.sampled_from([9_500, 9_900]), "standing": st.sampled_from(["PROVEN", "PROBATION", "DEGRADED"]),
})
latencies = st.dictionaries(st.tuples(st.just("paris"), st.sampled_from(SITES)), st.sampled_from([5, 10, 25, 50]))


@st.composite
def books(draw):
    demands = draw(st.lists(demand_terms, max_size=7))
    bids = draw(st.lists(bid_terms, max_size=6))
    return book(
        *(demand(f"d{n}", terms.pop("limit"), **terms) for n, terms in enumerate(demands)),
        *(bid(f"b{n}", terms.pop("ask"), **terms) for n, terms in enumerate(bids)),
        slots=SLOTS, latency_ms=draw(latencies),
    )


prove = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@prove
@given(books(), st.randoms(use_true_random=False))
def test_permuted_lines_give_the_same_bytes(one, chance):
    demands, bids, latency = list(one.demands), list(one.bids), list(one.latency_ms.items())
    for lines in (demands, bids, latency):
        chance.shuffle(lines)

    again = make_book(slots=SLOTS, demands=demands, bids=bids, latency_ms=dict(latency))

    assert public_bundle(one, clear(one), window="w") == public_bundle(again, clear(again), window="w")


@prove
@given(books())
def test_every_award_keeps_rules_limits_and_asks_and_the_money_balances(one):
    outcome = clear(one)
    demands, bids = {line.id: line for line in one.demands}, {line.id: line for line in one.bids}
    found = match_lines(one)
    mask_of = dict(zip(demands, found.mask_of_demand, strict=True))
    signature_of = dict(zip(bids, found.signature_of_bid, strict=True))
    got, gave, paid, hours = Counter(), Counter(), Counter(), Counter()
    for award in outcome.awards:
        line, offer = demands[award.demand_id], bids[award.bid_id]
        assert signature_of[offer.id] in found.masks[mask_of[line.id]]
        assert line.parent != offer.parent
        slots = range(award.start_slot, award.end_slot)
        assert set(slots) <= set(range(line.start_slot, line.end_slot)) & set(range(offer.start_slot, offer.end_slot))
        for t in slots:
            price = outcome.price_of(offer.id, t)
            assert price % 100 == 0
            assert price >= adjusted_ask_micros(offer) >= offer.price_ask_micros
            assert line.kind == "window" or price <= line.price_limit_micros
            got[line.id, t] += award.units
            gave[offer.id, t] += award.units
        paid[line.id] += award.amount_micros
        hours[line.id] += award.units * len(slots)
        assert award.amount_micros == award.units * sum(outcome.price_of(offer.id, t) for t in slots)

    assert all(units <= demands[name].quantity_units for (name, _), units in got.items())
    assert all(units <= bids[name].quantity_units for (name, _), units in gave.items())
    assert all(amount <= demands[name].price_limit_micros * hours[name] for name, amount in paid.items())
    for line in one.demands:
        filled = {got[line.id, t] for t in range(line.start_slot, line.end_slot)}
        assert line.kind == "divisible" or len(filled) == 1


@prove
@given(books())
def test_every_line_is_filled_or_has_exactly_one_reason_for_exactly_the_rest(one):
    outcome = clear(one)
    filled = Counter()
    for award in outcome.awards:
        hours = award.units * (award.end_slot - award.start_slot)
        filled["demand", award.demand_id] += hours
        filled["bid", award.bid_id] += hours
    whole = {("demand", line.id): line.quantity_units * (line.end_slot - line.start_slot) for line in one.demands}
    whole |= {("bid", line.id): line.quantity_units * (line.end_slot - line.start_slot) for line in one.bids}

    stated = {(reason.side, reason.line_id): reason.unfilled_unit_hours for reason in outcome.reasons}

    assert len(stated) == len(outcome.reasons)
    assert stated == {key: hours - filled[key] for key, hours in whole.items() if hours > filled[key]}


@prove
@given(books())
def test_the_verifier_agrees_with_the_engine(one):
    outcome = clear(one)

    report = verify_bundle(public_bundle(one, outcome, window="w"))

    assert report.ok, [check for check in report.checks if not check.ok]
    assert (report.welfare_micros, report.bound_micros, report.gap_micros) == (
        outcome.welfare_micros, outcome.bound_micros, outcome.gap_micros,
    )


@prove
@given(books())
def test_welfare_is_the_best_there_is_up_to_the_stated_gap(one):
    outcome = clear(one)

    best = best_welfare_micros(one, whole=True)

    assert outcome.welfare_micros - 0.01 <= best <= outcome.bound_micros + 0.01
    assert outcome.gap_allowed_micros > 0 or abs(outcome.welfare_micros - best) < 0.01
