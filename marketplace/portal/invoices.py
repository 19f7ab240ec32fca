"""Invoices of a buyer: what is open and how late, and each with its lines; and what it paid window by window."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.doors import buyer_only, found_or_404, market_time, page_of
from marketplace.insights.price_history import price_history
from marketplace.payout.invoices import ageing, invoices_of


@require_safe
@buyer_only
def invoice_list(request: HttpRequest) -> HttpResponse:
    """The buyer's invoices, newest first, with what is open by how late it is."""
    ages = ageing(now=market_time(request), party=request.party)
    return render(request, "portal/invoices.html", {
        "page": page_of(request, invoices_of(request.party)), "ages": ages,
        "open": sum(age.amount_micros for age in ages),
    })  # fmt: skip


@require_safe
@buyer_only
def invoice_page(request: HttpRequest, invoice_id: UUID) -> HttpResponse:
    """One invoice, fit to be printed: every line is an award at its price, what its verdict takes off, or tax."""
    invoice = found_or_404(invoices_of(request.party).filter(pk=invoice_id).first())
    lines = invoice.lines.select_related("award__demand", "award__bid__party", "backup_run__demand",
                                         "backup_run__bid__party", "verdict__lease__demand", "tax_rule")  # fmt: skip
    net = sum(line.amount_micros for line in lines if line.kind != "tax")
    return render(request, "portal/invoice.html", {"invoice": invoice, "lines": lines, "net": net})


@require_safe
@buyer_only
def prices(request: HttpRequest) -> HttpResponse:
    """What the buyer paid per unit-hour, and how each renewal changed it."""
    return render(request, "portal/prices.html", {"page": page_of(request, price_history(request.party))})
