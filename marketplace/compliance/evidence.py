"""Evidence for controls: handed in by the provider, reviewed by a second person, at an end when it runs out.

What is stored is evidence, not legal advice: it says what somebody showed and who looked at it.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.services import find_named
from marketplace.compliance.models import Control, Evidence, EvidenceEnd, EvidenceReview
from marketplace.compliance.papers import Paper, require_paper
from marketplace.errors import BadInput, ExpiredEvidence, NotYours, SamePerson
from marketplace.governance.services import record
from marketplace.parties.countries import require_country
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act


@transaction.atomic
def submit_evidence(
    *, seat: Seat, control_code: str, paper: Paper, issuer: str, site_id: UUID | None = None, country: str = "",
    now: datetime,
) -> Evidence:  # fmt: skip
    """Store a document that shows a control, for one site or (without) for all of the provider's.

    A legal control says which `country` it shows. It counts for nothing until a second person has accepted it.
    """
    require_act(seat, "evidence", "hand in evidence")
    control = find_named(Control, control_code, field="control_code")
    if control is None or control.kind == "agreement":
        raise BadInput("Choose a control; an agreement is signed by both parties instead.", field="control_code")
    if (control.kind == "legal_control") != bool(country):
        raise BadInput("A legal control, and nothing else, shows a country: two capital letters.", field="country")
    if country:
        require_country(country, "country")
    require_name(issuer, field="issuer", longest=120)
    require_paper(paper, now=now)
    if site_id is not None and not seat.party.sites.filter(pk=site_id).exists():
        raise NotYours("There is no such site.")
    evidence = Evidence.objects.create(
        id=uuid7(now), party=seat.party, site_id=site_id, control=control, country=country, issuer=issuer, seat=seat,
        submitted_at=now, **paper.columns(),
    )  # fmt: skip
    record(
        actor=seat.user.email, action="submit_evidence", subject=evidence.pk, reason=control.code, now=now,
        party=seat.party.slug, sha256=bytes(evidence.sha256).hex(), valid_until=paper.valid_until,
    )  # fmt: skip
    return evidence


@transaction.atomic
def review_evidence(
    *, evidence: Evidence, seat: Seat, is_accepted: bool, reason: str, now: datetime
) -> EvidenceReview:  # fmt: skip
    """Accept or refuse a piece of evidence, once, as a second person of the Foundation.

    Raises SamePerson, and ExpiredEvidence for what has run out meanwhile.
    """
    require_act(seat, "review", "review evidence")
    require_name(reason, field="reason", longest=300)
    standing = Evidence.objects.select_related("seat").get(pk=evidence.pk)
    if seat.user_id == standing.seat.user_id or seat.party_id == standing.party_id:
        raise SamePerson("Evidence is reviewed by a second person, who does not belong to the provider.")
    review = EvidenceReview.objects.filter(evidence=standing).first()
    if review:
        if review.is_accepted != is_accepted:
            raise BadInput("This evidence was reviewed before; its review stays.", field="is_accepted")
        return review
    if is_accepted and standing.valid_until <= now:
        raise ExpiredEvidence("This document has run out.", field="valid_until")
    review = EvidenceReview.objects.create(evidence=standing, seat=seat, is_accepted=is_accepted, reason=reason, at=now)
    record(
        actor=seat.user.email, action="review_evidence", subject=standing.pk, reason=reason, now=now,
        is_accepted=is_accepted, sha256=bytes(standing.sha256).hex(),
    )  # fmt: skip
    return review


@transaction.atomic
def end_evidence(*, evidence: Evidence, seat: Seat, reason: str, now: datetime) -> EvidenceEnd:
    """End evidence before its time: its own party takes it back, or a reviewer revokes it. The tier falls at once."""
    is_own = seat.party_id == evidence.party_id
    require_act(seat, "evidence" if is_own else "review", "end this evidence")
    require_name(reason, field="reason", longest=300)
    end, is_new = EvidenceEnd.objects.get_or_create(
        evidence=evidence, defaults={"seat": seat, "reason": reason, "at": now}
    )
    if is_new:
        record(actor=seat.user.email, action="end_evidence", subject=evidence.pk, reason=reason, now=now)
    return end


@transaction.atomic
def read_document(*, evidence: Evidence, seat: Seat, now: datetime) -> bytes:
    """The stored bytes, for the provider's own seats and reviewers. That somebody saw them goes on the trail."""
    if seat.party_id != evidence.party_id:
        require_act(seat, "review", "read this document")
    record(actor=seat.user.email, action="saw_evidence", subject=evidence.pk, reason=evidence.file_name, now=now,
           sha256=bytes(evidence.sha256).hex())  # fmt: skip
    return bytes(evidence.body)
