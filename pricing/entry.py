"""What it takes to start: the stake of a first lease, which grows with the value at risk and not with what is owned.

    stake of the first lease = max(USD 115, stake of a probation lease of 24 hours without history, worth the exposure)

It rises with the exposure and stays at or below USD 80,000 as long as the exposure is within `first_lease_cap_micros`:
two peers ask for as little and as much to enter at all. Money is integer micro-USD.
"""

from __future__ import annotations

from functools import cache

from pricing.errors import EstimateError
from pricing.penalties import ENTRY_STAKE_MIN_MICROS, PROBATION_LEASE_HOURS, stake_micros

STAKE_MAX_MICROS = 80_000 * 10**6


def first_lease_stake_micros(exposure_micros: int) -> int:
    """Return the stake of a first lease worth `exposure_micros`. Raises EstimateError outside 1 to the cap."""
    if isinstance(exposure_micros, bool) or not isinstance(exposure_micros, int) or exposure_micros < 1:
        raise EstimateError("A first lease is worth something.", field="exposure_micros")
    stake = _stake(exposure_micros)
    if stake > STAKE_MAX_MICROS:
        cap = first_lease_cap_micros()
        raise EstimateError(f"A first lease is worth at most {cap:,} micro-USD.", field="exposure_micros", cap=cap)
    return max(ENTRY_STAKE_MIN_MICROS, stake)


@cache
def first_lease_cap_micros() -> int:
    """Return the largest exposure whose stake is within the bound; found by halving, because the stake is monotone."""
    low, high = 1, STAKE_MAX_MICROS * 100
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _stake(middle) <= STAKE_MAX_MICROS else (low, middle - 1)
    return low


def _stake(exposure_micros: int) -> int:
    price = -(-exposure_micros // PROBATION_LEASE_HOURS)
    return stake_micros(price_micros=price, units=1, hours=PROBATION_LEASE_HOURS, good_hours=0, bad_hours=0)
