"""The Foundation's lines are lines like all others, until together they would cost more than its budget."""

from dataclasses import replace

import pytest

from pricing import sifting
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import Rules
from pricing.verify import verify_bundle
from tests.pricing import promises
from tests.pricing.drawn import CONVEX, by_seed, small_book
from tests.pricing.lines import bid, book, demand
from tests.pricing.optimum import best_welfare_micros


def own(name, *terms, **other):
    return demand(name, *terms, is_foundation=True, **other)


def bought(outcome, name):
    return sum(award.units * (award.end_slot - award.start_slot) for award in outcome.awards if award.demand_id == name)


def reason(outcome, line_id):
    (found,) = [r for r in outcome.reasons if r.line_id == line_id]
    return found.code, found.detail


def with_budget(micros, *lines):
    return book(*lines, rules=Rules(None, micros))


@pytest.mark.parametrize("kind", ["divisible", "window"])
def test_a_budget_that_covers_the_limits_changes_nothing(kind):
    lines = [own("f", 2_000, 3, (0, 2), kind=kind), demand("d", 1_500, 2), bid("b", 1_000, 4, (0, 2))]
    free, held = clear(book(*lines)), clear(with_budget(2_000 * 3 * 2, *lines))

    assert [vars(award) for award in held.awards] == [vars(award) for award in free.awards]
    assert held.allocation.sigma == (0, 1)
    assert held.gap_micros == 0


@pytest.mark.parametrize(("budget", "units"), [(0, 0), (1_999, 0), (2_000, 1), (5_999, 2), (6_000, 3), (10**9, 3)])
@pytest.mark.parametrize("kind", ["divisible", "window"])
def test_the_budget_buys_whole_units_at_their_limit_whatever_the_price(kind, budget, units):
    outcome = clear(with_budget(budget, own("f", 2_000, 3, kind=kind), bid("b", 1_000, 9)))

    assert bought(outcome, "f") == units
    if units:
        assert outcome.price_of("b", 0) == 1_000
    if units < 3:
        assert reason(outcome, "f")[0] == "budget_bound"
    promises.the_foundation_keeps_to_its_budget(outcome)
    promises.the_verifier_agrees(outcome)


def test_where_the_budget_binds_the_dearest_need_of_the_market_goes_first():
    outcome = clear(with_budget(4_000, own("low", 1_200, 4), own("high", 2_000, 2), bid("b", 1_000, 9)))

    assert (bought(outcome, "high"), bought(outcome, "low")) == (2, 0)
    assert reason(outcome, "low")[0] == "budget_bound"


def test_the_lines_of_others_are_not_under_the_budget():
    outcome = clear(with_budget(0, own("f", 2_000, 3), demand("d", 1_500, 3), bid("b", 1_000, 9)))

    assert (bought(outcome, "f"), bought(outcome, "d")) == (0, 3)


def test_a_line_of_the_foundation_that_is_too_cheap_is_priced_out_and_not_bound():
    outcome = clear(with_budget(0, own("f", 900, 3), demand("d", 1_500, 3), bid("b", 1_000, 9)))

    assert reason(outcome, "f") == ("priced_out", {"short_by_micros": 100, "slot": 0})


@pytest.mark.parametrize("budget", [4_700, 4_725, 4_799])
def test_a_budget_that_nobody_waits_for_takes_nothing(budget):
    """All that the prices suit is bought and it costs just the budget: limits count in full."""
    outcome = clear(with_budget(budget, own("d0", 1_300, 3), own("d1", 400, 3, (0, 2)), bid("b1", 600, 1),
                                bid("b3", 200, 2, (0, 2))))

    assert (bought(outcome, "d0"), bought(outcome, "d1")) == (3, 2)
    assert outcome.welfare_micros == outcome.certificate.settled_bound_micros == 3_300
    assert outcome.gap_micros <= 200
    promises.the_verifier_agrees(outcome)


def test_a_budget_off_the_tick_is_worth_what_it_can_buy():
    lines = [own("f", 2_000, 3), bid("b", 1_000, 9)]
    outcomes = [clear(with_budget(budget, *lines)) for budget in (4_000, 4_099)]

    assert outcomes[0].bound_micros == outcomes[1].bound_micros


@pytest.mark.parametrize("seed", range(25))
def test_random_books_keep_to_their_budget_and_lose_at_most_what_it_cannot_buy(seed):
    one = small_book(by_seed(seed), least=3, kinds=CONVEX, whole_bids=False, rules=True, is_plain=True)
    budget = one.rules.foundation_budget_micros
    one = replace(one, rules=Rules(None, budget if budget is not None else 3_000))

    outcome = clear(one)

    promises.the_foundation_keeps_to_its_budget(outcome)
    promises.the_certificate_is_true(outcome)
    promises.every_rest_has_exactly_one_reason(outcome)
    assert verify_bundle(public_bundle(outcome, window="w")).ok
    fractional = best_welfare_micros(one, whole=False)
    unit = max((line.price_limit_micros * (1 if line.kind == "divisible" else line.end_slot - line.start_slot)
                for line in one.demands if line.is_foundation), default=0)
    assert outcome.bound_micros >= fractional - 0.01
    assert outcome.welfare_micros >= fractional - unit * len(one.demands) - 0.01


def test_where_a_solver_rounds_in_large_numbers_units_are_given_up_and_the_budget_is_kept(monkeypatch):
    lines = [
        own("d5", 10**9, 448_303, (3, 11)), own("d6", 589_264_200, 1, (1, 7)), bid("b0", 100, 657_942, (4, 7)),
    ]
    one = book(*lines, slots=13, rules=Rules(None, 1_259_421_729_778_534))
    direct = clear(one)
    monkeypatch.setattr(sifting, "DIRECT_LINE_SLOTS", 0)

    sifted = clear(one)

    assert public_bundle(sifted, window="w") == public_bundle(direct, window="w")
    promises.the_foundation_keeps_to_its_budget(sifted)


def test_lines_of_the_foundation_far_from_the_price_cost_what_they_cost(monkeypatch):
    """Merged with a cheaper one they would seem to fit the budget."""
    lines = [own("near", 1_100, 4), own("far", 9_000, 4), bid("b", 1_000, 20)]
    direct = clear(with_budget(40_000, *lines))
    monkeypatch.setattr(sifting, "DIRECT_LINE_SLOTS", 0)

    sifted = clear(with_budget(40_000, *lines))

    assert sifted.allocation.sigma[0] > 0
    assert public_bundle(sifted, window="w") == public_bundle(direct, window="w")
