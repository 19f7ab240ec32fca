"""What buyers say they would pay: stepwise curves, and the premium that an attribute carries in them.

A curve is a list of steps (price, units): for so many units at most this price each. Prices fall or stay as units grow.
Its worth for q units is the sum of the prices of the first q. A buyer gives a curve for a demand as it stands, and one
for the same demand without an attribute (a zone, legal control, a tier, a latency bound).

    premium = sum_i hours_i x worth_with_i(q_i) / sum_i hours_i x worth_without_i(q_i) - 1

with q_i the units that both curves of pair i reach. This is the ratio of sums: each dollar of the curve without the
attribute counts the same. The interval is the percentile bootstrap over buyers (all pairs of one buyer are drawn
together, because they are no independent statements): 2,000 resamples, 2.5 % left out at each end. Its draws come
from a hash of the pairs, so the same pairs have the same interval. Stated, not paid: nothing here is a price.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pricing.errors import EstimateError
from pricing.samples import ratio_interval

PPM = 1_000_000
STEPS_MAX = 8
TICK_MICROS, PRICE_MIN_MICROS, PRICE_MAX_MICROS, UNITS_MAX = 100, 100, 10**9, 2**20

Step = tuple[int, int]  # price in micro-USD per unit-hour, units


@dataclass(frozen=True)
class Pair:
    """One demand's curve as it stands and without an attribute, over its hours."""

    buyer: str
    with_it: tuple[Step, ...]
    without_it: tuple[Step, ...]
    hours: int


@dataclass(frozen=True)
class StatedPremium:
    """What an attribute adds to stated worth, in parts per million; the interval is a bootstrap over buyers."""

    premium_ppm: int
    low_ppm: int
    high_ppm: int
    buyers: int
    pairs: int
    unit_hours: int


def check_curve(steps: Sequence[Step], *, field: str = "curve") -> tuple[Step, ...]:
    """Return the curve as it is, or raise EstimateError with `field` and the `step`, counted from 1."""
    if not 1 <= len(steps) <= STEPS_MAX:
        raise EstimateError(f"A curve has 1 to {STEPS_MAX} steps.", field=field, step=len(steps))
    last = PRICE_MAX_MICROS
    for number, (price, units) in enumerate(steps, start=1):
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (price, units))
        if not whole or not PRICE_MIN_MICROS <= price <= PRICE_MAX_MICROS or price % TICK_MICROS:
            sentence = "A price is 100 to 1,000,000,000 micro-USD on the tick of 100."
            raise EstimateError(sentence, field=field, step=number)
        if not 1 <= units <= UNITS_MAX:
            raise EstimateError("A step has 1 to 1,048,576 units.", field=field, step=number)
        if price > last:
            raise EstimateError("A price falls or stays as units grow.", field=field, step=number)
        last = price
    if sum(units for _, units in steps) > UNITS_MAX:
        raise EstimateError("A curve has at most 1,048,576 units.", field=field, step=len(steps))
    return tuple((price, units) for price, units in steps)


def reach(curve: Iterable[Step]) -> int:
    """Return how many units a curve goes to."""
    return sum(units for _, units in curve)


def worth_micros(curve: Iterable[Step], units: int) -> int:
    """Return what the first `units` of a curve are worth for an hour, in micro-USD."""
    worth, left = 0, units
    for price, step in curve:
        taken = min(step, left)
        worth += price * taken
        left -= taken
    return worth


def stated_premium(pairs: Iterable[Pair], *, buyers_min: int) -> StatedPremium | None:
    """Return the premium over all pairs, or None where fewer than `buyers_min` buyers stand behind it."""
    found = list(pairs)
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    unit_hours = 0
    for pair in found:
        units = min(reach(pair.with_it), reach(pair.without_it))
        sums[pair.buyer][0] += pair.hours * worth_micros(pair.with_it, units)
        sums[pair.buyer][1] += pair.hours * worth_micros(pair.without_it, units)
        unit_hours += pair.hours * units
    if len(sums) < buyers_min:
        return None
    each = [(a, b) for _, (a, b) in sorted(sums.items())]
    low, high = ratio_interval(each)
    return StatedPremium(_ppm(each), low - PPM, high - PPM, len(each), len(found), unit_hours)


def added_up(curves: Iterable[tuple[tuple[Step, ...], int, str]]) -> list[tuple[int, int, str]]:
    """Return (price, unit-hours, buyer) of many curves, each over its hours, the highest price first."""
    steps = [(price, units * hours, buyer) for curve, hours, buyer in curves for price, units in curve]
    return sorted(steps, key=lambda step: (-step[0], step[2], step[1]))


def _ppm(sums: Iterable[tuple[int, int]]) -> int:
    rows = list(sums)
    with_it, without_it = sum(a for a, _ in rows), sum(b for _, b in rows)
    return (2 * PPM * with_it + without_it) // (2 * without_it) - PPM
