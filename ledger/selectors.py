"""Reads of the books: balances, the trial balance, a party's statement, holds. Amounts are minor units of the asset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet, Sum

from ledger.chart import CHART, Code, Kind, Side
from ledger.errors import NotInChart, PendingNotFound, SeqNotWritten
from ledger.models import Account, Epoch, Ledger, Transfer
from ledger.money import ASSETS, Money
from ledger.posting import LEDGERS, USDC6_LEDGER

_ASSET_OF = {number: ASSETS[code] for code, number in LEDGERS.items()}


def _accounts(code: str, party: UUID | None, scope: UUID | None, ledger: int) -> QuerySet[Account]:
    if code not in CHART:
        raise NotInChart("The chart of accounts has no such code.", account_code=code)
    accounts = Account.objects.filter(ledger_id=ledger, code=code)
    if party is not None:
        accounts = accounts.filter(party=party)
    return accounts if scope is None else accounts.filter(scope=scope)


def balance(
    *, code: str, party: UUID | None = None, scope: UUID | None = None, ledger: int = USDC6_LEDGER
) -> Money:
    """Return what is posted on the normal side, zero for an account that was never opened.

    A party or scope that is left open is summed over: `balance(code="buyer.held", party=p)` is all windows together.
    """
    sums = _accounts(code, party, scope, ledger).aggregate(d=Sum("debits_posted"), c=Sum("credits_posted"))
    difference = int(sums["c"] or 0) - int(sums["d"] or 0)
    return Money(difference if CHART[code].side is Side.CREDIT else -difference, _ASSET_OF[ledger])


def reserved(
    *, code: str, party: UUID | None = None, scope: UUID | None = None, ledger: int = USDC6_LEDGER
) -> Money:
    """Return what open holds have reserved out of the account, and what can therefore not be spent."""
    column = "debits_pending" if CHART[code].side is Side.CREDIT else "credits_pending"
    sums = _accounts(code, party, scope, ledger).aggregate(out=Sum(column))
    return Money(int(sums["out"] or 0), _ASSET_OF[ledger])


def spendable(
    *, code: str, party: UUID | None = None, scope: UUID | None = None, ledger: int = USDC6_LEDGER
) -> Money:
    """Return the balance less what open holds have reserved out of it."""
    return balance(code=code, party=party, scope=scope, ledger=ledger) - reserved(
        code=code, party=party, scope=scope, ledger=ledger
    )


def total(code: str, *, ledger: int = USDC6_LEDGER) -> Money:
    """Return the balance of all accounts of one code together."""
    return balance(code=code, ledger=ledger)


@dataclass(frozen=True)
class TrialRow:
    """All accounts of one code together; `balance` on the normal side."""

    code: str
    accounts: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int

    @property
    def balance(self) -> int:
        difference = self.credits_posted - self.debits_posted
        return difference if CHART[self.code].side is Side.CREDIT else -difference


@dataclass(frozen=True)
class TrialBalance:
    """Every code of the chart that has accounts, in the chart's order, and the sums that must be equal."""

    rows: tuple[TrialRow, ...]

    @property
    def debits_posted(self) -> int:
        return sum(row.debits_posted for row in self.rows)

    @property
    def credits_posted(self) -> int:
        return sum(row.credits_posted for row in self.rows)

    @property
    def debits_pending(self) -> int:
        return sum(row.debits_pending for row in self.rows)

    @property
    def credits_pending(self) -> int:
        return sum(row.credits_pending for row in self.rows)

    @property
    def is_balanced(self) -> bool:
        return self.debits_posted == self.credits_posted and self.debits_pending == self.credits_pending


# What each account had once the transfers up to a number were written: its history, added up.
_COUNTERS_AT = """
    with written as (select t.*, p.amount as reserved
                       from ledger_transfer t
                       left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
                      where t.ledger = %(ledger)s and t.seq <= %(seq)s),
    moved as (select debit as account, amount, reserved, kind, true as is_debit from written
              union all select credit, amount, reserved, kind, false from written),
    added as (
        select account, is_debit, sum(case when kind in ('posted', 'post') then amount else 0 end) as posted,
               sum(case when kind = 'pending' then amount when kind = 'posted' then 0 else -reserved end) as pending
          from moved group by account, is_debit)
    select a.code, count(distinct a.id), sum(case when is_debit then posted else 0 end),
           sum(case when is_debit then 0 else posted end), sum(case when is_debit then pending else 0 end),
           sum(case when is_debit then 0 else pending end)
      from added join ledger_account a on a.id = added.account group by a.code
"""
_COUNTERS = """
    select code, count(*), sum(debits_posted), sum(credits_posted), sum(debits_pending), sum(credits_pending)
      from ledger_account where ledger = %(ledger)s group by code
"""


def last_seq(*, ledger: int = USDC6_LEDGER) -> int:
    """Return the number of the newest transfer, 0 for books without one."""
    return Ledger.objects.get(pk=ledger).next_seq - 1


def require_written(seq: int, *, ledger: int = USDC6_LEDGER) -> None:
    """Raise SeqNotWritten for a number that is not in the books."""
    last = last_seq(ledger=ledger)
    if not 1 <= seq <= last:
        raise SeqNotWritten("The books have no transfer of this number.", seq=seq, last_seq=last)


def seq_at(at: datetime, *, ledger: int = USDC6_LEDGER) -> int:
    """Return the number of the last transfer that was booked (`posted_at`) at `at` or before. Raises SeqNotWritten."""
    booked = Transfer.objects.filter(ledger=ledger, posted_at__lte=at)
    seq = booked.order_by("-seq").values_list("seq", flat=True).first()
    if seq is None:
        raise SeqNotWritten("Nothing was booked by that time.", at=at.isoformat())
    return seq


def epoch_of(seq: int, *, ledger: int = USDC6_LEDGER) -> Epoch | None:
    """Return the sealed epoch that a number lies in, None while it is not sealed."""
    return Epoch.objects.filter(ledger=ledger, from_seq__lte=seq, to_seq__gte=seq).first()


def epochs_within(from_seq: int, to_seq: int, *, ledger: int = USDC6_LEDGER) -> list[Epoch]:
    """Return the sealed epochs of which every transfer lies in a range of numbers, oldest first."""
    return list(Epoch.objects.filter(ledger=ledger, from_seq__gte=from_seq, to_seq__lte=to_seq).order_by("no"))


def trial_balance(*, ledger: int = USDC6_LEDGER, at_seq: int | None = None) -> TrialBalance:
    """Return debits and credits of every code of one ledger, posted and pending apart.

    `at_seq`: as the books stood when the transfer of this number was the last one, from their history; then only
    accounts that had moved are counted. Raises SeqNotWritten for a number that is not in the books.
    """
    if at_seq is not None:
        require_written(at_seq, ledger=ledger)
    with connection.cursor() as cursor:
        cursor.execute(_COUNTERS if at_seq is None else _COUNTERS_AT, {"ledger": ledger, "seq": at_seq})
        found = {row[0]: TrialRow(row[0], *(int(value) for value in row[1:])) for row in cursor.fetchall()}
    return TrialBalance(tuple(found[code] for code in CHART if code in found))


@dataclass(frozen=True)
class StatementLine:
    """One transfer as one account of a party sees it.

    `change` is what it posted to that account's normal side and `balance_after` the posted balance then;
    `reserved_change` is what it reserved out of the account (negative: released). All are minor units.
    """

    seq: int
    transfer: UUID
    account_code: str
    scope: UUID | None
    other_code: str
    kind: str
    reason: str
    origin: str
    change: int
    balance_after: int
    reserved_change: int
    reference: bytes | None
    effective_at: datetime
    posted_at: datetime


# A hold on a party's money is seen on the account it comes from only: on the other side nothing has arrived yet.
_STATEMENT = """
    with mine as (select id, code, scope from ledger_account
                   where ledger = %(ledger)s and party = %(party)s),
    moved as (
        select t.*, m.id as account, m.code as account_code, m.scope,
               case when t.debit = m.id then t.credit else t.debit end as other,
               (case when (t.debit = m.id) = (m.code = any(%(debit_codes)s)) then 1 else -1 end) as sign,
               case when t.kind in ('posted', 'post') then t.amount else 0 end as posted,
               case t.kind when 'posted' then 0 when 'pending' then t.amount else -p.amount end as pending
          from mine m
          join ledger_transfer t on t.ledger = %(ledger)s and array[t.debit, t.credit] @> array[m.id]
          left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id)
    select v.seq, v.id, v.account_code, v.scope, o.code as other_code, v.kind, v.code as reason, v.origin,
           v.sign * v.posted as posted_change,
           (sum(v.sign * v.posted) over (partition by v.account order by v.seq))::bigint as balance_after,
           case when v.sign < 0 then v.pending else 0 end as reserved_change, v.reference, v.effective_at, v.posted_at
      from moved v join ledger_account o on o.id = v.other
"""
_LINES = f"select * from ({_STATEMENT}) shown where (posted_change <> 0 or reserved_change <> 0)"
_NEWEST_FIRST = " order by seq desc, account_code, scope"


class Statement(Sequence[StatementLine]):
    """The lines of one party, newest first, read page by page: it can be sliced, counted and walked through."""

    def __init__(self, party: UUID, ledger: int) -> None:
        debit_codes = [code for code, entry in CHART.items() if entry.side is Side.DEBIT]
        self._facts: dict[str, Any] = {"party": party, "ledger": ledger, "debit_codes": debit_codes}

    def _read(self, tail: str, **more: int) -> list[StatementLine]:
        with connection.cursor() as cursor:
            cursor.execute(_LINES + tail, {**self._facts, **more})
            return [_line(row) for row in cursor.fetchall()]

    def __len__(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"select count(*) from ({_LINES}) lines", self._facts)
            return int(cursor.fetchone()[0])

    @overload
    def __getitem__(self, place: int) -> StatementLine: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[StatementLine]: ...
    def __getitem__(self, place: int | slice) -> StatementLine | Sequence[StatementLine]:
        numbers = range(len(self))
        wanted = numbers[place] if isinstance(place, slice) else range(numbers[place], numbers[place] + 1)
        if wanted.step != 1:
            raise ValueError("a statement is read in its own order")
        page = _NEWEST_FIRST + " limit %(limit)s offset %(offset)s"
        lines = self._read(page, limit=len(wanted), offset=wanted.start)
        return lines if isinstance(place, slice) else lines[0]

    def __iter__(self) -> Iterator[StatementLine]:
        return iter(self._read(_NEWEST_FIRST))

    def pages(self, *, from_seq: int, to_seq: int, rows: int) -> Iterator[list[StatementLine]]:
        """Yield the lines of a range of numbers, oldest first, at most `rows` at once, from a cursor of the server."""
        tail = " and seq between %(from_seq)s and %(to_seq)s order by seq, account_code, scope"
        for page in read_pages(_LINES + tail, {**self._facts, "from_seq": from_seq, "to_seq": to_seq}, rows=rows):
            yield [_line(row) for row in page]

    def posted_before(self, seq: int) -> dict[str, int]:
        """Return what was posted, by account code and on its normal side, by the transfers before a number."""
        query = f"select account_code, sum(posted_change) from ({_LINES}) lines where seq < %(seq)s group by 1"
        with connection.cursor() as cursor:
            cursor.execute(query, {**self._facts, "seq": seq})
            return {code: int(sum_minor) for code, sum_minor in cursor.fetchall()}


def read_pages(query: str, facts: dict[str, Any], *, rows: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a query, at most `rows` at once; the server keeps the others, whatever their number."""
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(query, facts)
        while page := cursor.fetchmany(rows):
            yield page


def reason_of(code: int) -> str:
    """Return the word for a transfer's code; a code that the chart does not know stays a number."""
    return Code(code).name.lower() if code in set(Code) else str(code)


def _line(row: Sequence[Any]) -> StatementLine:
    values = list(row)
    values[6] = reason_of(values[6])
    return StatementLine(*values)


def statement(party: UUID, *, ledger: int = USDC6_LEDGER) -> Statement:
    """Return every movement on the accounts of one party, newest first, with running balances; empty for a stranger."""
    return Statement(party, ledger)


@dataclass(frozen=True)
class Hold:
    """A hold and what became of it: `state` is open, posted, void or expire; `posted_minor` what was taken of it."""

    id: UUID
    amount_minor: int
    posted_minor: int
    state: str
    timeout_at: datetime | None


def hold(id: UUID, *, ledger: int = USDC6_LEDGER) -> Hold:
    """Return one hold. Raises PendingNotFound."""
    pending = Transfer.objects.filter(ledger=ledger, id=id, kind=Kind.PENDING.value).first()
    if pending is None:
        raise PendingNotFound("There is no such hold.", pending_id=str(id))
    end = Transfer.objects.filter(ledger=ledger, pending_id=id).first()
    state = "open" if end is None else {"post": "posted"}.get(end.kind, end.kind)
    posted = end.amount if end is not None and state == "posted" else 0
    return Hold(id, pending.amount, posted, state, pending.timeout_at)


def halt_reason(*, ledger: int = USDC6_LEDGER) -> str:
    """Return why payouts stand still, or an empty text if they do not."""
    return Ledger.objects.filter(pk=ledger, halted=True).values_list("halted_reason", flat=True).first() or ""
