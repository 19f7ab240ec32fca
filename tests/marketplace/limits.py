"""A limit of a seat that is in force, let by a colleague where one has to let it."""

from __future__ import annotations

from marketplace import clock
from marketplace import models as m
from marketplace.parties.two_people import may_let
from marketplace.spending.services import decide_change, set_seat_limit


def limited(of: m.Seat, limit_micros: int, *, by: m.Seat) -> m.Seat:
    """Return the seat `of` once it approves up to that much."""
    change = set_seat_limit(seat=by, of=of, limit_micros=limit_micros, now=clock.now())
    if change is not None:
        second = m.Seat.objects.get(pk=min(may_let(of.party, who=by.pk, whose=of.pk, now=clock.now())))
        decide_change(change=change, seat=second, is_let=True, reason="agreed", now=clock.now())
    return of
