"""From the fill of merged steps to the fill of every line in every slot, in whole units.

At the published prices a divisible line is full in the slots where it gains, empty where it would lose, and where it
stands exactly at the price it shares what is left with its like: pro rata by quantity, largest remainder, then time,
then a hash that no party chooses.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from pricing import errors
from pricing.awards import share_pro_rata
from pricing.book import Book, Ints
from pricing.draws import Words
from pricing.market import Market, Wholes
from pricing.programme import IN
from pricing.ranges import Lines, line_slots, slot_by_slot
from pricing.settle import Settled
from pricing.sifting import pool_prices
from pricing.steps import NEVER, Steps


@dataclass(frozen=True, eq=False)
class Prices:
    """The published prices in the terms of each pool, and what binds them. Ticks."""

    lam: Ints  # [G, slots]; NEVER without a bid
    mu: Ints  # [S + variants, slots]
    demand: Ints  # [demand pools, slots] a line of the pool gains where its limit is above it
    supply: Ints  # [supply pools, slots] a line of the pool gains where its ask is below it
    rho: Ints  # [caps]
    sigma: tuple[int, int]  # numerator, denominator


@dataclass(frozen=True, eq=False)
class LineFill:
    """Units of every line of the book in each of its slots, one line after the other, and the flows between."""

    demand_ptr: Ints  # [demands + 1]
    demand_units: Ints
    bid_ptr: Ints  # [bids + 1]
    bid_units: Ints
    flow_slot: Ints  # [flows] sorted by slot, mask, group
    flow_mask: Ints
    flow_group: Ints
    flow_units: Ints
    served_under: Ints  # [demands] the mask whose flows serve the line, -1 for a line that nothing serves


def price_pools(market: Market, lam: Ints, rho: Ints, sigma: tuple[int, int]) -> Prices:
    lam = np.where(market.is_offered, lam, NEVER)
    mu = market.mu_of(lam)
    demand = mu[market.mask_of_pool]
    if market.is_foundation.any() and sigma[0]:
        # v (1 - s) > mu  <=>  v > mu / (1 - s); equality can only be where the quotient is whole
        kept = sigma[1] - sigma[0]
        scaled = np.array([[_whole_quotient(int(p) * sigma[1], kept) for p in row]
                           for row in demand[market.is_foundation]], dtype=np.int64)
        demand = demand.copy()
        demand[market.is_foundation] = scaled
    return Prices(lam, mu, demand, pool_prices(market, lam, rho), rho, sigma)


def _whole_quotient(one: int, other: int) -> int:
    """The least whole price that is not below the quotient; NEVER beyond it."""
    return min(NEVER, -(-one // other)) if other else NEVER


def window_units(settled: Settled, book: Book) -> tuple[Ints, Ints]:
    """Units of each window and whole bid of the market; merged lines share theirs pro rata."""
    programme, market = settled.programme, settled.programme.market
    parts = programme.split(np.rint(settled.x))
    return (
        _whole_units(book, market.windows, programme.window_column, parts[2].astype(np.int64), book.demands.rank,
                     book.demands.ids),
        _whole_units(book, market.whole_bids, programme.whole_bid_column, parts[3].astype(np.int64), book.bids.rank,
                     book.bids.ids),
    )


def _whole_units(book: Book, wholes: Wholes, column: Ints, fill: Ints, rank: Ints, ids: tuple[str, ...]) -> Ints:
    lines = wholes.lines
    total = np.bincount(column[column >= 0], lines.units[column >= 0], minlength=len(fill)).astype(np.int64)
    place = np.maximum(column, -1)  # no column is the last place, which is not filled
    units = np.where((column == IN) | np.append(fill == total, False)[place], lines.units, 0)
    shared = np.flatnonzero(np.append((fill > 0) & (fill < total), False)[place])
    if len(shared):
        units[shared] = share_pro_rata(column[shared], lines.units[shared], np.where(fill < total, fill, 0),
                                       rank[lines.line[shared]], ties(book, ids, lines.line[shared]))
    return units


def ties(book: Book, ids: tuple[str, ...], lines: Ints) -> Words:
    """A number per line that no party chooses, for remainders that quantity and time leave equal."""
    digests = (hashlib.sha256(book.input_hash + ids[line].encode()).digest()[:8] for line in lines)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), dtype=np.uint64, count=len(lines))


def fill_lines(book: Book, settled: Settled, prices: Prices) -> LineFill:
    """The fill of every line. Raises `CertificateFailed` where cells do not balance to the unit."""
    programme, market = settled.programme, settled.programme.market
    parts = [np.rint(part).astype(np.int64) for part in programme.split(settled.x)]
    windows, whole_bids = window_units(settled, book)
    demand_ptr = _starts(book.demands.hours)
    bid_ptr = _starts(book.bids.hours)
    demand_units, bid_units = np.zeros(demand_ptr[-1], dtype=np.int64), np.zeros(bid_ptr[-1], dtype=np.int64)
    _fill_divisible(book, market.divisible, programme.demand, parts[0], prices.demand, 1,
                    market.demand_row[market.mask_of_pool], demand_ptr, demand_units, book.demands.ids,
                    book.demands.rank, book.demands.start)
    _fill_divisible(book, market.offered, programme.supply, parts[1], prices.supply, -1,
                    market.supply_row[market.group_of_pool], bid_ptr, bid_units, book.bids.ids, book.bids.rank,
                    book.bids.start)
    served_under = np.full(len(book.demands), -1, dtype=np.int64)
    served_under[market.divisible.line] = market.mask_of_pool[market.divisible.pool]
    won = np.flatnonzero(windows)
    _fill_wholes(market.windows.lines.take(won), windows[won], demand_ptr, demand_units)
    served_under[market.windows.lines.line[won]] = market.mask_of_pool[market.windows.lines.pool[won]]
    won = np.flatnonzero(whole_bids)
    _fill_wholes(market.whole_bids.lines.take(won), whole_bids[won], bid_ptr, bid_units)
    used = np.flatnonzero(parts[4] > 0)
    mask, group = market.pair_mask[programme.flow_pair[used]], market.pair_group[programme.flow_pair[used]]
    slot, units = programme.flow_slot[used], parts[4][used]
    order = np.lexsort((group, mask, slot))
    fill = LineFill(demand_ptr, demand_units, bid_ptr, bid_units, slot[order], mask[order], group[order], units[order],
                    served_under)
    _check_balance(book, market, fill)
    return fill


def fill_in_order(
    lines: Lines, steps: Steps, fill: Ints, slots: int, sign: int, rank: Ints, tie: Words
) -> Ints:
    """Units of some lines in each of their slots, by what the steps of their pools trade, whatever the prices.

    In a cell the best line comes first: the highest limit (`sign` 1), the lowest ask (-1). `lines` are all of their
    pools; `rank` and `tie` [lines] are theirs.
    """
    owner, slot = line_slots(lines.start, lines.end)
    cell, price = lines.pool[owner] * slots + slot, lines.price[owner]
    traded = np.bincount(steps.cell, fill, minlength=int(cell.max(initial=-1)) + 1)
    keys = np.stack([cell, -sign * price], axis=1)
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    quantity = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(quantity, group, lines.units[owner])
    before = np.cumsum(quantity) - quantity
    first = np.searchsorted(distinct[:, 0], distinct[:, 0])  # of the same cell
    left = np.rint(traded[distinct[:, 0]]).astype(np.int64) - (before - before[first])
    return share_pro_rata(group.ravel(), lines.units[owner], np.clip(left, 0, quantity), rank[owner], tie[owner])


def _starts(hours: Ints) -> Ints:
    starts: Ints = np.concatenate([[0], np.cumsum(hours)]).astype(np.int64)
    return starts


def _fill_wholes(lines: Lines, units: Ints, ptr: Ints, filled: Ints) -> None:
    for some, owner, slot in slot_by_slot(lines, np.arange(len(lines))):
        filled[ptr[lines.line[some]][owner] + slot - lines.start[some][owner]] = units[some][owner]


def _fill_divisible(
    book: Book, lines: Lines, steps: Steps, fill: Ints, met: Ints, sign: int, rows: Ints, ptr: Ints, filled: Ints,
    ids: tuple[str, ...], rank: Ints, start: Ints,
) -> None:
    slots = rows.shape[1]
    to_share = np.bincount(steps.cell, fill, minlength=met.size).astype(np.int64)
    cells, marginal, places, quantities = [], [], [], []
    for some, owner, slot in slot_by_slot(lines, np.arange(len(lines))):
        pool, line = lines.pool[some][owner], lines.line[some][owner]
        here = sign * (lines.price[some][owner] - met[pool, slot])
        here[rows[pool, slot] < 0] = -1
        place = ptr[line] + slot - start[line]
        units = lines.units[some][owner]
        filled[place[here > 0]] = units[here > 0]
        gaining = np.bincount((pool * slots + slot)[here > 0], units[here > 0], minlength=met.size)
        to_share -= np.rint(gaining).astype(np.int64)  # what is left is for those who stand at the price
        equal = np.flatnonzero(here == 0)
        cells.append(pool[equal] * slots + slot[equal])
        marginal.append(line[equal])
        places.append(place[equal])
        quantities.append(units[equal])
    if cells:
        cell, line, place = np.concatenate(cells), np.concatenate(marginal), np.concatenate(places)
        quantity = np.concatenate(quantities)
        distinct, of_line = np.unique(line, return_inverse=True)
        tie = ties(book, ids, distinct)[of_line]
        known, group = np.unique(cell, return_inverse=True)
        filled[place] = share_pro_rata(group.astype(np.int64), quantity, to_share[known], rank[line], tie)


def _check_balance(book: Book, market: Market, fill: LineFill) -> None:
    """Per mask and slot, and per group and slot, what lines take is what flows carry."""
    slots = book.slots
    for ptr, units, row_of, start, flow_row, count in (
        (fill.demand_ptr, fill.demand_units, fill.served_under, book.demands.start, fill.flow_mask,
         len(market.accepts)),
        (fill.bid_ptr, fill.bid_units, _group_of_bid(book, market), book.bids.start, fill.flow_group,
         market.accepts.shape[1]),
    ):
        carried = np.bincount(flow_row * slots + fill.flow_slot, fill.flow_units, minlength=count * slots)
        taken = np.zeros(count * slots)
        used = np.flatnonzero(units)
        line = np.searchsorted(ptr, used, side="right") - 1
        np.add.at(taken, row_of[line] * slots + start[line] + used - ptr[line], units[used])
        if not np.array_equal(np.rint(carried), taken):
            raise errors.CertificateFailed("What lines take is not what flows carry.", lines=len(row_of))


def _group_of_bid(book: Book, market: Market) -> Ints:
    group = np.full(len(book.bids), -1, dtype=np.int64)
    for lines in (market.offered, market.whole_bids.lines):
        group[lines.line] = market.group_of_pool[lines.pool]
    return group
