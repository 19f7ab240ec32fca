"""Agreements between a buyer and a provider: proposed, signed by both, with purposes and dates, ended or run out.

In the words of the health rules a business associate agreement; a data processing agreement is another row of the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.services import find_named
from marketplace.compliance.models import CODE, Agreement, AgreementEnd, AgreementSignature, Control
from marketplace.compliance.papers import Paper, require_paper
from marketplace.errors import BadInput, ExpiredEvidence, NotYours, Overlapping, RoleForbidden, WrongSignatory
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import acts_of, require_act

PURPOSES_MAX = 12


@transaction.atomic
def propose_agreement(
    *, seat: Seat, other: Party, control_code: str, purposes: Collection[str], paper: Paper, now: datetime
) -> Agreement:
    """Lay an agreement before the other side; who proposes it has not signed yet.

    Raises Overlapping when one of the same kind between the two holds for part of that time.
    """
    if not acts_of(seat) & {"sign", "draft", "evidence"}:
        raise RoleForbidden("This role may not propose agreements.", role=seat.role, roles=["owner", "compliance"])
    buyer, provider = (seat.party, other) if seat.party.is_buyer else (other, seat.party)
    if not (buyer.is_buyer and provider.is_provider):
        raise BadInput("An agreement is between a buyer and a provider.", field="other")
    control = find_named(Control, control_code, field="control_code")
    if control is None or control.kind != "agreement":
        raise BadInput("Choose a kind of agreement.", field="control_code")
    names = _checked_purposes(purposes)
    require_paper(paper, now=now)
    meets = Agreement.objects.filter(
        control=control, buyer=buyer, provider=provider, end=None, valid_from__lt=paper.valid_until,
        valid_until__gt=paper.valid_from,
    )  # fmt: skip
    if meets.exists():
        raise Overlapping("An agreement of this kind between you holds for part of that time.", field="valid_from")
    agreement = Agreement.objects.create(
        id=uuid7(now), control=control, buyer=buyer, provider=provider, purposes=names, seat=seat, proposed_at=now,
        **paper.columns(),
    )  # fmt: skip
    record(
        actor=seat.user.email, action="propose_agreement", subject=agreement.pk, reason=control.code, now=now,
        buyer=buyer.slug, provider=provider.slug, purposes=names, sha256=bytes(agreement.sha256).hex(),
    )  # fmt: skip
    return agreement


@transaction.atomic
def sign_agreement(*, agreement: Agreement, seat: Seat, title: str, now: datetime) -> AgreementSignature:
    """Sign for one of the two parties. Raises WrongSignatory for a stranger and for a role that may not sign."""
    if seat.party_id not in (agreement.buyer_id, agreement.provider_id):
        raise WrongSignatory("Only the two parties sign an agreement.", field="seat")
    if "sign" not in acts_of(seat):
        raise WrongSignatory(f"The role {seat.role} may not sign for its party.", field="seat", role=seat.role)
    require_name(title, field="title", longest=80)
    if agreement.valid_until <= now:
        raise ExpiredEvidence("This agreement has run out.", field="valid_until")
    standing = AgreementSignature.objects.filter(agreement=agreement, party=seat.party).first()
    if standing:
        return standing
    signature = AgreementSignature.objects.create(agreement=agreement, party=seat.party, seat=seat, title=title, at=now)
    record(actor=seat.user.email, action="sign_agreement", subject=agreement.pk, reason=title, now=now,
           party=seat.party.slug, sha256=bytes(agreement.sha256).hex())  # fmt: skip
    return signature


@transaction.atomic
def end_agreement(*, agreement: Agreement, seat: Seat, reason: str, now: datetime) -> AgreementEnd:
    """End an agreement before its time; what runs under it is wound down."""
    if seat.party_id not in (agreement.buyer_id, agreement.provider_id):
        raise NotYours("There is no such agreement.")
    require_act(seat, "sign", "end an agreement")
    require_name(reason, field="reason", longest=300)
    end, is_new = AgreementEnd.objects.get_or_create(
        agreement=agreement, defaults={"seat": seat, "reason": reason, "at": now}
    )
    if is_new:
        record(actor=seat.user.email, action="end_agreement", subject=agreement.pk, reason=reason, now=now)
    return end


def _checked_purposes(purposes: Collection[str]) -> list[str]:
    names = sorted(set(purposes)) if not isinstance(purposes, str) else []
    if not 1 <= len(names) <= PURPOSES_MAX or not all(re.fullmatch(CODE, each) for each in names):
        raise BadInput(f"Name 1 to {PURPOSES_MAX} purposes, each a word of small letters.", field="purposes")
    return names
