"""What the contracts say about money, read at one finalized block by `ledger.rails.mirror`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

BOOKED_MARK = "books"  # the ChainMark of the last block that the books have taken in


@dataclass(frozen=True)
class ChainWords:
    """Every figure of the chain that the books mirror, in micro-USD, all at the same block.

    `buyers` maps a party to (free, locked); `classes` maps a class id to (committed, payable, holdback); `stakes` maps
    a class id to bonded plus unbonding, `wallets` the scope of a wallet that we keep for a provider to its tokens.
    """

    block_number: int
    block_hash: str
    escrow_balance: int
    stake_balance: int
    buyers: Mapping[UUID, tuple[int, int]]
    classes: Mapping[int, tuple[int, int, int]]
    stakes: Mapping[int, int]
    fees: int
    pool: int
    wallets: Mapping[UUID, int] = field(default_factory=dict)
