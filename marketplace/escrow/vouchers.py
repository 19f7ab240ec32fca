"""Vouchers of grant programmes: allocated, handed out, redeemed, spent on demand alone, and closed.

    programme proposed -> approved     voucher PROPOSED -> ISSUED -> REDEEMED -> CLOSING -> CLOSED
    by two persons                     by two persons    \\-> WITHDRAWN

A redeemed voucher is a grant line of its buyer (`demand/funding.py`), so a demand names its number and the money's
origin is `grant` from the hold to the payout. It cannot be cashed out: what is not spent is kept apart from the buyer's
own money and goes back to the programme, nothing of it is refundable, it serves no provider of the buyer's own owner
(the book's papers, and the wall of every award), and only an escrow account whose key the market keeps can redeem one.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet, Sum

from ledger.faults import point
from ledger.ids import uuid7, uuid_from
from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.rails.signer import signer
from ledger.selectors import spendable
from ledger.services import book_grant, book_grant_budget, book_grant_closed, reserve_hold, return_postings
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.demand.funding import kept_micros
from marketplace.demand.funding_models import FundingLine
from marketplace.demand.voucher_models import GrantProgramme, Voucher
from marketplace.errors import BadInput, LineNotDecided, NotYours, OverBudget, ReferenceReused, SamePerson
from marketplace.escrow.advances import advance
from marketplace.escrow.services import DEPOSIT_MAX_MICROS
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.onchain import ensure_address

CODE_BYTES = 15
OVER = ("SETTLED", "FAILED")
OUT_KEY = "voucher-out"
NEVER = timedelta(days=18_250)


@transaction.atomic
def propose_programme(
    *, code: str, name: str, funder: str, budget_micros: int, voucher_max_micros: int, party_max_micros: int,
    person: str, now: datetime,
) -> GrantProgramme:  # fmt: skip
    """Write down what a funder allocates; it counts once another person has approved it. Again is the same.

    Raises BadInput, ReferenceReused.
    """
    for field, text, longest in (("code", code, 40), ("name", name, 120), ("funder", funder, 120),
                                 ("person", person, 120)):  # fmt: skip
        require_name(text, field=field, longest=longest)
    if not code.replace("-", "").isalnum() or code != code.lower():
        raise BadInput("A code is small letters, digits and dashes.", field="code")
    limits = {"voucher_max_micros": voucher_max_micros, "party_max_micros": party_max_micros,
              "budget_micros": budget_micros}  # fmt: skip
    least = 1
    for field, micros in limits.items():
        if not least <= require_whole(micros, field=field) <= DEPOSIT_MAX_MICROS:
            raise BadInput("One voucher is at most what a buyer may get, and that at most the budget.", field=field,
                           least_micros=least, most_micros=DEPOSIT_MAX_MICROS)  # fmt: skip
        least = micros
    terms = {"name": name, "funder": funder, **limits}
    standing = GrantProgramme.objects.filter(code=code).first()
    if standing:
        if any(getattr(standing, field) != value for field, value in terms.items()):
            raise ReferenceReused("This code names another programme.", field="code")
        return standing
    row = GrantProgramme.objects.create(id=uuid7(now), code=code, proposed_by=person, proposed_at=now, **terms)
    record(actor=person, action="propose_programme", subject=row.pk, reason=f"{name} of {funder}", now=now, **limits)
    return row


@transaction.atomic
def approve_programme(*, programme: GrantProgramme, person: str, now: datetime) -> GrantProgramme:
    """Approve a programme as another person, and book its budget. Twice is one act. Raises SamePerson."""
    row = GrantProgramme.objects.select_for_update().get(pk=programme.pk)
    if row.approved_at is not None:
        return row
    if row.proposed_by == person:
        raise SamePerson("Another person approves than the one that proposed.", person=person)
    row.approved_by, row.approved_at = require_name(person, field="person", longest=120), now
    row.save(update_fields=["approved_by", "approved_at"])
    book_grant_budget(id=uuid_from("grant budget", row.pk), programme=row.pk, micros=row.budget_micros, now=now)
    record(actor=person, action="approve_programme", subject=row.pk, reason=row.name, now=now,
           budget_micros=row.budget_micros)  # fmt: skip
    return row


@transaction.atomic
def propose_voucher(
    *, programme: GrantProgramme, amount_micros: int, valid_until: datetime, for_party: Party | None = None,
    person: str, now: datetime,
) -> Voucher:  # fmt: skip
    """Propose a voucher; nothing is handed out before another person issues it.

    Raises BadInput, LineNotDecided for a programme that waits itself, OverBudget.
    """
    row = GrantProgramme.objects.select_for_update().get(pk=programme.pk)
    require_name(person, field="person", longest=120)
    if row.approved_at is None:
        raise LineNotDecided("The programme waits for another person.", number=row.code)
    if not 1 <= require_whole(amount_micros, field="amount_micros") <= row.voucher_max_micros:
        raise BadInput("That is nothing, or more than one voucher of this programme may be.", field="amount_micros",
                       most_micros=row.voucher_max_micros)  # fmt: skip
    if valid_until <= now:
        raise BadInput("It has to be valid for some time yet.", field="valid_until")
    if for_party is not None and not for_party.is_buyer:
        raise BadInput("Only buyers redeem vouchers.", field="for_party")
    if amount_micros > (left := unissued_micros(row)):
        raise OverBudget("The programme has less left than that.", field="amount_micros", left_micros=left)
    voucher = Voucher.objects.create(
        id=uuid7(now), programme=row, for_party=for_party, amount_micros=amount_micros, valid_until=valid_until,
        proposed_by=person, proposed_at=now,
    )  # fmt: skip
    record(actor=person, action="propose_voucher", subject=voucher.pk, reason=row.name, now=now,
           amount_micros=amount_micros, for_party=for_party.slug if for_party else None)  # fmt: skip
    return voucher


@transaction.atomic
def issue_voucher(*, voucher: Voucher, person: str, now: datetime) -> tuple[Voucher, str]:
    """Issue a voucher as another person; returns it with its code, which is shown this once and kept as a hash.

    Issued before, the code is "". Raises SamePerson, LineNotDecided for one that was withdrawn or is over.
    """
    row = _locked(voucher)
    if row.state != "PROPOSED":
        if row.state == "WITHDRAWN":
            raise LineNotDecided("It was withdrawn.", number=row.number, state=row.state)
        return row, ""
    if row.proposed_by == person:
        raise SamePerson("Another person issues a voucher than the one that proposed it.", person=person)
    if row.valid_until <= now:
        raise LineNotDecided("It is over.", number=row.number, valid_until=row.valid_until.isoformat())
    code = secrets.token_hex(CODE_BYTES)
    row.state, row.code_sha256 = "ISSUED", _digest(code)
    row.approved_by, row.approved_at = require_name(person, field="person", longest=120), now
    row.save(update_fields=["state", "code_sha256", "approved_by", "approved_at"])
    record(actor=person, action="issue_voucher", subject=row.pk, reason=row.programme.name, now=now,
           amount_micros=row.amount_micros)  # fmt: skip
    return row, code


@transaction.atomic
def withdraw_voucher(*, voucher: Voucher, person: str, reason: str, now: datetime) -> Voucher:
    """Take back a voucher that nobody has redeemed; its amount is the programme's again. Twice is one act."""
    require_name(reason, field="reason", longest=300)
    row = _locked(voucher)
    if row.state == "WITHDRAWN":
        return row
    if row.state not in ("PROPOSED", "ISSUED"):
        raise LineNotDecided("It was redeemed: what is left of it goes back by itself.", number=row.number,
                             state=row.state)  # fmt: skip
    row.state, row.closed_at = "WITHDRAWN", now
    row.save(update_fields=["state", "closed_at"])
    record(actor=person, action="withdraw_voucher", subject=row.pk, reason=reason, now=now,
           amount_micros=row.amount_micros)  # fmt: skip
    return row


@transaction.atomic
def redeem_voucher(*, party: Party, code: str, seat: Seat | None = None, now: datetime) -> Voucher:
    """Turn a code into grant credits of a buyer, and bring the coins that stand for them into escrow.

    The same buyer with the same code again is the same voucher. Raises NotYours for a code that is unknown, over, taken
    back, or another buyer's alike; OverBudget beyond what one buyer may get; BadInput for an escrow account that
    answers to a key of its own: from there the coins could be taken out.
    """
    require_seat(seat, party, "fund", "redeem vouchers")
    if not party.is_buyer:
        raise BadInput("Only buyers redeem vouchers.", field="party")
    row = Voucher.objects.select_for_update(of=("self",)).select_related("programme").filter(
        code_sha256=_digest(code.strip())).first()  # fmt: skip
    if row is not None and row.party_id == party.pk:
        return row
    if (row is None or row.state != "ISSUED" or row.valid_until <= now
            or row.for_party_id not in (None, party.pk)):  # fmt: skip
        raise NotYours("There is no such voucher, or no more.")
    if ensure_address(party=party) != party.chain_address:
        raise BadInput("A voucher is kept in an escrow account that the market keeps for you.", field="party")
    GrantProgramme.objects.select_for_update().get(pk=row.programme_id)
    before = _sum(Voucher.objects.filter(programme=row.programme, party=party), "amount_micros")
    if before + row.amount_micros > row.programme.party_max_micros:
        raise OverBudget("That is more than one buyer may get of this programme.", field="code",
                         redeemed_micros=before, most_micros=row.programme.party_max_micros)  # fmt: skip
    line = FundingLine.objects.create(
        id=uuid7(now), party=party, kind="grant", number=row.number, limit_micros=row.amount_micros,
        valid_until=row.valid_until, asked_by=row.proposed_by, asked_at=now,
    )  # fmt: skip
    line.state, line.decided_by, line.decided_at, line.reason = "APPROVED", row.approved_by, now, str(row)[:300]
    line.save(update_fields=["state", "decided_by", "decided_at", "reason"])
    row.state, row.party, row.line, row.redeemed_at = "REDEEMED", party, line, now
    row.save(update_fields=["state", "party", "line", "redeemed_at"])
    book_grant(id=uuid_from("voucher", row.pk), programme=row.programme_id, party=party.pk, micros=row.amount_micros,
               now=now)  # fmt: skip
    point("escrow.voucher.after_books")
    advance(line, now)
    record(actor=seat.user.email if seat else party.slug, action="redeem_voucher", subject=row.pk, now=now,
           reason=row.programme.name, party=party.slug, amount_micros=row.amount_micros)  # fmt: skip
    return row


def close_vouchers(*, now: datetime) -> int:
    """Take what is left of vouchers that are over out of escrow, back to the programme; returns how many moved.

    A step of every turn. A voucher waits until no demand of it is open: what those return is the programme's too.
    """
    moved = 0
    ended = Voucher.objects.filter(state__in=("REDEEMED", "CLOSING"), valid_until__lte=now)
    for pk in ended.values_list("pk", flat=True):
        with transaction.atomic():
            moved += _close(_locked(Voucher(pk=pk)), now)
    return moved


def vouchers_of(party: Party) -> QuerySet[Voucher]:
    """Every voucher that a buyer redeemed, the newest first."""
    return Voucher.objects.filter(party=party).select_related("programme", "line")


def unissued_micros(programme: GrantProgramme) -> int:
    """What of a programme no voucher names, in micro-USD; what came back counts as never handed out."""
    named = Voucher.objects.filter(programme=programme).exclude(state="WITHDRAWN")
    return programme.budget_micros - _sum(named, "amount_micros") + _sum(named, "returned_micros")


# -- inside ------------------------------------------------------------------------------------------------------------
def _close(row: Voucher, now: datetime) -> int:
    assert row.line is not None
    if row.state == "REDEEMED":
        if row.line.demands.filter(state__in=("funded", "awarded")).exclude(window__state__in=OVER).exists():
            return 0
        left = kept_micros(row.line)
        if left and spendable(code="buyer.available", party=row.party_id).minor < left:
            return 0  # its coins are not in escrow yet
        row.state, row.returned_micros = "CLOSING", left
        row.save(update_fields=["state", "returned_micros"])
        if left:
            # Never timed out: nobody but this act may have the coins again.
            reserve_hold(id=_hold(row), party=row.party_id, window=row.pk, amount=left, origin="grant", now=now,
                         timeout_at=now + NEVER)  # fmt: skip
            _take_out(row, now)
            return 1
    out = ChainIntent.objects.filter(key=_out_key(row)).first()
    if row.returned_micros and out is not None and out.state == "reverted":
        row.attempt += 1
        row.save(update_fields=["attempt"])
        _take_out(row, now)
        return 1
    if row.returned_micros and (out is None or out.state != "final"):
        return 0
    return _closed(row, now)


def _closed(row: Voucher, now: datetime) -> int:
    assert row.party_id is not None
    book_grant_closed(
        id=uuid_from("voucher closed", row.pk), programme=row.programme_id, party=row.party_id,
        spent_micros=row.amount_micros - row.returned_micros, left_micros=row.returned_micros, now=now,
    )  # fmt: skip
    row.state, row.closed_at = "CLOSED", now
    row.save(update_fields=["state", "closed_at"])
    tell_parties(
        parties=[row.party_id], about=f"voucher:{row.pk}", code="voucher_closed", now=now,
        sentence=f"The voucher {row.number} is over; what was not spent of it is the programme's again.",
    )  # fmt: skip
    record(actor="market", action="close_voucher", subject=row.pk, reason="over", now=now,
           spent_micros=row.amount_micros - row.returned_micros, returned_micros=row.returned_micros)  # fmt: skip
    return 1


def _take_out(row: Voucher, now: datetime) -> None:
    """Out of the buyer's escrow account, by the key that the market keeps for it, and on to the Foundation's wallet."""
    assert row.party_id is not None
    role = f"buyer:{row.party_id}"
    sender.submit(
        key=_out_key(row), role=role, contract="escrow", function="withdraw", args=[row.returned_micros], now=now,
        plan=return_postings(hold_id=_hold(row), party=row.party_id, scope=row.pk, micros=row.returned_micros),
    )  # fmt: skip
    sender.submit(
        key=f"voucher-home:{row.pk}:{row.attempt}", role=role, contract="token", function="transfer",
        args=[signer().address("custody"), row.returned_micros], now=now,
    )  # fmt: skip


def _out_key(row: Voucher) -> str:
    return f"{OUT_KEY}:{row.pk}:{row.attempt}"


def _hold(row: Voucher) -> UUID:
    return uuid_from("voucher out", row.pk)


def _locked(voucher: Voucher) -> Voucher:
    rows: Any = Voucher.objects.select_for_update(of=("self",)).select_related("programme", "line")
    return rows.get(pk=voucher.pk)  # type: ignore[no-any-return]


def _sum(rows: QuerySet[Voucher], column: str) -> int:
    return int(rows.aggregate(total=Sum(column))["total"] or 0)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code[:100].encode()).digest()

