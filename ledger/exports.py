"""The books as files: a party's statement, the transfers, the trial balance, each with a manifest to check it by.

An export covers a range of numbers of one ledger. The books are append-only, so the same range is the same file later.
Amounts are whole minor units of the asset named on each row: micro-USD, as every name says. Rows come from a cursor of
the server, page by page, and the manifest is summed from the very rows that were written; how they are written is
`ledger/export_files.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Protocol
from uuid import UUID

from ledger.errors import RangeReversed
from ledger.models import Epoch
from ledger.posting import LEDGERS, USDC6_LEDGER
from ledger.selectors import (
    StatementLine,
    TrialBalance,
    TrialRow,
    epoch_of,
    epochs_within,
    last_seq,
    read_pages,
    reason_of,
    require_written,
    statement,
    trial_balance,
)

PAGE_ROWS = 5_000  # so many rows are in memory at once, and make one row group of a Parquet file
ASSET = "USDC6"
Row = tuple[Any, ...]
Sums = dict[str, dict[str, int]]
Roll = dict[int, tuple[str, str]]  # account number -> code, party or ""
_cells_of_line = attrgetter(*(field.name for field in fields(StatementLine)))
_cells_of_trial_row = attrgetter(*(field.name for field in fields(TrialRow)))


@dataclass(frozen=True)
class Column:
    """One column: its name with the unit, and what stands in it: `integer`, `text` or `time`."""

    name: str
    holds: str = "text"


@dataclass(frozen=True)
class Span:
    """The transfers of a ledger from one number to another, both inside; of books without a transfer, 1 to 0."""

    from_seq: int
    to_seq: int


def span_of(*, from_seq: int | None = None, to_seq: int | None = None) -> Span:
    """Return a range of numbers, from the first to the newest where left open. Raises SeqNotWritten, RangeReversed."""
    for seq in (from_seq, to_seq):
        if seq is not None:
            require_written(seq)
    span = Span(from_seq or 1, last_seq() if to_seq is None else to_seq)
    if from_seq is not None and to_seq is not None and from_seq > to_seq:
        raise RangeReversed("The range ends before it begins.", from_seq=from_seq, to_seq=to_seq)
    return span


def roll_hash(roll: Roll) -> str:
    """Return the SHA-256 (hex) of what each account number stands for: `number,code,party` a line, by number."""
    lines = (f"{number},{code},{party}\n" for number, (code, party) in sorted(roll.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Export(Protocol):
    """Rows in named columns, read once by `pages`, and then the manifest of what was read."""

    name: str
    columns: tuple[Column, ...]

    def pages(self) -> Iterator[list[Row]]:
        """Yield the rows in their order, at most PAGE_ROWS at once."""

    def manifest(self) -> dict[str, Any]:
        """Return what the rows that were read come to."""


class StatementExport:
    """Every movement on a party's accounts in a range, oldest first.

    The manifest has per account code what was posted before, what the rows changed, and the sum of both, which is the
    party's balance at `to_seq`.
    """

    name = "statement"
    columns = (
        Column("seq", "integer"), Column("transfer"), Column("account"), Column("scope"), Column("other_account"),
        Column("kind"), Column("reason"), Column("origin"), Column("change_micros", "integer"),
        Column("balance_after_micros", "integer"), Column("reserved_change_micros", "integer"),
        Column("chain_reference"), Column("effective_at", "time"), Column("posted_at", "time"), Column("asset"),
    )  # fmt: skip

    def __init__(self, party: UUID, span: Span) -> None:
        self._party, self._span, self._rows = party, span, 0
        self._lines = statement(party)
        self._sums: Sums = {}

    def pages(self) -> Iterator[list[Row]]:
        span = self._span
        for code, before in self._lines.posted_before(span.from_seq).items():
            self._of(code)["opening_micros"] = before
        for page in self._lines.pages(from_seq=span.from_seq, to_seq=span.to_seq, rows=PAGE_ROWS):
            self._rows += len(page)
            for line in page:
                sums = self._of(line.account_code)
                sums["change_micros"] += line.change
                sums["reserved_change_micros"] += line.reserved_change
            yield [(*_cells_of_line(line), ASSET) for line in page]

    def manifest(self) -> dict[str, Any]:
        sums = {
            code: {**found, "closing_micros": found["opening_micros"] + found["change_micros"]}
            for code, found in sorted(self._sums.items())
        }
        return _manifest(self.name, self._span, self._rows, sums, party=str(self._party))

    def _of(self, code: str) -> dict[str, int]:
        nothing = {"opening_micros": 0, "change_micros": 0, "reserved_change_micros": 0}
        return self._sums.setdefault(code, nothing)


# `reserved` is what the hold had reserved that a row ends; all of it is free again, `amount` of it posted or not.
_TRANSFERS = """
    select t.seq, t.id, t.kind, t.code, t.origin, t.debit, d.code, d.party, t.credit, c.code, c.party, t.amount,
           p.amount, t.pending_id, t.link, t.timeout_at, t.reference, t.effective_at, t.posted_at
      from ledger_transfer t
      join ledger_account d on d.id = t.debit join ledger_account c on c.id = t.credit
      left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
     where t.ledger = %(ledger)s and t.seq between %(from_seq)s and %(to_seq)s order by t.seq
"""
_SIDES = ("debits_posted_micros", "credits_posted_micros", "debits_pending_micros", "credits_pending_micros")


class TransfersExport:
    """Every transfer of a range, by number. For the Foundation only: it names both parties.

    The manifest has per account code what the rows added to each side: the trial balance at `to_seq` less the one
    before `from_seq`. It names the sealed epochs that lie in the range whole, so that the file can be checked by itself
    (`ledger/offline.py`).
    """

    name = "transfers"
    columns = (
        Column("seq", "integer"), Column("transfer"), Column("kind"), Column("reason"), Column("origin"),
        Column("debit_account", "integer"), Column("debit_code"), Column("debit_party"),
        Column("credit_account", "integer"), Column("credit_code"), Column("credit_party"),
        Column("amount_micros", "integer"), Column("ends_hold_of_micros", "integer"), Column("hold"), Column("link"),
        Column("times_out_at", "time"), Column("chain_reference"), Column("effective_at", "time"),
        Column("posted_at", "time"), Column("asset"),
    )  # fmt: skip

    def __init__(self, span: Span) -> None:
        self._span, self._rows = span, 0
        self._sums: Sums = {}
        self._roll: Roll = {}

    def pages(self) -> Iterator[list[Row]]:
        facts = {"ledger": USDC6_LEDGER, "from_seq": self._span.from_seq, "to_seq": self._span.to_seq}
        for page in read_pages(_TRANSFERS, facts, rows=PAGE_ROWS):
            self._rows += len(page)
            for row in page:
                self._roll[row[5]], self._roll[row[8]] = (row[6], str(row[7] or "")), (row[9], str(row[10] or ""))
                self._add(kind=row[2], debit=row[6], credit=row[9], amount=row[11], reserved=row[12])
            yield [(*row[:3], reason_of(row[3]), *row[4:], ASSET) for row in page]

    def manifest(self) -> dict[str, Any]:
        sums = dict(sorted(self._sums.items()))
        epochs = [_epoch(row) for row in epochs_within(self._span.from_seq, self._span.to_seq)]
        return _manifest(self.name, self._span, self._rows, sums, totals=_totals(sums), epochs=epochs,
                         accounts_sha256=roll_hash(self._roll))  # fmt: skip

    def _add(self, *, kind: str, debit: str, credit: str, amount: int, reserved: int | None) -> None:
        posted = amount if kind in ("posted", "post") else 0
        pending = amount if kind == "pending" else -(reserved or 0)
        for code, side in ((debit, "debits"), (credit, "credits")):
            sums = self._sums.setdefault(code, dict.fromkeys(_SIDES, 0))
            sums[f"{side}_posted_micros"] += posted
            sums[f"{side}_pending_micros"] += pending


class TrialBalanceExport:
    """The trial balance as it stood at a number, one row for each account code; `epoch` is null until it is sealed."""

    name = "trial-balance"
    columns = (
        Column("account"), Column("accounts", "integer"), *(Column(side, "integer") for side in _SIDES),
        Column("balance_micros", "integer"), Column("asset"),
    )  # fmt: skip

    def __init__(self, at_seq: int) -> None:
        self._span = Span(1, at_seq)
        self._trial: TrialBalance = trial_balance(at_seq=at_seq)

    def pages(self) -> Iterator[list[Row]]:
        yield [(*_cells_of_trial_row(row), row.balance, ASSET) for row in self._trial.rows]

    def manifest(self) -> dict[str, Any]:
        sums = {
            row.code: dict(zip(_SIDES, _cells_of_trial_row(row)[2:], strict=True)) for row in self._trial.rows
        }
        return _manifest(self.name, self._span, len(self._trial.rows), sums, totals=_totals(sums))


def _epoch(row: Epoch) -> dict[str, Any]:
    hashes = {name: bytes(getattr(row, name)).hex() for name in ("root", "prev_root", "totals_hash")}
    return {"no": row.no, "from_seq": row.from_seq, "to_seq": row.to_seq, **hashes}


def _totals(sums: Sums) -> dict[str, int]:
    return {side: sum(found[side] for found in sums.values()) for side in _SIDES}


def _manifest(name: str, span: Span, rows: int, sums: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    epoch = epoch_of(span.to_seq)
    return {
        "export": name, "ledger": LEDGERS[ASSET], "asset": ASSET, "unit": "micro-USD", **more,
        "from_seq": span.from_seq, "to_seq": span.to_seq, "epoch": epoch.no if epoch else None, "rows": rows,
        "sums": sums,
    }  # fmt: skip
