"""The public proof of a payout: from the award to the transaction, with nobody's name in it (`offline.py` checks it).

The provider's file holds every lease of the class in the window, a buyer's only its own. What shows that an award is
one's own, the key of its published id, is a file apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Q

from ledger.chart import Origin
from ledger.epochs import Inclusion, prove_transfers
from ledger.ids import chain_reference
from ledger.models import ChainEvent, ChainIntent, Transfer
from ledger.rails.evm import chain
from ledger.rails.inclusion import prove_log
from ledger.services import USDC6_LEDGER, cover_id, ids_of_settlement
from marketplace.clearing.books import Pseudonyms, names_of
from marketplace.errors import NotYours
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.payout.models import Payout, Settlement
from marketplace.payout.offline import AWARDS, FORMAT, OPENING_FORMAT, VERSION
from marketplace.payout.services import period_of
from marketplace.sla.evidence import receipt_of

AWARDS_BYTES_MAX = 1_000_000  # larger ones are left to the public bundle, which is handed to the check beside the proof
NOT_YET = "The proof of this payout is whole when its day's evidence and the books' epochs are anchored on chain."
_ORIGINS = [origin.value for origin in Origin]
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def payout_of(*, payout_id: UUID, party: Party) -> Payout:
    """Return a payout that a party was paid, or that paid for a lease it bought. Raises NotYours for any other."""
    rows = Payout.objects.select_related("node_class__party", "node_class__resource_class", "window")
    payout = rows.filter(pk=payout_id).first()
    if payout is None or not leases_proven_to(payout, party):
        raise NotYours("There is no such payout.")
    return payout


def leases_proven_to(payout: Payout, party: Party) -> list[Lease]:
    """Return the leases of a payout that a party's proof shows: the provider's all, a buyer's its own."""
    mine = Q(buyer=party) | Q(provider=party)
    rows = Lease.objects.filter(mine, node_class=payout.node_class_id, window=payout.window_id)
    rows = rows.exclude(settlement_line=None).prefetch_related("early_credits").order_by("id")
    return list(rows.select_related("clearing__window", "demand__party", "bid__party", "verdict"))


def payout_for(lease: Lease) -> Payout | None:
    """Return the payout by which a lease's class was paid for its window, or None before."""
    return Payout.objects.filter(node_class=lease.node_class_id, window=lease.window_id).exclude(final_at=None).first()


def proof_of(*, payout: Payout, party: Party) -> dict[str, Any]:
    """Return the proof of a payout for a party, as the document that `offline.py` checks.

    Raises NotYours for somebody else's, and before all that it rests on is anchored on chain; LedgerError where the
    node's answers do not fit together.
    """
    return _Proof(payout, leases_proven_to(payout, party)).document()


def openings_of(*, payout: Payout, party: Party) -> list[dict[str, Any]]:
    """Return what opens the published ids of a party's own orders or bids in a payout, and nobody else's."""
    found: dict[str, dict[str, Any]] = {}
    for lease in leases_proven_to(payout, party):
        names = names_of(lease.clearing)
        for kind, row in (("demand", lease.demand), ("bid", lease.bid)):
            if row.party_id == party.pk and names.can_be_opened:
                parts = [kind, row.party.slug, row.reference]
                found[names.of(*parts)] = {
                    "format": OPENING_FORMAT, "id": names.of(*parts), "parts": parts,
                    "key": "0x" + names.key(*parts).hex(),
                }  # fmt: skip
    return list(found.values())


class _Proof:
    """One document while it is put together; each block and epoch is proven once."""

    def __init__(self, payout: Payout, leases: Sequence[Lease]) -> None:
        if not leases:
            raise NotYours("There is no such payout.")
        self.payout, self.leases = payout, leases
        self.epochs: dict[str, dict[str, Any]] = {}
        self.days: dict[str, dict[str, Any]] = {}
        self.settlements: dict[str, dict[str, Any]] = {}
        self.sealed: dict[int, Inclusion] = {}

    def document(self) -> dict[str, Any]:
        """Return the whole proof."""
        clearing, here = self.leases[0].clearing, chain()
        bodies = {row.name: bytes(row.body) for row in clearing.files.filter(name__in=("manifest.json", AWARDS))}
        paid = self.paid_by()
        went, moved = _transfers_for(paid), {lease.pk: list(self.moved_by(lease)) for lease in self.leases}
        self.sealed = prove_transfers(
            ledger=USDC6_LEDGER, seqs=[row.seq for row in (*went, *(row for of in moved.values() for _, row in of))]
        )
        lines = [self.line(lease, moved[lease.pk]) for lease in self.leases]
        return {
            "format": FORMAT, "version": VERSION, "chain_id": here.chain_id, "escrow": here.address("escrow").lower(),
            "anchor": here.address("anchor").lower(), "node_class": self.payout.node_class.chain_class,
            "window": clearing.window.number, "manifest": bodies["manifest.json"].decode(),
            "awards": bodies[AWARDS].decode() if len(bodies[AWARDS]) <= AWARDS_BYTES_MAX else None,
            "bundle": _shown(_bundled(clearing.window.number)), "lines": lines, "payout": _booked(paid),
            "payout_transfers": [self.transfer(row) for row in went],
            "evidence_days": self.days, "epochs": self.epochs, "settlements": self.settlements,
        }  # fmt: skip

    @cached_property
    def names(self) -> Pseudonyms:
        """The names under which the window was published."""
        return names_of(self.leases[0].clearing)

    def paid_by(self) -> ChainEvent:
        """The event by which escrow paid: of the payout's own call, or of the one that took its money with it."""
        call = ChainIntent.objects.filter(key=self.payout.intent_key).first()
        events = ChainEvent.objects.filter(contract="escrow", name="PaidOut", final=True)
        events = events.filter(args__node_class=self.payout.node_class.chain_class)
        own = events.filter(tx_hash=call.tx_hash).first() if call and call.tx_hash else None
        if own is not None:
            return own
        last = max((_settled(line.settlement) for line in (lease.settlement_line for lease in self.leases)),
                   key=lambda event: (event.block_number, event.log_index))  # fmt: skip
        later = Q(block_number__gt=last.block_number) | Q(block_number=last.block_number, log_index__gt=last.log_index)
        return _found(events.filter(later).order_by("block_number", "log_index").first())

    def line(self, lease: Lease, moved: Sequence[tuple[Settlement, Transfer]]) -> dict[str, Any]:
        """One lease: its awards, the evidence of its verdict, and its transfers."""
        receipt = receipt_of(lease.verdict)
        if receipt["day"] is None:
            raise NotYours(NOT_YET)
        number = receipt["day"]["anchor_number"]
        if str(number) not in self.days:
            self.days[str(number)] = _shown(_bundled(number))
        awards = lease.clearing.awards.filter(demand=lease.demand_id, bid=lease.bid_id).order_by("start_slot")
        return {
            "lease": str(lease.pk),
            "demand": self.names.of("demand", lease.demand.party.slug, lease.demand.reference),
            "bid": self.names.of("bid", lease.bid.party.slug, lease.bid.reference),
            "awards": [
                {"start_slot": row.start_slot, "end_slot": row.end_slot, "units": row.units,
                 "amount_micros": row.amount_micros}
                for row in awards
            ],
            "evidence": receipt["evidence"],
            "evidence_path": [[side, "0x" + sister] for side, sister in receipt["day"]["path"]], "day": number,
            "transfers": [
                {**self.transfer(row), "settlement": self.shown_settlement(settlement)} for settlement, row in moved
            ],
        }  # fmt: skip

    def moved_by(self, lease: Lease) -> Iterable[tuple[Settlement, Transfer]]:
        """The transfers that settled a lease, each with its settlement."""
        for settlement, ids in self.settlements_of(lease):
            for row in Transfer.objects.filter(ledger=USDC6_LEDGER, id__in=ids).order_by("seq"):
                yield settlement, row

    def settlements_of(self, lease: Lease) -> Iterable[tuple[Settlement, list[UUID]]]:
        """The settlements that moved a lease's money, each with the ids that its transfers may have."""
        yield lease.settlement_line.settlement, [*ids_of_settlement(lease=lease.pk).values(), cover_id(lease.pk)]
        for credit in lease.early_credits.all():
            settlement = Settlement.objects.get(intent_key=credit.intent_key)
            yield settlement, list(ids_of_settlement(lease=lease.pk, period=period_of(credit)).values())

    def shown_settlement(self, settlement: Settlement) -> int:
        """Show the settle call once, and return its epoch."""
        if str(settlement.epoch) not in self.settlements:
            self.settlements[str(settlement.epoch)] = _booked(_settled(settlement))
        return settlement.epoch

    def transfer(self, row: Transfer) -> dict[str, Any]:
        """One transfer with its way to the root of its epoch."""
        proof = self.sealed.get(row.seq)
        if proof is None:
            raise NotYours(NOT_YET)
        if str(proof.epoch) not in self.epochs:
            posted = ChainEvent.objects.filter(contract="anchor", name="Posted", final=True, args__epoch=proof.epoch)
            self.epochs[str(proof.epoch)] = _shown(_found(posted.first()))
        return {
            "id": str(row.id), "seq": row.seq, "debit": row.debit, "credit": row.credit, "amount_micros": row.amount,
            "code": row.code, "origin": _ORIGINS.index(row.origin), "link": str(row.link) if row.link else None,
            "effective_at": _micros(row.effective_at), "posted_at": _micros(row.posted_at), "epoch": proof.epoch,
            "path": [[side, "0x" + sister.hex()] for side, sister in proof.sisters],
        }  # fmt: skip


def _transfers_for(event: ChainEvent) -> list[Transfer]:
    """What a payout took from the account that had earned it; where it went then is nobody else's business."""
    reference = chain_reference(event.block_hash, event.log_index)
    rows = Transfer.objects.filter(ledger=USDC6_LEDGER, reference=reference, kind="posted").order_by("seq")
    first = rows.first()
    return [row for row in rows if first is not None and row.debit == first.debit]


def _settled(settlement: Settlement) -> ChainEvent:
    events = ChainEvent.objects.filter(contract="escrow", name="Settled", final=True, args__epoch=settlement.epoch)
    return _found(events.first())


def _bundled(number: int) -> ChainEvent:
    events = ChainEvent.objects.filter(contract="anchor", name="Bundled", final=True, args__window=number)
    return _found(events.first())


def _found(event: ChainEvent | None) -> ChainEvent:
    if event is None:
        raise NotYours(NOT_YET)
    return event


def _shown(event: ChainEvent) -> dict[str, Any]:
    return prove_log(chain(), event.tx_hash, event.log_index).as_json()


def _booked(event: ChainEvent) -> dict[str, Any]:
    return {**_shown(event), "log_index": event.log_index}


def _micros(at: datetime) -> int:
    return (at - _EPOCH_START) // timedelta(microseconds=1)
