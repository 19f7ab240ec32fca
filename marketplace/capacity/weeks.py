"""A proposed week becomes the calendar of a node class in one act, and is taken back in one (M-015).

Each span is cut at midnights into rules that open so many units of its hours; days that agree share a rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db import transaction

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.capacity.models import CalendarRule
from marketplace.capacity.services import Sellable, Times, own_node_class, promised_hours
from marketplace.capacity.week_models import CalendarWeek
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.errors import BadInput, CapacityPromised, NotYours, Overlapping
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act

NodeClass = Any  # a row of a later stage, which hands it in
WEEK_HOURS = 168
SPANS_MAX = WEEK_HOURS
Span = tuple[int, int, int]


@transaction.atomic
def adopt_week(
    *, seat: Seat, node_class: NodeClass, spans: Sequence[Sequence[int]], times: Times, source: str, now: datetime
) -> CalendarWeek:
    """Open exactly these hours of the week, each with its units, and no others; again with the same spans is the same.

    Raises BadInput, PastDate, Overlapping while another week stands (undo it first), and CapacityPromised where bids or
    awards stand on more than it leaves.
    """
    locked = own_node_class(seat, node_class)
    checked = _checked(spans, locked.units)
    require_name(source, field="source", longest=120)
    standing = locked.calendar_weeks.filter(undone_at=None).first()
    if standing is not None:
        if [tuple(span) for span in standing.spans] == checked and standing.until_at == times.until_at:
            return standing
        raise Overlapping("Another week is its calendar: undo that first.", field="node_class",
                          until_at=standing.until_at.isoformat())  # fmt: skip
    times.require(now)
    week = CalendarWeek(
        id=uuid7(now), node_class=locked, source=source, spans=checked, from_at=times.from_at,
        until_at=times.until_at, seat=seat, made_at=now,
    )  # fmt: skip
    rules = _rules(week)
    before = Sellable(locked)
    _require_kept(locked, before, Sellable(locked, [*before.rules, *rules]), now)
    week.save(force_insert=True)
    point("capacity.week.between")
    CalendarRule.objects.bulk_create(rules)
    record(actor=seat.user.email, action="adopt_week", subject=locked.pk, reason=source, now=now, rules=len(rules),
           unit_hours=week.unit_hours)  # fmt: skip
    return week


@transaction.atomic
def undo_week(*, seat: Seat, week: CalendarWeek, now: datetime) -> CalendarWeek:
    """Take an adopted week back with all of its rules; twice is one act. Raises NotYours, CapacityPromised."""
    require_act(seat, "operate", "change what is for sale")
    row = CalendarWeek.objects.select_for_update(of=("self",)).select_related("node_class").filter(
        pk=week.pk, node_class__party=seat.party).first()  # fmt: skip
    if row is None:
        raise NotYours("There is no such week.")
    if row.undone_at is not None:
        return row
    locked = own_node_class(seat, row.node_class)
    before = Sellable(locked)
    _require_kept(locked, before, Sellable(locked, [rule for rule in before.rules if rule.week_id != row.pk]), now)
    row.undone_at = now
    row.save(update_fields=["undone_at"])
    record(actor=seat.user.email, action="undo_week", subject=locked.pk, reason=row.source, now=now)
    return row


def _require_kept(node_class: NodeClass, before: Sellable, after: Sellable, now: datetime) -> None:
    for promise in promised_hours(node_class, now):
        if any(after.units(hour) < before.units(hour) or after.is_firm(hour) < before.is_firm(hour)
               for hour in promise):  # fmt: skip
            raise CapacityPromised("Bids or awards stand on hours that this would close.", field="node_class")


def _checked(spans: Sequence[Sequence[int]], most: int) -> list[Span]:
    """The spans in order, each within the week and the class; they may not overlap."""
    if not 1 <= len(spans) <= SPANS_MAX:
        raise BadInput("A week has at least one span of hours.", field="spans", most=SPANS_MAX)
    found: list[Span] = []
    for span in spans:
        if len(span) != 3:
            raise BadInput("A span is a first hour, an end hour and units.", field="spans")
        start, end, units = (require_whole(each, field="spans") for each in span)
        if not 0 <= start < end <= WEEK_HOURS:
            raise BadInput("Hours of a week run from 0 to 168.", field="spans", span=list(span))
        if not 1 <= units <= most:
            raise BadInput("That is more than the class has, or nothing.", field="spans", most=most, span=list(span))
        found.append((start, end, units))
    found.sort()
    if any(first[1] > second[0] for first, second in pairwise(found)):
        raise Overlapping("Two spans of the week overlap.", field="spans")
    return found


def _rules(week: CalendarWeek) -> list[CalendarRule]:
    days: dict[tuple[int, int, int], int] = defaultdict(int)  # from hour, until hour, units -> bits of days
    for start, end, units in week.spans:
        while start < end:
            day, hour = divmod(start, 24)
            until = min(24, hour + end - start)
            days[hour, until, units] |= 1 << day
            start += until - hour
    return [
        CalendarRule(
            id=uuid7(week.made_at), node_class=week.node_class, kind="open", weekdays=bits, from_hour=hour,
            until_hour=until, units=units, week=week, from_at=week.from_at, until_at=week.until_at, seat=week.seat,
            made_at=week.made_at,
        )
        for (hour, until, units), bits in sorted(days.items())
    ]  # fmt: skip
