"""Backup capacity, agreed before anything fails: who would step in for each award, and at which price.

A backup may serve the award's demand by every rule, belongs to another parent and stands in another site than the
capacity it would replace, and has at least the award's units left in all its slots after all awards. Of those the
lowest adjusted ask wins, then the smaller id; its strike price is that ask. Nothing is reserved: several awards may
name the same units, and activation checks everything again.

Two cases have none: a bid with a minimum, whose units are all or nothing, backs nothing up; and a part of a one-site
demand that other bids serve too cannot move to another site alone.
"""

from dataclasses import dataclass

import numpy as np

from pricing.allocation import Allocation
from pricing.awards import AwardColumns, Places
from pricing.book import Book, Flags, Ints
from pricing.eligibility import Eligibility
from pricing.ranges import line_slots

NONE = -1
BLOCK = 128  # candidates looked at together


@dataclass(frozen=True, eq=False)
class BackupColumns:
    """One row an award, in the order of the awards."""

    bid: Ints  # [awards] place in book.bids, NONE without
    strike_micros: Ints  # [awards] micro-USD per unit-hour, NONE without


def find_backups(
    book: Book, eligibility: Eligibility, allocation: Allocation, awards: AwardColumns
) -> BackupColumns:
    """The backup of each award. Residual capacity is held for `BLOCK` bids at a time."""
    backup = np.full(len(awards), NONE, dtype=np.int64)
    sites, site_of_bid = _sites(book)
    query = eligibility.mask_of_demand[awards.demand] * sites + site_of_bid[awards.bid]
    movable = np.flatnonzero(_may_move(book, allocation, awards))
    movable = movable[np.argsort(query[movable], kind="stable")]
    spare = _spare_bids(book, allocation)
    spare = spare[np.lexsort((spare, book.bids.ask[spare]))]
    for alike in np.split(movable, np.flatnonzero(np.diff(query[movable])) + 1):
        if len(alike):
            mask, site = divmod(int(query[alike[0]]), sites)
            fits = eligibility.accepts[mask, eligibility.signature_of_bid[spare]] & (site_of_bid[spare] != site)
            backup[alike] = _search(book, allocation, awards, alike, spare[fits])
    strike = np.where(backup == NONE, NONE, book.bids.ask[backup] if len(book.bids) else NONE)
    return BackupColumns(backup, strike)


def _may_move(book: Book, allocation: Allocation, awards: AwardColumns) -> Flags:
    """Awards that can go to another site: all but parts of a demand that needs one."""
    demands, line = book.demands, awards.demand
    units = allocation.demand_units[np.minimum(allocation.demand_ptr[line], len(allocation.demand_units) - 1)]
    is_whole = (awards.start == demands.start[line]) & (awards.end == demands.end[line]) & (awards.units == units)
    may: Flags = ~demands.is_one_site[line] | is_whole
    return may


def _sites(book: Book) -> tuple[int, Ints]:
    """How many sites there are, and the one of each bid."""
    number: dict[str, int] = {}
    site = np.array([number.setdefault(known.site, len(number)) for known in book.attributes], dtype=np.int64)
    return len(number), site[book.bids.attributes]


def _spare_bids(book: Book, allocation: Allocation) -> Ints:
    """Bids without a minimum that have a unit left in some slot."""
    if not len(book.bids):
        return np.zeros(0, dtype=np.int64)
    least_used = np.minimum.reduceat(allocation.bid_units, allocation.bid_ptr[:-1])
    return np.flatnonzero((least_used < book.bids.quantity) & (book.bids.minimum == 0))


def _search(book: Book, allocation: Allocation, awards: AwardColumns, alike: Ints, candidates: Ints) -> Ints:
    """The first fitting candidate for each of these awards of one mask and site, NONE without.

    Candidates come in blocks in their order. An award looks into a block only where the block's greatest residual over
    each of its slots would do; it is done with the first hit.
    """
    found = np.full(len(alike), NONE, dtype=np.int64)
    seeking = np.arange(len(alike))
    for first in range(0, len(candidates), BLOCK):
        if not len(seeking):
            break
        block = candidates[first:first + BLOCK]
        residual = _residual(book, allocation, block)
        award = alike[seeking]
        likely = seeking[_RangeMinima(residual.max(axis=0, keepdims=True)).at(
            np.zeros(1, dtype=np.int64), awards.start[award], awards.end[award])[:, 0] >= awards.units[award]]
        minima = _RangeMinima(residual)
        for part in np.array_split(likely, max(1, len(likely) * len(block) // (1 << 20))):
            hit, place = _first_fit(book, awards, alike[part], block, minima)
            found[part[hit]] = block[place[hit]]
        seeking = seeking[found[seeking] == NONE]
    return found


def _first_fit(
    book: Book, awards: AwardColumns, award: Ints, block: Ints, minima: "_RangeMinima"
) -> tuple[Flags, Ints]:
    """Per award whether some candidate of the block fits, and the place of the first."""
    primary = awards.bid[award]
    fits = minima.at(np.arange(len(block)), awards.start[award], awards.end[award]) >= awards.units[award][:, None]
    fits &= book.bids.parent[primary][:, None] != book.bids.parent[block]
    is_hit: Flags = np.logical_or.reduce(fits, axis=1)
    return is_hit, fits.argmax(axis=1)


def _residual(book: Book, allocation: Allocation, bids: Ints) -> Ints:
    """Units left of each bid in each slot, 0 outside its range.  # int64 [bids, slots]"""
    residual = np.zeros((len(bids), book.slots), dtype=np.int64)
    row, slot = line_slots(book.bids.start[bids], book.bids.end[bids])
    used = allocation.bid_units[slot + (allocation.bid_ptr[bids] - book.bids.start[bids])[row]]
    residual[row, slot] = book.bids.quantity[bids][row] - used
    return residual


class _RangeMinima:
    """The least entry of a row over any range of slots, from two overlapping ranges of a power of two."""

    def __init__(self, table: Ints) -> None:
        self.levels = [table]
        span = 1
        while 2 * span <= table.shape[1]:
            last = self.levels[-1]
            self.levels.append(np.minimum(last[:, :-span], last[:, span:]))
            span *= 2

    def at(self, rows: Ints, start: Places, end: Places) -> Ints:
        """The minimum of each of `rows` over each of the ranges.  # int64 [ranges, rows]"""
        power = np.frexp((end - start).astype(np.float64))[1] - 1
        least = np.empty((len(start), len(rows)), dtype=np.int64)
        for level in np.unique(power):
            chosen = np.flatnonzero(power == level)
            table = self.levels[level].T  # slots first: a range reads whole rows
            one, other = table[start[chosen]], table[end[chosen] - (1 << int(level))]
            least[chosen] = np.minimum(one[:, rows], other[:, rows])
        return least
