"""Papers that end soon: the parties of an agreement, and whose a document is, are told 60, 30 and 7 days before.

An agreement or a document that another one follows without a gap ends nothing, and nobody is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from marketplace.compliance.holdings import Span, agreements_in_force, live_evidence
from marketplace.compliance.models import Agreement
from marketplace.compliance.reach import WARN_DAYS
from marketplace.notices.models import Notice
from marketplace.notices.services import tell_parties

Told = tuple[frozenset[UUID], str, str, str]  # parties, about, code, sentence


@transaction.atomic
def warn_of_endings(*, now: datetime) -> int:
    """Tell each party once per step of `WARN_DAYS` what ends; returns how many sentences are new."""
    found = [*_agreements(now), *_evidence(now)]
    told = set(Notice.objects.filter(about__in=[about for _, about, _, _ in found]).values_list("about", flat=True))
    new = [each for each in found if each[1] not in told]
    for parties, about, code, sentence in new:
        tell_parties(parties=parties, about=about, code=code, sentence=sentence, now=now)
    return len(new)


def step_of(days: int) -> int:
    """The last step that was reached with so many days left."""
    return min(step for step in WARN_DAYS if days <= step)


def _agreements(now: datetime) -> Iterator[Told]:
    rows = Agreement.objects.filter(end=None, valid_from__lte=now, valid_until__gt=now,
                                    valid_until__lte=now + timedelta(days=WARN_DAYS[0]))  # fmt: skip
    rows = rows.select_related("buyer", "provider").defer("body").order_by("pk")
    signed = agreements_in_force(Span.instant(now), buyers={row.buyer_id for row in rows})
    for row in rows:
        names = {(row.control_id, row.buyer_id, row.provider_id, purpose) for purpose in row.purposes}
        after = agreements_in_force(Span.instant(row.valid_until), buyers={row.buyer_id})
        if not names & signed or names <= after:
            continue
        days = (row.valid_until - now).days
        yield (
            frozenset({row.buyer_id, row.provider_id}), f"agreement:{row.pk}:ends:{step_of(days)}", "agreement_ending",
            f"The agreement ({row.control_id}) of {row.buyer.name} and {row.provider.name} ends on "
            f"{row.valid_until:%Y-%m-%d}, in {days} days: sign the next one. Nothing is awarded or renewed under it in "
            "a window that reaches beyond that day.",
        )  # fmt: skip


def _evidence(now: datetime) -> Iterator[Told]:
    ending: dict[tuple[UUID, date], set[str]] = defaultdict(set)
    here = live_evidence(Span.instant(now)).filter(valid_until__lte=now + timedelta(days=WARN_DAYS[0]))
    rows = list(here.values_list("party_id", "site_id", "control_id", "valid_until"))
    for party, site, control, until in rows:
        next_ones = live_evidence(Span.instant(until)).filter(Q(site=None) | Q(site=site), party=party, control=control)
        if not next_ones.exists():
            ending[party, until.date()].add(control)
    for (party, day), controls in sorted(ending.items(), key=str):
        days = (day - now.date()).days
        yield (
            frozenset({party}), f"evidence:{day}:ends:{step_of(days)}:{party}", "evidence_ending",
            f"Evidence ends on {day}, in {days} days: {', '.join(sorted(controls))}. Hand the next in: a tier drops "
            "with the first of its controls that ends.",
        )  # fmt: skip
