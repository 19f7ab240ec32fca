"""What each demand of a window asks of papers, and what each bid holds of them through the whole window.

A paper is named in the public bundle: a control by its code, an agreement by a pseudonym of its two parties' window, so
that nobody can read from it who signed with whom. Only what some demand of the window asks for is published.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from marketplace.capacity.services import Sellable
from marketplace.catalogue.models import Window
from marketplace.compliance.holdings import Freezes, Holdings, Span, agreements_in_force
from marketplace.demand.counsel import without_counsel
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.models import Demand
from marketplace.demand.voucher_models import Voucher
from marketplace.supply.models import Bid

FIRM = "firm"  # capacity that nobody takes back; asked for only in a market that has some that is
COUNSEL = "counsel-signed-off"  # of the demand itself: a bid never holds it, and a demand that has it does not ask
LEGAL_CONTROL = "legal-control-shown"  # the three countries of control are shown by evidence, as they are registered


class Papers:
    """The papers of one book, read once; `name` makes the pseudonyms of its bundle."""

    def __init__(
        self, window: Window, demands: Sequence[Demand], bids: Sequence[Bid], name: Callable[..., str]
    ) -> None:  # fmt: skip
        span = Span(window.starts_at, window.ends_at)
        self._name = name
        self._holdings = Holdings({bid.party_id for bid in bids}, span)
        self._freezes = Freezes(window.starts_at)
        self._agreements = agreements_in_force(span, buyers={d.party_id for d in demands})
        self._controls = sorted({code for demand in demands for code in self._controls_asked(demand)})
        self._interruptible = {bid.pk for bid in bids if not _is_firm(bid, window)}
        self._unsigned = without_counsel(demands)
        self._asks_legal_control = any(demand.control_zone_id for demand in demands)
        self._spreads = Spreads(window, demands, bids)
        # Credits of a grant that came back to their own owner as earnings would be cash.
        self._granted = {demand.pk: demand.party.owner_key for demand in demands if demand.funding_line_id
                         and Voucher.objects.filter(line=demand.funding_line_id).exists()}  # fmt: skip
        self._under_agreement = sorted(
            {(d.data_class.agreement_id, d.party_id, d.party.slug, d.purpose) for d in demands if _agreement_of(d)},
            key=str,
        )

    def asked_by(self, demand: Demand) -> tuple[str, ...]:
        """Every paper that capacity must hold to serve the demand."""
        asked = set(self._controls_asked(demand))
        if demand.control_zone_id:
            asked.add(LEGAL_CONTROL)
        if self._interruptible and not demand.accepts_interruptible:
            asked.add(FIRM)
        if demand.pk in self._unsigned:
            asked.add(COUNSEL)
        if agreement := _agreement_of(demand):
            asked.add(self._agreement_name(agreement, demand.party.slug, demand.purpose))
        if demand.pk in self._granted:
            asked.add(self._name("outside", self._granted[demand.pk]))
        asked |= {self._name("spread", *part) for part in self._spreads.asked_by(demand)}
        return tuple(sorted(asked))

    def held_by(self, bid: Bid) -> tuple[str, ...]:
        """Every asked paper that the bid's site or party holds."""
        site = bid.node_class.site
        held = {code for code in self._controls if self._holdings.holds(site, code)}
        if self._asks_legal_control and self._holdings.proves_control(site, bid.party):
            held.add(LEGAL_CONTROL)
        if self._interruptible and bid.pk not in self._interruptible:
            held.add(FIRM)
        held |= {
            self._agreement_name(agreement, slug, purpose)
            for agreement, buyer, slug, purpose in self._under_agreement
            if (agreement, buyer, bid.party_id, purpose) in self._agreements
        }
        held |= {self._name("outside", owner) for owner in set(self._granted.values()) - {bid.party.owner_key}}
        held |= {self._name("spread", *part) for part in self._spreads.dealt_to(bid)}
        return tuple(sorted(held))

    def tier_of(self, bid: Bid) -> int:
        """The tier that the bid's capacity holds through the window."""
        return self._holdings.tier_of(bid.node_class)

    def is_frozen(self, bid: Bid) -> bool:
        """Whether an incident keeps the bid out."""
        return self._freezes.of(bid.node_class, self.tier_of(bid)) is not None

    def _controls_asked(self, demand: Demand) -> list[str]:
        of_data = demand.data_class.controls if demand.data_class else []
        return [*demand.required_controls, *of_data]

    def _agreement_name(self, agreement: str, buyer: str, purpose: str) -> str:
        return self._name("agreement", agreement, buyer, purpose)


class Spreads:
    """Orders that no owner serves more than a leg of: each owner of their classes is dealt to one leg of each.

    Owners are dealt in an order that the window's salt draws: neither buyer nor provider chooses who stands in which
    leg, and each leg sees as many owners as the others, give or take one.
    """

    def __init__(self, window: Window, demands: Sequence[Demand], bids: Sequence[Bid]) -> None:
        rows = DemandLeg.objects.filter(demand__in=[demand.pk for demand in demands], role="spread")
        self._legs = {leg.demand_id: leg for leg in rows}
        self._dealt: dict[str, dict[str, int]] = {}
        salt = bytes(window.pseudonym_salt)
        classes = {self._legs[d.pk].order: (d.accepted_classes, self._legs[d.pk].of) for d in demands
                   if d.pk in self._legs}  # fmt: skip
        for order, (accepted, legs) in sorted(classes.items(), key=str):
            owners = sorted({bid.party.owner_key for bid in bids if bid.node_class.resource_class_id in accepted},
                            key=lambda owner: hmac.digest(salt, f"{order} {owner}".encode(), "sha256"))  # fmt: skip
            self._dealt[order.hex] = {owner: place % legs + 1 for place, owner in enumerate(owners)}

    def asked_by(self, demand: Demand) -> list[tuple[str, str]]:
        """The leg that a demand is, as (order, number); none for one that is not spread."""
        leg = self._legs.get(demand.pk)
        return [(leg.order.hex, str(leg.no))] if leg else []

    def dealt_to(self, bid: Bid) -> list[tuple[str, str]]:
        """The one leg of each order that the bid's owner may serve."""
        owner = bid.party.owner_key if self._dealt else ""
        return [(order, str(dealt[owner])) for order, dealt in self._dealt.items() if owner in dealt]


def _is_firm(bid: Bid, window: Window) -> bool:
    rows = bid.node_class.calendar_rules.all()  # read with the bids
    rules = [rule for rule in rows if rule.week is None or rule.week.undone_at is None]
    if all(rule.is_firm for rule in rules):
        return True
    known = Sellable(bid.node_class, rules)
    return all(known.is_firm(window.slot_at(slot)) for slot in range(bid.start_slot, bid.end_slot))


def _agreement_of(demand: Demand) -> str | None:
    return demand.data_class.agreement_id if demand.data_class else None
