"""The recipes of invoices behind purchase orders: what a buyer owes until its payment came to our bank.

The Foundation put the money of an order into escrow (a deposit like any other). What was used of it is invoiced; from
then on the invoice is open in the books, with its tax, until it is paid whole. No coin of the chain lies there.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.chart import Code, Origin
from ledger.ids import uuid_from
from ledger.posting import USDC6_LEDGER, Posting, account, post_transfers


@transaction.atomic
def book_invoice(*, invoice: UUID, party: UUID, net: int, tax: int, now: datetime) -> int:
    """Book that an order was invoiced: invoice.receivable -> foundation.advanced (net), tax.payable (tax), one group.

    Amounts in micro-USD; the same invoice is booked once. Raises IdReused when it was booked with other amounts.
    """
    owed = _receivable(party, invoice)
    legs = [(Code.INVOICED, "foundation.advanced", net), (Code.INVOICE_TAX, "tax.payable", tax)]
    moving = [(code, _account(to), amount) for code, to, amount in legs if amount]
    link = uuid_from("invoice", invoice) if len(moving) > 1 else None
    postings = [
        Posting(uuid_from("invoice", invoice, code.name), owed, to, amount, "posted", code, Origin.ORGANIC, link=link)
        for code, to, amount in moving
    ]
    return post_transfers(ledger=USDC6_LEDGER, postings=postings, now=now)


@transaction.atomic
def book_invoice_paid(*, invoice: UUID, party: UUID, amount: int, now: datetime) -> int:
    """Book that an invoice was paid whole: bank.received -> invoice.receivable. Twice is one.

    Raises InsufficientFunds when less is open on it.
    """
    if amount == 0:
        return 0
    paid = Posting(uuid_from("invoice paid", invoice), _account("bank.received"), _receivable(party, invoice), amount,
                   "posted", Code.INVOICE_PAID, Origin.ORGANIC)  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[paid], now=now)


def _receivable(party: UUID, invoice: UUID) -> int:
    return account(ledger=USDC6_LEDGER, code="invoice.receivable", party=party, scope=invoice)


def _account(code: str) -> int:
    return account(ledger=USDC6_LEDGER, code=code, party=None, scope=None)
