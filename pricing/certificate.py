r"""The proof of a clearing, in exact integers, over the full book and the published numbers only.

For any whole lam[A,t] >= 0, rho >= 0 and sigma in [0, 1), with mu[S,t] = min over A ok S of lam[A,t], weak duality:

    g = sum_divisible,t q (v' - mu)^+  +  sum_windows q (v' L - sum mu)^+  +  sum_choices max of the same over members
      + sum_bids,t o (lam - c - rho)^+  +  sum_whole bids o (sum lam - cL - rho L)^+  +  sum_caps K rho  +  budget sigma
      >= welfare of any allocation,        v' = v (1 - sigma) for the Foundation, v for all others

so `g - welfare` is the most that any other allocation could gain. Twice: at the published prices over the settled book,
where what units being whole and the budget have kept out is out (it must equal the welfare), and at the prices of the
relaxation over the whole book (the bound). Written without the programme or the solver: what they got wrong shows here.
"""

from dataclasses import dataclass

import numpy as np

from pricing import errors
from pricing.allocation import UNBOUNDED_MICROS, Allocation
from pricing.book import DIVISIBLE, TICK_MICROS, Book, Flags, Ints, exact_sum
from pricing.eligibility import Eligibility
from pricing.ranges import Lines, exact_product, line_slots, range_sums, surplus


@dataclass(frozen=True)
class Certificate:
    welfare_micros: int  # sum over awarded unit-hours of limit - adjusted ask
    bound_micros: int  # g of the relaxation over the whole book
    gap_micros: int  # bound - welfare, never negative
    settled_bound_micros: int  # g of the published prices over the settled book


@dataclass(frozen=True, eq=False)
class Duals:
    lam: Ints  # [A, slots] micro-USD
    rho: Ints  # [caps]
    sigma: tuple[int, int]


def certify(book: Book, eligibility: Eligibility, allocation: Allocation) -> Certificate:
    """The certificate of an allocation. Raises `CertificateFailed` when it breaks a promise or is not proven."""
    check_promises(book, eligibility, allocation)
    welfare = welfare_micros(book, allocation)
    rho = [0 if cap.is_held else cap.rho_micros for cap in allocation.caps]
    published = Duals(allocation.lam_micros, np.array(rho, dtype=np.int64), (0, 1))
    settled = dual_bound_micros(book, eligibility, allocation, published, settled=True)
    bound = settled
    if allocation.relaxed_micros is not None:
        relaxed = Duals(allocation.relaxed_micros,
                        np.array([cap.rho_relaxed_micros for cap in allocation.caps], dtype=np.int64),
                        allocation.sigma)
        bound = dual_bound_micros(book, eligibility, allocation, relaxed, settled=False)
    certificate = Certificate(welfare, bound, bound - welfare, settled)
    if settled != welfare or certificate.gap_micros < 0:
        raise errors.CertificateFailed("The result is not proven optimal.", **vars(certificate))
    return certificate


def welfare_micros(book: Book, allocation: Allocation) -> int:
    return _worth(book.demands.price, allocation.demand_ptr, allocation.demand_units) - _worth(
        book.bids.ask, allocation.bid_ptr, allocation.bid_units)


def _worth(price: Ints, ptr: Ints, units: Ints) -> int:
    return exact_sum(price * unit_hours(ptr, units))


def unit_hours(ptr: Ints, units: Ints) -> Ints:
    """Units summed over the slots of each line.  # int64 [lines]"""
    total = np.concatenate([[0], np.cumsum(units, dtype=np.int64)])
    hours: Ints = total[ptr[1:]] - total[ptr[:-1]]
    return hours


def dual_bound_micros(
    book: Book, eligibility: Eligibility, allocation: Allocation, duals: Duals, *, settled: bool
) -> int:
    """g, rounded up; over the settled book or the whole one."""
    numerator, denominator = duals.sigma
    scaled = _demand_gains(book, eligibility, allocation, duals, settled) + denominator * _supply_gains(
        book, eligibility, allocation, duals, settled)
    caps = sum(cap.units_max * int(rho) for cap, rho in zip(allocation.caps, duals.rho, strict=True))
    budget = (book.rules.foundation_budget_micros or 0) // TICK_MICROS * TICK_MICROS  # what a limit can ever spend
    return -(-(scaled + denominator * caps + numerator * budget) // denominator)


def _demand_gains(
    book: Book, eligibility: Eligibility, allocation: Allocation, duals: Duals, settled: bool
) -> int:
    """The sum of what demands gain, times the denominator of sigma."""
    demands = book.demands
    numerator, denominator = duals.sigma
    mu = np.stack([duals.lam[list(mask)].min(axis=0) for mask in (*eligibility.masks, *allocation.variant_masks)]
                  or [np.zeros(book.slots, dtype=np.int64)])
    quantity = demands.quantity
    chosen = eligibility.mask_of_demand >= 0
    if settled:
        hours = unit_hours(allocation.demand_ptr, allocation.demand_units)
        quantity = np.where(allocation.is_rounded, hours // demands.hours, quantity)
        chosen = chosen & ~(demands.is_indivisible & (hours == 0))
    total = 0
    if settled:  # a divisible line that was held keeps in each slot what it got there
        held = allocation.is_rounded & (demands.kind == DIVISIBLE)
        chosen = chosen & ~held
        total += denominator * _held_gains(book, eligibility, allocation, mu, np.flatnonzero(held))
    plain = chosen & ~demands.is_one_site & ((demands.choice < 0) | settled)
    for is_foundation in (False, True):
        own = np.flatnonzero(plain & (demands.is_foundation == is_foundation))
        kept = denominator - numerator if is_foundation else denominator
        lines = Lines(eligibility.mask_of_demand[own], demands.price[own], quantity[own], demands.start[own],
                      demands.end[own], own)
        total += line_gains(lines, demands.kind[own] == DIVISIBLE, mu, kept, denominator)
    if settled:
        own = np.flatnonzero(chosen & demands.is_one_site)
        lines = Lines(allocation.served_under[own], demands.price[own], quantity[own], demands.start[own],
                      demands.end[own], own)
        return total + line_gains(lines, np.zeros(len(own), dtype=np.bool_), mu, denominator, denominator)
    return total + denominator * _choice_gains(book, eligibility, duals.lam)


def _held_gains(book: Book, eligibility: Eligibility, allocation: Allocation, mu: Ints, held: Ints) -> int:
    demands = book.demands
    owner, slot = line_slots(demands.start[held], demands.end[held])
    line = held[owner]
    units = allocation.demand_units[allocation.demand_ptr[line] + slot - demands.start[line]]
    gain = np.maximum(demands.price[line] - mu[eligibility.mask_of_demand[line], slot], 0)
    return exact_product(gain, units)


def line_gains(lines: Lines, is_divisible: Flags, mu: Ints, kept: int, denominator: int) -> int:
    """The sum of units x gain of each line, times the denominator, where `kept` / denominator of its limit counts."""
    if not len(lines):
        return 0
    if kept == denominator:
        windows = lines.take(~is_divisible)
        gain = np.maximum(windows.price * (windows.end - windows.start) - range_sums(
            mu, windows.pool, windows.start, windows.end), 0)
        some = lines.take(is_divisible)
        return denominator * (exact_product(gain, windows.units) + exact_product(surplus(some, mu, 1), some.units))
    total = 0  # few lines of the Foundation, and only while its budget binds: Python integers, slot by slot
    for n in range(len(lines)):
        here: list[int] = [int(lines.price[n]) * kept - int(p) * denominator
                           for p in mu[lines.pool[n], lines.start[n]:lines.end[n]]]
        total += int(lines.units[n]) * (
            sum(max(0, one) for one in here) if bool(is_divisible[n]) else max(0, sum(here)))
    return total


def _choice_gains(book: Book, eligibility: Eligibility, lam: Ints) -> int:
    """Of each choice, and of each line in one of several sites, the best gain."""
    demands = book.demands
    best: dict[int, int] = {}
    sites: dict[str, list[int]] = {}
    for a, signature in enumerate(eligibility.signatures):
        sites.setdefault(signature.attributes.site, []).append(a)
    of_choice = (demands.choice >= 0) | demands.is_one_site
    for i in np.flatnonzero(of_choice & (eligibility.mask_of_demand >= 0)):
        mask = set(eligibility.masks[int(eligibility.mask_of_demand[i])])
        parts = [mask & set(here) for here in sites.values()] if bool(demands.is_one_site[i]) else [mask]
        span = slice(int(demands.start[i]), int(demands.end[i]))
        costs = [int(lam[sorted(part), span].min(axis=0).sum()) for part in parts if part]
        won = int(demands.quantity[i]) * max(0, int(demands.price[i] * demands.hours[i]) - min(costs))
        key = int(demands.choice[i]) if demands.choice[i] >= 0 else -1 - int(i)
        best[key] = max(best.get(key, 0), won)
    return sum(best.values())


def _supply_gains(
    book: Book, eligibility: Eligibility, allocation: Allocation, duals: Duals, settled: bool
) -> int:
    bids = book.bids
    rho = np.append(duals.rho, 0)[allocation.cap_of_bid]
    lines = Lines(eligibility.signature_of_bid, bids.ask + rho, bids.quantity, bids.start, bids.end,
                  np.arange(len(bids)))
    is_held = [settled and cap.is_held for cap in allocation.caps]
    held = np.array([*is_held, False], dtype=np.bool_)[allocation.cap_of_bid]  # no cap is -1, the last
    some = lines.take((bids.minimum == 0) & ~held)
    whole = lines.take((bids.minimum > 0) & ~held & (
        (unit_hours(allocation.bid_ptr, allocation.bid_units) > 0) | (not settled)))
    gain = np.maximum(range_sums(duals.lam, whole.pool, whole.start, whole.end)
                      - whole.price * (whole.end - whole.start), 0)
    return (exact_product(surplus(some, duals.lam, -1), some.units) + exact_product(gain, whole.units)
            + _held_earnings(book, eligibility, allocation, duals.lam, np.flatnonzero(held)))


def _held_earnings(book: Book, eligibility: Eligibility, allocation: Allocation, lam: Ints, held: Ints) -> int:
    """What bids gain with the units that a cap holds them at."""
    bids = book.bids
    owner, slot = line_slots(bids.start[held], bids.end[held])
    line = held[owner]
    units = allocation.bid_units[allocation.bid_ptr[line] + slot - bids.start[line]]
    gain = lam[eligibility.signature_of_bid[line], slot] - bids.ask[line]
    return exact_sum(np.where(units > 0, gain, 0) * units)


def check_promises(book: Book, eligibility: Eligibility, allocation: Allocation) -> None:
    """Quantities, minima, choices, limits, asks, caps and the budget, for every line at the published prices."""
    demands, bids = book.demands, book.bids
    hours = unit_hours(allocation.demand_ptr, allocation.demand_units)
    sold = unit_hours(allocation.bid_ptr, allocation.bid_units)
    units, bid_units = allocation.demand_units, allocation.bid_units
    owner, slot = line_slots(demands.start, demands.end)
    _promise(bool((units >= 0).all() and (units <= demands.quantity[owner]).all()), "a demand is overfilled")
    served = units > 0
    under = allocation.served_under
    _promise(bool((under[owner[served]] >= 0).all()), "a demand is served under no mask")
    mu = np.stack([allocation.lam_micros[list(mask)].min(axis=0)
                   for mask in (*eligibility.masks, *allocation.variant_masks)]
                  or [np.full(book.slots, UNBOUNDED_MICROS)])
    paid = np.where(served, units * mu[under[owner], slot], 0)
    divisible = demands.kind[owner] == DIVISIBLE
    _promise(bool((mu[under[owner], slot] <= demands.price[owner])[served & divisible].all()),
             "a price is above a limit")
    whole = demands.kind != DIVISIBLE
    first = units[allocation.demand_ptr[:-1]] if len(units) else hours
    _promise(bool((units == first[owner])[~divisible].all()), "a window is uneven")
    _promise(bool((unit_hours(allocation.demand_ptr, paid) <= hours * demands.price)[whole].all()),
             "a demand pays above its limit")
    _promise(bool(((hours == 0) | (hours >= demands.minimum * demands.hours))[whole].all()), "a minimum is not kept")
    won = demands.choice[(hours > 0) & (demands.choice >= 0)]
    _promise(len(np.unique(won)) == len(won), "two alternatives are served")
    owner, slot = line_slots(bids.start, bids.end)
    _promise(bool((bid_units >= 0).all() and (bid_units <= bids.quantity[owner]).all()), "a bid is oversold")
    price = allocation.lam_micros[eligibility.signature_of_bid[owner], slot]
    loose = (bids.minimum == 0)[owner]
    _promise(bool((price >= bids.ask[owner])[loose & (bid_units > 0)].all()), "a price is below an ask")
    first = bid_units[allocation.bid_ptr[:-1]] if len(bid_units) else sold
    _promise(bool((bid_units == first[owner])[~loose].all()), "a bid with a minimum is uneven")
    earned = unit_hours(allocation.bid_ptr, bid_units * price)
    bound = bids.minimum > 0
    _promise(bool((earned >= sold * bids.ask)[bound].all()), "a bid with a minimum is paid below its ask")
    _promise(bool(((sold == 0) | (sold >= bids.minimum * bids.hours))[bound].all()), "a minimum is not kept")
    for place, cap in enumerate(allocation.caps):
        _promise(int(sold[allocation.cap_of_bid == place].sum()) <= cap.units_max, "a cap is not kept")
    budget = book.rules.foundation_budget_micros
    _promise(budget is None or exact_sum((hours * demands.price)[demands.is_foundation]) <= budget,
             "the Foundation spends more than its budget")


def _promise(is_kept: bool, broken: str) -> None:
    if not is_kept:
        raise errors.CertificateFailed(f"The result is refused: {broken}.")

