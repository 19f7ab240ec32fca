"""Invoices: each line an award or what its verdict takes off; an order that is not paid stops new demand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import clock, cycle
from marketplace import models as m
from marketplace.demand.services import fund_demand, post_demand
from marketplace.errors import InDefault, ReferenceReused, UnmappedLine
from marketplace.escrow.advances import approve_line, ask_line
from marketplace.payout.invoices import ageing, charge, dun, invoices_of, issue_invoices, note_payment
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers


def issue() -> int:
    return issue_invoices(window=world.window(), now=clock.now())


def owed(days_open: int = 0) -> m.Invoice:
    """Alder's invoice as if an order stood behind it, issued and unpaid."""
    issue()
    order = m.FundingLine.objects.create(
        id=world.party("alder").pk, party=world.party("alder"), kind="purchase_order", number="PO 1",
        limit_micros=10**12, valid_until=world.day(400), asked_by="a", asked_at=clock.now(),
    )  # fmt: skip
    invoice = m.Invoice.objects.get(party__slug="alder", window=world.window())
    with behind_the_triggers():
        m.Invoice.objects.filter(pk=invoice.pk).update(
            order=order, paid_at=None, paid_reference="", due_at=invoice.issued_at + timedelta(days=30 - days_open))
    return m.Invoice.objects.get(pk=invoice.pk)


def order(reference: str) -> m.Demand:
    window = m.Window.objects.filter(state="COLLECTING").first()
    assert window is not None
    return post_demand(party=world.party("alder"), window=window, reference=reference, kind="divisible",
                       accepted_classes=["H100"], quantity_units=1, start_slot=0, end_slot=1,
                       price_limit_micros=1_000_000, sla_code="99.0", now=clock.now())  # fmt: skip


def open_next() -> None:
    world._open("Next", clock.now() + timedelta(days=200), gate_unit_hours=1, gate_parties=1)


@pytest.mark.stage("paid")
def test_every_settled_lease_is_invoiced_once_line_by_line() -> None:
    leases = m.Lease.objects.filter(window=world.window(), state="settled")
    buyers = set(leases.values_list("buyer__slug", flat=True))

    assert issue() == len(buyers)

    rows = m.Invoice.objects.filter(window=world.window())
    assert {row.party.slug for row in rows} == buyers
    assert sum(row.amount_micros for row in rows) == sum(
        line.earned_micros for line in m.SettlementLine.objects.filter(lease__in=leases))  # fmt: skip
    charged = m.InvoiceLine.objects.filter(kind="capacity", invoice__in=rows)
    assert {line.award_id for line in charged} == {
        a.pk for lease in leases for a in m.Award.objects.filter(demand=lease.demand_id, bid=lease.bid_id)}  # fmt: skip
    genome = m.InvoiceLine.objects.filter(verdict=world.lease("genome").verdict).order_by("kind")
    assert [line.kind for line in genome] == ["credit", "not_earned"]  # its outage
    assert all(row.paid_reference == "paid out of escrow" for row in rows)
    with untouched():
        assert issue() == 0
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.stage("paid")
def test_a_charge_that_maps_to_no_award_is_refused_by_service_and_database() -> None:
    issue()
    mine = m.Invoice.objects.get(party__slug="alder", window=world.window())
    theirs = m.Invoice.objects.get(party__slug="cedar", window=world.window()).lines.filter(kind="capacity").first()
    own = mine.lines.filter(kind="capacity").first()
    assert theirs is not None
    assert own is not None
    award, other = own.award, theirs.award
    assert award is not None

    with refused(UnmappedLine, field="award", line="egress, 40 TB"):
        charge(mine, award=None, amount_micros=5, words="egress, 40 TB")
    with refused(UnmappedLine, field="award"):
        charge(mine, award=other, amount_micros=theirs.amount_micros)
    with refused(UnmappedLine, field="amount_micros", award_micros=award.amount_micros):
        charge(mine, award=award, amount_micros=award.amount_micros + 1)
    assert charge(mine, award=award, amount_micros=award.amount_micros).amount_micros == award.amount_micros

    attempts: list[tuple[str, dict[str, Any]]] = [
        ("invoice_line_maps_to_an_award_or_a_verdict", {"kind": "capacity", "amount_micros": 5}),
        ("invoice_line_is_an_award_of_its_buyer", {"kind": "capacity", "award": other,
                                                   "amount_micros": theirs.amount_micros}),
        ("invoice_line_is_an_award_of_its_buyer", {"kind": "capacity", "award": award, "amount_micros": 1}),
    ]  # fmt: skip
    for name, facts in attempts:
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            m.InvoiceLine.objects.create(invoice=mine, **facts)


@pytest.mark.stage("paid")
def test_an_order_is_due_in_30_days_reminded_of_twice_and_then_in_default_until_it_is_paid() -> None:
    invoice = owed()
    open_next()
    due = invoice.due_at
    assert [(age.name, age.invoices) for age in ageing(now=clock.now()) if age.invoices] == [("not due", 1)]
    with untouched():
        assert dun(now=due - timedelta(seconds=1)) == 0
    for days, level in ((0, 1), (13, 1), (14, 2), (29, 2), (30, 3)):
        dun(now=due + timedelta(days=days))
        invoice.refresh_from_db()
        assert invoice.dunned == level
        assert dun(now=due + timedelta(days=days)) == 0
        if level < 3:
            order(f"after {days} days")
    assert [(age.name, age.amount_micros) for age in ageing(now=due + timedelta(days=30)) if age.invoices] == [
        ("in default", invoice.amount_micros)]  # fmt: skip

    with refused(InDefault, invoices=[invoice.number]):
        order("refused")
    waiting = m.Demand.objects.get(reference="after 0 days")
    with refused(InDefault):
        fund_demand(demand=waiting, party=waiting.party, now=clock.now())
    with pytest.raises(IntegrityError, match="buyer_in_default_has_no_new_demand"), transaction.atomic():
        m.Demand.objects.filter(pk=waiting.pk).update(state="funded", hold_id=waiting.pk, funded_at=clock.now(),
                                                      funding_kind="escrow")  # fmt: skip
    note_payment(invoice=invoice, person="finance@grove.example", reference="SEPA 4711", now=clock.now())
    assert order("again").state == "posted"
    with untouched():
        note_payment(invoice=invoice, person="finance@grove.example", reference="SEPA 4711", now=clock.now())
    with refused(ReferenceReused, field="reference"):
        note_payment(invoice=invoice, person="finance@grove.example", reference="SEPA 4712", now=clock.now())


@pytest.mark.stage("paid")
def test_a_buyer_reads_its_own_invoices_alone() -> None:
    issue()
    assert {row.party.slug for row in invoices_of(world.party("alder"))} == {"alder"}


def test_an_order_becomes_an_invoice_that_is_due_by_the_cycle(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    elm, now = world.party("elm"), clock.now()
    line = ask_line(party=elm, kind="purchase_order", number="PO 7", limit_micros=400 * world.USD,
                    valid_until=world.day(300), person="a@elm.example", now=now)  # fmt: skip
    approve_line(line=line, person="b@grove.example", reason="known for years", now=now)
    cycle.run_chain(now=now)
    fund_demand(demand=world.demand("tardy"), party=elm, funding="purchase_order", number="PO 7", now=now)
    world.take_bids()
    world.turn()

    invoice = m.Invoice.objects.get(party=elm)
    assert (invoice.order, invoice.paid_at) == (line, None)
    assert invoice.due_at - invoice.issued_at == timedelta(days=30)
    assert invoice.amount_micros == sum(row.amount_micros for row in invoice.lines.all()) > 0
    later: datetime = clock.move_to(invoice.due_at + timedelta(days=31))
    cycle.advance_until_quiet(now=later)
    assert m.DemandStop.objects.get().party == elm
