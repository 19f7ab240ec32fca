"""Reads of what leases came to: a provider's statement and its payouts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from uuid import UUID

from django.db.models import Q, QuerySet, Sum

from marketplace.parties.models import Party
from marketplace.payout.models import MemberShare, Payout, SettlementLine


@dataclass(frozen=True)
class StatementSums:
    """Totals of a provider's statement in micro-USD. `net` is payable less slashes; holdback is still its own."""

    gross_micros: int = 0
    fee_micros: int = 0
    holdback_micros: int = 0
    returned_micros: int = 0
    above_ceiling_micros: int = 0
    credit_micros: int = 0
    slash_micros: int = 0
    net_micros: int = 0


@dataclass(frozen=True)
class StatementLine:
    """One settled lease: its fee, what went back, what was kept, and the net."""

    lease_id: UUID
    reference: str
    window: str
    epoch: int
    is_final: bool
    fee_of_lease_micros: int
    returned_micros: int
    above_ceiling_micros: int  # part of what was returned
    credit_micros: int
    gross_micros: int
    fee_micros: int
    holdback_micros: int
    slash_micros: int
    net_micros: int


def settled_lines_of(party: Party) -> QuerySet[SettlementLine]:
    """Return the settled leases of a provider, newest epoch first."""
    return (
        SettlementLine.objects.filter(lease__provider=party)
        .select_related("settlement", "lease__window", "lease__demand", "lease__bid", "lease__verdict__slash_case")
        .order_by("-settlement__epoch", "lease")
    )


def statement_line(line: SettlementLine) -> StatementLine:
    """Return one settled lease as the statement shows it; `net = gross - fee - holdback - slash`, micro-USD.

    What was claimed on chain before is not part of it: it was paid then.
    """
    slash = _slashed_micros(line)
    return StatementLine(
        lease_id=line.lease_id, reference=line.lease.bid.reference, window=line.lease.window.name,
        epoch=line.settlement.epoch, is_final=line.settlement.final_at is not None,
        fee_of_lease_micros=line.lease.fee_micros, returned_micros=line.returned_micros,
        above_ceiling_micros=line.lease.verdict.above_ceiling_micros,
        credit_micros=line.credit_micros, gross_micros=line.earned_micros - line.covered_micros,
        fee_micros=line.fee_micros, holdback_micros=line.holdback_micros, slash_micros=slash,
        net_micros=line.payable_micros - slash,
    )


def _slashed_micros(line: SettlementLine) -> int:
    verdict = getattr(line.lease, "verdict", None)
    case = getattr(verdict, "slash_case", None) if verdict else None
    return case.to_buyer_micros + case.to_pool_micros if case else 0


def statement_sums(party: Party) -> StatementSums:
    """Return the totals over every settled lease of a provider."""
    columns = {
        "gross": "earned_micros", "fee": "fee_micros", "holdback": "holdback_micros", "payable": "payable_micros",
        "covered": "covered_micros", "returned": "returned_micros", "credit": "credit_micros",
        "above": "lease__verdict__above_ceiling_micros",
        "to_buyer": "lease__verdict__slash_case__to_buyer_micros",
        "to_pool": "lease__verdict__slash_case__to_pool_micros",
    }
    rows = SettlementLine.objects.filter(lease__provider=party)
    sums = {k: int(v or 0) for k, v in rows.aggregate(**{k: Sum(c) for k, c in columns.items()}).items()}
    slash = sums["to_buyer"] + sums["to_pool"]
    return StatementSums(
        gross_micros=sums["gross"] - sums["covered"], fee_micros=sums["fee"], holdback_micros=sums["holdback"],
        returned_micros=sums["returned"], above_ceiling_micros=sums["above"], credit_micros=sums["credit"],
        slash_micros=slash,
        net_micros=sums["payable"] - slash,
    )


def sum_lines(lines: list[StatementLine]) -> StatementSums:
    """Return the totals of the given lines."""
    return StatementSums(**{f.name: sum(getattr(line, f.name) for line in lines) for f in fields(StatementSums)})


def payouts_of(party: Party) -> QuerySet[Payout]:
    """Return a provider's payouts, newest first."""
    payouts = Payout.objects.filter(node_class__party=party).select_related("node_class", "window")
    return payouts.order_by("-made_at", "id")


def shares_of(party: Party) -> QuerySet[MemberShare]:
    """Return the parts of payments that a party was paid, or paid on as the leader of a consortium; newest first."""
    rows = MemberShare.objects.filter(Q(member=party) | Q(lead=party))
    return rows.select_related("lead", "member", "node_class__resource_class")
