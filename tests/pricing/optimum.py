"""The best welfare of a book by a programme of its own: one column per demand, site, bid and slot, nothing merged.

    maximise    sum (limit - ask) x[i, site, j, t]               the ask of a bid with a minimum counts by z instead
    y[i, site] = sum_j x[i, site, j, t] in every slot t          windows, blocks and other lines of one number of units
    z[j] = sum_i x[i, site, j, t] in every slot t                bids with a minimum (relaxed: some may stay idle)
    minimum * on <= y, z <= quantity * on                        on = 0 or 1, where a line has a minimum
    y <= quantity * on, sum on <= 1                              alternatives of a choice, sites of one line
    sum over a cap's bids <= units_max                           `caps`: pairs of bid places and units
    sum of limit * x of the Foundation <= budget

Solved by `scipy.optimize.milp`; the engine's own modules are asked for eligibility only.
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse

from pricing.book import Book, adjusted_ask_micros
from pricing.eligibility import match_lines

TOLERANCE = 0.01  # micro-USD; prices are whole hundreds


def slack(welfare_micros: float) -> float:
    """How far apart two floats may be that stand for one welfare."""
    return max(TOLERANCE, 1e-9 * abs(welfare_micros))

Caps = Sequence[tuple[Collection[int], int]]
Chosen = frozenset[tuple[str, int, str]]  # indivisible lines that are in: (side, place, site or "")


@dataclass
class _Programme:
    gain: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    is_whole: list[bool] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def column(self, gain: float, upper: float, *, is_whole: bool = True) -> int:
        self.gain.append(gain)
        self.upper.append(upper)
        self.is_whole.append(is_whole)
        return len(self.gain) - 1

    def row(self, entries: dict[int, float], lower: float, upper: float) -> None:
        self.rows.append((entries, lower, upper))

    def solve(self, *, whole: bool) -> float | None:
        """The optimum, None where there is no feasible point."""
        if not self.gain:
            return None if any(low > 0 for _, low, _ in self.rows) else 0.0
        entries = [(r, c, value) for r, (row, _, _) in enumerate(self.rows) for c, value in row.items()]
        at, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = scipy.sparse.csr_array((values, (at, columns)), shape=(len(self.rows), len(self.gain)))
        milp: Any = scipy.optimize.milp
        found = milp(
            -np.array(self.gain), bounds=scipy.optimize.Bounds(0, np.array(self.upper)),
            constraints=scipy.optimize.LinearConstraint(
                matrix, np.array([low for _, low, _ in self.rows]), np.array([high for _, _, high in self.rows])),
            integrality=np.array(self.is_whole, dtype=int) if whole else np.zeros(len(self.gain)),
            options={"mip_rel_gap": 0.0},
        )
        assert found.status in (0, 2), found.message
        return -float(found.fun) if found.status == 0 else None


def best_welfare_micros(book: Book, *, whole: bool, caps: Caps = ()) -> float:
    """The optimum with whole units, minima and choices, or with any fraction of units and no minimum."""
    best = _programme(book, caps, chosen=None, whole=whole).solve(whole=whole)
    assert best is not None  # nothing at all is feasible
    return best


def best_supported_micros(book: Book, *, above: float, caps: Caps = ()) -> tuple[float, Chosen] | None:
    """The best of all sets of indivisible lines that uniform prices support, if it is above a given welfare.

    A set is supported where the programme with its lines as windows and all others out has an optimum that serves each
    of them in whole units from its minimum on: then the duals of that programme are prices at which nobody who is
    served loses, and no divisible line that gains is left out. Exponential in the indivisible lines.
    """
    best: tuple[float, Chosen] | None = None
    for chosen in _selections(book):
        loose = _programme(book, caps, chosen=chosen, whole=False).solve(whole=False)
        if loose is None or loose <= max(above, best[0] if best else above) + slack(loose):
            continue
        tight = _programme(book, caps, chosen=chosen, whole=True).solve(whole=True)
        if tight is not None and tight >= loose - slack(loose):
            best = tight, chosen
    return best


def _selections(book: Book) -> Iterator[Chosen]:
    """Every set of indivisible lines with at most one of each choice and one site for each line in one site."""
    eligibility = match_lines(book)
    options: dict[object, list[tuple[str, int, str]]] = defaultdict(list)
    for i, line in enumerate(book.demands):
        s = int(eligibility.mask_of_demand[i])
        if s < 0 or not book.demands.is_indivisible[i]:
            continue
        sites = sorted({eligibility.signatures[a].attributes.site for a in eligibility.masks[s]})
        key = ("choice", line.choice) if line.choice is not None else ("demand", i)
        options[key] += [("demand", i, site) for site in (sites if line.is_one_site else [""])]
    for j in np.flatnonzero(book.bids.is_indivisible):
        options["bid", int(j)].append(("bid", int(j), ""))
    for picked in itertools.product(*([None, *some] for some in options.values())):
        yield frozenset(one for one in picked if one is not None)


def _programme(book: Book, caps: Caps, *, chosen: Chosen | None, whole: bool) -> _Programme:
    """All lines (`chosen` None) or the divisible and the chosen. `whole`: minima hold, chosen lines are served."""
    eligibility, programme = match_lines(book), _Programme()
    sites = [signature.attributes.site for signature in eligibility.signatures]
    sold: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)  # bid, slot
    spent: dict[int, float] = {}
    alternatives: dict[object, list[tuple[int, int]]] = defaultdict(list)
    for i, line in enumerate(book.demands):
        s = int(eligibility.mask_of_demand[i])
        if s < 0:
            continue
        accepted = set(eligibility.masks[s])
        is_indivisible = bool(book.demands.is_indivisible[i])
        for site in sorted({sites[a] for a in accepted}) if line.is_one_site else [""]:
            if is_indivisible and chosen is not None and ("demand", i, site) not in chosen:
                continue
            y = None if line.kind == "divisible" else programme.column(0.0, line.quantity_units)
            for t in range(line.start_slot, line.end_slot):
                served: dict[int, float] = {}
                for j, offer in enumerate(book.bids):
                    a = int(eligibility.signature_of_bid[j])
                    if a in accepted and offer.start_slot <= t < offer.end_slot and site in ("", sites[a]):
                        ask = 0 if offer.minimum_units else adjusted_ask_micros(offer)
                        x = programme.column(line.price_limit_micros - ask, np.inf)
                        served[x] = sold[j, t][x] = 1.0
                        if line.is_foundation:
                            spent[x] = line.price_limit_micros
                if y is None:
                    programme.row(served, 0, line.quantity_units)
                else:
                    programme.row({**served, y: -1.0}, 0, 0)
            if is_indivisible and y is not None:
                if chosen is None:
                    key = ("choice", line.choice) if line.choice is not None else ("demand", i)
                    alternatives[key].append((y, line.quantity_units))
                _minimum(programme, y, line.minimum_units, line.quantity_units, chosen is not None, whole)
    for rivals in alternatives.values():
        on = {programme.column(0.0, 1): quantity for _, quantity in rivals}
        for (y, _), (column, quantity) in zip(rivals, on.items(), strict=True):
            programme.row({y: 1.0, column: -float(quantity)}, -np.inf, 0)
        programme.row(dict.fromkeys(on, 1.0), -np.inf, 1)
    _sell(programme, book, sold, chosen, whole)
    for bids, units in caps:
        programme.row({x: 1.0 for (j, _), row in sold.items() if j in bids for x in row}, -np.inf, units)
    if book.rules.foundation_budget_micros is not None:
        programme.row(spent, -np.inf, book.rules.foundation_budget_micros // 100 * 100)  # limits are whole hundreds
    return programme


def _minimum(programme: _Programme, y: int, least: int, most: int, is_chosen: bool, whole: bool) -> None:
    if is_chosen and whole:
        programme.row({y: 1.0}, max(1, least), most)
    elif least and whole:
        on = programme.column(0.0, 1)
        programme.row({y: 1.0, on: -float(most)}, -np.inf, 0)
        programme.row({y: 1.0, on: -float(least)}, 0, np.inf)


def _sell(
    programme: _Programme, book: Book, sold: dict[tuple[int, int], dict[int, float]], chosen: Chosen | None, whole: bool
) -> None:
    for j, offer in enumerate(book.bids):
        is_out = offer.minimum_units > 0 and chosen is not None and ("bid", j, "") not in chosen
        cost = adjusted_ask_micros(offer) * (offer.end_slot - offer.start_slot)
        z = programme.column(-cost, offer.quantity_units) if offer.minimum_units and not is_out else None
        for t in range(offer.start_slot, offer.end_slot):
            if z is None:
                programme.row(sold[j, t], -np.inf, 0 if is_out else offer.quantity_units)
            else:
                programme.row({**sold[j, t], z: -1.0}, 0 if whole else -np.inf, 0)
        if z is not None:
            _minimum(programme, z, offer.minimum_units, offer.quantity_units, chosen is not None, whole)
