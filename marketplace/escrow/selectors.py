"""Reads of leases and of what is locked for them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet

from ledger.models import Account, ChainContract, ChainIntent, ChainMark
from ledger.services import USDC6_LEDGER
from marketplace.demand.funding import kept_for_lines_micros
from marketplace.escrow.backup_models import StepIn
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party

RUNNING_STATES = ("locking", "locked", "delivering", "delivered")


def leases_bought_by(party: Party, *, state: str = "") -> QuerySet[Lease]:
    """Return a buyer's leases with provider, site, verdict, credit and slash case; newest window first."""
    found = _whole_leases().filter(buyer=party)
    return found.filter(state=state) if state else found


def leases_sold_by(party: Party) -> QuerySet[Lease]:
    """Return a provider's leases, newest window first."""
    return _whole_leases().filter(provider=party)


def find_lease_of_buyer(lease_id: UUID, party: Party) -> Lease | None:
    """Return the buyer's own lease, or None."""
    return with_step_ins(leases_bought_by(party).filter(pk=lease_id)).first()


def with_step_ins(leases: QuerySet[Lease]) -> QuerySet[Lease]:
    """Return these leases with what was decided about their backups, and who took over."""
    decided = StepIn.objects.select_related("lease__window").prefetch_related("leases__provider")
    return leases.prefetch_related(Prefetch("step_ins", decided))


def leases_in_trouble(party: Party) -> QuerySet[Lease]:
    """Return a buyer's leases that fell below their SLA, breaches first."""
    return (
        leases_bought_by(party).filter(Q(verdict__is_below_sla=True) | Q(verdict__is_breach=True))
        .order_by("-verdict__is_breach", "-verdict__judged_at", "id")
    )


def _whole_leases() -> QuerySet[Lease]:
    return Lease.objects.select_related(
        "window", "demand", "buyer", "provider", "node_class__site", "node_class__resource_class", "verdict__credit",
        "verdict__slash_case", "settlement_line__settlement", "lock_batch", "step_in__lease__provider",
    ).order_by("-window__number", "demand", "bid", "id")


@dataclass(frozen=True)
class Money:
    """A buyer's money in micro-USD: free to use; kept for its orders, grants and vouchers; held for demands; locked on
    chain for leases."""

    available_micros: int
    kept_micros: int
    held_micros: int
    locked_micros: int

    @property
    def total_micros(self) -> int:
        return self.available_micros + self.kept_micros + self.held_micros + self.locked_micros


@dataclass(frozen=True)
class ChainFacts:
    """Where a buyer's escrow can be checked by anybody."""

    chain_id: int
    escrow_address: str
    own_address: str
    block_number: int
    deposits: list[ChainIntent]


def money_of(party: Party) -> Money:
    """Return what a buyer has: free, kept for its lines, held by pending holds, and locked for leases."""
    rows = list(Account.objects.filter(
        ledger_id=USDC6_LEDGER, party=party.pk, code__in=("buyer.available", "buyer.held")))  # fmt: skip
    own = [a for a in rows if a.code == "buyer.available"]
    unreserved = sum(a.free_minor for a in own)
    kept = min(kept_for_lines_micros(party), unreserved)
    return Money(
        available_micros=unreserved - kept, kept_micros=kept, held_micros=sum(a.debits_pending for a in own),
        locked_micros=sum(a.balance_minor for a in rows if a.code == "buyer.held"),
    )


def chain_facts(party: Party) -> ChainFacts:
    """Return the escrow contract, the buyer's own address, the last block the books know, and recent deposits."""
    contract = ChainContract.objects.filter(name="escrow").first()
    mark = ChainMark.objects.order_by("-block_number").first()
    deposits = ChainIntent.objects.filter(key__startswith=f"deposit:{party.slug}:", contract="escrow")
    return ChainFacts(
        chain_id=contract.chain_id if contract else 0, escrow_address=contract.address if contract else "",
        own_address=party.chain_address or "", block_number=mark.block_number if mark else 0,
        deposits=list(deposits.order_by("-created_at", "-id")[:5]),
    )


def transactions_of(lease: Lease) -> list[tuple[str, ChainIntent]]:
    """Return the transactions of a lease that exist so far: its lock, its settlement, its slash."""
    verdict = getattr(lease, "verdict", None)
    case = getattr(verdict, "slash_case", None) if verdict else None
    line = getattr(lease, "settlement_line", None)
    wanted = [("lock", lease.lock_batch.intent_key)]
    wanted += [("settlement", line.settlement.intent_key)] if line else []
    wanted += [("slash request", case.intent_key)] if case and case.intent_key else []
    found = {row.key: row for row in ChainIntent.objects.filter(key__in=[key for _, key in wanted])}
    return [(name, found[key]) for name, key in wanted if key in found]
