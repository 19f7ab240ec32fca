"""The card rail's invariants, numbered C1 to C7, recomputed from rows and from what the processor says.

| no | must be true |
|---|---|
| C1 | each line of the processor's balance has exactly its transfers, and the reverse |
| C2 | the books' balance at the processor is the processor's |
| C3 | each hold of card money belongs to an intent that waits, and each intent that waits has its hold |
| C4 | an intent that is done moved its amount once; one that failed moved nothing |
| C5 | coins and dollars changed against each other are equal: 1 cent is 10,000 micro-USD |
| C6 | each transfer at the processor bears the id of an intent of ours, and no two refunds or transfers the same |
| C7 | the wallet kept for a provider holds the coins that the books say lie in it |

C1, C2 and C6 ask the processor, C7 the chain. What cannot be asked is said to be not looked at, never to be right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from ledger import card, connect
from ledger.chart import Code
from ledger.models import BankAccount, CardIntent, CardTransaction, ChainMark
from ledger.posting import USDC6_LEDGER
from ledger.rails import card_books
from ledger.rails.card import id_in
from ledger.rails.errors import ProcessorRefused, ProcessorUnreachable
from ledger.rails.evm import chain
from ledger.rails.stripe import PAGE, ask
from ledger.selectors import balance
from ledger.words import BOOKED_MARK

NAMED_MAX = 3


@dataclass(frozen=True)
class CardFinding:
    """One invariant: whether it holds and what was looked at. `looked` is False where nobody could be asked."""

    invariant: str
    ok: bool
    detail: str
    looked: bool = True


def check_card_rail(*, now: datetime) -> list[CardFinding]:
    """Look at every invariant of the card rail. A difference to the processor halts payouts, as it does every hour."""
    return [*_against_the_processor(now), *(_rows(*check) for check in _CHECKS), *_wallets()]


def _against_the_processor(now: datetime) -> Iterator[CardFinding]:
    if not (CardIntent.objects.exists() or CardTransaction.objects.exists()):
        # A demo's books beside a running market have no part in that market's sandbox.
        yield CardFinding("C1", True, "no card money was ever taken or paid here", looked=False)
        return
    try:
        found = card_books.reconcile(now=now)
        strays, asked = _strays()
    except (ProcessorUnreachable, ProcessorRefused) as error:
        for number in ("C1", "C2", "C6"):
            yield CardFinding(number, True, f"not compared with the card processor: {error}", looked=False)
        return
    lines = [each for each in found if each.line != "balance"]
    told = "; ".join(
        f"{each.line} of {each.source or 'nothing'}: books {each.books_cents}, processor {each.processor_cents} cents"
        for each in lines[:NAMED_MAX]
    )
    known = CardTransaction.objects.count()
    yield CardFinding("C1", not lines, told or f"{known} balance lines, each with its transfers")
    sums = next((each for each in found if each.line == "balance"), None)
    yield CardFinding(
        "C2", sums is None, f"books {sums.books_cents}, processor {sums.processor_cents} cents" if sums
        else f"{balance(code='card.clearing', ledger=card.USD2_LEDGER).minor} cents at the processor and in the books",
    )  # fmt: skip
    told = "; ".join(strays[:NAMED_MAX])
    yield CardFinding("C6", not strays, told or f"{asked} refunds and transfers, none twice and none unasked")


def _strays() -> tuple[list[str], int]:
    """Return the transfers that no intent of ours asked for and the intents that were carried out twice."""
    strays, asked = [], 0
    for kind, made in (
        (CardIntent.Kind.REFUND, ask(lambda c: _all_of(c.refunds))),
        (CardIntent.Kind.PAYOUT, ask(lambda c: _all_of(c.transfers))),
    ):
        named = Counter(id_in(each.metadata) for each in made)
        known = set(CardIntent.objects.filter(kind=kind).values_list("pk", flat=True))
        asked += len(made)
        strays += [f"{count} objects for the {kind} {id}" for id, count in named.items() if id and count > 1]
        # A person may refund a card at the processor's own pages; nobody but us has a reason to transfer.
        strays += [f"{kind} {each.id} names no intent" for each in made
                   if kind == CardIntent.Kind.PAYOUT and id_in(each.metadata) not in known]  # fmt: skip
    return strays, asked


def _all_of(objects: Any) -> list[Any]:
    return list(objects.list(params={"limit": PAGE}).auto_paging_iter())


# What an intent reserved and what it moved, by its id: the first column names what is wrong.
_CHECKS: tuple[tuple[str, str, str], ...] = (
    ("C3", "every hold of card money is waited for",
     """select coalesce(i.kind, 'hold') || ' ' || coalesce(i.id, h.id) as wrong, i.state, h.amount, i.cents
          from (select t.* from ledger_transfer t
                 where t.ledger = %(usd2)s and t.kind = 'pending' and t.code in (%(refund)s, %(payout)s)
                   and not exists (select 1 from ledger_transfer e
                                    where e.ledger = t.ledger and e.pending_id = t.id)) h
          full join (select * from ledger_cardintent where kind in ('refund', 'payout') and state in ('queued', 'open')
                    ) i on i.id = h.id
         where h.id is null and not exists (select 1 from ledger_transfer e
                                             where e.ledger = %(usd2)s and e.pending_id = i.id and e.kind = 'post')
            or i.id is null or h.amount <> i.cents"""),
    ("C4", "what is done moved its amount once, and what failed moved nothing",
     """select i.kind || ' ' || i.id as wrong, i.state, i.cents, sum(e.amount) as moved
          from ledger_cardintent i
          left join ledger_transfer e on e.ledger = %(usd2)s and e.kind = 'post' and e.pending_id = i.id
         where i.kind in ('refund', 'payout')
         group by i.id
        having (i.state = 'done' and sum(e.amount) is distinct from i.cents)
            or (i.state = 'failed' and sum(e.amount) is not null and i.kind = 'payout')"""),
    ("C5", "coins and dollars changed against each other are equal",
     """select 'changed' as wrong, coins.micros, dollars.cents from
          (select coalesce(sum(amount), 0) as micros from ledger_transfer t join ledger_account a
               on a.id in (t.debit, t.credit) and a.ledger = t.ledger and a.code = 'foundation.capital'
            where t.ledger = %(usdc6)s and t.code in (%(takeover)s, %(exchanged)s)
              and t.kind in ('posted', 'post')) coins,
          (select coalesce(sum(amount), 0) as cents from ledger_transfer
            where ledger = %(usd2)s and code in (%(takeover)s, %(exchanged)s) and kind in ('posted', 'post')) dollars
         where coins.micros <> dollars.cents * %(micros)s"""),
)  # fmt: skip


def _rows(invariant: str, sentence: str, query: str) -> CardFinding:
    facts = {
        "usd2": card.USD2_LEDGER, "usdc6": USDC6_LEDGER, "refund": int(Code.CARD_REFUND),
        "payout": int(Code.BANK_PAYOUT), "takeover": int(Code.TAKEOVER), "exchanged": int(Code.EXCHANGED),
        "micros": card.MICROS_PER_CENT,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(query, facts)
        row = cursor.fetchone()
        names = [column.name for column in cursor.description]
    if row is None:
        return CardFinding(invariant, True, sentence)
    rest = ", ".join(f"{name} {value}" for name, value in zip(names[1:], row[1:], strict=True))
    return CardFinding(invariant, False, f"not so that {sentence}: {row[0]} ({rest})")


def _wallets() -> Iterator[CardFinding]:
    """Yield whether each provider's wallet covers the books. More may lie there: its own coins, a stranger's gift."""
    accounts = list(BankAccount.objects.order_by("pk"))
    if not accounts:
        return
    here, wrong = chain(), []
    mark = ChainMark.objects.filter(name=BOOKED_MARK).first()
    for row in accounts:
        books = balance(code="chain.wallet", scope=connect.wallet_of(row.party)).minor
        held = int(here.call("token", "balanceOf", row.wallet, block=mark.block_number if mark else "latest"))
        if held < books:
            wrong.append(f"{row.wallet}: books {books}, chain {held} micro-USD")
    told = "; ".join(wrong[:NAMED_MAX])
    yield CardFinding("C7", not wrong, told or f"{len(accounts)} wallets hold what the books say")
