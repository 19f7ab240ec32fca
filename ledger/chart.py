"""The chart of accounts and the transfer codes, as data. The database repeats it in named constraints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Floor(StrEnum):
    """Which side of an account may never be overdrawn."""

    CREDIT = "credit"  # credits posted >= debits posted + debits pending
    DEBIT = "debit"  # debits posted >= credits posted + credits pending
    NONE = "none"


class Side(StrEnum):
    """The side on which an account normally grows."""

    CREDIT = "credit"
    DEBIT = "debit"


class Kind(StrEnum):
    """What a transfer does: move, reserve, or end a reservation in one of three ways."""

    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"
    EXPIRE = "expire"


class Origin(StrEnum):
    """Where the money came from; headline revenue counts `organic` only."""

    ORGANIC = "organic"
    INCENTIVE = "incentive"
    GRANT = "grant"
    SELF_DEALING_SUSPECT = "self_dealing_suspect"


@dataclass(frozen=True)
class Entry:
    """One line of the chart: an account code, what it is kept per, its normal side and its floor."""

    code: str
    side: Side
    floor: Floor
    has_party: bool
    has_scope: bool
    meaning: str

    @property
    def per(self) -> str:
        """Say in words what one account of this code is kept for."""
        return {
            (True, True): "party and scope",
            (True, False): "party",
            (False, True): "scope",
            (False, False): "ledger",
        }[self.has_party, self.has_scope]


def _entry(code: str, side: str, floor: str, per: str, meaning: str) -> Entry:
    return Entry(code, Side(side), Floor(floor), "party" in per, "scope" in per, meaning)


CHART: dict[str, Entry] = {
    entry.code: entry
    for entry in (
        _entry("buyer.available", "credit", "credit", "party", "money the buyer may spend or take back"),
        _entry("buyer.held", "credit", "credit", "party scope", "money for the leases of one window (scope)"),
        _entry("buyer.receivable", "debit", "debit", "party", "what a buyer owes us after a chargeback of spent money"),
        _entry("provider.payable", "credit", "credit", "party scope", "earned by one node class (scope), not paid out"),
        _entry("provider.holdback", "credit", "credit", "party scope", "earned by one node class while it is unproven"),
        _entry("provider.custody", "credit", "credit", "party scope", "in a wallet we keep, not turned into dollars"),
        _entry("stake.mirror", "credit", "credit", "party scope", "stake of one node class, bonded plus unbonding"),
        _entry("foundation.fees", "credit", "credit", "", "fees earned"),
        _entry("foundation.capital", "credit", "credit", "", "own float; pays gas and chargeback losses"),
        _entry("programme.incentive", "credit", "credit", "scope", "incentive money of one programme (scope)"),
        _entry("programme.grant", "credit", "credit", "scope", "grant money of one programme (scope)"),
        _entry("market_maker", "credit", "credit", "", "prefunded; its floor is the loss budget"),
        _entry("insurance.pool", "credit", "credit", "", "receives slash remainders, pays buyers"),
        _entry("invoice.receivable", "debit", "debit", "party scope", "open on one invoice (scope) of an order"),
        _entry("foundation.advanced", "credit", "credit", "", "put forward for purchase orders that were invoiced"),
        _entry("tax.payable", "credit", "credit", "", "tax on invoices, owed to the authorities"),
        _entry("bank.received", "debit", "debit", "", "payments of invoices that came to our bank"),
        _entry("card.clearing", "debit", "none", "", "balance at the card processor; negative on disputes"),
        _entry("chain.escrow", "debit", "debit", "", "finalized token balance of the escrow contract"),
        _entry("chain.stake", "debit", "debit", "", "finalized token balance of the stake contract"),
        _entry("chain.wallet", "debit", "debit", "scope", "finalized token balance of one key (scope) of ours"),
        _entry("chain.clearing", "debit", "none", "", "sent but not finalized; zero when nothing is in flight"),
        _entry("suspense", "credit", "none", "", "money nobody can explain yet; zero by its deadline"),
    )
}

# A transfer out of one of these carries this origin and no other, so subsidised money never becomes organic revenue.
ORIGIN_OF_PROGRAMME = {"programme.incentive": Origin.INCENTIVE, "programme.grant": Origin.GRANT}


class Code(IntEnum):
    """Why money moved. 700 to 799 are payouts: the posting function refuses them on a halted ledger."""

    DEPOSIT = 101
    WITHDRAWAL = 102
    FEES_WITHDRAWN = 103
    CARD_DEPOSIT = 111
    CARD_REFUNDED = 112
    CARD_REFUND_FAILED = 113
    CHARGEBACK = 114
    CHARGEBACK_WON = 115
    CARD_FEE = 116
    CARD_REFUND_RELEASED = 117
    CAPITAL_IN = 121
    CAPITAL_OUT = 122
    EXCHANGED = 131
    EXCHANGE_FINAL = 132
    EXCHANGE_RELEASED = 133
    PAYOUT_SENT = 141
    PAYOUT_RELEASED = 142
    PAYOUT_REVERSED = 143
    TAKEOVER_FINAL = 144
    TAKEOVER_FAILED = 145
    MEMBER_SHARE_FINAL = 146
    MEMBER_SHARE_FAILED = 147
    REWARD_POOL_IN = 151  # capital set aside for rewards, or a reporter's deposit that was lost
    REWARD_FAILED = 152
    GRANT_BUDGET = 161  # in the ledger of credits, as are the next three
    GRANTED = 162
    GRANT_SPENT = 163
    GRANT_LAPSED = 164
    HOLD = 201
    HOLD_RELEASED = 202
    EARNED = 301
    HELD_BACK = 302
    FEE = 303
    RETURNED = 304
    SLA_CREDIT = 305
    COVERED = 306  # a buyer's part of what classes had claimed while nobody settled
    WOUND_UP = 307  # a buyer's share of locked money after wind-up, and what of it had been claimed
    INVOICED = 351
    INVOICE_TAX = 352
    INVOICE_PAID = 353
    HOLDBACK_RELEASED = 401
    HOLDBACK_FORFEITED = 402
    TAKEN_IN = 403  # escrow's coins came into a wallet we keep for their provider: nothing has left us yet
    STAKE = 501
    UNSTAKE = 502
    SLASH_TO_BUYER = 601
    SLASH_TO_POOL = 602
    SLASH_MOVED = 603
    CORRECTION = 650
    PAID_OUT = 701
    CARD_REFUND = 711  # asked for; what the processor then did is booked as CARD_REFUNDED, also on a halted ledger
    CARD_EXCHANGE = 712
    EXCHANGE_SENT = 713
    BANK_PAYOUT = 714  # asked for; what the processor then did is booked as PAYOUT_SENT, also on a halted ledger
    TAKEOVER = 715
    GIVEN_BACK = 716
    MEMBER_SHARE = 717
    REWARD_SENT = 718


PAYOUT_CODES = range(700, 800)
