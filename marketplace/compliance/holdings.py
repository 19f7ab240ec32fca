"""What a provider's sites hold over a span of time: controls, tiers, signed agreements. Reads only.

A tier is held when every control of it, and of each tier below it, is shown by accepted evidence that holds through the
whole span. So the end of one document takes the tier away from the first span that reaches beyond it. The database
judges the same in SQL when an award is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, Q

from marketplace.catalogue.models import Zone, ZoneMember
from marketplace.compliance.catalogue import LEGAL_CONTROLS
from marketplace.compliance.models import Agreement, Evidence, Incident, KindLimit, TierControl
from marketplace.compliance.rules import tier_countries
from marketplace.parties.models import Party

Site = NodeClass = Any  # rows of supply, a later stage, which hands them in
PARENT = LEGAL_CONTROLS[0]
Held = tuple[UUID, UUID | None, str]  # party, site or all of its sites, control


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when something has to hold."""

    from_at: datetime
    until_at: datetime

    @classmethod
    def instant(cls, at: datetime) -> Span:
        return cls(at, at)


class Holdings:
    """The evidence of some parties over one span, read once."""

    def __init__(self, parties: Iterable[UUID], span: Span) -> None:
        live = live_evidence(span).filter(party__in=set(parties))
        self._shown: dict[Held, list[tuple[str, datetime]]] = defaultdict(list)
        rows = live.values_list("party_id", "site_id", "control_id", "country", "submitted_at")
        for party, site, control, country, submitted_at in rows:
            self._shown[party, site, control].append((country, submitted_at))
        self._reached: dict[UUID, int] = {}
        self._asked: dict[int, list[str]] = defaultdict(list)
        for level, control in TierControl.objects.values_list("tier_id", "control_id"):
            self._asked[level].append(control)
        self._most = dict(KindLimit.objects.values_list("kind", "tier_max"))
        self._offered = {level: tier_countries(level, on=span.from_at.date()) for level in range(1, 4)}

    def holds(self, site: Site, control: str, country: str = "") -> bool:
        """Whether the site holds a control; of a legal control, whether it shows that country."""
        rows = [row for at in (site.pk, None) for row in self._shown.get((site.party_id, at, control), ())]
        shown = {shown for shown, submitted_at in rows if counts_for(site, control, submitted_at)}
        return country in shown if control in LEGAL_CONTROLS else bool(shown)

    def missing(self, site: Site, level: int) -> list[str]:
        """The controls that the site lacks for a tier, those of the tiers below it included."""
        return [c for each in range(level + 1) for c in self._asked[each] if not self.holds(site, c)]

    def tier(self, site: Site, party: Party) -> int:
        """The highest tier whose controls all hold; never above what the kind of provider may hold."""
        if site.pk not in self._reached:
            self._reached[site.pk] = self._tier(site, party)
        return self._reached[site.pk]

    def _tier(self, site: Site, party: Party) -> int:
        reached = 0
        for level in range(1, self._most.get(party.kind, 0) + 1):
            offered = self._offered[level]
            if not self._asked[level] or self.missing(site, level) or not (offered is None or site.country in offered):
                break
            reached = level
        return reached

    def tier_of(self, node_class: NodeClass) -> int:
        """What a node class counts for: the tier that it was enrolled for, as far as its site holds it."""
        return min(node_class.tier, self.tier(node_class.site, node_class.site.party))

    def proves_control(self, site: Site, party: Party) -> bool:
        """Whether the three countries of legal control are shown by evidence, each as it is registered."""
        registered = (party.ultimate_country, site.operator_country, site.keys_country)
        return all(self.holds(site, control, country)
                   for control, country in zip(LEGAL_CONTROLS, registered, strict=True))  # fmt: skip


def counts_for(site: Site, control: str, submitted_at: datetime, at: datetime | None = None) -> bool:
    """Whether evidence of that time counts for a site: what was shown before it moved shows nothing about it now.

    Nor does evidence of its staff or keys from before their countries changed. Who owns its party in the end is about
    the party, not the site. With `at` as things stood then.
    """
    if control == PARENT:
        return True
    marks = [site.moved_at, site.control_changed_at if control in LEGAL_CONTROLS else None]
    return all(mark is None or submitted_at >= mark or (at is not None and mark > at) for mark in marks)


def live_evidence(span: Span):  # type: ignore[no-untyped-def]
    """Accepted evidence that holds through the whole span; at an instant, that holds then."""
    return Evidence.objects.filter(review__is_accepted=True, end=None, **_through(span))


def _through(span: Span) -> dict[str, datetime]:
    """What of two dates makes a paper hold through a span; at its last instant it holds no more."""
    ends = "valid_until__gt" if span.from_at == span.until_at else "valid_until__gte"
    return {"valid_from__lte": span.from_at, ends: span.until_at}


def agreements_in_force(span: Span, *, buyers: Iterable[UUID]) -> set[tuple[str, UUID, UUID, str]]:
    """(control, buyer, provider, purpose) of every agreement that both signed and that holds through the span."""
    rows = Agreement.objects.filter(buyer__in=set(buyers), end=None, **_through(span))
    rows = rows.filter(signatures__party=F("buyer")).filter(signatures__party=F("provider"))
    found = rows.distinct().values_list("control_id", "buyer_id", "provider_id", "purposes")
    return {(control, buyer, provider, purpose) for control, buyer, provider, purposes in found for purpose in purposes}


class Freezes:
    """The incidents that freeze something, read once for one day's zone lists."""

    def __init__(self, on: datetime) -> None:
        self._frozen = list(Incident.objects.filter(is_frozen=True))
        if not self._frozen:
            return
        zones = {incident.zone_id for incident in self._frozen if incident.zone_id}
        members = ZoneMember.objects.filter(zone__in=Zone.objects.filter(pk__in=zones), valid_from__lte=on.date())
        open_ended = Q(valid_until=None) | Q(valid_until__gt=on.date())
        self._members = set(members.filter(open_ended).values_list("zone_id", "country"))

    @property
    def is_any(self) -> bool:
        """Whether anything at all is frozen."""
        return bool(self._frozen)

    def of(self, node_class: NodeClass, tier: int) -> Incident | None:
        """The incident that freezes a node class which counts for `tier`, or None."""
        return next((each for each in self._frozen if self._hits(each, node_class, tier)), None)

    def _hits(self, incident: Incident, node_class: NodeClass, tier: int) -> bool:
        return (
            (incident.party_id is None or incident.party_id == node_class.party_id)
            and (incident.resource_class_id is None or incident.resource_class_id == node_class.resource_class_id)
            and (incident.zone_id is None or (incident.zone_id, node_class.site.country) in self._members)
            and (incident.tier is None or incident.tier == tier)
        )
