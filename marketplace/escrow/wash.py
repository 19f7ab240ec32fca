"""Trade with oneself: the same owner on both sides, or money that comes round (A pays B, B pays C, C pays A).

A pair of one owner is refused at the award, by the engine and by the database; here it is looked for once more, since
owners change between award and settlement. Circles are looked for among the leases of the last 30 days, owner by owner:
up to four owners, between each of whom at least half of the largest amount of the circle passed. Less is the ordinary
life of a market in which universities both buy and sell.

Limits, said openly: owners that hide behind strangers are not seen, nor circles that close outside this market.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.db import transaction

from marketplace.escrow.models import Lease
from marketplace.escrow.suspects import SuspectFlow
from marketplace.governance.services import record
from marketplace.parties.models import Party

PERIOD = timedelta(days=30)
OWNERS_MAX = 4
ROUND_SHARE_PPM = 500_000  # of the circle's largest amount, that each of its payments must reach

Edges = dict[str, dict[str, int]]  # payer -> payee -> micro-USD


@transaction.atomic
def mark_suspects(*, leases: Iterable[Lease], now: datetime) -> set[object]:
    """Look at leases that are about to be settled; returns the ids of those whose transfers carry the tag.

    A circle that these close also taints its earlier leases: those already settled are marked as not tagged in the
    books, because what is posted is never changed.
    """
    settling = {lease.pk for lease in leases}
    recent = list(
        Lease.objects.filter(made_at__gt=now - PERIOD, made_at__lte=now).exclude(state="refused")
        .select_related("settlement_line").order_by("made_at", "pk")
    )  # fmt: skip
    owner = owners_of({party for lease in recent for party in (lease.buyer_id, lease.provider_id)})
    edges = _edges(recent, owner)
    circles = {}
    for circle, least in circles_in(edges):
        for payer, payee in zip(circle, (*circle[1:], circle[0]), strict=True):
            circles.setdefault((payer, payee), (circle, least))
    known = set(SuspectFlow.objects.filter(lease__in=[lease.pk for lease in recent]).values_list("lease_id", flat=True))
    rows = []
    for lease in recent:
        pair = owner[lease.buyer_id], owner[lease.provider_id]
        if lease.pk in known or (pair[0] != pair[1] and pair not in circles):
            continue
        same = pair[0] == pair[1]
        circle, least = ([pair[0]], lease.fee_micros) if same else circles[pair]
        rows.append(SuspectFlow(
            lease=lease, kind="same_owner" if same else "circular", owners=list(circle), came_round_micros=least,
            is_tagged_in_books=not hasattr(lease, "settlement_line"), found_at=now,
        ))  # fmt: skip
    SuspectFlow.objects.bulk_create(rows)
    for row in rows:
        record(actor="market", action="suspect_flow", subject=row.lease_id, reason=row.kind, now=now,
               owners=row.owners, came_round_micros=row.came_round_micros, tagged=row.is_tagged_in_books)  # fmt: skip
    tagged = SuspectFlow.objects.filter(lease__in=settling, is_tagged_in_books=True)
    return set(tagged.values_list("lease_id", flat=True))


def circles_in(edges: Edges) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield each circle once, from its first owner by name, with the least amount that passed in it."""
    for first in sorted(edges):
        yield from _circles_from(first, (first,), edges)


def _circles_from(first: str, path: tuple[str, ...], edges: Edges) -> Iterator[tuple[tuple[str, ...], int]]:
    for payee in sorted(edges.get(path[-1], {})):
        if payee == first and len(path) > 1:
            passed = [edges[a][b] for a, b in zip(path, (*path[1:], first), strict=True)]
            if min(passed) * 1_000_000 >= max(passed) * ROUND_SHARE_PPM:
                yield path, min(passed)
        elif payee > first and payee not in path and len(path) < OWNERS_MAX:
            yield from _circles_from(first, (*path, payee), edges)


def owners_of(parties: set[object]) -> dict[object, str]:
    """Return who stands behind each party in the end."""
    return {party.pk: party.owner_key for party in Party.objects.filter(pk__in=parties).select_related("parent")}


def _edges(leases: Iterable[Lease], owner: dict[object, str]) -> Edges:
    edges: Edges = defaultdict(lambda: defaultdict(int))
    for lease in leases:
        payer, payee = owner[lease.buyer_id], owner[lease.provider_id]
        if payer != payee:
            edges[payer][payee] += lease.fee_micros
    return edges
