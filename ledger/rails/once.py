"""Work that shall exist once at the card processor, however often it is asked for.

A key answers the same for a day, also with the 500 that it once gave. Asking with it for ever would never bring work
that was not made; asking with another key could make work twice. So a 5xx is followed by a look for the work itself,
which bears the intent's id, and a further key is given only when the work is proven not made: the key has answered 5xx
twice, so what was first asked has ended; the two answers lie a minute apart; and a look after the second found nothing.
A question without an answer proves nothing, for it may still be at work: its key stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from django.db.models import F

from ledger import faults
from ledger.models import BankAccount, CardIntent
from ledger.rails.errors import ProcessorUnreachable
from ledger.rails.stripe import ask

PROOF_AGE = timedelta(minutes=1)
KEYS_ARE_KEPT = timedelta(hours=20)  # at the processor 24; with an older key the work is looked for first
Row = TypeVar("Row", CardIntent, BankAccount)


@dataclass(frozen=True)
class Work(Generic[Row]):
    """How one kind of work is asked for, with client, intent and key, and how all of it is looked for."""

    ask_for: Callable[[Any, Row, str], Any]
    look_for: Callable[[Row], Any | None]


def ask_once(row: Row, work: Work[Row], now: datetime) -> Any:
    """Return the work of an intent: what was made before, else what is made now.

    Raises ProcessorUnreachable when nobody knows yet, ProcessorRefused for what will never be made.
    """
    if (row.attempt or now - row.created_at > KEYS_ARE_KEPT) and (found := work.look_for(row)) is not None:
        return found
    try:
        return ask(lambda c: work.ask_for(c, row, key_of(row)))
    except ProcessorUnreachable as error:
        if (error.facts.get("http_status") or 0) < 500:
            raise
        found = work.look_for(row)
        if found is None:
            _note_broken(row, now)
            raise
        return found


def key_of(row: CardIntent | BankAccount) -> str:
    """Return the idempotency key of the present attempt; the first one is the intent's id itself."""
    return str(row.pk) if row.attempt == 0 else f"{row.pk}:{row.attempt}"


def _note_broken(row: Row, now: datetime) -> None:
    """Remember a 5xx after which no work was found; the second of one key, a minute on, gives a further key."""
    same = type(row).objects.filter(pk=row.pk, attempt=row.attempt)
    if row.broken_since is None:
        same.update(broken_since=now)
    elif now - row.broken_since >= PROOF_AGE:
        faults.point("card.proven_not_made")
        same.update(attempt=F("attempt") + 1, broken_since=None)
