"""The tax on invoices behind purchase orders: a rule per country of the buyer, of two people.

What is paid out of escrow carries no tax line: its price was final when the money was locked. Without a rule there is
no tax line either. Which rate a buyer owes a tax adviser says; here it is only kept and applied.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.catalogue.models import ZoneMember
from marketplace.errors import BadInput, NotYours, ReferenceReused, SamePerson
from marketplace.governance.services import record
from marketplace.parties.roles import require_person
from marketplace.payout.invoice_models import TaxRule

PPM = 10**6


@transaction.atomic
def propose_tax(
    *, country: str, rate_ppm: int, words: str, valid_from: datetime, person: str, now: datetime
) -> TaxRule:
    """Propose the tax for buyers of a country from a moment on, in parts per million of the net amount.

    Nothing changes until somebody else approves it. Raises BadInput.
    """
    require_person(person, "operate", "propose taxes")
    if country not in ZoneMember.objects.values_list("country", flat=True):
        raise BadInput("Name a country that a zone lists, by its two letters.", field="country")
    if not 0 <= require_whole(rate_ppm, field="rate_ppm") <= PPM:
        raise BadInput("A rate is 0 to 1,000,000 parts per million.", field="rate_ppm")
    if valid_from <= now:
        raise BadInput("A rule begins later than now: invoices that were issued stay as they are.", field="valid_from")
    rule = TaxRule.objects.create(
        id=uuid7(now), country=country, rate_ppm=rate_ppm, words=require_name(words, field="words", longest=120),
        valid_from=valid_from, proposed_by=require_name(person, field="person", longest=120), proposed_at=now,
    )  # fmt: skip
    record(actor=person, action="propose_tax", subject=rule.pk, reason=words, now=now, country=country,
           rate_ppm=rate_ppm, valid_from=valid_from.isoformat())  # fmt: skip
    return rule


@transaction.atomic
def approve_tax(*, rule_id: UUID, person: str, now: datetime) -> TaxRule:
    """Approve a proposed rule as another person; twice is one act.

    Raises NotYours, SamePerson, BadInput once its beginning has passed, ReferenceReused where another begins then.
    """
    require_person(person, "operate", "approve taxes")
    rule = TaxRule.objects.select_for_update().filter(pk=rule_id).first()
    if rule is None:
        raise NotYours("There is no such rule.")
    require_name(person, field="person", longest=120)
    if person == rule.proposed_by:
        raise SamePerson("A tax rule is approved by another person than proposed it.", proposed_by=rule.proposed_by)
    if rule.approved_at is not None:
        return rule
    if rule.valid_from < now:
        raise BadInput("It would begin in the past: propose it anew.", field="valid_from")
    if TaxRule.objects.filter(country=rule.country, valid_from=rule.valid_from).exclude(approved_at=None).exists():
        raise ReferenceReused("Another rule of this country begins at that moment.", field="valid_from")
    rule.approved_by, rule.approved_at = person, now
    rule.save(update_fields=["approved_by", "approved_at"])
    record(actor=person, action="approve_tax", subject=rule.pk, reason=rule.words, now=now,
           proposed_by=rule.proposed_by)  # fmt: skip
    return rule


def tax_rule_of(country: str, at: datetime) -> TaxRule | None:
    """The rule in force for buyers of a country, or None."""
    rules = TaxRule.objects.filter(country=country, valid_from__lte=at).exclude(approved_at=None)
    return rules.order_by("-valid_from").first()


def tax_micros(rule: TaxRule, net_micros: int) -> int:
    """The tax on a net amount in micro-USD, half a micro rounded up."""
    return (net_micros * rule.rate_ppm + PPM // 2) // PPM


def tax_rules() -> QuerySet[TaxRule]:
    """Every rule, proposed or approved, by country, the latest first."""
    return TaxRule.objects.all()
