"""The first stake: between two peers' entry costs, rising with what is at risk."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pricing.entry import STAKE_MAX_MICROS, first_lease_cap_micros, first_lease_stake_micros
from pricing.errors import EstimateError

USD = 10**6


def test_the_stake_of_a_first_lease_rises_with_its_exposure_between_115_and_80_000_dollars():
    cap = first_lease_cap_micros()
    exposures = [1, 1_000, USD, 10 * USD, *(cap * n // 500 for n in range(1, 501))]

    stakes = [first_lease_stake_micros(exposure) for exposure in sorted(exposures)]

    assert all(low <= high for low, high in pairwise(stakes))
    assert (stakes[0], stakes[-1] <= STAKE_MAX_MICROS) == (115 * USD, True)
    assert STAKE_MAX_MICROS - stakes[-1] < 10  # the cap is where the bound is met
    assert stakes[-1] == first_lease_stake_micros(cap)


def test_above_the_cap_and_for_nothing_there_is_no_first_lease():
    cap = first_lease_cap_micros()

    for exposure in (0, -1, cap + 24, True, 1.0):
        with pytest.raises(EstimateError) as refusal:
            first_lease_stake_micros(exposure)
        assert refusal.value.facts["field"] == "exposure_micros"
    assert first_lease_stake_micros(1) == 115 * USD
