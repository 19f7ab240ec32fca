"""When two seats are two people: the rules that ask for a second person hang on it, here and in the database.

An owner who invites an address of his own, or sets a colleague's password by a link, could be two people. So for a
while a seat counts as one with whoever let it in, with whoever let that one in, and with whoever made a link for its
password. The database works it out (`marketplace_behind` and what rests on it); its walls ask the same functions.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from marketplace.parties.models import Party, Seat

# How long a seat is one with whoever let it in, and how long an approver who was switched off or got another role is
# still asked for. Longer than a holiday and than a month between two invoices, so that a colleague who is away, or
# looks at Seats once a month, sees it before. Both are one span: of two, the shorter would be the only one that counts.
ONE_PERSON_FOR = timedelta(days=30)


def waits_for_another(party: Party, *, who: Seat, whose: Seat | None, now: datetime) -> bool:
    """Whether what asks less than before waits for a second person: one approves in the party, or did so lately."""
    return bool(_ask("SELECT marketplace_waits(%s, %s, %s, %s)", party.pk, who.pk, whose and whose.pk, now)[0])


def may_let(party: Party, *, who: UUID, whose: UUID | None, now: datetime) -> Collection[UUID]:
    """The seats that may let what `who` proposes about `whose` limit.

    Whoever may be `who` under another name is among them only where the party has, and lately had, nobody else: in a
    party that `who` has just made, colleagues work together from the first day.
    """
    return _ask("SELECT marketplace_may_let(%s, %s, %s, %s)", party.pk, who, whose, now)


def _ask(question: str, *values: object) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(question, values)
        return [row[0] for row in cursor.fetchall()]
