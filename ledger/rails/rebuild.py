"""Rebuild the chain's part of the books from the first block, and compare: the books hold no more and no less.

Every log is read from the chain again and booked again, in one transaction that is always rolled back. Ids of transfers
follow from the events, so what was booked before is found and writes nothing; what is new was missing, and another body
under a known id is refused by the books. Holds and the plans of our own calls come from the database: no chain knows
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from ledger.errors import LedgerError
from ledger.ids import chain_reference
from ledger.models import ChainContract, ChainEvent, ChainMark, Ledger, Transfer
from ledger.rails.base import Chain
from ledger.rails.evm import chain
from ledger.rails.indexer import BLOCKS_PER_QUERY, BOOKINGS, MARK, WATCHED, Booking, event_fields
from ledger.services import USDC6_LEDGER, resume_ledger

SHOWN = 3
REFERENCE_BYTES = 36


@dataclass(frozen=True)
class RebuildFinding:
    """One comparison of the chain with what is kept of it."""

    invariant: str
    ok: bool
    detail: str


def rebuild(*, now: datetime) -> list[RebuildFinding]:
    """Return what a replay from the first block says of the books. Nothing is changed."""
    here = chain()
    mark = ChainMark.objects.filter(name=MARK).first()
    if mark is None:
        return [RebuildFinding("rebuild.the_chain_was_read", True, "no block has been read yet")]
    events = [ChainEvent(**fields, final=True) for fields in _read_again(here, mark.block_number)]
    return [_kept(events), *_booked(events, now), _explained(events)]


def _read_again(here: Chain, last: int) -> Iterator[dict[str, Any]]:
    contracts = ChainContract.objects.filter(chain_id=here.chain_id, name__in=WATCHED)
    addresses = {row.address: row.name for row in contracts}
    for first in range(0, last + 1, BLOCKS_PER_QUERY):
        end = min(first + BLOCKS_PER_QUERY - 1, last)
        for log in here.logs(list(addresses), first_block=first, last_block=end):
            yield event_fields(log, addresses[log.address])


def _facts(event: ChainEvent) -> tuple[Any, ...]:
    return (event.block_number, event.tx_hash, event.contract, event.name, sorted(event.args.items()))


def _kept(events: list[ChainEvent]) -> RebuildFinding:
    told = {(event.block_hash, event.log_index): _facts(event) for event in events}
    kept = {(row.block_hash, row.log_index): _facts(row) for row in ChainEvent.objects.filter(final=True)}
    wrong = sorted(key for key in told.keys() | kept.keys() if told.get(key) != kept.get(key))
    detail = "; ".join(f"block {block} log {index}" for block, index in wrong[:SHOWN])
    return RebuildFinding("rebuild.every_event_is_kept_as_the_chain_tells_it", not wrong,
                          detail or f"{len(told)} events read from the first block")  # fmt: skip


def _booked(events: list[ChainEvent], now: datetime) -> Iterator[RebuildFinding]:
    refused: list[str] = []
    with transaction.atomic():
        resume_ledger(ledger=USDC6_LEDGER)  # a halt must not hide what a replay says; it is rolled back with the rest
        before = Ledger.objects.get(pk=USDC6_LEDGER).next_seq
        for event in events:
            place = f"{event.contract}.{event.name} in block {event.block_number}/{event.log_index}"
            book = BOOKINGS.get((event.contract, event.name))
            try:
                with transaction.atomic():
                    if book is None:
                        raise LedgerError("no booking is known for it")
                    book(Booking(event, chain_reference(event.block_hash, event.log_index), now))
            except LedgerError as refusal:
                refused.append(f"{place}: {refusal}")
        new = Ledger.objects.get(pk=USDC6_LEDGER).next_seq - before
        transaction.set_rollback(True)
    yield RebuildFinding("rebuild.every_event_can_be_booked_again", not refused,
                         "; ".join(refused[:SHOWN]) or f"{len(events)} events")  # fmt: skip
    yield RebuildFinding("rebuild.nothing_was_missing_in_the_books", new == 0, f"{new} transfers were missing")


def _explained(events: list[ChainEvent]) -> RebuildFinding:
    known = {chain_reference(event.block_hash, event.log_index) for event in events}
    named = Transfer.objects.filter(ledger=USDC6_LEDGER).exclude(reference=None).values_list("seq", "reference")
    raw = ((seq, bytes(reference or b"")) for seq, reference in named)
    alien = [seq for seq, reference in raw if len(reference) == REFERENCE_BYTES and reference not in known]
    detail = f"{len(alien)} transfers, first number {min(alien)}" if alien else f"{len(known)} events"
    return RebuildFinding("rebuild.every_transfer_of_the_chain_has_its_event", not alien, detail)
