"""The exact breach test, the credit steps and their rounding."""

import pytest
from scipy.stats import binom

from pricing.errors import SlaError
from pricing.sla import (
    certain_step_bps,
    credit_micros,
    credit_step_bps,
    judge,
    refund_micros,
    threshold_minutes,
)

DAY, WEEK, MONTH = 1440, 10_080, 43_200


@pytest.mark.parametrize(
    ("sla_bps", "minutes", "threshold"),
    [
        (9900, DAY, 31), (9900, WEEK, 142), (9900, MONTH, 516),
        (9950, DAY, 20), (9950, WEEK, 80), (9950, MONTH, 276),
        (9990, DAY, 8), (9990, WEEK, 25), (9990, MONTH, 72),
    ],
)  # fmt: skip
def test_a_breach_begins_one_minute_beyond_the_threshold(sla_bps, minutes, threshold):
    at = judge(down_minutes=threshold, known_minutes=minutes, sla_bps=sla_bps)
    beyond = judge(down_minutes=threshold + 1, known_minutes=minutes, sla_bps=sla_bps)

    assert at.threshold_minutes == threshold
    assert not at.breach
    assert beyond.breach


@pytest.mark.parametrize("sla_bps", [9900, 9950, 9990])
def test_the_size_of_the_test_is_under_its_design_level_and_hoeffding_applies(sla_bps):
    p0 = 1 - sla_bps / 10_000 + 2e-5
    for minutes in (DAY, 5 * DAY, WEEK, 20 * DAY, MONTH):
        threshold = threshold_minutes(minutes, sla_bps)

        assert binom.sf(threshold, minutes, p0) <= 5e-5
        assert binom.sf(threshold - 1, minutes, p0) > 5e-5
        assert threshold >= minutes * p0 + 1


def test_a_lease_under_a_day_earns_credit_and_is_no_breach():
    short = judge(down_minutes=1439, known_minutes=1439, sla_bps=9900)
    whole = judge(down_minutes=1440, known_minutes=1440, sla_bps=9900)

    assert (short.breach, short.exceeds_threshold, short.credit_step_bps) == (False, True, 10_000)
    assert (whole.breach, whole.exceeds_threshold, whole.credit_step_bps) == (True, True, 10_000)


def test_more_than_five_percent_unknown_minutes_is_no_breach():
    known, unknown = 1368, 72

    assert judge(down_minutes=500, known_minutes=known, unknown_minutes=unknown, sla_bps=9900).breach
    assert not judge(down_minutes=500, known_minutes=known - 1, unknown_minutes=unknown + 1, sla_bps=9900).breach


def test_nothing_known_means_nothing_broken():
    silent = judge(down_minutes=0, known_minutes=0, unknown_minutes=1440, sla_bps=9990)

    assert (silent.breach, silent.credit_step_bps, silent.availability_ppm) == (False, 0, 1_000_000)


@pytest.mark.parametrize(
    ("up", "sla_bps", "step"),
    [
        (9990, 9990, 0), (9989, 9990, 1000), (9900, 9990, 1000), (9899, 9990, 2500), (9500, 9990, 2500),
        (9499, 9990, 10_000), (9900, 9900, 0), (9899, 9900, 2500), (9600, 9500, 0), (0, 9900, 10_000),
    ],
)  # fmt: skip
def test_credit_steps_begin_below_the_sla_below_99_and_below_95(up, sla_bps, step):
    assert credit_step_bps(up_minutes=up, known_minutes=10_000, sla_bps=sla_bps) == step


def test_availability_is_rounded_down_in_parts_per_million():
    assert judge(down_minutes=1, known_minutes=3, sla_bps=9900).availability_ppm == 666_666


def test_credits_and_refunds_are_rounded_in_the_buyers_favour():
    assert credit_micros(1001, 1000) == 101
    assert credit_micros(1000, 1000) == 100
    assert credit_micros(0, 10_000) == 0
    assert refund_micros(fee_micros=100, unpaid_minutes=1, period_minutes=60) == 2
    assert refund_micros(fee_micros=120, unpaid_minutes=1, period_minutes=60) == 2


def test_refund_and_credit_together_never_pass_the_fee():
    assert credit_micros(1000, 10_000, refunded_micros=300) == 700
    assert credit_micros(1000, 2500, refunded_micros=900) == 100
    assert credit_micros(1000, 2500, refunded_micros=700) == 250
    with pytest.raises(SlaError, match="part of the fee"):
        credit_micros(1000, 1000, refunded_micros=1001)


@pytest.mark.parametrize("counts", [(11, 10, 9900, 0), (-1, 10, 9900, 0), (0, 10, 9900, -1), (0, 10, 0, 0)])
def test_impossible_counts_are_refused(counts):
    down, known, sla_bps, unknown = counts

    with pytest.raises(SlaError) as refusal:
        judge(down_minutes=down, known_minutes=known, sla_bps=sla_bps, unknown_minutes=unknown)
    assert refusal.value.code == "sla_error"
    with pytest.raises(SlaError):
        refund_micros(fee_micros=1, unpaid_minutes=2, period_minutes=1)


def test_availability_is_of_the_known_minutes_and_what_nobody_saw_is_in_neither_count():
    assert judge(down_minutes=30, known_minutes=1_000, sla_bps=9_900, unknown_minutes=440).availability_ppm == 970_000
    assert judge(down_minutes=0, known_minutes=0, sla_bps=9_900, unknown_minutes=60).availability_ppm == 1_000_000


def test_a_step_is_certain_when_the_minutes_down_pass_the_budget_of_the_whole_period():
    day = {"period_minutes": 1_440, "sla_bps": 9_900}

    assert [certain_step_bps(down_minutes=down, **day) for down in (0, 14, 15, 72, 73)] == [0, 0, 2_500, 2_500, 10_000]
    assert certain_step_bps(down_minutes=8, period_minutes=1_440, sla_bps=9_950) == 1_000
    with pytest.raises(SlaError):
        certain_step_bps(down_minutes=1_441, **day)
