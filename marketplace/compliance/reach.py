"""The tier that each site reaches today, what the next one still asks for, and which document ends first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from marketplace.compliance.holdings import Holdings, Span, live_evidence
from marketplace.compliance.models import Control, KindLimit
from marketplace.parties.models import Party

Site = Any  # a row of supply, a later stage
WARN_DAYS = (60, 30, 7)


@dataclass(frozen=True)
class Reach:
    """One site: its tier, what lacks for the next, and what ends soon (control and days left)."""

    site: Site
    tier: int
    tier_max: int
    missing: list[str]
    ending: list[tuple[str, int]]


def reach_of(party: Party, now: datetime) -> list[Reach]:
    """The sites of a provider, by their code."""
    holdings = Holdings([party.pk], Span.instant(now))
    names = dict(Control.objects.values_list("code", "name"))
    limit = KindLimit.objects.filter(kind=party.kind).first()
    soon = live_evidence(Span.instant(now)).filter(
        party=party, valid_until__lte=now + timedelta(days=WARN_DAYS[0])
    ).order_by("valid_until", "pk")  # fmt: skip
    ending = [(each.site_id, names[each.control_id], (each.valid_until - now).days) for each in soon.defer("body")]
    most = limit.tier_max if limit else 0
    found = []
    for site in party.sites.order_by("code"):
        tier = holdings.tier(site, party)
        missing = [names[code] for code in holdings.missing(site, tier + 1)] if tier < most else []
        found.append(Reach(site, tier, most, missing,
                           [(name, days) for at, name, days in ending if at in (None, site.pk)]))  # fmt: skip
    return found
