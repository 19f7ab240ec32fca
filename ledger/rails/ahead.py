"""Blocks above the finalized one: seen, shown, and undone when they leave the chain. No money is booked from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from django.db import transaction

from ledger.models import ChainBlock, ChainEvent
from ledger.rails.base import Chain, Head, Log

log = logging.getLogger(__name__)

BLOCKS_AHEAD_MAX = 200  # a node whose finality stands still fills no table


class Keep(Protocol):
    def __call__(self, log: Log, contract: str, *, final: bool) -> ChainEvent: ...


def look_ahead(here: Chain, finalized: Head, addresses: Mapping[str, str], keep: Keep) -> int:
    """Take in the blocks above `finalized`, after undoing those that have left the chain; return how many were undone.

    `removed` flags and subscriptions are not believed: each stored hash is compared with the chain from the top down to
    the common ancestor.
    """
    undone = _undo(here, finalized)
    last = ChainBlock.objects.order_by("-number").first()
    number, parent = (last.number, last.block_hash) if last else (finalized.number, finalized.hash)
    head = min(here.head().number, finalized.number + BLOCKS_AHEAD_MAX)
    for height in range(number + 1, head + 1):
        block = here.block(height)
        if block is None or block.parent_hash != parent:
            break  # the chain moved while we read; the next run finds the ancestor
        logs = here.block_logs(block, list(addresses))
        _take(block, logs, addresses, keep)
        parent = block.hash
    return undone


@transaction.atomic
def _undo(here: Chain, finalized: Head) -> int:
    ChainBlock.objects.filter(number__lte=finalized.number).delete()
    undone = []
    for row in ChainBlock.objects.select_for_update().order_by("-number"):
        block = here.block(row.number)
        if block is not None and block.hash == row.block_hash:
            break
        undone.append(row)
    hashes = [row.block_hash for row in undone]
    ChainEvent.objects.filter(block_hash__in=hashes, final=False).delete()
    ChainBlock.objects.filter(block_hash__in=hashes).delete()
    if undone:
        log.warning("A reorganisation of depth %s: blocks %s to %s", len(undone), undone[-1].number, undone[0].number)
    return len(undone)


@transaction.atomic
def _take(block: Head, logs: list[Log], addresses: Mapping[str, str], keep: Keep) -> None:
    _, is_new = ChainBlock.objects.get_or_create(
        number=block.number, defaults={"block_hash": block.hash, "parent_hash": block.parent_hash}
    )
    if is_new:  # else another indexer took it while we read
        for log in logs:
            keep(log, addresses[log.address], final=False)
