"""Refusals of the books.

LedgerError                code                   when
 +- InsufficientFunds      insufficient_funds     the account does not hold that much
 +- IdReused               id_reused              same id, another body; the fact `field` names the first difference
 +- LinkBroken             link_broken            a linked group is not whole: a lone leg, or other members than before
 +- PendingNotFound        pending_not_found      no such hold in this ledger
 +- PendingResolved        pending_resolved       the hold was posted, voided or expired before
 +- PendingMismatch        pending_mismatch       other accounts than the hold, or more than it reserved
 +- PendingTimedOut        pending_timed_out      the hold's time is over: it can only expire
 +- PendingNotTimedOut     pending_not_timed_out  the hold's time is not over: it cannot expire yet
 +- LedgerHalted           ledger_halted          books and chain differ: no payout until the difference is cleared
 +- UnknownAccount         unknown_account        no such account in this ledger
 +- UnknownLedger          unknown_ledger         no such ledger
 +- NotInChart             not_in_chart           the chart of accounts has no such code, party or scope
 +- OriginMismatch         origin_mismatch        subsidised money would be written as something else
 +- AmountOutOfRange       amount_out_of_range    an amount or sum leaves 64 bits
 +- UnlikeAssets           unlike_assets          two assets meet in one sum (also a TypeError)
 +- PostingRefused         posting_refused        a named constraint refused the row; the fact `constraint` says which
 +- Busy                   ledger_busy            too many wait for this ledger: try again a little later
 +- JobKeyReused           job_key_reused         same dedupe key, another job
 +- UnknownJobKind         unknown_job_kind       no handler is registered for this kind of job
 +- EventReused            event_reused           same incoming event, another body
 +- ClockMissing           clock_missing          nobody handed the outbox a clock
 +- SeqNotWritten          seq_not_written        the books have no transfer of this number
 +- RangeReversed          range_reversed         the first number of a range lies behind its last
 +- UnknownFormat          unknown_format         the books are not written in this format
 +- ExportUnreadable       export_unreadable      a file is no export of transfers, or is cut off
 +- JobNotDead             job_not_dead           the job is done or still tried by itself: nobody need help it
 +- StaleWords             stale_words            the chain was read at another block than the books have reached
"""

from __future__ import annotations

from typing import Any


class LedgerError(Exception):
    """A refusal of the books: a sentence for people, a stable `code` and the `facts` to act on."""

    code = "ledger_error"

    def __init__(self, sentence: str, **facts: Any) -> None:
        super().__init__(sentence)
        self.facts = facts


class InsufficientFunds(LedgerError):
    code = "insufficient_funds"


class IdReused(LedgerError):
    code = "id_reused"


class LinkBroken(LedgerError):
    code = "link_broken"


class PendingNotFound(LedgerError):
    code = "pending_not_found"


class PendingResolved(LedgerError):
    code = "pending_resolved"


class PendingMismatch(LedgerError):
    code = "pending_mismatch"


class PendingTimedOut(LedgerError):
    code = "pending_timed_out"


class PendingNotTimedOut(LedgerError):
    code = "pending_not_timed_out"


class LedgerHalted(LedgerError):
    code = "ledger_halted"


class UnknownAccount(LedgerError):
    code = "unknown_account"


class UnknownLedger(LedgerError):
    code = "unknown_ledger"


class NotInChart(LedgerError):
    code = "not_in_chart"


class OriginMismatch(LedgerError):
    code = "origin_mismatch"


class AmountOutOfRange(LedgerError):
    code = "amount_out_of_range"


class UnlikeAssets(LedgerError, TypeError):
    code = "unlike_assets"


class PostingRefused(LedgerError):
    code = "posting_refused"


class Busy(LedgerError):
    code = "ledger_busy"


class JobKeyReused(LedgerError):
    code = "job_key_reused"


class UnknownJobKind(LedgerError):
    code = "unknown_job_kind"


class EventReused(LedgerError):
    code = "event_reused"


class ClockMissing(LedgerError):
    code = "clock_missing"


class SeqNotWritten(LedgerError):
    code = "seq_not_written"


class StaleWords(LedgerError):
    code = "stale_words"


class RangeReversed(LedgerError):
    code = "range_reversed"


class UnknownFormat(LedgerError):
    code = "unknown_format"


class ExportUnreadable(LedgerError):
    code = "export_unreadable"


class JobNotDead(LedgerError):
    code = "job_not_dead"
