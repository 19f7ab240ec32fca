"""Reads that only the API needs: both sides of a party at once, and the public files of a clearing."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import BinaryField, F, Func, IntegerField, OuterRef, Prefetch, Q, QuerySet, Subquery

from ledger.models import Account
from ledger.services import USDC6_LEDGER
from marketplace.clearing.models import Award, BundleFile, Clearing, PriceRow
from marketplace.demand.funding import kept_for_lines_micros
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party


@dataclass(frozen=True)
class AccountBalance:
    """One account of a party in micro-USD: what is posted; of that what open holds reserve, what is kept for orders,
    grants and vouchers, and what is free. The three add up to it."""

    code: str
    scope: UUID | None
    balance_micros: int
    reserved_micros: int
    kept_micros: int
    free_micros: int

    def mark(self) -> tuple[str, str]:
        """Where the account stands in the list: by its code, then by what it is kept for."""
        return self.code, self.scope.hex if self.scope else ""


def awards_of(party: Party, *, window: UUID | None = None) -> QuerySet[Award]:
    """Return the awards of a party's own demands and bids, each with the id of its lease."""
    lease = Lease.objects.filter(demand=OuterRef("demand"), bid=OuterRef("bid"), step_in=None).values("pk")[:1]
    rows = (
        Award.objects.filter(Q(demand__party=party) | Q(bid__party=party))
        .select_related(
            "clearing", "demand", "bid__node_class__site", "backup__bid__party", "backup__bid__node_class__site"
        )
        .annotate(lease_id=Subquery(lease))
    )  # fmt: skip
    return rows.filter(clearing__window=window) if window else rows


def leases_of(party: Party, *, state: str = "", window: UUID | None = None) -> QuerySet[Lease]:
    """Return the leases that a party buys or provides, with verdict, credit, slash case and settlement."""
    rows = Lease.objects.filter(Q(buyer=party) | Q(provider=party)).select_related(
        "window", "buyer", "provider", "node_class__site", "verdict__credit", "verdict__slash_case",
        "settlement_line__settlement", "demand__standing_entry",
    ).prefetch_related("step_ins")  # fmt: skip
    rows = rows.filter(window_id=window) if window else rows
    return rows.filter(state=state) if state else rows


def clearings() -> QuerySet[Clearing]:
    """Return every published clearing with its window and files; bodies are left in the database."""
    files = (
        BundleFile.objects.defer("body").order_by("name")
        .annotate(size=Func(F("body"), function="octet_length", output_field=IntegerField()))
        .annotate(sha256=Func(F("body"), function="sha256", output_field=BinaryField()))
    )  # fmt: skip
    return Clearing.objects.select_related("window").prefetch_related(Prefetch("files", queryset=files))


def bundle_file(window_id: UUID, name: str) -> bytes | None:
    """Return one file of a window's public bundle exactly as it was hashed, or None."""
    row = BundleFile.objects.filter(clearing__window_id=window_id, name=name).first()
    return bytes(row.body) if row else None


def price_rows(clearing: Clearing, *, resource_class: str = "", country: str = "") -> QuerySet[PriceRow]:
    """Return the prices of a clearing, one row per product signature, optionally of one class or country."""
    rows = clearing.price_rows.order_by("pk")
    rows = rows.filter(resource_class=resource_class) if resource_class else rows
    return rows.filter(country=country) if country else rows


def clearing_of(window_id: UUID) -> Clearing | None:
    """Return the clearing of a window, or None before it."""
    return Clearing.objects.select_related("window").filter(window_id=window_id).first()


def balances_of(party: Party) -> list[AccountBalance]:
    """Return every account of a party in the stablecoin's ledger, in the chart's words."""
    rows = Account.objects.filter(ledger_id=USDC6_LEDGER, party=party.pk).order_by("code", "scope")
    kept_for_lines = kept_for_lines_micros(party) if party.is_buyer else 0
    found = []
    for row in rows:
        kept = min(kept_for_lines, row.free_minor) if row.code == "buyer.available" else 0
        found.append(AccountBalance(
            row.code, row.scope, row.balance_minor, row.balance_minor - row.free_minor, kept, row.free_minor - kept
        ))  # fmt: skip
    return found
