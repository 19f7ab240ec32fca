"""What the solver decided, before it is cut into awards and explained. Whole units, micro-USD, canonical order."""

from dataclasses import dataclass

from pricing.book import Flags, Ints

# The dual of a cell without capacity: above any window's whole value, 744 slots at the highest price.
UNBOUNDED_MICROS = 10**12

Product = tuple[str, str, int]  # resource class, home zone, tier


@dataclass(frozen=True)
class Cap:
    """The most that one parent may sell of one product, and what that takes from its price."""

    parent: int  # place in book.parents
    product: Product
    units_max: int  # unit-hours
    rho_micros: int  # micro-USD per unit-hour; of a cap that holds its bids that of the relaxation
    rho_relaxed_micros: int
    is_held: bool = False  # its bids are held at whole units, slot by slot, so that prices do not know it


@dataclass(frozen=True, eq=False)
class Allocation:
    lam_micros: Ints  # [A, slots] dual of supply; the price where something trades; UNBOUNDED_MICROS without a bid
    relaxed_micros: Ints | None  # [A, slots] dual of the relaxation; None where it is lam
    caps: tuple[Cap, ...]
    cap_of_bid: Ints  # [bids] place in caps, or -1
    caps_not_applicable: tuple[Product, ...]  # too few parents bid for a cap
    sigma: tuple[int, int]  # what the budget takes from limits of the Foundation in the relaxation, in lowest terms
    demand_ptr: Ints  # [demands + 1]
    demand_units: Ints  # [demand_ptr[-1]] units of each line in each of its slots
    bid_ptr: Ints  # [bids + 1]
    bid_units: Ints  # [bid_ptr[-1]]
    served_under: Ints  # [demands] the mask whose flows serve the line: its S, its variant (S + k), or -1
    variant_masks: tuple[tuple[int, ...], ...]  # [k] signatures of one site, for served one-site lines
    group_of_signature: Ints  # [A] signatures that every mask treats alike share a group; -1: nobody accepts it
    flow_slot: Ints  # [flows] sorted by slot, mask, group
    flow_mask: Ints  # [flows] S, or S + k
    flow_group: Ints  # [flows]
    flow_units: Ints  # [flows] above zero
    is_rejected: Flags  # [demands] indivisible lines that stay out
    is_rejected_bid: Flags  # [bids]
    is_rounded: Flags  # [demands] windows held below their quantity because units are whole
    rounds: int  # programmes solved
