r"""Lines that are all or none, from a minimum on, one of several, or in one site: in or out, never in between.

Taken as windows they give a relaxation, whose prices bound what any allocation could be worth. From there on lines go:
those that would lose at the low point of prices, all but the best of each choice, and those at their price that the
canonical fill does not fill. Solved again without them, until all that is left is served as it must be. By
complementarity every line that is left gains at the prices it helped to make, so no accepted block ever loses money; a
block that is left out may well gain at them, and its reason says so. Prices need not rise when a line goes, since
windows are complements: so lines that gain at the final prices are tried once more, the best first, and kept where that
is worth more.

Windows that only fractions would fill are held at the whole units below; so are, slot by slot, the bids under a cap
where its price would lie between two ticks, and the Foundation's lines where its budget binds. Held, they keep to cap
and budget by themselves, and prices need not know these any more.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from pricing import errors, exact, sifting
from pricing.book import TICK_MICROS, Book, Flags, Ints
from pricing.cells import Worth, add_up, bound_micros
from pricing.exchange import Held, Trial, exchanges
from pricing.fill import fill_in_order, price_pools, ties, window_units
from pricing.highs import Floats
from pricing.market import Market, Wholes, draw_again, join_wholes
from pricing.programme import IN, build_programme
from pricing.ranges import Lines, join_lines, line_slots
from pricing.settle import TOLERANCE, Face, Low, Settled, low_point, settle

ROUNDS_MAX = 200
TRIES_MAX = 24  # lines that gain though they are out, tried once more
DRAWS_MAX = 4  # of gifts, until the low point is on the tick and its fill is within reach
LARGE_LINE_SLOTS = 250_000
TRIES_LARGE = 2  # in books larger than that, where each costs seconds


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The prices of the relaxation. Float, ticks, in the market's terms."""

    lam: Floats  # [G, slots]
    rho: Floats
    sigma: float


@dataclass(frozen=True, eq=False)
class Whole:
    """A settled market in which every line is served as it must be, and what had to go for it."""

    settled: Settled
    worth: Worth
    relaxed: Relaxed | None  # None: nothing had to go
    rounded: Ints  # lines of the book held below their quantity
    rounds: int
    start: sifting.Start  # where a solve of nearly the same market may begin

    @property
    def holds_caps(self) -> bool:
        """Bids under a cap are held at whole units, if there were caps."""
        return not len(self.settled.programme.market.cap_units)


def settle_whole(book: Book, market: Market, start: sifting.Start | None) -> Whole:
    """The whole optimum that prices support; the start is of nearly the same market. Raises `SolverFailed`."""
    low = low_point(sifting.solve_market(market, start))
    relaxed = Relaxed(low.point.lam, low.point.rho, low.point.sigma)
    within = _within_budget(book, market, low)
    found = _until_whole(book, *((market, low) if within is None else within[:2]))
    final = found.settled.programme.market
    if all(getattr(final, part) is getattr(market, part) for part in ("divisible", "windows", "offered", "whole_bids")):
        return found
    base, base_low = (market, low) if within is None else within[:2]
    found = _try_again(book, base, found)
    if exact.is_small(base):
        found = _search_windows(book, base, _search(book, base, base_low, found))
    found = _exchange_units(book, market, found, is_budget_held=within is not None)
    if within is not None:
        found = replace(found, rounded=np.union1d(found.rounded, within[2]))
    return replace(found, relaxed=relaxed, start=low.start)


def _within_budget(book: Book, market: Market, low: Low) -> tuple[Market, Low, Ints] | None:
    """The market with the Foundation's lines held at the whole units that its budget buys; None where it buys all.

    Held, they keep to the budget by themselves, so prices need not know it any more. Also the lines that are held.
    """
    if market.budget_ticks is None:
        return None
    market, low, settled = _settle(book, market, low)
    settled = replace(settled, x=np.floor(settled.x + TOLERANCE))
    own = market.is_foundation[market.divisible.pool]
    lines = market.divisible.take(own)
    held = _held(book, settled, lines, 1)
    window_fill, _ = window_units(settled, book)
    of_foundation = market.is_foundation[market.windows.lines.pool]
    all_windows = replace(market.windows.lines, units=np.where(of_foundation, window_fill, market.windows.lines.units))
    held, all_windows = _afford(market, held, all_windows, of_foundation)
    windows = replace(market.windows, lines=all_windows).take(all_windows.units > 0)
    left = market.without_budget(join_lines(market.divisible.take(~own), held), windows)
    start = replace(low.start, basis=None, near=None, hidden=None, sigma=0.0)
    touched = np.union1d(lines.line, market.windows.lines.line[of_foundation])
    return left, low_point(sifting.solve_market(left, start)), touched


def _afford(market: Market, held: Lines, windows: Lines, of_foundation: Flags) -> tuple[Lines, Lines]:
    """The same lines, with units of the cheapest given up where a solver's noise in large numbers passed the budget."""
    assert market.budget_ticks is not None
    own = np.flatnonzero(of_foundation)
    cost = np.concatenate([held.price, (windows.price * (windows.end - windows.start))[own]]).astype(object)
    units = np.concatenate([held.units, windows.units[own]])
    over = int((cost * units).sum()) - market.budget_ticks
    for n in np.lexsort((np.concatenate([held.line, windows.line[own]]), cost.astype(np.int64))):
        if over <= 0:
            break
        fewer = min(int(units[n]), -(-over // int(cost[n])))
        units[n] -= fewer
        over -= fewer * int(cost[n])
    left = windows.units.copy()
    left[own] = units[len(held):]
    return replace(held, units=units[:len(held)]).take(units[:len(held)] > 0), replace(windows, units=left)


def _held(book: Book, settled: Settled, lines: Lines, sign: int) -> Lines:
    """What these divisible lines, all of their pools, have in each of their slots, as lines of one slot each."""
    programme = settled.programme
    side, steps, fill = (book.demands, programme.demand, 0) if sign > 0 else (book.bids, programme.supply, 1)
    traded = np.rint(programme.split(settled.x)[fill]).astype(np.int64)
    units = fill_in_order(lines, steps, traded, programme.market.slots, sign, side.rank[lines.line],
                          ties(book, side.ids, lines.line))
    owner, slot = line_slots(lines.start, lines.end)
    return Lines(lines.pool[owner], lines.price[owner], units, slot, slot + 1, lines.line[owner]).take(units > 0)


def _settle(book: Book, market: Market, low: Low, face: Face | None = None) -> tuple[Market, Low, Settled]:
    """The settled market, after other draws of its gifts where the first ones were in the way."""
    for draw in range(1, DRAWS_MAX + 1):
        with suppress(errors.SolverFailed):
            settled = settle(low, book.input_hash, face)
            if not settled.is_off_tick or market.budget_ticks is not None:  # under a budget prices are drawn afterwards
                return market, low, settled
        market = draw_again(book, market, draw)
        low = low_point(sifting.solve_market(market, low.start))
    return market, low, settle(low, book.input_hash, face)


def _until_whole(book: Book, market: Market, low: Low, face: Face | None = None) -> Whole:
    """The market without what cannot be served as it must be; `face` is of nearly the same."""
    rounded: set[int] = set()
    rounds = low.solved.rounds
    for _ in range(ROUNDS_MAX):
        windows, whole_bids = _losing(market, low)
        settled = None
        if not (windows.any() or whole_bids.any()):
            market, low, settled = _settle(book, market, low, face)
            face = settled.face
            windows, whole_bids = _ill_served(book, settled)
        if windows.any() or whole_bids.any():
            market = market.without(windows, whole_bids)
            start = low.start.without(windows, whole_bids)
        else:
            assert settled is not None
            if settled.is_whole and not settled.is_off_tick:
                return Whole(settled, add_up(book, settled), None, np.array(sorted(rounded), dtype=np.int64), rounds,
                             low.start)
            fractional = _fractional_windows(settled)
            if len(fractional):
                market, lines = _hold_below(book, settled, fractional)
                rounded |= set(lines.tolist())
            elif len(market.cap_units):
                market = _hold_capped(book, settled)
            else:
                market, lines = _hold_at_the_price(book, settled)
                rounded |= set(lines.tolist())
            start = replace(low.start, basis=None, near=None, hidden=None)
        low = low_point(sifting.solve_market(market, start))
        rounds += low.solved.rounds
    raise AssertionError("each round takes something away")


def _hold_at_the_price(book: Book, settled: Settled) -> tuple[Market, Ints]:
    """The market with windows that stand at their price held at the whole units that they have, and these lines.

    Such windows tie the prices of their slots to a sum, which can put these between two ticks; held, they tie no more,
    and without them the least of all prices are differences of limits and asks, on the tick.
    """
    market, windows = settled.programme.market, settled.programme.market.windows
    units, _ = window_units(settled, book)
    gain = gains(market, settled.lam, settled.rho, settled.sigma)[0]
    held = (units < windows.lines.units) & (gain > -1)  # prices are rounded down, so gains are not below the true ones
    if not held.any():
        raise errors.CertificateFailed("The network did not settle in whole units on the tick.")
    lines = replace(windows.lines, units=np.where(held, units, windows.lines.units))
    return market.with_windows(replace(windows, lines=lines).take(lines.units > 0)), windows.lines.line[held]


def _hold_capped(book: Book, settled: Settled) -> Market:
    """The market with every bid under a cap held at the whole units that it sells, and no cap any more."""
    settled = replace(settled, x=np.floor(settled.x + TOLERANCE))
    market = settled.programme.market
    capped = market.cap_of_pool >= 0
    own = capped[market.offered.pool]
    _, units = window_units(settled, book)
    bids = market.whole_bids
    held = replace(bids.lines, units=np.where(capped[bids.lines.pool], units, bids.lines.units))
    kept = (held.units >= bids.minimum) & (held.units > 0)
    return market.without_caps(
        join_lines(market.offered.take(~own), _held(book, settled, market.offered.take(own), -1)),
        replace(bids, lines=held).take(kept))


def _losing(market: Market, low: Low) -> tuple[Flags, Flags]:
    """Indivisible lines that lose at these prices, and of each choice all but the best."""
    gain, earned = gains(market, low.point.lam, low.point.rho, low.point.sigma)
    losing = market.windows.is_alone & (gain < -TOLERANCE * 1_000)
    return losing | _outdone(market.windows, gain), market.whole_bids.is_alone & (earned < -TOLERANCE * 1_000)


def gains(market: Market, lam: Floats | Ints, rho: Floats | Ints, sigma: float) -> tuple[Floats, Floats]:
    """What one unit of each window and of each whole bid gains over all its slots, in ticks."""
    price = np.where(market.is_offered, lam, float(1 << 50)).astype(np.float64)
    mu = sifting.least_of_masks(market, price)[market.mask_of_pool]
    windows, bids = market.windows.lines, market.whole_bids.lines
    kept = np.where(market.is_foundation, 1.0 - sigma, 1.0)[windows.pool]
    taken = np.append(rho, 0.0)[market.cap_of_pool]
    earned = sifting.float_sums(price[market.group_of_pool] - taken[:, None], bids)
    return (kept * windows.price * (windows.end - windows.start) - sifting.float_sums(mu, windows),
            earned - bids.price * (bids.end - bids.start))


def _outdone(windows: Wholes, gain: Floats) -> Flags:
    """Lines of a choice that are not its best: the greatest gain over all units, then the greatest worth."""
    outdone = np.zeros(len(windows), dtype=np.bool_)
    of_choice = np.flatnonzero(windows.choice >= 0)
    total = np.rint(gain[of_choice] * windows.lines.units[of_choice])
    lines = windows.lines.take(of_choice)
    worth = lines.units * lines.price * (lines.end - lines.start)
    order = of_choice[np.lexsort((lines.pool, lines.line, -worth, -total, windows.choice[of_choice]))]
    outdone[order[1:]] = windows.choice[order[1:]] == windows.choice[order[:-1]]
    return outdone


def _ill_served(book: Book, settled: Settled) -> tuple[Flags, Flags]:
    """Indivisible lines whose fill is not nothing but below their minimum, or nothing; whole bids with idle slots."""
    programme, market = settled.programme, settled.programme.market
    windows = _below_minimum(market.windows, programme.window_column, programme.split(settled.x)[2])
    bids = _below_minimum(market.whole_bids, programme.whole_bid_column, programme.split(settled.x)[3])
    return windows, bids if bids.any() else _idle(book, settled)


def _below_minimum(wholes: Wholes, column: Ints, fill: Floats) -> Flags:
    units = np.append(fill, 0.0)[np.where(column >= 0, column, len(fill))]
    units = np.where(column == IN, wholes.lines.units, units)
    least = np.maximum(wholes.minimum, 1)
    below: Flags = wholes.is_alone & (units < least - TOLERANCE)
    partly = np.flatnonzero(below & (units > TOLERANCE))
    # The fuller half may well fill up once the others are gone; whoever got nothing goes at no cost.
    order = partly[np.lexsort((wholes.lines.line[partly], units[partly] / least[partly]))]
    below[order[(len(order) + 1) // 2:]] = False
    return below


def _idle(book: Book, settled: Settled) -> Flags:
    """Of the whole bids with a slot in which some of what they sold is not used, the one that asks most."""
    programme, market = settled.programme, settled.programme.market
    flags = np.zeros(len(market.whole_bids), dtype=np.bool_)
    if not len(flags):
        return flags
    used = programme.columns.matrix(len(programme.row_upper)) @ settled.x
    slack = np.append(programme.row_upper - used, 0.0)[market.supply_row] > TOLERANCE
    _, units = window_units(settled, book)
    lines = market.whole_bids.lines
    idle = sifting.float_sums(slack.astype(np.float64)[market.group_of_pool], lines) > 0
    candidates = np.flatnonzero(idle & (units > 0))
    if len(candidates):
        flags[candidates[np.lexsort((lines.line[candidates], -lines.price[candidates]))[0]]] = True
    return flags


def _fractional_windows(settled: Settled) -> Ints:
    """The window columns with a part of a unit."""
    fill = settled.programme.split(settled.x)[2]
    return np.flatnonzero(np.abs(fill - np.rint(fill)) > TOLERANCE)


def _hold_below(book: Book, settled: Settled, fractional: Ints) -> tuple[Market, Ints]:
    """The market with the emptier half of its fractional windows held at the whole units below, and these lines."""
    programme, market = settled.programme, settled.programme.market
    fill = programme.split(settled.x)[2]
    # The fuller half may become whole once the others are held; of equals the one that is worth least goes first.
    first = market.windows.lines.take(programme.window_first[fractional])
    worth = first.price * (first.end - first.start)
    order = fractional[np.lexsort((first.line, worth, fill[fractional] % 1.0))]
    fractional = order[:(len(order) + 1) // 2]
    floor = replace(settled, x=np.floor(settled.x + TOLERANCE))
    units, _ = window_units(floor, book)
    held = np.isin(programme.window_column, fractional)
    lines = replace(market.windows.lines, units=np.where(held, units, market.windows.lines.units))
    kept = lines.units > 0
    return market.with_windows(replace(market.windows, lines=lines).take(kept)), market.windows.lines.line[held]


def _try_again(book: Book, market: Market, found: Whole) -> Whole:
    """The same or a better one, after trying lines that gain at the final prices though they are out."""
    tried: set[tuple[bool, int, int]] = set()
    is_large = market.line_slot_count() > LARGE_LINE_SLOTS
    for _ in range(TRIES_LARGE if is_large else TRIES_MAX):
        candidate = _best_out(market, found, tried)
        if candidate is None:
            break
        tried.add(candidate.key)
        found = _better(book, found, candidate)
    return found


def _search(book: Book, market: Market, low: Low, found: Whole) -> Whole:
    """The same or a better one, after what branch and bound proposes."""
    if not (market.windows.is_alone.any() or len(market.whole_bids)):
        return found
    prices = price_pools(market, np.floor(low.point.lam + TOLERANCE * 100).astype(np.int64),
                         np.rint(low.point.rho).astype(np.int64), (0, 1))
    bound = bound_micros(market, prices) // TICK_MICROS
    search = exact.Search(market, gains(market, prices.lam, prices.rho, 0.0), bound)
    for _ in range(exact.PROPOSALS_MAX):
        proposal = search.propose(found.worth.welfare_ticks)
        if proposal is None:
            break
        windows, whole_bids = (~chosen for chosen in proposal)
        trial = market.without(windows, whole_bids)
        start = low.start.without(windows, whole_bids)
        other = _until_whole(book, trial, low_point(sifting.solve_market(trial, start)))
        better = other if other.worth.welfare_ticks > found.worth.welfare_ticks else found
        found = replace(better, rounds=found.rounds + other.rounds)
    return found


def _search_windows(book: Book, market: Market, found: Whole) -> Whole:
    """The same or a better one, where windows were held down, after what branch and bound says of their units."""
    if not len(found.rounded):
        return found
    now = found.settled.programme.market
    alone, plain = now.windows.take(now.windows.is_alone), market.windows.take(~market.windows.is_alone)
    whole = now.with_windows(join_wholes(alone, plain))
    programme = build_programme(whole, None)
    x = exact.best_whole_units(programme)
    if x is None:
        return found
    lines = whole.windows.lines
    units, _ = window_units(replace(found.settled, programme=programme, x=x), book)
    trial = whole.with_windows(replace(whole.windows, lines=replace(lines, units=units)).take(units > 0))
    start = replace(found.settled.start, basis=None, near=None, hidden=None)
    other = _until_whole(book, trial, low_point(sifting.solve_market(trial, start)))
    if other.worth.welfare_ticks <= found.worth.welfare_ticks:
        return replace(found, rounds=found.rounds + other.rounds)
    held = lines.line[(units < lines.units) & ~whole.windows.is_alone]
    return replace(other, rounds=found.rounds + other.rounds, rounded=np.union1d(held, other.rounded))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A line that is out and might come in."""

    key: tuple[bool, int, int]
    one: Wholes
    is_window: bool


def _best_out(market: Market, found: Whole, tried: set[tuple[bool, int, int]]) -> _Candidate | None:
    """Of the lines that are out and gain at the final prices, and have not been tried, the one that gains most."""
    now = found.settled.programme.market
    prices = found.worth.prices
    best: tuple[float, tuple[bool, int, int], int] | None = None
    rho: Floats | Ints = prices.rho
    free = np.ones(len(market.whole_bids), dtype=np.bool_)
    if found.holds_caps:  # bids under a cap are held at what they sell, those that sell nothing as well
        rho, free = np.zeros(len(market.cap_units)), market.cap_of_pool[market.whole_bids.lines.pool] < 0
    for is_window, all_lines, still, gain, may in zip(
        (True, False), (market.windows, market.whole_bids), (now.windows, now.whole_bids),
        gains(market, prices.lam, rho, 0.0), (np.ones(len(market.windows), dtype=np.bool_), free), strict=True,
    ):
        lines = all_lines.lines
        there = set(zip(still.lines.line.tolist(), still.lines.pool.tolist(), strict=True))
        for n in np.flatnonzero(all_lines.is_alone & may & (gain > TOLERANCE * 1_000)):
            key = (is_window, int(lines.line[n]), int(lines.pool[n]))
            if key[1:] not in there and key not in tried:
                best = min(best or (np.inf, key, 0), (-float(gain[n] * lines.units[n]), key, int(n)))
    if best is None:
        return None
    chosen = (market.windows if best[1][0] else market.whole_bids).take(np.array([best[2]]))
    return _Candidate(best[1], chosen, best[1][0])


def _better(book: Book, found: Whole, candidate: _Candidate) -> Whole:
    """The market as it stands with one more line in place of its alternatives, if that is worth more."""
    now, start = found.settled.programme.market, found.settled.start
    one = candidate.one
    if candidate.is_window:
        rivals = (now.windows.choice == one.choice[0]) & (one.choice[0] >= 0)
        none = np.zeros(len(now.whole_bids), dtype=np.bool_)
        trial, start = now.without(rivals, none), start.without(rivals, none)
        trial, start = trial.with_window(one), start.with_window()
    else:
        trial, start = now.with_whole_bid(one), start.with_whole_bid()
    low = low_point(sifting.solve_market(trial, start))
    other = _until_whole(book, trial, low, found.settled.face)
    better = other if other.worth.welfare_ticks > found.worth.welfare_ticks else found
    return replace(better, rounds=found.rounds + other.rounds, rounded=np.union1d(found.rounded, better.rounded))


def _exchange_units(book: Book, market: Market, found: Whole, *, is_budget_held: bool) -> Whole:
    """The same or a better one, in which no line that was held down could have a unit of others worth less."""
    trials = _trials(book, market, found, is_budget_held)
    while (trial := next(trials, None)) is not None:
        start = replace(found.settled.start, basis=None, near=None, hidden=None)
        other = _until_whole(book, trial.market, low_point(sifting.solve_market(trial.market, start)))
        if other.worth.welfare_ticks > found.worth.welfare_ticks:
            found = replace(other, rounds=found.rounds + other.rounds, rounded=np.union1d(
                np.union1d(found.rounded, other.rounded), trial.held))
            trials = _trials(book, market, found, is_budget_held)
    return found


def _trials(book: Book, market: Market, found: Whole, is_budget_held: bool) -> Iterator[Trial]:
    return exchanges(book, Held(market, is_budget_held, found.holds_caps), found.settled, found.worth)
