"""Invoices: each line an award or what its verdict takes off; an order that is not paid stops new demand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from ledger.reconcile import check_books
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.demand.services import fund_demand, post_demand
from marketplace.errors import BadInput, InDefault, NotYours, ReferenceReused, SamePerson, UnmappedLine
from marketplace.escrow.advances import approve_line, ask_line
from marketplace.payout.invoices import (
    ageing,
    charge,
    dun,
    invoices_of,
    issue_invoices,
    note_payment,
    wrong_receivables,
)
from marketplace.payout.taxes import approve_tax, propose_tax, tax_micros, tax_rule_of
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


def taxed(rate_ppm: int = 190_000, country: str = "DE", **changes: Any) -> m.TaxRule:
    """A rule in force from a moment ago on."""
    began = clock.now() - timedelta(hours=1)
    terms = {"country": country, "rate_ppm": rate_ppm, "words": "VAT 19 %", "valid_from": began, "person": "ann",
             "now": began - timedelta(hours=1)} | changes  # fmt: skip
    rule = propose_tax(**terms)
    return approve_tax(rule_id=rule.pk, person="ben", now=terms["now"])


def test_an_order_becomes_an_invoice_that_is_due_by_the_cycle(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    elm, now = world.party("elm"), clock.now()
    rule = taxed()
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
    tax = invoice.lines.get(kind="tax")
    assert (tax.tax_rule, tax.amount_micros) == (rule, tax_micros(rule, invoice.amount_micros - tax.amount_micros))
    # A buyer whose leases were paid out of escrow owes nothing, and no tax is added to a price that was final.
    assert not m.InvoiceLine.objects.filter(kind="tax").exclude(invoice=invoice).exists()
    assert m.Invoice.objects.filter(order=None).count() > 0
    assert (receivable(invoice), booked_tax()) == (invoice.amount_micros, tax.amount_micros)
    assert wrong_receivables() == []
    later: datetime = clock.move_to(invoice.due_at + timedelta(days=31))
    cycle.advance_until_quiet(now=later)
    assert m.DemandStop.objects.get().party == elm
    invoice.refresh_from_db()
    note_payment(invoice=invoice, person="finance@grove.example", reference="SEPA 1", now=later)
    assert (receivable(invoice), booked_tax()) == (0, tax.amount_micros)
    assert balance(code="bank.received").minor == invoice.amount_micros
    assert wrong_receivables() == []
    assert all(found.ok for found in check_books(now=later) if found.invariant == "L16")


def receivable(invoice: m.Invoice) -> int:
    return balance(code="invoice.receivable", party=invoice.party_id, scope=invoice.pk).minor


def booked_tax() -> int:
    return balance(code="tax.payable").minor


@pytest.mark.stage("paid")
def test_an_invoice_that_the_books_do_not_know_is_told_and_paying_it_books_both() -> None:
    invoice = owed()
    assert wrong_receivables() == [f"{invoice.number}: 0 in the books, {invoice.amount_micros} open"]

    note_payment(invoice=invoice, person="finance@grove.example", reference="SEPA 4711", now=clock.now())
    assert (receivable(invoice), wrong_receivables()) == (0, [])
    assert balance(code="foundation.advanced").minor == balance(code="bank.received").minor == invoice.amount_micros


# --- tax ------------------------------------------------------------------------------------------------------------
def propose(**changes: Any) -> m.TaxRule:
    terms = {"country": "DE", "rate_ppm": 190_000, "words": "VAT 19 %", "person": "ann",
             "valid_from": clock.now() + timedelta(days=1), "now": clock.now()}  # fmt: skip
    return propose_tax(**terms | changes)


@pytest.mark.stage("paid")
def test_a_tax_rule_is_in_force_from_its_day_and_by_two_people_only() -> None:
    now, rule = clock.now(), propose()
    day = rule.valid_from

    assert tax_rule_of("DE", day) is None
    with refused(SamePerson, proposed_by="ann"):
        approve_tax(rule_id=rule.pk, person="ann", now=now)
    with pytest.raises(IntegrityError, match="tax_rule_is_of_two_people"), transaction.atomic():
        m.TaxRule.objects.filter(pk=rule.pk).update(approved_by="ann", approved_at=now)
    approve_tax(rule_id=rule.pk, person="ben", now=now)
    with untouched():
        approve_tax(rule_id=rule.pk, person="cleo", now=now)
    assert [tax_rule_of("DE", at) for at in (day - timedelta(microseconds=1), day)] == [None, rule]
    assert tax_rule_of("FR", day) is None
    later = propose(rate_ppm=160_000, valid_from=day + timedelta(days=1))
    approve_tax(rule_id=later.pk, person="ben", now=now)
    assert [tax_rule_of("DE", later.valid_from - timedelta(seconds=1)), tax_rule_of("DE", later.valid_from)] == [
        rule, later]  # fmt: skip


@pytest.mark.stage("paid")
@pytest.mark.parametrize(("changes", "field"), [
    ({"country": "XX"}, "country"), ({"country": "de"}, "country"), ({"rate_ppm": -1}, "rate_ppm"),
    ({"rate_ppm": 10**6 + 1}, "rate_ppm"), ({"rate_ppm": 0.19}, "rate_ppm"), ({"words": " "}, "words"),
    ({"words": "x" * 121}, "words"), ({"valid_from": datetime(2020, 1, 1, tzinfo=UTC)}, "valid_from"),
])  # fmt: skip
def test_a_bad_tax_rule_is_refused_beside_its_field(changes: dict[str, Any], field: str) -> None:
    with refused(BadInput, field=field):
        propose(**changes)


@pytest.mark.stage("paid")
def test_a_rule_is_not_approved_after_its_beginning_nor_beside_another_nor_where_there_is_none() -> None:
    begins, now = clock.now() + timedelta(days=1), clock.now()
    rule, twin = propose(valid_from=begins), propose(valid_from=begins, rate_ppm=1)
    with refused(NotYours):
        approve_tax(rule_id=world.party("alder").pk, person="ben", now=now)
    with refused(BadInput, field="valid_from"):
        approve_tax(rule_id=rule.pk, person="ben", now=rule.valid_from + timedelta(seconds=1))
    approve_tax(rule_id=rule.pk, person="ben", now=now)
    with refused(ReferenceReused, field="valid_from"):
        approve_tax(rule_id=twin.pk, person="ben", now=now)


@pytest.mark.parametrize(("net", "rate_ppm", "tax"), [
    (100, 190_000, 19), (0, 190_000, 0), (1, 499_999, 0), (1, 500_000, 1), (3, 500_000, 2), (10**15, 10**6, 10**15),
    (7, 0, 0),
])  # fmt: skip
def test_tax_is_rounded_half_up_to_the_micro(net: int, rate_ppm: int, tax: int) -> None:
    assert tax_micros(m.TaxRule(rate_ppm=rate_ppm), net) == tax
