"""What a settled market trades in each cell, added up from lines and merged steps and checked against its flows."""

from dataclasses import dataclass

import numpy as np

from pricing import errors
from pricing.book import TICK_MICROS, Book, Flags, Ints, exact_sum
from pricing.certificate import line_gains
from pricing.fill import Prices, price_pools, window_units
from pricing.ladder import Ladder, strictly_filled
from pricing.market import Market
from pricing.prices import midpoint
from pricing.ranges import Lines, cover, exact_product, range_sums
from pricing.settle import Settled
from pricing.steps import NEVER, Steps
from pricing.threads import both


@dataclass(frozen=True, eq=False)
class Worth:
    """The published prices of a settled market, and what it trades at them."""

    prices: Prices
    window_units: Ints  # [windows]
    whole_bid_units: Ints  # [whole bids]
    welfare_ticks: int


def add_up(book: Book, settled: Settled) -> Worth:
    """Price a settled market and add up what it is worth.

    Raises `CertificateFailed` where lines, steps and flows of a cell do not balance to the unit.
    """
    programme, market = settled.programme, settled.programme.market
    lam = midpoint(settled)
    prices = price_pools(market, lam, settled.rho, (0, 1))
    parts = [np.rint(part).astype(np.int64) for part in programme.split(settled.x)]
    windows, whole_bids = window_units(settled, book)
    flow_mask, flow_group = market.pair_mask[programme.flow_pair], market.pair_group[programme.flow_pair]
    whole_demands, bids = market.windows.lines, market.whole_bids.lines
    bought, sold = both(
        lambda: _side(market.demand_ladder, programme.demand, parts[0], prices.demand, 1, whole_demands, windows),
        lambda: _side(market.supply_ladder, programme.supply, parts[1], prices.supply, -1, bids, whole_bids))
    for side, row_of_pool, row_of_flow, rows in (
        (bought, market.mask_of_pool, flow_mask, len(market.accepts)),
        (sold, market.group_of_pool, flow_group, market.accepts.shape[1]),
    ):
        carried = np.zeros((rows, market.slots), dtype=np.int64)
        np.add.at(carried, (row_of_flow, programme.flow_slot), parts[4])
        traded = np.zeros_like(carried)
        np.add.at(traded, row_of_pool, side.units)
        if not np.array_equal(carried, traded):
            raise errors.CertificateFailed("Lines and flows do not balance.", cells=int((carried != traded).sum()))
    return Worth(prices, windows, whole_bids, bought.worth_ticks - sold.worth_ticks)


@dataclass(frozen=True, eq=False)
class _Side:
    units: Ints  # [pools, slots]
    worth_ticks: int


def _side(ladder: Ladder, steps: Steps, fill: Ints, met: Ints, sign: int, wholes: Lines, whole_units: Ints) -> _Side:
    """Lines that gain are full, those at their price get what is left of the cell, wholes are in all their slots."""
    strict, at_price, gaining = strictly_filled(ladder, met, sign)
    units = np.bincount(steps.cell, fill, minlength=met.size).astype(np.int64).reshape(met.shape)
    left = units - strict
    if ((left < 0) | (left > at_price)).any():
        raise errors.CertificateFailed("A cell trades more or less than its prices allow.",
                                       cells=int(((left < 0) | (left > at_price)).sum()))
    worth = exact_sum(gaining) + exact_sum((left * met)[left > 0])
    units += cover(wholes, whole_units, *met.shape)
    worth += exact_sum(whole_units * wholes.price * (wholes.end - wholes.start))
    return _Side(units, worth)


def bound_micros(market: Market, prices: Prices, unit_micros: int = TICK_MICROS) -> int:
    """The dual bound over the lines of a market, rounded up; the formula stands in `certificate`.

    Prices of lines and duals are in units of so many micro-USD.
    """
    denominator = prices.sigma[1]
    bought, sold = both(lambda: _demand_gains(market, prices), lambda: _supply_gains(market, prices))
    total = bought + denominator * sold
    total += denominator * sum(int(units) * int(rho) for units, rho in zip(market.cap_units, prices.rho, strict=True))
    total += prices.sigma[0] * (market.budget_ticks or 0)
    return -(-total * unit_micros // denominator)


def _demand_gains(market: Market, prices: Prices) -> int:
    """What demands gain, times the denominator of sigma."""
    kept, denominator = prices.sigma[1] - prices.sigma[0], prices.sigma[1]
    mu = prices.mu[market.mask_of_pool]
    total = denominator * _best_of_choices(market, mu)
    total += denominator * _gains(market.demand_ladder, mu, 1, ~market.is_foundation)
    windows = market.windows.lines.take(market.windows.choice < 0)
    own = market.is_foundation[windows.pool]
    total += line_gains(windows.take(~own), np.zeros(int((~own).sum()), dtype=np.bool_), mu, denominator, denominator)
    for lines, is_divisible in ((market.divisible, True), (windows, False)):
        some = lines.take(market.is_foundation[lines.pool])
        total += line_gains(some, np.full(len(some), is_divisible), mu, kept, denominator)
    return total


def _gains(ladder: Ladder, met: Ints, sign: int, pools: Flags) -> int:
    """What all lines of some pools gain at the prices they meet, over all their units and slots."""
    units, _, worth = (part[pools] for part in strictly_filled(ladder, met, sign))
    return sign * (exact_sum(worth) - exact_product(met[pools], units))


def _best_of_choices(market: Market, mu: Ints) -> int:
    chosen = np.flatnonzero(market.windows.choice >= 0)
    lines = market.windows.lines.take(chosen)
    gain = lines.price * (lines.end - lines.start) - range_sums(mu, lines.pool, lines.start, lines.end)
    best = np.zeros(market.choices, dtype=np.int64)
    np.maximum.at(best, market.windows.choice[chosen], np.maximum(gain, 0) * lines.units)
    return exact_sum(best)


def _supply_gains(market: Market, prices: Prices) -> int:
    whole = market.whole_bids.lines
    rho = np.append(prices.rho, 0)[market.cap_of_pool[whole.pool]]
    earned = range_sums(np.minimum(prices.lam, NEVER)[market.group_of_pool], whole.pool, whole.start, whole.end)
    gain = np.maximum(earned - (whole.price + rho) * (whole.end - whole.start), 0)
    everybody = np.ones(len(prices.supply), dtype=np.bool_)
    return exact_product(gain, whole.units) + _gains(market.supply_ladder, prices.supply, -1, everybody)
