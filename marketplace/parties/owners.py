"""Who stands behind a party in the end: everything below one last owner counts as one."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import connection
from django.db.models.expressions import RawSQL

CLIMB = """
WITH RECURSIVE above (party, owner, next) AS (
    SELECT id, id, parent_id FROM marketplace_party WHERE id = ANY(%s)
    UNION ALL
    SELECT above.party, p.id, p.parent_id FROM above JOIN marketplace_party p ON p.id = above.next)
SELECT party, owner FROM above WHERE next IS NULL
"""

# Every party that is the Foundation or belongs to it, for `party__in=FOUNDATION`; the walls ask the same function.
FOUNDATION = RawSQL("SELECT marketplace_foundation_parties()", ())


def last_owners(party_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return the last owner of each party, in one query however long the chains of owners are."""
    if not party_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(CLIMB, [list(party_ids)])  # it ends: the database refuses a circle of owners
        return dict(cursor.fetchall())
