"""What the rest of the product may do with the books: one name for each thing, all keyword-only."""

from __future__ import annotations

from ledger.posting import (
    LEDGERS,
    USDC6_LEDGER,
    Posting,
    account,
    halt_ledger,
    open_ledgers,
    post_transfers,
    refuse_if_halted,
    resume_ledger,
)
from ledger.recipes import (
    book_deposit,
    book_holdback_forfeited,
    book_holdback_released,
    book_paid_out,
    book_slash,
    book_stake,
    book_unstake,
    book_withdrawal,
    expire_holds,
    post_hold_posting,
    reserve_hold,
    settle_postings,
    void_hold,
)

__all__ = [
    "LEDGERS",
    "USDC6_LEDGER",
    "Posting",
    "account",
    "book_deposit",
    "book_holdback_forfeited",
    "book_holdback_released",
    "book_paid_out",
    "book_slash",
    "book_stake",
    "book_unstake",
    "book_withdrawal",
    "expire_holds",
    "halt_ledger",
    "open_ledgers",
    "post_hold_posting",
    "post_transfers",
    "refuse_if_halted",
    "reserve_hold",
    "resume_ledger",
    "settle_postings",
    "void_hold",
]
