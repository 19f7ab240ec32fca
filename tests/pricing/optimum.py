"""The best welfare of a book by a programme of its own: one column per (demand, bid, slot), nothing merged."""

from collections import defaultdict

import numpy as np
import scipy.optimize

from pricing.book import Book, adjusted_ask_micros
from pricing.eligibility import match_lines


def best_welfare_micros(book: Book, *, whole: bool) -> float:
    """By `scipy.optimize.milp`, with whole units or with any fraction of them."""
    eligibility = match_lines(book)
    gain: list[float] = []
    entries: dict[tuple[object, ...], list[tuple[int, float]]] = defaultdict(list)
    most: dict[tuple[object, ...], float] = {}
    filled = {}
    for i, line in enumerate(book.demands):
        if line.kind == "window":
            filled[i] = len(gain)
            gain.append(0.0)
            entries["fill", i].append((filled[i], 1.0))
            most["fill", i] = line.quantity_units
    for i, line in enumerate(book.demands):
        for t in range(line.start_slot, line.end_slot):
            for j, offer in enumerate(book.bids):
                s, a = eligibility.mask_of_demand[i], eligibility.signature_of_bid[j]
                if s >= 0 and a in eligibility.masks[s] and offer.start_slot <= t < offer.end_slot:
                    entries["demand", i, t].append((len(gain), 1.0))
                    entries["bid", j, t].append((len(gain), 1.0))
                    gain.append(line.price_limit_micros - adjusted_ask_micros(offer))
            most["demand", i, t] = 0 if i in filled else line.quantity_units
            if i in filled:
                entries["demand", i, t].append((filled[i], -1.0))
    for j, offer in enumerate(book.bids):
        most.update({("bid", j, t): offer.quantity_units for t in range(offer.start_slot, offer.end_slot)})
    if not gain:
        return 0.0
    rows = list(entries)
    matrix = np.zeros((len(rows), len(gain)))
    for row, key in enumerate(rows):
        for column, value in entries[key]:
            matrix[row, column] += value
    high = np.array([most[key] for key in rows])
    is_window = np.array([key[0] == "demand" and key[1] in filled for key in rows])
    found = scipy.optimize.milp(
        -np.array(gain), constraints=scipy.optimize.LinearConstraint(matrix, np.where(is_window, 0, -np.inf), high),
        integrality=np.full(len(gain), 1 if whole else 0), options={"mip_rel_gap": 0.0},
    )
    assert found.status == 0
    return -float(found.fun)
