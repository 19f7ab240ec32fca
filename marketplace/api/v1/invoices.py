"""Invoices of the asking buyer, with their lines."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.fields import IdOut, Micros
from marketplace.api.paging import page_by_time
from marketplace.api.schema import CURSOR, LIMIT, page_of
from marketplace.api.views import ApiView, ListMixin
from marketplace.payout.invoice_models import Invoice, InvoiceLine
from marketplace.payout.invoices import invoices_of


class InvoiceLineOut(serializers.ModelSerializer):
    """An award or a backup of one at its price, what the verdict on a lease takes off, or tax with its rule's words."""

    award = IdOut("awd", source="award_id", allow_null=True)
    backup_of = IdOut("awd", source="backup_run.award_id", allow_null=True, default=None)
    lease = IdOut("lea", source="verdict.lease_id", allow_null=True, default=None)
    tax = serializers.CharField(source="tax_rule.words", default="")
    amount_micros = Micros()

    class Meta:
        model = InvoiceLine
        fields = ("kind", "award", "backup_of", "lease", "tax", "amount_micros")


class InvoiceOut(serializers.ModelSerializer):
    """What your leases of one window cost; behind a purchase order it is due, else it was paid out of escrow."""

    id = IdOut("inv", source="pk")
    window = IdOut("win", source="window_id")
    order_number = serializers.CharField(source="order.number", default="")
    amount_micros = Micros()
    dunning = serializers.CharField()
    lines = InvoiceLineOut(many=True, read_only=True)

    class Meta:
        model = Invoice
        fields = (
            "id", "number", "window", "order_number", "amount_micros", "issued_at", "due_at", "dunning", "paid_at",
            "lines",
        )  # fmt: skip


class InvoiceList(ListMixin, ApiView):
    shape = InvoiceOut

    @extend_schema(operation_id="list_invoices", tags=["money"], responses=page_of(InvoiceOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your invoices, oldest first. Every line maps to an award, to the verdict on a lease, or to a tax rule."""
        rows = invoices_of(request.party).prefetch_related("lines__verdict", "lines__backup_run", "lines__tax_rule")
        return self.page(request, page_by_time(rows, self.query(request), created="issued_at"))
