"""Invoices of settled leases (M-035) and what follows an order that is not paid in time (M-007).

Every line is an award at its price, or what the verdict on its lease takes off; a charge that maps to neither is
refused here and by the database. A purchase order is paid within 30 days; after that its buyer is reminded twice, and
60 days after it was issued it is in default: the buyer posts and funds no new demand until it is paid. What is
open on it stands in the books with its tax (`taxes.py`) from the moment it is issued until it is paid whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from ledger.faults import point
from ledger.ids import uuid7
from ledger.selectors import balance
from ledger.services import book_invoice, book_invoice_paid
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award
from marketplace.demand.funding_models import FundingLine
from marketplace.demand.stops import lift_stop, stop_demand
from marketplace.errors import ReferenceReused, UnmappedLine
from marketplace.escrow.backup_models import StepInRun
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party
from marketplace.parties.roles import require_person
from marketplace.payout.invoice_models import DUNNING, Invoice, InvoiceLine
from marketplace.payout.taxes import tax_micros, tax_rule_of

TERMS = timedelta(days=30)
# from the due date on: a reminder, another one, default
DUNNED_AFTER = (timedelta(0), timedelta(days=14), timedelta(days=30))
AGES = (("not due", None, timedelta(0)), ("up to 14 days late", timedelta(0), timedelta(days=14)),
        ("15 to 30 days late", timedelta(days=14), timedelta(days=30)), ("in default", timedelta(days=30), None))
PREPAID = "paid out of escrow"


@dataclass(frozen=True, slots=True)
class Age:
    """Open invoices of one age: how many, and their sum."""

    name: str
    invoices: int
    amount_micros: int


@transaction.atomic
def issue_invoices(*, window: Window, now: datetime) -> int:
    """Invoice every settled lease of a window that is on none yet, per buyer and order; returns how many invoices.

    A lease in dispute holds up no other: it comes on a later invoice when it is settled.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    groups: dict[tuple[Party, FundingLine | None], list[Lease]] = defaultdict(list)
    awards = Award.objects.filter(demand=OuterRef("demand"), bid=OuterRef("bid"), invoice_line__isnull=False)
    backups = StepInRun.objects.filter(step_in=OuterRef("step_in"), bid=OuterRef("bid"), invoice_line__isnull=False)
    charged = (Q(step_in=None) & Exists(awards)) | (~Q(step_in=None) & Exists(backups))
    leases = Lease.objects.filter(~charged, window=locked, state="settled")
    related = ("buyer", "demand__funding_line", "verdict", "settlement_line")
    for lease in leases.select_related(*related).order_by("buyer__slug", "id"):
        if lease.buyer.kind != "foundation":
            order = lease.demand.funding_line if lease.demand.funding_kind == "purchase_order" else None
            groups[lease.buyer, order].append(lease)
    first = locked.invoices.count() + 1
    for place, ((buyer, order), members) in enumerate(groups.items(), start=first):
        _issue(locked, f"{locked.number:05d}-{place:03d}", buyer, order, members, now)
        point("payout.invoices.after_one")
    return len(groups)


def _issue(
    window: Window, number: str, buyer: Party, order: FundingLine | None, leases: Sequence[Lease], now: datetime
) -> Invoice:
    invoice = Invoice(
        id=uuid7(now), number=number, party=buyer, window=window, order=order, amount_micros=0, issued_at=now,
        due_at=now + TERMS if order else now, paid_at=None if order else now, paid_reference="" if order else PREPAID,
    )  # fmt: skip
    lines = [line for lease in leases for line in _lines_of(invoice, lease)]
    rule = tax_rule_of(buyer.country, now) if order else None
    if rule is not None:
        tax = tax_micros(rule, sum(line.amount_micros for line in lines))
        lines.append(InvoiceLine(invoice=invoice, kind="tax", tax_rule=rule, amount_micros=tax))
    invoice.amount_micros = sum(line.amount_micros for line in lines)
    if order is not None and invoice.amount_micros == 0:
        invoice.paid_at, invoice.paid_reference = now, "nothing to pay"
    invoice.save(force_insert=True)
    InvoiceLine.objects.bulk_create(lines)
    if order is not None:
        _book(invoice, now)
    record(actor="market", action="issue_invoice", subject=number, reason="its leases are settled", now=now,
           party=buyer.slug, amount_micros=invoice.amount_micros, lines=len(lines))  # fmt: skip
    if invoice.paid_at is None:
        tell_parties(parties=(buyer.pk,), about=f"invoice:{number}", code="invoice_issued", now=now,
                     sentence=f"Invoice {number} is due on {invoice.due_at:%d %B %Y}.")  # fmt: skip
    return invoice


def _book(invoice: Invoice, now: datetime) -> None:
    """Put what an order's invoice asks for into the books as open; again it is the same."""
    tax = sum(line.amount_micros for line in invoice.lines.filter(kind="tax"))
    book_invoice(invoice=invoice.pk, party=invoice.party_id, net=invoice.amount_micros - tax, tax=tax, now=now)


def _lines_of(invoice: Invoice, lease: Lease) -> list[InvoiceLine]:
    """Its awards, or a backup's runs, at their price, less what was not earned, less the credit that escrow paid."""
    rows: QuerySet[Award] | QuerySet[StepInRun] = Award.objects.filter(demand=lease.demand_id, bid=lease.bid_id)
    if lease.step_in_id is not None:
        rows = StepInRun.objects.filter(step_in=lease.step_in_id, bid=lease.bid_id)
    runs = rows.select_related("demand").order_by("start_slot", "id")
    lines = [charge(invoice, award=run, amount_micros=run.amount_micros) for run in runs]
    settled = lease.settlement_line
    for kind, micros in (("not_earned", settled.returned_micros), ("credit", settled.credit_micros)):
        if micros:
            lines.append(InvoiceLine(invoice=invoice, kind=kind, verdict=lease.verdict, amount_micros=-micros))
    return lines


def charge(
    invoice: Invoice, *, award: Award | StepInRun | None, amount_micros: int, words: str = ""
) -> InvoiceLine:
    """A line that charges something; refused with `unmapped_line` unless it is an award of that buyer at its price.

    The run of a backup is to its lease what an award is to any other.
    """
    if award is None:
        raise UnmappedLine("Prices are all-in: what is charged maps to an award.", field="award", line=words[:80])
    if award.demand.party_id != invoice.party_id or award.demand.window_id != invoice.window_id:
        raise UnmappedLine("This award is another buyer's, or another window's.", field="award", line=words[:80])
    if amount_micros != award.amount_micros:
        raise UnmappedLine("An award costs its units at its price, and nothing beside it.", field="amount_micros",
                           award_micros=award.amount_micros)  # fmt: skip
    what = {"award": award} if isinstance(award, Award) else {"backup_run": award}
    return InvoiceLine(invoice=invoice, kind="capacity", amount_micros=amount_micros, **what)


@transaction.atomic
def note_payment(*, invoice: Invoice, person: str, reference: str, now: datetime) -> Invoice:
    """Note that an invoice was paid whole, with the bank's reference; a stop it caused is lifted. Twice is one act."""
    require_person(person, "operate", "note payments")
    require_name(reference, field="reference", longest=80)
    locked = Invoice.objects.select_for_update(of=("self",)).get(pk=invoice.pk)
    if locked.paid_at is not None:
        if locked.paid_reference != reference:
            raise ReferenceReused("This invoice was paid with another reference.", field="reference")
        return locked
    locked.paid_at, locked.paid_reference = now, reference
    locked.save(update_fields=["paid_at", "paid_reference"])
    _book(locked, now)  # one that was issued before invoices stood in the books
    point("payout.invoices.before_payment_is_booked")
    book_invoice_paid(invoice=locked.pk, party=locked.party_id, amount=locked.amount_micros, now=now)
    record(actor=person, action="note_payment", subject=locked.number, reason=reference, now=now,
           amount_micros=locked.amount_micros)  # fmt: skip
    lift_stop(cause=locked.number, person=person, now=now)
    return locked


@transaction.atomic
def dun(*, now: datetime) -> int:
    """Remind of what is overdue, and stop new demand of whoever is in default; returns how many steps were taken."""
    steps = 0
    overdue = Invoice.objects.filter(paid_at=None, due_at__lte=now, dunned__lt=len(DUNNED_AFTER))
    for invoice in overdue.select_for_update(of=("self",)).select_related("party").order_by("due_at", "number"):
        level = sum(invoice.due_at + after <= now for after in DUNNED_AFTER)
        if level > invoice.dunned:
            invoice.dunned = level
            invoice.save(update_fields=["dunned"])
            _tell(invoice, now)
            steps += 1
    return steps


def _tell(invoice: Invoice, now: datetime) -> None:
    record(actor="market", action="dun", subject=invoice.number, reason=DUNNING[invoice.dunned], now=now)
    if invoice.dunned == len(DUNNED_AFTER):
        stop_demand(party=invoice.party, cause=invoice.number, now=now)
        return
    tell_parties(parties=(invoice.party_id,), about=f"dun:{invoice.number}:{invoice.dunned}", code="invoice_overdue",
                 now=now, sentence=f"Invoice {invoice.number} was due on {invoice.due_at:%d %B %Y}. From 30 days after "
                 "that on it is in default, and no new demand is taken.")  # fmt: skip


def wrong_receivables() -> list[str]:
    """Say where the books know another open amount of an order's invoice than the invoice asks for."""
    faults = []
    for row in Invoice.objects.exclude(order=None):
        open_micros = 0 if row.paid_at else row.amount_micros
        booked = balance(code="invoice.receivable", party=row.party_id, scope=row.pk).minor
        if booked != open_micros:
            faults.append(f"{row.number}: {booked} in the books, {open_micros} open")
    return faults


def invoices_of(party: Party) -> QuerySet[Invoice]:
    """Return a buyer's invoices, newest first."""
    return Invoice.objects.filter(party=party).select_related("window", "order")


def open_invoices() -> QuerySet[Invoice]:
    """Return every invoice that waits for its payment, the oldest first."""
    return Invoice.objects.filter(paid_at=None).select_related("party", "order", "window").order_by("due_at", "number")


def ageing(*, now: datetime, party: Party | None = None) -> list[Age]:
    """Return what is open by how late it is, for one buyer or for all."""
    rows = open_invoices() if party is None else open_invoices().filter(party=party)
    found = []
    for name, later_than, until in AGES:
        some = rows
        if later_than is not None:
            some = some.filter(due_at__lte=now - later_than)
        if until is not None:
            some = some.filter(due_at__gt=now - until)
        found.append(Age(name, some.count(), int(some.order_by().aggregate(sum=Sum("amount_micros"))["sum"] or 0)))
    return found
