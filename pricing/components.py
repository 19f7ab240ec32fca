"""What a price is made of, and what compliance costs.

Per traded cell (signature, slot), in whole micro-USD, with p0 to p3 the least price among the traded cells of the same
class and slot: p0 any; p1 of the same home zone; p2 of the same zone and tier; p3 of the same zone, tier and SLA,
with its typed targets.

    base      min(p0, mean accepted adjusted ask of the class in the slot, by units, rounded down to the tick)
    scarcity  p0 - base                    what demand above supply adds
    locality  (p1 - p0) + (price - p3)     zone, and site or parent inside it
    tier      p2 - p1
    sla       p3 - p2

Each narrower minimum is at least the wider one, so none is negative, and they add up to the price to the micro-USD.
The order zone, tier, SLA is a convention: what two rules add together counts for the first.
"""

from dataclasses import dataclass

import numpy as np

from pricing.allocation import Allocation
from pricing.awards import AwardColumns, spread_over_slots, traded_units
from pricing.book import TICK_MICROS, Book, Flags, Ints
from pricing.eligibility import Eligibility

ONE_PPM = 1_000_000
RESAMPLES = 2_000
LOW_TAIL_PER_MILLE, HIGH_TAIL_PER_MILLE = 25, 975  # a 95 % interval

_NO_PRICE = 1 << 61


@dataclass(frozen=True, eq=False)
class Components:
    """The parts of each price; all 0 where nothing traded and there is no price.  # int64 [A, slots] micro-USD"""

    is_traded: Flags  # [A, slots]
    base_micros: Ints
    scarcity_micros: Ints
    locality_micros: Ints
    tier_micros: Ints
    sla_micros: Ints


@dataclass(frozen=True)
class Premium:
    """What compliance adds to the price, in parts per million of the cheapest price of the same class and slot."""

    premium_ppm: int  # volume-weighted mean
    low_ppm: int  # 2.5 % of the resampled means lie below
    high_ppm: int  # 2.5 % lie above
    unit_hours: int  # the volume it was measured on


def split_prices(book: Book, eligibility: Eligibility, allocation: Allocation, awards: AwardColumns) -> Components:
    """The components of every price of this allocation; O(awards + A x slots)."""
    is_traded = traded_units(book, eligibility, awards) > 0
    price = np.where(is_traded, allocation.lam_micros, _NO_PRICE)
    any_price, of_zone, of_tier, of_sla = _nested_minima(book, eligibility, price)
    base = np.minimum(any_price, _mean_ask(book, eligibility, awards))
    parts = (base, any_price - base, (of_zone - any_price) + (price - of_sla), of_tier - of_zone, of_sla - of_tier)
    return Components(is_traded, *(np.where(is_traded, part, 0) for part in parts))


def compliance_premium(
    book: Book, eligibility: Eligibility, allocation: Allocation, awards: AwardColumns
) -> Premium | None:
    """The premium (p2 - p0) / p0 on the volume that asked for compliance; None where none of it traded.

    Measured on the awards of demands that name countries, control or a tier, weighted by their unit-hours: others pay
    no premium, whatever serves them. The interval is a bootstrap over slots: prices of one slot move together, so slots
    and not awards are drawn again. The draws come from the input hash; the same book has the same interval.
    """
    is_traded = traded_units(book, eligibility, awards) > 0
    any_price, _, of_tier, _ = _nested_minima(
        book, eligibility, np.where(is_traded, allocation.lam_micros, _NO_PRICE))
    volume = _compliant_units(book, eligibility, awards)
    rows, slots = np.nonzero(volume)
    if not len(rows):
        return None
    floor = any_price[rows, slots]
    ppm = (of_tier[rows, slots] - floor).astype(object) * ONE_PPM // floor
    weighted, units = [0] * book.slots, [0] * book.slots
    for slot, share, hours in zip(slots.tolist(), ppm, volume[rows, slots].tolist(), strict=True):
        weighted[slot] += share * hours
        units[slot] += hours
    means = _resampled_means(book.input_hash, weighted, units)
    low, high = (means[min(len(means) - 1, len(means) * tail // 1000)]
                 for tail in (LOW_TAIL_PER_MILLE, HIGH_TAIL_PER_MILLE))
    return Premium(sum(weighted) // sum(units), low, high, sum(units))


def _nested_minima(book: Book, eligibility: Eligibility, price: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """p0, p1, p2, p3 of each cell's signature in its slot, whether or not it traded.  # int64 [A, slots] each"""
    known = [signature.attributes for signature in eligibility.signatures]
    keys = [(a.resource_class, book.home_zone(a), a.tier, (a.sla_bps, tuple(sorted(a.targets)))) for a in known]
    minima = []
    for depth in range(1, 5):
        label = _labels([key[:depth] for key in keys])
        least = np.full((len(keys), price.shape[1]), _NO_PRICE, dtype=np.int64)
        np.minimum.at(least, label, price)
        minima.append(least[label])
    return minima[0], minima[1], minima[2], minima[3]


def _labels(keys: list[tuple[object, ...]]) -> Ints:
    number: dict[tuple[object, ...], int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def _mean_ask(book: Book, eligibility: Eligibility, awards: AwardColumns) -> Ints:
    """What accepted capacity of the class asks on average in the slot, rounded down to the tick.  # int64 [A, slots]

    The sums fit 63 bits because the whole book's money fits 62.
    """
    label = _labels([(signature.attributes.resource_class,) for signature in eligibility.signatures])
    row = label[eligibility.signature_of_bid[awards.bid]]
    size = {"rows": len(label), "slots": book.slots}
    units = spread_over_slots(row, awards.start, awards.end, awards.units, **size)
    money = spread_over_slots(row, awards.start, awards.end, awards.units * book.bids.ask[awards.bid], **size)
    mean: Ints = (money // np.maximum(units, 1) // TICK_MICROS * TICK_MICROS)[label]
    return mean


def _compliant_units(book: Book, eligibility: Eligibility, awards: AwardColumns) -> Ints:
    """The units that went to demands with a rule of compliance, by cell.  # int64 [A, slots]"""
    has_rule = np.array(
        [rule.countries is not None or rule.control_countries is not None or rule.tier_min > 0 or rule.papers != ()
         for rule in book.requirements], dtype=np.bool_)
    chosen = np.flatnonzero(has_rule[book.demands.requirement[awards.demand]])
    return spread_over_slots(
        eligibility.signature_of_bid[awards.bid[chosen]], awards.start[chosen], awards.end[chosen],
        awards.units[chosen], rows=len(eligibility.signatures), slots=book.slots)


def _resampled_means(input_hash: bytes, weighted: list[int], units: list[int]) -> list[int]:
    """The mean over slots drawn again with replacement, sorted. Slots without volume are left out.

    Raw words of the generator only: their stream is fixed, while numpy may change how it shapes them.
    """
    slots = [slot for slot, hours in enumerate(units) if hours]
    words = np.random.PCG64(int.from_bytes(input_hash, "big")).random_raw(RESAMPLES * len(slots))
    # A word modulo a few hundred: the bias is below one in 10^16.
    drawn = (words % np.uint64(len(slots))).astype(np.int64).reshape(RESAMPLES, len(slots))
    share, hours = [weighted[slot] for slot in slots], [units[slot] for slot in slots]
    return sorted(sum(share[k] for k in row) // sum(hours[k] for k in row) for row in drawn.tolist())
