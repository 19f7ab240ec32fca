"""Invoices: what a buyer's leases of one window cost, line by line, and how far the payment of an order has come."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award
from marketplace.demand.funding_models import FundingLine
from marketplace.parties.models import Party
from marketplace.sla.models import Verdict

LINE_KINDS = ("capacity", "not_earned", "credit")
DUNNING = ("none", "reminded", "reminded again", "in default")


class Invoice(models.Model):
    """One buyer's leases of one window behind one order; without an order it was paid out of escrow as it fell due."""

    id = models.UUIDField(primary_key=True)
    number = models.CharField(max_length=40, unique=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="invoices")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="invoices")
    order = models.ForeignKey(FundingLine, null=True, blank=True, on_delete=models.PROTECT, related_name="invoices")
    amount_micros = models.BigIntegerField()
    issued_at = models.DateTimeField()
    due_at = models.DateTimeField()
    dunned = models.PositiveSmallIntegerField(default=0, help_text="how often it was reminded of; 3: in default")
    paid_at = models.DateTimeField(null=True, blank=True)
    paid_reference = models.CharField(max_length=80, default="", blank=True)

    class Meta:
        ordering = ["-issued_at", "-number"]
        constraints = [
            models.CheckConstraint(name="invoice_is_of_no_negative_amount", condition=Q(amount_micros__gte=0)),
            models.CheckConstraint(name="invoice_is_due_after_it_is_issued", condition=Q(due_at__gte=F("issued_at"))),
            models.CheckConstraint(name="invoice_is_dunned_three_times", condition=Q(dunned__lte=len(DUNNING) - 1)),
            models.CheckConstraint(
                name="paid_invoice_says_how",
                condition=Q(paid_at=None, paid_reference="") | (~Q(paid_at=None) & ~Q(paid_reference="")),
            ),
            models.CheckConstraint(
                name="invoice_without_an_order_is_paid", condition=~Q(order=None) | ~Q(paid_at=None)
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def dunning(self) -> str:
        """How far dunning has come, in words."""
        return DUNNING[self.dunned]


class InvoiceLine(models.Model):
    """An award at its price, or what its verdict takes off again; nothing else can be charged. Append-only."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    kind = models.CharField(max_length=10, choices=[(k, k.replace("_", " ")) for k in LINE_KINDS])
    award = models.OneToOneField(
        Award, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_line"
    )
    verdict = models.ForeignKey(
        Verdict, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_lines"
    )
    amount_micros = models.BigIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="invoice_line_maps_to_an_award_or_a_verdict",
                condition=Q(kind="capacity", award__isnull=False, verdict=None, amount_micros__gte=0)
                | Q(kind__in=("not_earned", "credit"), award=None, verdict__isnull=False, amount_micros__lt=0),
            ),
            models.UniqueConstraint(name="a_verdict_is_taken_off_once", fields=["verdict", "kind"]),
        ]
