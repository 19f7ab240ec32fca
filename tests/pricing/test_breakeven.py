"""Break-even: by hand, rounded against nobody's interest but safety's, and work compared instead of hours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pricing.breakeven import Machine, break_even, price_per_peta_nanos, rank_by_work
from pricing.errors import EstimateError

# 30,000 USD over 5 years and 2,760 a year beside it are 8,760 a year: one dollar for each of its hours.
ONE_DOLLAR = Machine(30_000, 5, 2_760, watts=700, pue_ppm=1_200_000, kwh_micros=150_000, sold_ppm=1_000_000)


def test_a_dollar_an_hour_and_its_power_come_back_by_hand():
    found = break_even(ONE_DOLLAR, fee_bps=250)

    assert (found.fixed_micros, found.power_micros) == (1_000_000, 126_000)  # 0.7 kW x 1.2 x 0.15
    assert found.cost_micros == 1_126_000
    assert found.price_micros == 1_154_900  # 1.126 / 0.975 = 1.154871.., on the tick above
    assert found.price_micros * 9_750 // 10_000 >= found.cost_micros


def test_half_the_hours_sold_double_what_is_fixed_and_leave_power_alone():
    half = break_even(replace(ONE_DOLLAR, sold_ppm=500_000), fee_bps=0)

    assert (half.fixed_micros, half.power_micros) == (2_000_000, 126_000)
    assert half.price_micros == 2_126_000


def test_a_slower_cheaper_card_outranks_a_faster_dearer_one_when_its_work_is_cheaper():
    fast, slow = ("fast", 2_400_000, 989 * 10**12), ("slow", 530_000, 330 * 10**12)

    assert rank_by_work([fast, slow]) == ["slow", "fast"]
    assert rank_by_work([fast, ("slow", 900_000, 330 * 10**12)]) == ["fast", "slow"]
    assert price_per_peta_nanos(3_600_000, 10**15) == 1_000_000  # a thousandth of a dollar


@pytest.mark.parametrize(("change", "field"), [
    ({"life_years": 0}, "life_years"), ({"watts": -1}, "watts"), ({"pue_ppm": 999_999}, "pue_ppm"),
    ({"sold_ppm": 0}, "sold_ppm"), ({"sold_ppm": 1_000_001}, "sold_ppm"), ({"capital_usd": 1.5}, "capital_usd"),
    ({"kwh_micros": True}, "kwh_micros"), ({"other_usd_per_year": -1}, "other_usd_per_year"),
])  # fmt: skip
def test_a_figure_that_cannot_be_is_refused_by_its_name(change, field):
    with pytest.raises(EstimateError) as refusal:
        break_even(replace(ONE_DOLLAR, **change), fee_bps=250)

    assert refusal.value.facts["field"] == field
    for price, ops in ((1, 0), (-1, 1)):
        with pytest.raises(EstimateError):
            price_per_peta_nanos(price, ops)
    with pytest.raises(EstimateError):
        break_even(ONE_DOLLAR, fee_bps=10_000)
