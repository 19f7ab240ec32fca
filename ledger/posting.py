"""The one way to write transfers: `post_transfers`, inside the caller's transaction.

Few transfers go to a set-based SQL function, many by COPY (`ledger/bulk.py`); for callers that meet at one hot account
there is `ledger/poster.py`. Nobody chooses rules by choosing a path: they stand in one trigger behind all of them
(`migrations/0004_one_wall_for_every_path.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, connection, transaction

from ledger import bulk, faults
from ledger.chart import CHART
from ledger.errors import (
    AmountOutOfRange,
    IdReused,
    InsufficientFunds,
    LedgerError,
    LedgerHalted,
    LinkBroken,
    NotInChart,
    OriginMismatch,
    PendingMismatch,
    PendingNotFound,
    PendingNotTimedOut,
    PendingResolved,
    PendingTimedOut,
    PostingRefused,
    UnknownAccount,
    UnknownLedger,
)
from ledger.models import Account, Ledger
from ledger.money import require_int64

# The ledgers that exist; the number is part of every key, so it never changes.
LEDGERS = {"USDC6": 1, "USD2": 2, "GRANT": 3, "PLAY": 4}
USDC6_LEDGER = LEDGERS["USDC6"]

_FLOORS = {"account_never_spends_more_than_it_holds", "account_never_gives_more_than_it_took"}
_REFUSALS: dict[str, type[LedgerError]] = {
    refusal.code: refusal
    for refusal in (
        IdReused, LedgerHalted, LinkBroken, OriginMismatch, PendingMismatch, PendingNotFound, PendingNotTimedOut,
        PendingTimedOut, UnknownAccount, UnknownLedger,
    )
}  # fmt: skip
_ARRAYS = """%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::smallint[], %s::text[], %s::uuid[],
    %s::uuid[], %s::timestamptz[], %s::bytea[], %s::timestamptz[]"""
_POST = f"select post_transfers(%s, %s, {_ARRAYS})"
_POST_RUN = f"select post_run(%s, %s, {_ARRAYS}, %s::int[])"
COPY_FROM = 500  # so many transfers are faster by COPY


@dataclass(frozen=True, slots=True)
class Posting:
    """One transfer to be written: `amount` minor units from account `debit` to account `credit`.

    The caller makes `id` and keeps it before it sends the posting: the same id with the same body is written once.
    `origin` has no default, because it is inherited from the money's source. `effective_at` is business time; left
    open, it becomes the time of posting.
    """

    id: UUID
    debit: int
    credit: int
    amount: int
    kind: Literal["posted", "pending", "post", "void", "expire"]
    code: int
    origin: str
    pending_id: UUID | None = None
    link: UUID | None = None
    timeout_at: datetime | None = None
    reference: bytes | None = None
    effective_at: datetime | None = None

    def __post_init__(self) -> None:
        for what in ("debit", "credit", "amount"):
            require_int64(getattr(self, what), what=what)

    def as_json(self) -> dict[str, Any]:
        """Return this posting as JSON values, for a plan that waits until the chain has spoken."""
        return {
            "id": str(self.id),
            "debit": self.debit,
            "credit": self.credit,
            "amount": self.amount,
            "kind": str(self.kind),
            "code": int(self.code),
            "origin": str(self.origin),
            "pending_id": str(self.pending_id) if self.pending_id else None,
            "link": str(self.link) if self.link else None,
            "timeout_at": self.timeout_at.isoformat() if self.timeout_at else None,
            "reference": self.reference.hex() if self.reference is not None else None,
            "effective_at": self.effective_at.isoformat() if self.effective_at else None,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Posting:
        """Return the posting that `as_json` wrote."""
        values = dict(row)
        values["id"] = UUID(values["id"])
        for name in ("pending_id", "link"):
            values[name] = UUID(values[name]) if values[name] else None
        for name in ("timeout_at", "effective_at"):
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        values["reference"] = bytes.fromhex(values["reference"]) if values["reference"] is not None else None
        return cls(**values)

    def with_reference(self, reference: bytes) -> Posting:
        """Return this posting with the event that caused it."""
        return replace(self, reference=reference)


def post_transfers(*, ledger: int, postings: Sequence[Posting], now: datetime) -> int:
    """Write all postings or none, and return how many were new.

    Works inside the caller's transaction; a refusal leaves that transaction usable. The same id with the same body is
    success and writes nothing. Raises IdReused, InsufficientFunds, LinkBroken, Pending*, LedgerHalted, OriginMismatch,
    UnknownAccount, UnknownLedger, AmountOutOfRange, or PostingRefused with the name of the constraint.
    """
    if not postings:
        return 0
    faults.point("ledger.post.before")
    written = _copy(ledger, postings, now) if len(postings) >= COPY_FROM else None
    if written is None:
        arrays = bulk.arrays(postings)
        with _typed_refusals(ledger, postings), _savepoint(), connection.cursor() as cursor:
            cursor.execute(_POST, [ledger, now, *arrays])
            written = int(cursor.fetchone()[0])
    faults.point("ledger.post.after")
    return written


class NotTogether(Exception):
    """Written together, these groups would not each have the answer that they have alone."""


def post_run(*, ledger: int, groups: Sequence[Sequence[Posting]], now: datetime) -> int:
    """Write the groups of several callers by one statement, and return how many transfers were new; for the poster.

    Outside a transaction all is durable when this returns. Raises what `post_transfers` raises, and NotTogether where
    one of several groups would have had another answer alone, or holds an id that is known.
    """
    postings = [posting for group in groups for posting in group]
    places = [place for place, group in enumerate(groups) for _ in group]
    try:
        with _typed_refusals(ledger, postings), _savepoint(), connection.cursor() as cursor:
            cursor.execute(_POST_RUN, [ledger, now, *bulk.arrays(postings), places])
            return int(cursor.fetchone()[0])
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == "GL003":
            raise NotTogether from error
        raise


def _copy(ledger: int, postings: Sequence[Posting], now: datetime) -> int | None:
    """Write all by COPY; None where the database refused, whatever for.

    COPY knows no id that was posted before, and gives its refusals row by row. What it refuses is asked again of the
    function, so that the answer to a call does not depend on its length.
    """
    try:
        with transaction.atomic():
            return bulk.copy(ledger, postings, now)
    except (bulk.NotForCopy, IntegrityError, DataError):
        return None
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != "GL000":
            raise
        return None


@contextmanager
def _savepoint() -> Iterator[None]:
    """Keep the caller's transaction usable after a refusal; alone, the one statement is a transaction by itself."""
    if connection.in_atomic_block:
        with transaction.atomic():
            yield
    else:
        yield


@contextmanager
def _typed_refusals(ledger: int, postings: Sequence[Posting]) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        refusal = _refusal_of(error, ledger, postings)
        if refusal is None:
            raise
        raise refusal from error


def _refusal_of(error: DatabaseError, ledger: int, postings: Sequence[Posting]) -> LedgerError | None:
    """Turn what PostgreSQL says into the refusal it means; None for what is no refusal, such as a lost connection."""
    cause = error.__cause__
    sqlstate, diag = getattr(cause, "sqlstate", None), getattr(cause, "diag", None)
    if diag is None:
        return None
    if sqlstate == "GL000":
        facts = json.loads(diag.message_detail)
        return _REFUSALS[facts.pop("refusal")](diag.message_primary, **facts)
    if sqlstate == "22003":
        return AmountOutOfRange("An amount or a sum does not fit 64 bits.", ledger=ledger)
    name, detail = diag.constraint_name, diag.message_detail or ""
    if name in _FLOORS:
        return _insufficient(detail, name, postings)
    if name == "transfer_pending_is_resolved_once":
        found = re.search(r"=\(\d+, ([0-9a-f-]{36})\)", detail)
        pending_id = found.group(1) if found else None
        return PendingResolved("This hold was resolved before.", ledger=ledger, pending_id=pending_id)
    if sqlstate in ("23514", "23505", "23502"):
        return PostingRefused(f"The books refuse this: {name or diag.column_name}.", constraint=name)
    return None


def _insufficient(detail: str, constraint: str, postings: Sequence[Posting]) -> InsufficientFunds:
    """Name the account that fell short, a payer before a payee when both did.

    `available_minor` is read after the refusal, so it is what the account has free now.
    """
    in_order = dict.fromkeys([*(posting.debit for posting in postings), *(posting.credit for posting in postings)])
    rows = Account.objects.in_bulk(list(in_order))
    named = re.search(r"contains \((\d+),", detail)  # the first column is the account's id
    refused = rows.get(int(named.group(1))) if named else None
    short = (rows[id] for id in in_order if id in rows and _falls_short(rows[id], postings))
    account = next(short, refused)
    if account is None:
        return InsufficientFunds("An account does not hold that much.", constraint=constraint)
    return InsufficientFunds(
        "The account does not hold that much.",
        account=account.pk,
        account_code=account.code,
        party=str(account.party) if account.party else None,
        needed_minor=_wanted(account, postings),
        available_minor=account.free_minor,
    )


def _falls_short(account: Account, postings: Sequence[Posting]) -> bool:
    return account.floor != "none" and _wanted(account, postings) > account.free_minor


def _wanted(account: Account, postings: Sequence[Posting]) -> int:
    """What these postings together take out of the account."""
    out_is_debit = account.floor == "credit"
    taken = 0
    for posting in postings:
        if posting.kind in ("posted", "pending"):
            taken += posting.amount * ((posting.debit == account.pk) - (posting.credit == account.pk))
    return taken if out_is_debit else -taken


def account(*, ledger: int, code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    """Return the id of the account, opening it if it is new. Floor and side come from the chart.

    NotInChart when the code is unknown, or party or scope are missing or superfluous; UnknownLedger.
    """
    entry = CHART.get(code)
    if entry is None:
        raise NotInChart("The chart of accounts has no such code.", account_code=code)
    if entry.has_party != (party is not None) or entry.has_scope != (scope is not None):
        raise NotInChart(f"An account {code} is kept per {entry.per}.", account_code=code, per=entry.per)
    known = Account.objects.filter(ledger_id=ledger, code=code, party=party, scope=scope)
    for known_id in known.values_list("id", flat=True)[:1]:
        return known_id
    if not Ledger.objects.filter(pk=ledger).exists():
        raise UnknownLedger("There is no such ledger.", ledger=ledger)
    with connection.cursor() as cursor:
        cursor.execute("select open_account(%s, %s, %s, %s, %s)", [ledger, code, party, scope, entry.floor.value])
        return int(cursor.fetchone()[0])


def open_ledgers() -> None:
    """Make the ledgers that exist; those that are there stay as they are."""
    ledgers = [Ledger(id=number, asset=code) for code, number in LEDGERS.items()]
    Ledger.objects.bulk_create(ledgers, ignore_conflicts=True)


def lock_ledger(ledger: int) -> None:
    """Wait until no other transaction writes this ledger; held until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("select lock_ledger(%s)", [ledger])


@transaction.atomic
def halt_ledger(*, ledger: int, reason: str) -> None:
    """Stop payouts from this ledger, for `reason`; deposits, holds and credits go on. A first reason is kept."""
    lock_ledger(ledger)
    Ledger.objects.filter(pk=ledger, halted=False).update(halted=True, halted_reason=reason)


@transaction.atomic
def resume_ledger(*, ledger: int) -> None:
    """Let payouts go on. Who may decide that, and with which reason, is the caller's business."""
    lock_ledger(ledger)
    Ledger.objects.filter(pk=ledger).update(halted=False, halted_reason="")


def refuse_if_halted(*, ledger: int = USDC6_LEDGER) -> None:
    """Raise LedgerHalted if payouts stand still. Call it before money is sent; the booking is refused in any case."""
    reason = Ledger.objects.filter(pk=ledger, halted=True).values_list("halted_reason", flat=True).first()
    if reason is not None:
        raise LedgerHalted(f"Payouts stand still: {reason}", ledger=ledger, reason=reason)
