"""A dip under the proven score is a breach, noise is not; both error rates are stated and measured (M-042)."""

import numpy as np
import pytest
from scipy.stats import binom

from pricing.errors import SlaError
from pricing.performance import (
    Check,
    failures_allowed,
    has_failed,
    is_performance_breach,
    needs_retry,
    shortfall_micros,
)

PROVEN = 1_000_000


def checked(rng: np.random.Generator, share: float, noise: float) -> Check:
    """One re-check of a host at a share of its usual score, whose 5th percentile was proven."""
    usual = PROVEN / (1 - 1.645 * noise)
    first, second = (int(max(0, usual * share * (1 + noise * draw))) for draw in rng.standard_normal(2))
    return Check(first, second if needs_retry(ops=first, proven_ops=PROVEN) else None)


def month(rng: np.random.Generator, share: float, noise: float, checks: int = 120) -> int:
    return sum(has_failed(checked(rng, share, noise), proven_ops=PROVEN) for _ in range(checks))


def test_eleven_failures_of_120_are_a_breach_and_ten_are_not():
    assert failures_allowed(120) == 10
    assert not is_performance_breach(failed=10, checks=120)
    assert is_performance_breach(failed=11, checks=120)


def test_the_error_rates_are_those_that_are_stated():
    assert binom.sf(failures_allowed(120), 120, 0.02) == pytest.approx(3.2e-5, rel=0.05)
    assert binom.sf(failures_allowed(120), 120, 0.10) == pytest.approx(0.66, abs=0.01)
    assert binom.sf(failures_allowed(120), 120, 0.20) > 0.999
    assert all(binom.sf(failures_allowed(n), n, 0.02) <= 5e-5 for n in range(1, 400))


def test_a_dip_of_60_percent_fails_every_check_and_is_a_breach_within_three_days():
    rng = np.random.default_rng(42)

    failed = month(rng, share=0.4, noise=0.05)

    assert failed == 120
    days = next(n for n in range(1, 121) if is_performance_breach(failed=min(n, failed), checks=120)) * 6 / 24
    assert days == 2.75


def test_noise_of_5_percent_is_no_breach_in_200_months():
    rng = np.random.default_rng(43)
    months = [month(rng, share=1.0, noise=0.05) for _ in range(200)]

    assert not any(is_performance_breach(failed=failed, checks=120) for failed in months)
    assert sum(months) / (200 * 120) < 5e-4  # both tries under the floor: the stated rate


def test_one_slow_try_is_repeated_and_fails_nothing_alone():
    assert not has_failed(Check(899_999, 900_000), proven_ops=PROVEN)
    assert has_failed(Check(899_999, 899_999), proven_ops=PROVEN)
    assert not has_failed(Check(900_000, None), proven_ops=PROVEN)
    with pytest.raises(SlaError, match="repeated"):
        has_failed(Check(899_999, None), proven_ops=PROVEN)


def test_a_failed_check_returns_the_shortfall_of_its_six_hours_at_once():
    assert shortfall_micros(Check(400_000, 390_000), proven_ops=PROVEN, interval_fee_micros=1_000_001) == 600_001
    assert shortfall_micros(Check(900_000, None), proven_ops=PROVEN, interval_fee_micros=1_000_001) == 0
    assert shortfall_micros(Check(0, 0), proven_ops=PROVEN, interval_fee_micros=7) == 7


@pytest.mark.parametrize("counts", [(2, 1), (-1, 4)])
def test_impossible_counts_of_checks_are_refused(counts):
    with pytest.raises(SlaError):
        is_performance_breach(failed=counts[0], checks=counts[1])
    with pytest.raises(SlaError):
        needs_retry(ops=1, proven_ops=0)
