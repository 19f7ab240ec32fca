"""The books against their own history, and the books against the chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from ledger.chart import ORIGIN_OF_PROGRAMME
from ledger.epochs import check_epochs
from ledger.errors import StaleWords
from ledger.models import Account, ChainClass, ChainMark, Ledger, Reconciliation
from ledger.posting import USDC6_LEDGER, halt_ledger, lock_ledger
from ledger.selectors import balance, total
from ledger.words import BOOKED_MARK, ChainWords

ITEM_AGE_MAX = timedelta(days=3)  # how long chain.clearing and suspense may hold something
READS_MAX = 5
_ALL = 2**63 - 1


@dataclass(frozen=True)
class Finding:
    """What one look at one invariant found: `detail` names the first wrong row, or says what was looked at."""

    invariant: str
    ok: bool
    detail: str


# Each query returns nothing when the invariant holds, and the first wrong row otherwise. `%(all)s` is the last number.
_CHECKS: tuple[tuple[str, str, str], ...] = (
    ("L1", "debits equal credits, posted and pending apart",
     """select 'ledger ' || ledger as wrong, sum(debits_posted) as debits, sum(credits_posted) as credits,
               sum(debits_pending) as pending_debits, sum(credits_pending) as pending_credits
          from ledger_account where ledger = %(ledger)s group by ledger
        having sum(debits_posted) <> sum(credits_posted) or sum(debits_pending) <> sum(credits_pending)"""),
    ("L2", "every counter is the sum of its history",
     """select 'account ' || coalesce(a.id, f.account) || ' ' || coalesce(a.code, 'unknown') as wrong,
               a.debits_posted, f.debits_posted as history_debits,
               a.credits_posted, f.credits_posted as history_credits,
               a.debits_pending, f.debits_pending as history_pending_debits,
               a.credits_pending, f.credits_pending as history_pending_credits
          from (select * from ledger_account where ledger = %(ledger)s) a
          full join (select account, sum(debits_posted) as debits_posted, sum(credits_posted) as credits_posted,
                            sum(debits_pending) as debits_pending, sum(credits_pending) as credits_pending
                       from transfer_effects(%(ledger)s, 1, %(all)s) group by account) f on f.account = a.id
         where a.id is null
            or a.debits_posted <> coalesce(f.debits_posted, 0) or a.credits_posted <> coalesce(f.credits_posted, 0)
            or a.debits_pending <> coalesce(f.debits_pending, 0) or a.credits_pending <> coalesce(f.credits_pending, 0)
         order by coalesce(a.id, f.account) limit 1"""),
    # One call has one posted_at and is netted before its floors are checked: look at the end of each such run only.
    ("L3", "no floor was broken at any commit",
     """with marked as (
            select seq, posted_at is distinct from lag(posted_at) over (order by seq) as begins
              from ledger_transfer where ledger = %(ledger)s),
        runs as (select seq, sum(begins::int) over (order by seq) as run from marked),
        moved as (
            select e.account, r.run, max(e.seq) as seq, sum(e.debits_posted) as dp, sum(e.credits_posted) as cp,
                   sum(e.debits_pending) as dn, sum(e.credits_pending) as cn
              from transfer_effects(%(ledger)s, 1, %(all)s) e join runs r on r.seq = e.seq group by e.account, r.run),
        held as (
            select m.account, m.seq,
                   sum(m.cp - m.dp - m.dn) over past as credit_room, sum(m.dp - m.cp - m.cn) over past as debit_room
              from moved m window past as (partition by m.account order by m.run))
        select 'transfer ' || h.seq || ' on account ' || a.id || ' ' || a.code as wrong,
               case a.floor when 'credit' then h.credit_room else h.debit_room end as room
          from held h join ledger_account a on a.id = h.account
         where (a.floor = 'credit' and h.credit_room < 0) or (a.floor = 'debit' and h.debit_room < 0)
         order by h.seq limit 1"""),
    ("L4", "an id exists once",
     """select 'transfer id ' || id as wrong, count(*) as times from ledger_transfer
         where ledger = %(ledger)s group by id having count(*) > 1 order by min(seq) limit 1"""),
    ("L6", "transfers stay in their ledger",
     """select 'transfer ' || t.seq as wrong, t.debit, d.ledger as debit_ledger, t.credit, c.ledger as credit_ledger
          from ledger_transfer t left join ledger_account d on d.id = t.debit
          left join ledger_account c on c.id = t.credit
         where t.ledger = %(ledger)s and (d.ledger is distinct from t.ledger or c.ledger is distinct from t.ledger)
         order by t.seq limit 1"""),
    ("L6", "linked groups are whole",
     """select 'link ' || link as wrong, count(*) as members, min(seq) as first, max(seq) as last
          from ledger_transfer where ledger = %(ledger)s and link is not null
         group by link having count(*) < 2 or count(distinct posted_at) > 1 order by min(seq) limit 1"""),
    ("L7", "a hold ends at most once",
     """select 'hold ' || pending_id as wrong, count(*) as times from ledger_transfer
         where ledger = %(ledger)s and pending_id is not null
         group by pending_id having count(*) > 1 order by min(seq) limit 1"""),
    ("L7", "a hold ends as it began, in time, and gives no more than it reserved",
     """select 'transfer ' || t.seq as wrong, t.kind, t.pending_id, t.amount, p.amount as reserved, p.timeout_at
          from ledger_transfer t left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
         where t.ledger = %(ledger)s and t.pending_id is not null
           and (p.id is null or p.kind <> 'pending' or p.seq >= t.seq or p.debit <> t.debit or p.credit <> t.credit
                or t.amount > p.amount or (t.kind <> 'post' and t.amount <> p.amount)
                or (t.kind <> 'expire' and p.timeout_at <= t.posted_at)
                or (t.kind = 'expire' and (p.timeout_at is null or p.timeout_at > t.posted_at)))
         order by t.seq limit 1"""),
    ("L8", "the numbers have no gap",
     """select 'number ' || coalesce(n.number, n.seq) as wrong, l.next_seq
          from ledger_ledger l
          left join (select seq, row_number() over (order by seq) as number
                       from ledger_transfer where ledger = %(ledger)s) n on n.seq <> n.number
         where l.id = %(ledger)s
           and (n.seq is not null
                or l.next_seq <> 1 + (select coalesce(max(seq), 0) from ledger_transfer where ledger = %(ledger)s))
         order by n.number limit 1"""),
    ("L13", "money of a programme keeps its origin",
     """select 'transfer ' || t.seq as wrong, a.code, t.origin
          from ledger_transfer t join ledger_account a on a.id = t.debit
         where t.ledger = %(ledger)s and %(origins)s::jsonb ? a.code
           and t.origin <> %(origins)s::jsonb ->> a.code order by t.seq limit 1"""),
    ("L13", "a hold's origin is that of its pending",
     """select 'transfer ' || t.seq as wrong, t.origin, p.origin as origin_of_the_hold
          from ledger_transfer t join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
         where t.ledger = %(ledger)s and t.origin <> p.origin order by t.seq limit 1"""),
    ("L16", "what is open on an invoice was invoiced and is paid whole, and nothing else moves it",
     """select 'account ' || a.id || ' ' || a.code as wrong, a.scope as invoice,
               coalesce(sum(t.amount) filter (where t.debit = a.id), 0) as invoiced,
               coalesce(sum(t.amount) filter (where t.credit = a.id), 0) as paid
          from ledger_account a
          join ledger_transfer t on t.ledger = a.ledger and array[t.debit, t.credit] @> array[a.id]
         where a.ledger = %(ledger)s and a.code = 'invoice.receivable'
         group by a.id
        having count(*) filter (where t.kind <> 'posted' or not (
                   (t.debit = a.id and t.code in (351, 352)) or (t.credit = a.id and t.code = 353))) > 0
            or coalesce(sum(t.amount) filter (where t.credit = a.id), 0) not in (
                   0, coalesce(sum(t.amount) filter (where t.debit = a.id), 0))
         order by a.id limit 1"""),
    ("L16", "what was invoiced is put forward or is tax, and is open or was paid at our bank",
     """select 'ledger ' || ledger as wrong,
               coalesce(sum(debits_posted - credits_posted) filter (
                   where code in ('invoice.receivable', 'bank.received')), 0) as owed_and_paid,
               coalesce(sum(credits_posted - debits_posted) filter (
                   where code in ('foundation.advanced', 'tax.payable')), 0) as advanced_and_tax
          from ledger_account
         -- Credits of grants (3) have no invoices: what programmes paid in and what was spent differ by what is left.
         where ledger = %(ledger)s and ledger <> 3 group by ledger
        having coalesce(sum(debits_posted - credits_posted) filter (where code in (
            'invoice.receivable', 'bank.received', 'foundation.advanced', 'tax.payable')), 0) <> 0"""),
)  # fmt: skip
_LEFT_LYING = """
    select 'account ' || a.id || ' ' || a.code as wrong, a.debits_posted - a.credits_posted as left_over,
           max(t.posted_at) as since
      from ledger_account a join ledger_transfer t on t.ledger = a.ledger and array[t.debit, t.credit] @> array[a.id]
     where a.ledger = %(ledger)s and a.code in ('chain.clearing', 'suspense') and a.debits_posted <> a.credits_posted
     group by a.id having max(t.posted_at) < %(oldest)s order by a.id limit 1"""


def check_books(*, now: datetime | None = None) -> list[Finding]:
    """Recompute the invariants of every ledger from its transfers, and name the first wrong row of each.

    With `now`, L9 is looked at too: clearing and suspense accounts hold nothing that is older than its deadline. An
    intact ledger gives findings that are all `ok`.
    """
    ledgers = Ledger.objects.order_by("pk").values_list("pk", flat=True)
    return [finding for ledger in ledgers for finding in check_ledger(ledger, now=now)]


def check_ledger(ledger: int, *, now: datetime | None = None) -> list[Finding]:
    """Return what `check_books` says of one ledger."""
    checks = [*_CHECKS]
    if now is not None:
        checks.append(("L9", "nothing lies in clearing or suspense beyond its deadline", _LEFT_LYING))
    findings = [_look(ledger, *check, now=now) for check in checks]
    return findings + [Finding("L8", ok, f"ledger {ledger}: {detail}") for ok, detail in check_epochs(ledger)]


def _look(ledger: int, invariant: str, sentence: str, query: str, *, now: datetime | None) -> Finding:
    facts: dict[str, Any] = {
        "ledger": ledger,
        "all": _ALL,
        "origins": json.dumps(ORIGIN_OF_PROGRAMME),
        "oldest": now and now - ITEM_AGE_MAX,
    }
    with connection.cursor() as cursor:
        cursor.execute(query, facts)
        row = cursor.fetchone()
        if row is None:
            return Finding(invariant, True, f"ledger {ledger}: {sentence}")
        names = [column.name for column in cursor.description]
    rest = ", ".join(f"{name} {value}" for name, value in zip(names[1:], row[1:], strict=True))
    return Finding(invariant, False, f"ledger {ledger}: not so that {sentence}: {row[0]} ({rest})")


@dataclass(frozen=True)
class Difference:
    """One figure on which books and chain differ, in micro-USD; `subject` is a party, a class id or empty."""

    figure: str
    subject: str
    books: int
    chain: int


@transaction.atomic
def compare_with_chain(words: ChainWords, *, now: datetime) -> list[Difference]:
    """Compare what the books mirror with what the contracts say, and halt the ledger on any difference.

    Writes one Reconciliation row with every figure. Raises StaleWords if the indexer has moved on since the words were
    read: what is in flight is no difference.
    """
    lock_ledger(USDC6_LEDGER)  # the books stand still while they are compared
    mark = ChainMark.objects.filter(name=BOOKED_MARK).first()
    if mark is not None and (mark.block_number, mark.block_hash) != (words.block_number, words.block_hash):
        raise StaleWords(
            "The chain was read at another block than the books have reached.",
            read_at_block=words.block_number, booked_to_block=mark.block_number,
        )  # fmt: skip
    figures = list(_figures(words))
    differences = [figure for figure in figures if figure.books != figure.chain]
    if differences:
        first = differences[0]
        figure = f"{first.figure} {first.subject}".strip()
        halt_ledger(
            ledger=USDC6_LEDGER,
            reason=f"books and chain differ in {len(differences)} figures at block {words.block_number}, "
            f"first {figure}: {first.books} in the books, {first.chain} on chain",
        )
    Reconciliation.objects.create(
        ledger_id=USDC6_LEDGER, block_number=words.block_number, block_hash=words.block_hash,
        figures=[asdict(figure) for figure in figures], differences=[asdict(found) for found in differences],
        checked_at=now,
    )  # fmt: skip
    return differences


def compare_when_still(read_words: Callable[[], ChainWords], *, now: datetime) -> list[Difference]:
    """Compare with freshly read words, reading again when the indexer moved on meanwhile. Raises StaleWords at last."""
    for _ in range(READS_MAX - 1):
        try:
            return compare_with_chain(read_words(), now=now)
        except StaleWords:
            continue
    return compare_with_chain(read_words(), now=now)


def _figures(words: ChainWords) -> Iterator[Difference]:
    """Yield every pair of figures; what only one side knows is compared with zero."""
    yield _custody("escrow balance", total("chain.escrow").minor, words.escrow_balance)
    yield _custody("stake balance", total("chain.stake").minor, words.stake_balance)
    for scope, tokens in sorted(words.wallets.items(), key=str):  # its owner may have coins of its own there too
        yield _custody("wallet", balance(code="chain.wallet", scope=scope).minor, tokens, str(scope))
    yield Difference("fees", "", total("foundation.fees").minor, words.fees)
    yield Difference("pool", "", total("insurance.pool").minor, words.pool)
    free, held = _sums("buyer.available", "party"), _sums("buyer.held", "party")
    for party in sorted(free.keys() | held.keys() | words.buyers.keys(), key=str):
        chain_free, chain_locked = words.buyers.get(party, (0, 0))
        yield Difference("free", str(party), free.get(party, 0), chain_free)
        yield Difference("locked", str(party), held.get(party, 0), chain_locked)
    number_of = dict(ChainClass.objects.values_list("node_class", "class_id"))
    payable, holdback, stakes = (
        {number_of.get(scope, scope): amount for scope, amount in _sums(code, "scope").items()}
        for code in ("provider.payable", "provider.holdback", "stake.mirror")
    )
    known = payable.keys() | holdback.keys() | stakes.keys() | words.classes.keys() | words.stakes.keys()
    for class_id in sorted(known, key=str):
        _, chain_payable, chain_holdback = words.classes.get(class_id, (0, 0, 0))
        yield Difference("payable", str(class_id), payable.get(class_id, 0), chain_payable)
        yield Difference("holdback", str(class_id), holdback.get(class_id, 0), chain_holdback)
        yield Difference("stake", str(class_id), stakes.get(class_id, 0), words.stakes.get(class_id, 0))


def _custody(figure: str, books: int, chain: int, subject: str = "") -> Difference:
    """A contract's or wallet's tokens must cover the books (E1, S1). Tokens sent to it unasked halt no payout.

    Otherwise anybody could stop the market with one micro-USD. What the contract itself counts is compared exactly.
    """
    return Difference(figure, subject, books, min(books, chain))


def _sums(code: str, per: str) -> dict[Any, int]:
    """Posted credit balance of one code by party or scope. What is only reserved is not locked on chain yet."""
    sums: dict[Any, int] = {}
    for account in Account.objects.filter(ledger_id=USDC6_LEDGER, code=code):
        key = getattr(account, per)
        sums[key] = sums.get(key, 0) + account.balance_minor
    return sums
