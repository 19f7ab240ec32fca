"""What compute costs a year once the costs nobody invoices are counted: a range, and what each input adds to it.

Eight lines, each a product of inputs. An input has a low, a base and a high value and a source, and no line falls when
an input rises, so the range is the lines at all low, all base and all high values.

    bill         bill
    transit      transit_tb x transit_usd_per_tb
    egress       egress_tb x egress_usd_per_tb
    latency      what the curve of the workload class says for latency_ms on revenue
    compliance   bill x compliance_bps
    exposure     incident_usd x incident_bps a year
    lock-in      move_usd x move_bps a year
    dependency   outage_hours x outage_usd_per_hour x share_bps of the largest provider

The sensitivity table gives each input its part of (low - base) and of (high - base): the mean, over all orders in which
the inputs of a line may change, of what its own change adds (Shapley). Parts are whole micro-USD by largest remainder,
so that they sum exactly to the ends of the range. Money is integer micro-USD a year; inputs are whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from math import factorial

from pricing.errors import EstimateError

MICROS, BPS, PPM = 1_000_000, 10_000, 1_000_000
USD_MAX = 10**11  # so that eight lines of any inputs stay below 2^63 micro-USD


@dataclass(frozen=True)
class Input:
    """What one figure may be, and where it comes from."""

    low: int
    base: int
    high: int
    source: str


@dataclass(frozen=True)
class InputKind:
    """An input's words and the most it can be."""

    key: str
    words: str
    unit: str
    most: int


INPUTS: tuple[InputKind, ...] = (
    InputKind("bill_usd", "Bill: compute and what is invoiced with it", "USD a year", USD_MAX),
    InputKind("transit_tb", "Data moved between sites", "TB a year", 10**7),
    InputKind("transit_usd_per_tb", "Transit price", "USD per TB", 10**4),
    InputKind("egress_tb", "Data moved out", "TB a year", 10**7),
    InputKind("egress_usd_per_tb", "Egress price", "USD per TB", 10**4),
    InputKind("revenue_usd", "Revenue that waits for an answer", "USD a year", USD_MAX),
    InputKind("latency_ms", "Latency above what users expect", "ms", 10_000),
    InputKind("compliance_bps", "Compliance overhead on the bill", "basis points", BPS),
    InputKind("incident_usd", "Exposure: cost of one incident", "USD", USD_MAX),
    InputKind("incident_bps", "Chance of an incident in a year", "basis points", BPS),
    InputKind("move_usd", "Lock-in: cost of moving away", "USD", USD_MAX),
    InputKind("move_bps", "Chance of having to move in a year", "basis points", BPS),
    InputKind("outage_hours", "Hours a year in which a provider is down", "hours", 8_760),
    InputKind("outage_usd_per_hour", "Cost of an hour without it", "USD per hour", 10**7),
    InputKind("share_bps", "Share of the largest provider", "basis points", BPS),
)
KINDS: Mapping[str, InputKind] = {kind.key: kind for kind in INPUTS}


@dataclass(frozen=True)
class LatencyCurve:
    """What latency costs a class of workload. Linear through the one point that its source gives, then capped.

    Either a share of revenue (`loss_ppm` at `at_ms`) or an amount per millisecond (`usd_per_ms`, told for `at_ms`).
    """

    code: str
    words: str
    at_ms: int
    loss_ppm: int
    usd_per_ms: int
    cap_ppm: int  # no loss above this share of the declared revenue
    source: str

    def loss_micros(self, latency_ms: int, revenue_usd: int) -> int:
        """The yearly loss for so many milliseconds, never above the cap."""
        cap = revenue_usd * self.cap_ppm * MICROS // PPM
        if self.usd_per_ms:
            return min(self.usd_per_ms * latency_ms * MICROS, cap)
        return min(revenue_usd * MICROS * self.loss_ppm * latency_ms // (self.at_ms * PPM), cap) if self.at_ms else 0


CURVES: Mapping[str, LatencyCurve] = {
    curve.code: curve
    for curve in (
        LatencyCurve("commerce", "Shop or service page", 100, 10_000, 0, 100_000,
                     "Amazon: each 100 ms cost 1 % of sales (G. Linden, Make Data Useful, 2006)"),
        LatencyCurve("search", "Search and answers", 500, 200_000, 0, 200_000,
                     "Google: 500 ms more cost 20 % of traffic (M. Mayer, Web 2.0, 2006)"),
        LatencyCurve("trading", "Trading and bidding", 5, 0, 4_000_000, 1_000_000,
                     "TABB Group 2008: USD 4 M of revenue per ms for a broker that is 5 ms behind"),
        LatencyCurve("batch", "Batch: nobody waits", 0, 0, 0, 0, "no answer is waited for"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One cost: which inputs it is a product of, and how."""

    key: str
    words: str
    inputs: tuple[str, ...]
    micros: Callable[..., int]


LINES: tuple[Line, ...] = (
    Line("bill", "Bill", ("bill_usd",), lambda usd: usd * MICROS),
    Line("transit", "Transit", ("transit_tb", "transit_usd_per_tb"), lambda tb, usd: tb * usd * MICROS),
    Line("egress", "Egress", ("egress_tb", "egress_usd_per_tb"), lambda tb, usd: tb * usd * MICROS),
    Line("compliance", "Compliance overhead", ("bill_usd", "compliance_bps"), lambda usd, bps: _share(usd, bps)),
    Line("exposure", "Exposure", ("incident_usd", "incident_bps"), lambda usd, bps: _share(usd, bps)),
    Line("lock_in", "Lock-in", ("move_usd", "move_bps"), lambda usd, bps: _share(usd, bps)),
    Line("dependency", "Single-provider dependency", ("outage_hours", "outage_usd_per_hour", "share_bps"),
         lambda hours, usd, bps: _share(hours * usd, bps)),
)  # fmt: skip


def _share(usd: int, bps: int) -> int:
    return usd * bps * MICROS // BPS


@dataclass(frozen=True)
class Range:
    """An amount with its ends, in micro-USD."""

    low: int
    base: int
    high: int

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.base + other.base, self.high + other.high)


@dataclass(frozen=True)
class Sensitivity:
    """What one input adds to (low - base), at most 0, and to (high - base), at least 0; micro-USD."""

    key: str
    to_low: int
    to_high: int


@dataclass(frozen=True)
class Cost:
    """The yearly cost of one way to run: its lines, their sum, and what each input adds to the ends."""

    lines: tuple[tuple[str, str, Range], ...]  # key, words, range
    total: Range
    sensitivity: tuple[Sensitivity, ...]  # in the order of INPUTS; sums exactly to the ends of `total`


def range_of(inputs: Mapping[str, Input], curve_code: str) -> Cost:
    """Return what it costs a year. Raises EstimateError with the `field` of an input that cannot be."""
    curve = _checked(inputs, curve_code)
    lines = [*LINES[:3], _latency_line(curve), *LINES[3:]]
    totals = [_line_range(line, inputs) for line in lines]
    moved = {kind.key: [0, 0] for kind in INPUTS}
    for line in lines:
        for end, side in enumerate(("low", "high")):
            for key, part in zip(line.inputs, _shapley(line, inputs, side), strict=True):
                moved[key][end] += part
    total = sum(totals, Range(0, 0, 0))
    parts = tuple(Sensitivity(key, low, high) for key, (low, high) in moved.items())
    assert sum(p.to_low for p in parts) == total.low - total.base, "the sensitivity to the low end does not sum"
    assert sum(p.to_high for p in parts) == total.high - total.base, "the sensitivity to the high end does not sum"
    return Cost(tuple((x.key, x.words, r) for x, r in zip(lines, totals, strict=True)), total, parts)


def difference_of(now: Cost, planned: Cost) -> Range:
    """Return what the plan would save a year: the ends take each side at its worst, so the range is the widest."""
    return Range(now.total.low - planned.total.high, now.total.base - planned.total.base,
                 now.total.high - planned.total.low)  # fmt: skip


def break_even_bill_usd(now: Cost, planned: Cost) -> int:
    """Return the bill, whole USD rounded down, at which the plan would cost what is paid now, at base values.

    Its compliance overhead moves with the bill. Negative when no bill could be low enough.
    """
    known = {key: found.base for key, _, found in planned.lines}
    grows = known["bill"] + known["compliance"]
    rest = planned.total.base - grows
    return (now.total.base - rest) * known["bill"] // (grows * MICROS) if grows else (now.total.base - rest) // MICROS


@dataclass(frozen=True)
class Offer:
    """One offer to compare: its price and what it costs beside the price, micro-USD for the same work."""

    name: str
    price_micros: int
    hidden_micros: int


def rank_by_total(offers: Iterable[Offer]) -> list[Offer]:
    """Return the offers, the least total cost first: a low price with high hidden costs comes later. Ties by name."""
    return sorted(offers, key=lambda o: (o.price_micros + o.hidden_micros, o.name))


def agent_unit_hours(
    agents: int, turns: int, tokens: int, tokens_per_unit_hour: int, factor_bps: int = 150_000
) -> int:
    """Return the unit-hours that agents need, rounded up: agents x turns x tokens x factor over a unit-hour's tokens.

    `factor_bps` is what many agents use beside one chat: 15 x (150,000 basis points) as reported by Anthropic, How we
    built our multi-agent research system, 2025. It is an assumption to be edited.
    """
    for field, value in (("agents", agents), ("turns", turns), ("tokens", tokens),
                         ("tokens_per_unit_hour", tokens_per_unit_hour), ("factor_bps", factor_bps)):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**15:
            raise EstimateError("A whole number from 1 on belongs here.", field=field)
    return -(-agents * turns * tokens * factor_bps // (tokens_per_unit_hour * BPS))


def _checked(inputs: Mapping[str, Input], curve_code: str) -> LatencyCurve:
    if curve_code not in CURVES:
        raise EstimateError(f"A workload class is one of {', '.join(CURVES)}.", field="curve")
    for kind in INPUTS:
        found = inputs.get(kind.key)
        if found is None:
            raise EstimateError("This input is missing.", field=kind.key)
        values = (found.low, found.base, found.high)
        if any(isinstance(v, bool) or not isinstance(v, int) or not 0 <= v <= kind.most for v in values):
            raise EstimateError(f"Whole numbers from 0 to {kind.most:,} belong here ({kind.unit}).", field=kind.key)
        if not found.low <= found.base <= found.high:
            raise EstimateError("Low is at most base, and base at most high.", field=kind.key)
        if not found.source.strip():
            raise EstimateError("Say where this figure comes from.", field=kind.key)
    return CURVES[curve_code]


def _latency_line(curve: LatencyCurve) -> Line:
    return Line("latency", "Latency loss", ("latency_ms", "revenue_usd"), curve.loss_micros)


def _line_range(line: Line, inputs: Mapping[str, Input]) -> Range:
    found = [inputs[key] for key in line.inputs]
    return Range(line.micros(*(i.low for i in found)), line.micros(*(i.base for i in found)),
                 line.micros(*(i.high for i in found)))  # fmt: skip


def _shapley(line: Line, inputs: Mapping[str, Input], side: str) -> list[int]:
    """What each input of a line adds on its way from base to `side`, in whole micro-USD that sum to the line's move."""
    base = [inputs[key].base for key in line.inputs]
    end = [getattr(inputs[key], side) for key in line.inputs]
    sums = [0] * len(base)  # over all orders; still to be divided by their number
    for order in permutations(range(len(base))):
        at, before = list(base), line.micros(*base)
        for place in order:
            at[place] = end[place]
            after = line.micros(*at)
            sums[place] += after - before
            before = after
    return _divided(sums, factorial(len(base)))


def _divided(sums: list[int], by: int) -> list[int]:
    """Each sum over `by`, rounded so that the whole stays exact: the largest remainders are rounded away from zero."""
    sign = -1 if sum(sums) < 0 else 1
    floors = [divmod(sign * s, by) for s in sums]
    rest = sum(sign * s for s in sums) // by - sum(whole for whole, _ in floors)
    order = sorted(range(len(sums)), key=lambda i: (-floors[i][1], i))
    return [sign * (whole + (i in order[:rest])) for i, (whole, _) in enumerate(floors)]
