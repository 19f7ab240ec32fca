"""Purchase orders and grants: asked for by a buyer, decided by somebody else, and brought into escrow by us."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction

from ledger.faults import point
from ledger.ids import uuid7
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.demand.funding import advance_key
from marketplace.demand.funding_models import LINE_KINDS, FundingLine
from marketplace.errors import BadInput, LineNotDecided, ReferenceReused, SamePerson
from marketplace.escrow.services import DEPOSIT_MAX_MICROS
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_person, require_seat
from marketplace.supply.onchain import ensure_address
from marketplace.years import require_year


@transaction.atomic
def ask_line(
    *, party: Party, kind: str, number: str, limit_micros: int, valid_until: datetime, person: str,
    seat: Seat | None = None, now: datetime,
) -> FundingLine:  # fmt: skip
    """Ask that a purchase order, or a grant, stands behind demands of a buyer up to a limit. Nothing counts yet.

    The same number with the same terms returns the line that stands. Raises BadInput, ReferenceReused.
    """
    require_seat(seat, party, "fund", "ask for orders and grants")
    if not party.is_buyer:
        raise BadInput("Only buyers fund demand.", field="party")
    if kind not in LINE_KINDS:
        raise BadInput(f"A line is one of {', '.join(LINE_KINDS)}.", field="kind")
    require_name(number, field="number", longest=60)
    require_name(person, field="person", longest=120)
    if not 1 <= require_whole(limit_micros, field="limit_micros") <= DEPOSIT_MAX_MICROS:
        raise BadInput("A limit is a positive amount of at most ten million dollars.", field="limit_micros",
                       most_micros=DEPOSIT_MAX_MICROS)  # fmt: skip
    require_year(valid_until, "valid_until")
    if valid_until <= now:
        raise BadInput("It has to be valid for some time yet.", field="valid_until")
    standing = FundingLine.objects.filter(party=party, kind=kind, number=number).first()
    if standing:
        if (standing.limit_micros, standing.valid_until) != (limit_micros, valid_until):
            raise ReferenceReused("This number names another order or grant of yours.", field="number")
        return standing
    line = FundingLine.objects.create(
        id=uuid7(now), party=party, kind=kind, number=number, limit_micros=limit_micros, valid_until=valid_until,
        asked_by=person, asked_at=now,
    )  # fmt: skip
    record(actor=person, action="ask_line", subject=line.pk, reason=f"{kind} {number}"[:300], now=now,
           party=party.slug, limit_micros=limit_micros)  # fmt: skip
    return line


@transaction.atomic
def approve_line(*, line: FundingLine, person: str, reason: str, now: datetime) -> FundingLine:
    """Approve a line as another person than the one that asked, and bring its money into escrow. Twice is one act.

    Raises SamePerson, LineNotDecided when it was refused or is over. The books have the money once the chain has it.
    """
    locked = _undecided(line, person, reason, now, wanted="APPROVED")
    if locked.state == "APPROVED":
        return locked
    _decide(locked, "APPROVED", person, reason, now)
    point("escrow.advance.after_decision")
    advance(locked, now)
    return locked


def advance(line: FundingLine, now: datetime) -> None:
    """Ask the chain to bring the money of an approved line into its buyer's escrow account."""
    address, custody = ensure_address(party=line.party), signer().address("custody")
    if settings.DEMO:  # in production the float is the Foundation's own coins
        sender.submit(key=f"{advance_key(line)}:mint", role="faucet", contract="token", function="mint",
                      args=[custody, line.limit_micros], now=now)  # fmt: skip
    sender.submit(
        key="custody:approve:escrow", role="custody", contract="token", function="approve",
        args=[chain().address("escrow"), 2**256 - 1], now=now,
    )  # fmt: skip
    sender.submit(key=advance_key(line), role="custody", contract="escrow", function="deposit",
                  args=[address, line.limit_micros], now=now)  # fmt: skip


@transaction.atomic
def refuse_line(*, line: FundingLine, person: str, reason: str, now: datetime) -> FundingLine:
    """Refuse a line, with a reason. Refusing twice is one act."""
    locked = _undecided(line, person, reason, now, wanted="REFUSED")
    if locked.state == "PENDING":
        _decide(locked, "REFUSED", person, reason, now)
    return locked


def _undecided(line: FundingLine, person: str, reason: str, now: datetime, *, wanted: str) -> FundingLine:
    require_person(person, "operate", "decide orders and grants")
    require_name(reason, field="reason", longest=300)
    require_name(person, field="person", longest=120)
    locked = FundingLine.objects.select_for_update(of=("self",)).select_related("party").get(pk=line.pk)
    if locked.state not in ("PENDING", wanted):
        raise LineNotDecided("It was decided otherwise before.", number=locked.number, state=locked.state)
    if locked.state == "PENDING" and person == locked.asked_by:
        raise SamePerson("Another person decides than the one that asked.", person=person)
    if locked.state == "PENDING" and wanted == "APPROVED" and locked.valid_until <= now:
        raise LineNotDecided("It is over.", number=locked.number, valid_until=locked.valid_until.isoformat())
    return locked


def _decide(line: FundingLine, state: str, person: str, reason: str, now: datetime) -> None:
    line.state, line.decided_by, line.reason, line.decided_at = state, person, reason, now
    line.save(update_fields=["state", "decided_by", "reason", "decided_at"])
    record(actor=person, action=f"{state.lower()}_line", subject=line.pk, reason=reason, now=now,
           party=line.party.slug, limit_micros=line.limit_micros)  # fmt: skip
