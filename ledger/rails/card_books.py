"""Books against the card processor: each line of its balance has its transfers, and the reverse; the sums are equal."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from ledger.card import USD2_LEDGER
from ledger.errors import LedgerError
from ledger.models import CardReconciliation, CardTransaction
from ledger.posting import halt_ledger, lock_ledger
from ledger.rails import connect  # noqa: F401  so that transfers can be read anew too
from ledger.rails.card import KIND_OF_SOURCE, sync
from ledger.rails.stripe import PAGE, Told, ask
from ledger.selectors import total

log = logging.getLogger(__name__)
READS_MAX = 3
LINES_TOLD_MAX = 200


@dataclass(frozen=True)
class CardDifference:
    """One line on which books and processor differ, in cents; `line` is the processor's id, or `balance` for all."""

    line: str
    kind: str
    source: str
    books_cents: int
    processor_cents: int


# What each transfer moved on card.clearing, by the balance line it names.
_COMPARED = """
    with moved as (
        select coalesce(convert_from(t.reference, 'UTF8'), 'transfer ' || t.seq) as line,
               sum(case when t.debit = a.id then t.amount else -t.amount end)::bigint as cents
          from ledger_account a join ledger_transfer t on t.ledger = a.ledger and a.id in (t.debit, t.credit)
         where a.ledger = %(ledger)s and a.code = 'card.clearing' and t.kind in ('posted', 'post')
         group by 1)
    select coalesce(l.id, m.line), coalesce(l.kind, ''), coalesce(l.source, ''), coalesce(m.cents, 0)::bigint,
           coalesce(l.net_cents, 0)::bigint
      from ledger_cardtransaction l full join moved m on m.line = l.id
     where m.cents is distinct from l.net_cents and not (l.net_cents = 0 and m.cents is null)
     order by 1
"""


def reconcile(*, now: datetime) -> list[CardDifference]:
    """Compare `card.clearing` with the processor, line by line and in total; what differs halts payouts of card money.

    A line that the books do not know is read anew first: its webhook may have been lost. What then still differs, in
    three looks, is a difference. Keeps one CardReconciliation row.
    """
    for look in range(READS_MAX):
        balance_cents = read_lines()
        differences = _compare(balance_cents)
        if not differences:
            break
        if look < READS_MAX - 1:
            _ask_again(differences, now)
    return _keep(differences, balance_cents, now)


def read_lines() -> int:
    """Mirror the processor's balance lines that are new to us, and return its balance in cents."""
    newest = CardTransaction.objects.order_by("-created_at", "-id").values_list("created_at", flat=True).first()
    params: dict[str, Any] = {"limit": PAGE}
    if newest is not None:  # some may share its second: they are read again, and known
        params["created"] = {"gte": int(newest.timestamp())}
    lines = ask(lambda c: list(c.balance_transactions.list(params=params).auto_paging_iter()))
    rows = [
        CardTransaction(
            id=line.id, kind=line.type, source=str(line.source or ""), amount_cents=line.amount, fee_cents=line.fee,
            net_cents=line.net, created_at=datetime.fromtimestamp(line.created, UTC),
        )
        for line in lines
        if line.currency == "usd"
    ]  # fmt: skip
    CardTransaction.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)
    balance = ask(lambda c: c.balance.retrieve())
    return sum(each.amount for each in [*balance.available, *balance.pending] if each.currency == "usd")


def _compare(balance_cents: int) -> list[CardDifference]:
    with transaction.atomic():
        lock_ledger(USD2_LEDGER)  # the books stand still while they are compared
        with connection.cursor() as cursor:
            cursor.execute(_COMPARED, {"ledger": USD2_LEDGER})
            differences = [CardDifference(*row) for row in cursor.fetchall()]
        books_cents = total("card.clearing", ledger=USD2_LEDGER).minor
    if books_cents != balance_cents:
        differences.append(CardDifference("balance", "", "", books_cents, balance_cents))
    return differences


def _ask_again(differences: list[CardDifference], now: datetime) -> None:
    """Let the books follow the objects behind the lines they do not match; what cannot be explained stays."""
    for found in differences:
        kind = KIND_OF_SOURCE.get(found.source.partition("_")[0])
        if kind is None:
            continue
        try:
            sync(told=Told(kind, found.source), now=now)
        except LedgerError as error:
            log.warning("balance line %s of %s is not explained: %s", found.line, found.source, error)


def _keep(differences: list[CardDifference], balance_cents: int, now: datetime) -> list[CardDifference]:
    with transaction.atomic():
        if differences:
            first = differences[0]
            halt_ledger(
                ledger=USD2_LEDGER,
                reason=f"books and card processor differ in {len(differences)} lines, first {first.line}: "
                f"{first.books_cents} cents in the books, {first.processor_cents} at the processor",
            )
        CardReconciliation.objects.create(
            books_cents=total("card.clearing", ledger=USD2_LEDGER).minor, processor_cents=balance_cents,
            lines=CardTransaction.objects.count(), differences=[asdict(each) for each in differences[:LINES_TOLD_MAX]],
            checked_at=now,
        )  # fmt: skip
    return differences
