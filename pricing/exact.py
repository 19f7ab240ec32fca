r"""The best choice of indivisible lines, and the best whole units of windows, in a small book, by branch and bound.

A plain optimum over whole lines has no price rule: it may accept a block that loses money at every price. So it only
proposes: the proposal is priced like any other, what does not hold at its prices goes, and the next proposal must
differ from it and be worth more than the best that held. The limit is on nodes, not on time: every machine stops at the
same place.
"""

import numpy as np

from pricing import highs
from pricing.book import Flags, Ints
from pricing.highs import Columns, Floats
from pricing.market import Market
from pricing.programme import Programme, build_programme

LINES_MAX = 200  # indivisible ones
LINE_SLOTS_MAX = 12_000  # up to here branch and bound takes seconds: 600 demands and 120 bids of a real market
NODES_MAX = 400
PROPOSALS_MAX = 8

Choice = tuple[Flags, Flags]  # [windows], [whole bids]: which of the indivisible lines are in


def is_small(market: Market) -> bool:
    alone = int(market.windows.is_alone.sum()) + len(market.whole_bids)
    return alone <= LINES_MAX and market.line_slot_count() <= LINE_SLOTS_MAX


def best_whole_units(programme: Programme) -> Floats | None:
    """The optimal columns with all windows and whole bids in whole units, if found soon: the network then is whole."""
    d, z, y, x, f, u = programme.counts
    integral = np.repeat([False, True, False], [d + z, y + x, f + u])
    return highs.solve_whole(programme.columns.at_least(programme.minima()), programme.row_lower, programme.row_upper,
                             integral, node_limit=NODES_MAX)


class Search:
    """Proposals for one market, each worth more than `better_than` ticks and unlike those before."""

    def __init__(self, market: Market, gains: tuple[Floats, Floats], bound_ticks: int) -> None:
        """`gains`: ticks per unit of each window and whole bid at the relaxation's prices, whose bound is given."""
        self._programme: Programme = build_programme(market, None)
        self._windows = np.flatnonzero(market.windows.is_alone)
        self._bids = np.arange(len(market.whole_bids))
        d, z, y, _, _, _ = self._programme.counts
        window_column = d + z + self._programme.window_column[self._windows]
        bid_column = d + z + y + self._programme.whole_bid_column[self._bids]
        self._column: Ints = np.concatenate([window_column, bid_column])
        self._units: Ints = np.concatenate([market.windows.lines.units[self._windows], market.whole_bids.lines.units])
        self._least: Ints = np.maximum(1, np.concatenate([
            market.windows.minimum[self._windows], market.whole_bids.minimum]))
        self._choice: Ints = np.concatenate([market.windows.choice[self._windows], np.full(len(self._bids), -1)])
        self._gain: Floats = np.concatenate([gains[0][self._windows], gains[1]])
        self._bound_ticks = bound_ticks
        self._seen: list[Flags] = []
        self._market = market

    def propose(self, better_than: int) -> Choice | None:
        """The best choice left, or None where none is left or the search reached its limit."""
        programme, count = self._programme, len(self._column)
        columns = programme.columns
        first = len(columns.cost)
        rows, upper = _Rows(first), list(programme.row_upper)
        lower = list(programme.row_lower)
        for row in programme.whole_bid_rows():  # what a bid sells in all its slots is used in all of them
            lower[row] = upper[row]
        for n in range(count):  # y <= units b,  y >= least b
            rows.add(len(upper), [(int(self._column[n]), 1.0), (first + n, -float(self._units[n]))])
            lower.append(-np.inf)
            upper.append(0.0)
            rows.add(len(upper), [(int(self._column[n]), -1.0), (first + n, float(self._least[n]))])
            lower.append(-np.inf)
            upper.append(0.0)
        for choice in np.unique(self._choice[self._choice >= 0]):
            rows.add(len(upper), [(first + int(n), 1.0) for n in np.flatnonzero(self._choice == choice)])
            lower.append(-np.inf)
            upper.append(1.0)
        for seen in self._seen:  # differ in at least one line
            rows.add(len(upper), [(first + n, -1.0 if seen[n] else 1.0) for n in range(count)])
            lower.append(1.0 - float(seen.sum()))
            upper.append(np.inf)
        integral = np.zeros(first + count, dtype=np.bool_)
        integral[first:] = True
        is_in, is_out = self._decided(better_than)
        wider = rows.widen(columns, count)
        wider.lower[first:], wider.upper[first:] = is_in, ~is_out
        found = highs.solve_whole(wider, np.array(lower), np.array(upper), integral, node_limit=NODES_MAX)
        if found is None or -float(columns.cost @ found[:first]) < better_than + 0.5:
            return None
        chosen: Flags = found[first:] > 0.5
        self._seen.append(chosen)
        return self._as_lines(chosen)

    def _decided(self, better_than: int) -> tuple[Flags, Flags]:
        """Lines that are in, and lines that are out, in whatever is worth more: the bound would lose too much.

        The bound counts the best of a choice alone; out of a choice, what a line loses is what the next best lacks.
        """
        room = self._bound_ticks - better_than
        if_in = self._gain * np.where(self._gain > 0, self._units, self._least)
        best, others = np.maximum(if_in, 0.0), np.zeros(len(if_in))
        for n in np.flatnonzero(self._choice >= 0):
            rivals = (self._choice == self._choice[n]) & (np.arange(len(if_in)) != n)
            others[n] = max(0.0, float(if_in[rivals].max(initial=0.0)))
            best[n] = max(best[n], others[n])
        return best - others > room, best - if_in > room

    def _as_lines(self, chosen: Flags) -> Choice:
        windows = ~self._market.windows.is_alone
        windows[self._windows] = chosen[:len(self._windows)]
        return windows, chosen[len(self._windows):]


class _Rows:
    """Entries of further rows, by column."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._entries: list[tuple[int, int, float]] = []  # column, row, value

    def add(self, row: int, entries: list[tuple[int, float]]) -> None:
        self._entries += [(column, row, value) for column, value in entries]

    def widen(self, columns: Columns, more: int) -> Columns:
        """The columns with these entries, and so many more columns from nothing to one at no cost."""
        owner = np.concatenate([np.repeat(np.arange(self._columns), np.diff(columns.starts)),
                                np.array([column for column, _, _ in self._entries], dtype=np.int64)])
        rows = np.concatenate([columns.rows, np.array([row for _, row, _ in self._entries], dtype=np.int64)])
        values: Floats = np.concatenate([columns.values, np.array([value for _, _, value in self._entries])])
        order = np.argsort(owner, kind="stable")
        total = self._columns + more
        starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=total))]).astype(np.int64)
        none = np.zeros(more)
        return Columns(
            np.append(columns.cost, none), np.append(columns.lower, none), np.append(columns.upper, none + 1.0), starts,
            rows[order], values[order],
        )
