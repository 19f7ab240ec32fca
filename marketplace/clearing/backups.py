"""The rules of a clearing, read again for one demand long after it: may the backup that was agreed still serve it?

Everything is judged by what is known now: countries and zones, evidence and agreements, standing, incidents, funding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

from marketplace.clearing.books import cleared_bids, make_window_book
from marketplace.clearing.models import Award
from marketplace.demand.models import Demand
from marketplace.supply.models import Bid
from pricing.eligibility import RULES, match_lines

ONE_PPM = 1_000_000
Product = tuple[str, str, int]  # resource class, home zone, tier
WORDS = {
    "class": "its resource class is not one that the demand accepts",
    "country": "its site is outside the demand's zone",
    "control": "who controls it is outside the demand's zone of legal control",
    "tier": "its evidence no longer carries the demand's tier",
    "papers": "a control, an agreement or a sign-off that the demand asks for is not in force",
    "latency": "no measurement shows that it is near enough",
    "sla": "it does not promise the demand's SLA",
    "targets": "it does not promise the demand's other targets",
    "standing": "its node class may not serve this demand now",
    "own_parent": "it belongs to the buyer's own owner",
    "frozen": "an incident has frozen it, or its quality score prices it out",
}


class Again:
    """The window of one demand with all its bids, as its rules see them now."""

    def __init__(self, demand: Demand) -> None:
        self._window, self._bids = demand.window, cleared_bids(demand.window)
        self._book, self._lines = make_window_book(demand.window, [demand], self._bids)
        self._eligibility = match_lines(self._book)
        self._places = {bid: place for place, bid in enumerate(self._book.bids.ids)}
        self._names = {row.pk: name for name, row in self._lines.bids.items()}

    def broken_rule(self, bid: Bid) -> str:
        """The first rule that the bid breaks now; empty when it may serve the demand."""
        if bid.pk not in self._names:
            return "frozen"
        need = self._eligibility.needs[0]
        signature = self._eligibility.signatures[self._eligibility.signature_of_bid[self._place(bid)]]
        rule = self._book.requirements[need.requirement]
        return next((name for name, keeps in RULES if not keeps(rule, need, signature, self._book.latency_ms)), "")

    def is_beyond_cap(self, bid: Bid, unit_hours: int, *, leaves: Bid, moved: Mapping[UUID, int]) -> bool:
        """Whether so many unit-hours more would bring the bid's owner over the window's cap in its product.

        They leave the product of `leaves`. `moved` says what backups of the window sell already, by bid.
        """
        share = self._window.concentration_ppm
        product = self._product(bid)
        if share is None or product is None or not self._has_cap(product):
            return False
        sold, owners = Counter[UUID](), {row.pk: row.party.owner_key for row in self._bids}
        awards = Award.objects.filter(clearing__window=self._window)
        for key, units, start, end in awards.values_list("bid_id", "units", "start_slot", "end_slot"):
            sold[key] += units * (end - start)
        sold.update(moved)
        alike = {row.pk for row in self._bids if self._product(row) == product}
        total = sum(sold[pk] for pk in alike) + (0 if leaves.pk in alike else unit_hours)
        own = sum(sold[pk] for pk in alike if owners[pk] == bid.party.owner_key)
        return own + unit_hours > total * share // ONE_PPM

    def _has_cap(self, product: Product) -> bool:
        """Whether the clearing had owners enough in a product for a cap; one that nobody bought has none."""
        rows = {tuple(row["product"]): row for row in self._window.clearing.concentration}
        return product in rows and bool(rows[product]["is_cap_applicable"])

    def _place(self, bid: Bid) -> int:
        return self._places[self._names[bid.pk]]

    def _product(self, bid: Bid) -> Product | None:
        if bid.pk not in self._names:
            return None
        known = self._book.attributes[self._book.bids.attributes[self._place(bid)]]
        return known.resource_class, self._book.home_zone(known), known.tier
