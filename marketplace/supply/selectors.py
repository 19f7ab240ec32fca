"""Reads of supply for a provider's own seats. A bid is read through its party or, once opened, through a clearing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Prefetch, QuerySet

from ledger.models import ChainIntent
from marketplace.parties.models import Party
from marketplace.supply.key_models import UnitProver
from marketplace.supply.models import Benchmark, Bid, NodeClass, Site
from marketplace.supply.sealing import read_own
from marketplace.supply.standing import RENEWAL_FROM_DAYS

# A resource class is given when the measured score reaches these shares of its reference row.
CLASS_SHARES_BPS = {"ops_per_sec": 8500, "mem_bytes": 9000, "mem_bytes_per_sec": 8000}


@dataclass(frozen=True)
class Proof:
    """One measured figure of a benchmark beside the reference row of the claimed class."""

    name: str
    unit: str
    measured: int
    reference: int
    needed_bps: int

    @property
    def is_measured(self) -> bool:
        return self.measured > 0

    @property
    def share_bps(self) -> int:
        return 10_000 * self.measured // self.reference if self.reference else 0

    @property
    def percent(self) -> int:
        return self.share_bps // 100

    @property
    def is_reached(self) -> bool:
        return self.share_bps >= self.needed_bps


def node_classes_of(party: Party) -> QuerySet[NodeClass]:
    """Return a provider's node classes with standing, site, reference row and benchmarks (newest first)."""
    benchmarks = Benchmark.objects.order_by("-epoch").defer("transcript", "message").prefetch_related("attestations")
    return (
        NodeClass.objects.filter(party=party)
        .select_related("site", "resource_class", "standing")
        .prefetch_related(Prefetch("benchmarks", queryset=benchmarks), "standing_changes")
        .order_by("chain_class")
    )


def classes_to_offer(party: Party) -> QuerySet[NodeClass]:
    """Return a provider's node classes with site and standing only, for choosing one."""
    return NodeClass.objects.filter(party=party).select_related("site", "standing").order_by("chain_class")


def find_node_class(node_class_id: UUID, party: Party) -> NodeClass | None:
    """Return the party's own node class, or None."""
    return node_classes_of(party).filter(pk=node_class_id).first()


def find_unit_prover(prover_id: UUID, party: Party) -> UnitProver | None:
    """Return the prover of one more unit of the party's own, if it is not retired, or None."""
    own = UnitProver.objects.filter(node_class__party=party, retired_at=None)
    return own.select_related("node_class").filter(pk=prover_id).first()


def sites_of(party: Party) -> QuerySet[Site]:
    """Return a provider's sites."""
    return Site.objects.filter(party=party)


def proofs_of(node_class: NodeClass, benchmark: Benchmark) -> list[Proof]:
    """Return claim against proof: each measured figure beside the class's reference row."""
    reference = node_class.resource_class
    rows = (
        ("Arithmetic", "operations per second", "ops_per_sec"),
        ("Memory", "bytes", "mem_bytes"),
        ("Memory bandwidth", "bytes per second", "mem_bytes_per_sec"),
    )
    return [
        Proof(name, unit, getattr(benchmark, field), getattr(reference, field), CLASS_SHARES_BPS[field])
        for name, unit, field in rows
    ]


def brought_to_chain(node_class: NodeClass) -> dict[int, ChainIntent]:
    """Return by epoch what became of each proof at the contract, which arms slashing by it alone."""
    prefix = f"prove:{node_class.chain_class}:"
    return {int(row.key.removeprefix(prefix)): row for row in ChainIntent.objects.filter(key__startswith=prefix)}


def renewal_from(node_class: NodeClass) -> datetime | None:
    """From when a PROVEN class may prove itself again so that its proof does not lapse; None for any other."""
    standing = node_class.standing
    if standing.state != "PROVEN" or standing.proven_at is None:
        return None
    return standing.proven_at + timedelta(days=RENEWAL_FROM_DAYS)


def live_benchmark(node_class: NodeClass, now: datetime) -> Benchmark | None:
    """Return the newest benchmark that is still valid, or None. Uses prefetched rows."""
    return next((b for b in node_class.benchmarks.all() if b.valid_until > now), None)


def bids_of(party: Party, *, window: UUID | None = None) -> QuerySet[Bid]:
    """Return a provider's own bids, newest first. Terms under seal are filled in by `sealing.with_own_terms`."""
    found = Bid.objects.filter(party=party).select_related("window", "node_class", "sla").order_by("-placed_at", "-id")
    return found.filter(window_id=window) if window else found


def find_bid(bid_id: UUID, party: Party) -> Bid | None:
    """Return the party's own bid with its terms, or None: a stranger's is as missing as none."""
    bid = Bid.objects.filter(pk=bid_id, party=party).select_related("window", "node_class").first()
    return read_own(bid, party=party) if bid else None
