"""Who could serve a demand as things stand, and which single rule keeps most providers out. Counts only, no names.

A provider can serve it when one of its classes in service breaks no rule of it. A rule's gain is how many providers
cannot, but have a class that breaks only this rule: so many more could, if it were not asked for. Legal rules are told
with their effect, never with the advice to drop them. Capacity, calendars and prices are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from marketplace.catalogue.services import zone_countries
from marketplace.compliance.holdings import Freezes, Holdings, Span, agreements_in_force
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.legs import post_order
from marketplace.demand.models import Demand
from marketplace.supply.models import NodeClass, SiteLatency

# The rules in their order; of two that keep as many out, the first is named.
RULES = {
    "class": "the resource class", "zone": "where the machines stand", "control_zone": "where who controls them sits",
    "control_evidence": "evidence of who controls them", "tier": "the tier", "controls": "the further controls",
    "agreement": "a signed agreement with you", "latency": "the round trip", "owner": "an owner other than yours",
    "incident": "no open incident",
}  # fmt: skip
PROVEN = ("PROVEN",)


@dataclass(frozen=True)
class Feasibility:
    """Providers that could serve a demand, and what keeps the others out."""

    proven: int  # with proven machines that break no rule
    waiting: int  # further ones, whose machines break none and have proven nothing yet
    rule: str  # the one that removes most by itself; empty: no single rule decides it
    removes: int  # how many more providers could serve it without that rule
    failing: dict[str, int]  # rule -> providers none of whose classes keeps it; only those that some fail

    @property
    def rule_words(self) -> str:
        """The rule in words; empty when there is none."""
        return RULES.get(self.rule, "")

    @property
    def failing_words(self) -> list[tuple[str, int]]:
        """Each rule in words that some provider fails, and how many do."""
        return [(RULES[rule], count) for rule, count in self.failing.items()]


def feasibility_of(demand: Demand) -> Feasibility:
    """Judge every provider's classes in service against a demand, through its whole window."""
    broken: dict[UUID, list[tuple[bool, frozenset[str]]]] = defaultdict(list)
    rows = NodeClass.objects.filter(retired_at=None, site__retired_at=None).select_related(
        "site__party__parent", "party__parent", "standing"
    )
    judge = _judge(demand, classes := list(rows))
    for row in classes:
        broken[row.party_id].append((row.standing.state in PROVEN, judge(row)))
    can = {party for party, found in broken.items() if any(is_proven and not rules for is_proven, rules in found)}
    wait = {party for party, found in broken.items() if not all(rules for _, rules in found)} - can
    gains, failing = dict.fromkeys(RULES, 0), dict.fromkeys(RULES, 0)
    for party, found in broken.items():
        for rule in RULES:
            failing[rule] += all(rule in rules for _, rules in found)
            gains[rule] += party not in can | wait and any(rules == {rule} for _, rules in found)
    rule = max(RULES, key=lambda each: gains[each])
    return Feasibility(len(can), len(wait), rule if gains[rule] else "", gains[rule],
                       {each: count for each, count in failing.items() if count})  # fmt: skip


@transaction.atomic
def foresee_order(**terms: Any) -> list[tuple[str, Feasibility]]:
    """Return who could serve an order before it is posted: for each demand that it would make its role and the figures.

    Takes the terms of `post_order` and raises as that does; nothing of it is kept.
    """
    mark = transaction.savepoint()
    try:
        return [(_role_of(demand), feasibility_of(demand)) for demand in post_order(**terms)]
    finally:
        transaction.savepoint_rollback(mark)


def _role_of(demand: Demand) -> str:
    leg = DemandLeg.objects.filter(demand=demand).first()
    return leg.role if leg else ""


def _judge(demand: Demand, classes: list[NodeClass]) -> Callable[[NodeClass], frozenset[str]]:
    """Return what says which rules of the demand a class breaks; everything is read once."""
    window, data = demand.window, demand.data_class
    span, on = Span(window.starts_at, window.ends_at), window.starts_at.date()
    holdings, freezes = Holdings({row.party_id for row in classes}, span), Freezes(window.starts_at)
    signed = agreements_in_force(span, buyers={demand.party_id})
    here, control = _countries(demand.zone, on), _countries(demand.control_zone, on)
    asked = [*demand.required_controls, *(data.controls if data else ())]
    rtts = dict(SiteLatency.objects.filter(vantage=demand.vantage_id).values_list("site_id", "rtt_ms_p95"))

    def judge(row: NodeClass) -> frozenset[str]:
        site, party, tier = row.site, row.party, holdings.tier_of(row)
        sits = {party.ultimate_country, site.operator_country, site.keys_country}
        breaks = {
            "class": row.resource_class_id not in demand.accepted_classes,
            "zone": here is not None and site.country not in here,
            "control_zone": control is not None and not sits <= control,
            "control_evidence": control is not None and not holdings.proves_control(site, party),
            "tier": tier < demand.tier_min,
            "controls": not all(holdings.holds(site, code) for code in asked),
            "agreement": bool(data and data.agreement_id) and (
                data.agreement_id, demand.party_id, party.pk, demand.purpose) not in signed,
            "latency": demand.latency_ms_max is not None and rtts.get(site.pk, 10**9) > demand.latency_ms_max,
            "owner": party.owner_key == demand.party.owner_key,
            "incident": freezes.of(row, tier) is not None,
        }  # fmt: skip
        return frozenset(rule for rule, is_broken in breaks.items() if is_broken)

    return judge


def _countries(zone: Any, on: Any) -> set[str] | None:
    return set(zone_countries(zone=zone, on=on)) if zone else None
