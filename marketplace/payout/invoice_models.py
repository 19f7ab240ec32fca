"""Invoices: what a buyer's leases of one window cost, line by line, and how far the payment of an order has come."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award
from marketplace.demand.funding_models import FundingLine
from marketplace.escrow.backup_models import StepInRun
from marketplace.parties.models import Party
from marketplace.sla.models import Verdict

LINE_KINDS = ("capacity", "not_earned", "credit", "tax")
DUNNING = ("none", "reminded", "reminded again", "in default")


class TaxRule(models.Model):
    """The tax on invoices of orders to buyers of one country, from a day on. One person proposes it, another approves.

    It is in force from `valid_from` until a later one is; a rate of 0 has its words too, such as a reverse charge.
    """

    id = models.UUIDField(primary_key=True)
    country = models.CharField(max_length=2)
    rate_ppm = models.IntegerField(help_text="parts per million of the net amount")
    words = models.CharField(max_length=120, help_text="as the invoice says it")
    valid_from = models.DateTimeField()
    proposed_by = models.CharField(max_length=120)
    proposed_at = models.DateTimeField()
    approved_by = models.CharField(max_length=120, default="", blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["country", "-valid_from", "id"]
        constraints = [
            models.CheckConstraint(name="tax_rate_is_a_share", condition=Q(rate_ppm__gte=0, rate_ppm__lte=10**6)),
            models.CheckConstraint(
                name="tax_rule_says_who_approved_it",
                condition=Q(approved_at=None, approved_by="") | (~Q(approved_at=None) & ~Q(approved_by="")),
            ),
            models.CheckConstraint(
                name="tax_rule_is_of_two_people", condition=~Q(approved_by=F("proposed_by")) | Q(approved_by="")
            ),
            models.CheckConstraint(
                name="tax_rule_is_approved_before_it_begins",
                condition=Q(approved_at=None) | Q(approved_at__lte=F("valid_from")),
            ),
            models.UniqueConstraint(
                name="one_tax_rule_begins_at_a_time", fields=["country", "valid_from"],
                condition=Q(approved_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.words} ({self.country})"


class Invoice(models.Model):
    """One buyer's leases of one window behind one order; without an order it was paid out of escrow as it fell due."""

    id = models.UUIDField(primary_key=True)
    number = models.CharField(max_length=40, unique=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="invoices")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="invoices")
    order = models.ForeignKey(FundingLine, null=True, blank=True, on_delete=models.PROTECT, related_name="invoices")
    amount_micros = models.BigIntegerField(help_text="to pay: every line, tax among them")
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
    """An award or a backup's run at its price, what its verdict takes off again, or the tax that a rule asks for.

    Nothing else can be charged. Append-only.
    """

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    kind = models.CharField(max_length=10, choices=[(k, k.replace("_", " ")) for k in LINE_KINDS])
    award = models.OneToOneField(
        Award, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_line"
    )
    backup_run = models.OneToOneField(
        StepInRun, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_line"
    )
    verdict = models.ForeignKey(
        Verdict, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_lines"
    )
    tax_rule = models.ForeignKey(
        TaxRule, null=True, blank=True, on_delete=models.PROTECT, related_name="invoice_lines"
    )
    amount_micros = models.BigIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="invoice_line_maps_to_an_award_or_a_verdict",
                condition=Q(kind="capacity", award__isnull=False, backup_run=None, verdict=None, tax_rule=None,
                            amount_micros__gte=0)
                | Q(kind="capacity", award=None, backup_run__isnull=False, verdict=None, tax_rule=None,
                    amount_micros__gte=0)
                | Q(kind__in=("not_earned", "credit"), award=None, backup_run=None, verdict__isnull=False,
                    tax_rule=None, amount_micros__lt=0)
                | Q(kind="tax", award=None, backup_run=None, verdict=None, tax_rule__isnull=False,
                    amount_micros__gte=0),
            ),
            models.UniqueConstraint(name="one_tax_line_per_invoice", fields=["invoice"], condition=Q(kind="tax")),
            models.UniqueConstraint(name="a_verdict_is_taken_off_once", fields=["verdict", "kind"]),
        ]
