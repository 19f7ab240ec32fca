"""Every table of the ledger, in two rooms: the books with their outbox, and the rails."""

from __future__ import annotations

from ledger.models.books import TOUCHED, Account, Epoch, EpochAnchor, Inbox, Ledger, Outbox, Reconciliation, Transfer
from ledger.models.rails import (
    BankAccount,
    CardIntent,
    CardReconciliation,
    CardTransaction,
    ChainAddress,
    ChainAttempt,
    ChainBlock,
    ChainClass,
    ChainContract,
    ChainEvent,
    ChainIntent,
    ChainMark,
    KeyCoin,
    KeyUse,
)

__all__ = [
    "TOUCHED",
    "Account",
    "BankAccount",
    "CardIntent",
    "CardReconciliation",
    "CardTransaction",
    "ChainAddress",
    "ChainAttempt",
    "ChainBlock",
    "ChainClass",
    "ChainContract",
    "ChainEvent",
    "ChainIntent",
    "ChainMark",
    "Epoch",
    "EpochAnchor",
    "Inbox",
    "KeyCoin",
    "KeyUse",
    "Ledger",
    "Outbox",
    "Reconciliation",
    "Transfer",
]
