"""Demand first: capacity is let in per product and delivery month, and never beyond what funded demand covers.

A product is a resource class x zone x tier; the zone of a class is the smallest one around its site. A month's cover is
the funded demand that the class could serve by product, each window's times the window's cover ratio. Whoever does not
fit waits, in the order of asking, and may enrol and prove its benchmarks meanwhile. A request goes in whole or waits:
one that is too large for what is left lets smaller ones behind it pass. The figures come from two functions of the
database, whose own trigger refuses what would go beyond them, however it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.limits import require_whole
from marketplace.catalogue.models import Window, Zone
from marketplace.catalogue.services import zone_countries
from marketplace.errors import BadInput, CapacityPromised, DemandFirst, NotEligible, NotYours, WindowClosed
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.admission_models import Admission
from marketplace.supply.models import Bid, NodeClass

MAY_ENTER = ("PROBATION", "PROVEN")
MONTH_HOURS_MAX = 744


@dataclass(frozen=True, slots=True)
class Cover:
    """What funded demand lets into a product in a month, and what of it is taken. Unit-hours."""

    covered_unit_hours: int
    admitted_unit_hours: int

    @property
    def room_unit_hours(self) -> int:
        return max(0, self.covered_unit_hours - self.admitted_unit_hours)


@dataclass(frozen=True, slots=True)
class Place:
    """One request as its provider sees it: its place among those that wait for the product, and what is covered."""

    admission: Admission
    place: int
    waiting: int
    funded_unit_hours: int
    cover: Cover


def delivery_month(window: Window) -> date:
    """The month in which a window begins to deliver, as its first day (UTC)."""
    return window.starts_at.astimezone(UTC).date().replace(day=1)


@transaction.atomic
def ask_admission(
    *, party: Party, node_class: NodeClass, month: date, unit_hours: int, seat: Seat | None = None,
    now: datetime,
) -> Admission:  # fmt: skip
    """Join the waitlist with so many unit-hours of one month; free, and open to a class that has proven nothing yet.

    Asking again while waiting changes the amount; a larger one goes to the end of the list. Raises BadInput, NotYours.
    """
    require_seat(seat, party, "operate", "ask for admission")
    own = NodeClass.objects.select_for_update(of=("self",)).select_related("site").filter(
        pk=node_class.pk, party=party).first()  # fmt: skip
    if own is None:
        raise NotYours("There is no such node class.")
    hours = require_whole(unit_hours, field="unit_hours")
    if not 1 <= hours <= own.units * MONTH_HOURS_MAX:
        raise BadInput(
            "Ask for at least one unit-hour and at most all units in all hours of a month.", field="unit_hours",
            most=own.units * MONTH_HOURS_MAX,
        )  # fmt: skip
    if not isinstance(month, date) or month.day != 1:
        raise BadInput("A delivery month is named by its first day.", field="month")
    if month < now.astimezone(UTC).date().replace(day=1):
        raise BadInput("That month is over.", field="month")
    standing = Admission.objects.filter(node_class=own, month=month, state="WAITLIST").first()
    if standing is None:
        standing = Admission.objects.create(
            id=uuid7(now), node_class=own, month=month, zone=_home_zone(own.site.country, month), unit_hours=hours,
            asked_at=now,
        )  # fmt: skip
    elif hours == standing.unit_hours:
        return standing
    else:
        standing.asked_at = now if hours > standing.unit_hours else standing.asked_at
        standing.unit_hours = hours
        standing.save(update_fields=["unit_hours", "asked_at"])
    record(actor=party.slug, action="ask_admission", subject=own.pk, reason="joined the waitlist", now=now,
           month=str(month), unit_hours=hours)  # fmt: skip
    return standing


@transaction.atomic
def admit(*, admission: Admission, seat: Seat | None = None, now: datetime) -> Admission:
    """Let a waiting request in, whole. Admitting twice is one act.

    Raises DemandFirst with the figures when funded demand does not cover it, NotEligible before a challenge is passed.
    """
    standing = Admission.objects.select_for_update().get(pk=admission.pk)
    require_seat(seat, standing.node_class.party, "operate", "enter with capacity")
    if standing.state == "ADMITTED":
        return standing
    if standing.state != "WAITLIST":
        raise WindowClosed("This request was withdrawn.", state=standing.state)
    node_class = NodeClass.objects.select_related("site", "standing", "party").get(pk=standing.node_class_id)
    _lock_product(node_class, standing)
    cover = cover_of(node_class=node_class, zone=standing.zone, month=standing.month)
    if standing.unit_hours > cover.room_unit_hours:
        raise DemandFirst(
            "Capacity follows funded demand: this month's does not cover it yet.", month=str(standing.month),
            asked_unit_hours=standing.unit_hours, covered_unit_hours=cover.covered_unit_hours,
            admitted_unit_hours=cover.admitted_unit_hours,
        )  # fmt: skip
    if node_class.standing.state not in MAY_ENTER:
        raise NotEligible("Pass the challenge first; it is free.", rule="standing", standing=node_class.standing.state)
    standing.state, standing.decided_at = "ADMITTED", now
    standing.save(update_fields=["state", "decided_at"])
    point("supply.admit.before_commit")
    record(
        actor="market", action="admit", subject=node_class.pk, reason="funded demand covers it", now=now,
        month=str(standing.month), unit_hours=standing.unit_hours, covered_unit_hours=cover.covered_unit_hours,
        admitted_unit_hours=cover.admitted_unit_hours,
    )  # fmt: skip
    return standing


@transaction.atomic
def leave_waitlist(
    *, admission: Admission, party: Party, seat: Seat | None = None, now: datetime
) -> Admission:
    """Take a waiting request back, or give back what was let in while no bid of its month stands; again is the same.

    Raises NotYours, CapacityPromised where bids stand on what was let in, and WindowClosed for what has lapsed.
    """
    require_seat(seat, party, "operate", "give admission back")
    standing = Admission.objects.select_for_update().filter(pk=admission.pk, node_class__party=party).first()
    if standing is None:
        raise NotYours("There is no such request.")
    if standing.state == "WITHDRAWN":
        return standing
    if standing.state not in ("WAITLIST", "ADMITTED"):
        raise WindowClosed("This request has lapsed.", state=standing.state)
    if standing.state == "ADMITTED" and _bids_in(standing).exists():
        raise CapacityPromised("Bids of that month stand on what was let in.", month=str(standing.month))
    was = standing.state
    standing.state, standing.decided_at = "WITHDRAWN", now
    standing.save(update_fields=["state", "decided_at"])
    record(actor=party.slug, action="leave_waitlist", subject=standing.node_class_id, reason="left", now=now,
           month=str(standing.month), was=was)  # fmt: skip
    return standing


def _bids_in(admission: Admission) -> QuerySet[Bid]:
    """The live bids of a request's class in the market's windows of its month, sealed ones too."""
    bids = Bid.objects.filter(node_class_id=admission.node_class_id, state__in=("sealed", "opened", "awarded"))
    month = admission.month
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    after = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)
    in_month = bids.filter(window__kind="market", window__starts_at__gte=first, window__starts_at__lt=after)
    return in_month.exclude(window__state="FAILED")


def admit_waiting(*, now: datetime) -> int:
    """Let in whoever waits and is covered now, in the order of asking; returns how many. Past months end."""
    admitted, this_month = 0, now.astimezone(UTC).date().replace(day=1)
    waiting = Admission.objects.filter(
        state="WAITLIST", month__gte=this_month, node_class__standing__state__in=MAY_ENTER
    ).select_related("node_class__site")
    for place in places_for(list(waiting)):
        # Looked at without the locks first: most of a long list waits for the same demand that is not there yet.
        if place.admission.unit_hours > place.cover.room_unit_hours:
            continue
        try:
            admit(admission=place.admission, now=now)
        except (DemandFirst, NotEligible, WindowClosed):
            continue
        admitted += 1
    return admitted


def require_admission(*, node_class: NodeClass, window: Window, unit_hours: int) -> None:
    """Refuse a bid of a class that is not let in for the window's month, or that offers more than was let in."""
    month = delivery_month(window)
    admitted, free = admitted_unit_hours(node_class, month), free_unit_hours(node_class=node_class, month=month)
    if unit_hours > free:
        raise DemandFirst(
            "That is more than this class was let in with." if admitted
            else "Ask for admission first: capacity follows funded demand.", rule="admission", month=str(month),
            admitted_unit_hours=admitted, free_unit_hours=free, asked_unit_hours=unit_hours,
        )  # fmt: skip


def admitted_unit_hours(node_class: NodeClass, month: date) -> int:
    """What a class was let in with for a month."""
    rows = Admission.objects.filter(node_class=node_class, month=month, state="ADMITTED")
    return sum(rows.values_list("unit_hours", flat=True))


def free_unit_hours(*, node_class: NodeClass, month: date) -> int:
    """What a class may still offer in a month: let in, less its live bids."""
    return admitted_unit_hours(node_class, month) - _offered_unit_hours(node_class, month)


def cover_of(*, node_class: NodeClass, zone: str, month: date) -> Cover:
    """What is covered and what is taken of the product that a node class belongs to."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT marketplace_covered_unit_hours(%s, %s, %s, %s), marketplace_admitted_unit_hours(%s, %s, %s, %s)",
            [node_class.resource_class_id, node_class.site.country, node_class.tier, month,
             node_class.resource_class_id, zone, node_class.tier, month],
        )  # fmt: skip
        covered, admitted = cursor.fetchone()
    return Cover(int(covered), int(admitted))


def admissions_of(party: Party) -> QuerySet[Admission]:
    """Return every request of a provider."""
    own = Admission.objects.filter(node_class__party=party)
    return own.select_related("node_class__site", "node_class__resource_class")


def places_of(party: Party, now: datetime) -> list[Place]:
    """Every request of a provider for this month and later: its place in the waitlist, and the demand that waits."""
    this_month = now.astimezone(UTC).date().replace(day=1)
    shown = admissions_of(party).filter(month__gte=this_month).exclude(state__in=("WITHDRAWN", "LAPSED"))
    return places_for(list(shown))


def place_of(row: Admission) -> Place:
    """A request's place among those that wait for its product, and what is covered."""
    return places_for([row])[0]


def find_admission(admission_id: UUID, party: Party) -> Admission | None:
    """Return the party's own request, or None."""
    return Admission.objects.filter(pk=admission_id, node_class__party=party).select_related("node_class__site").first()


PLACES = """
SELECT a.id, count(r.id) FILTER (WHERE a.state = 'WAITLIST' AND (r.asked_at, r.id) <= (a.asked_at, a.id)), count(r.id),
    marketplace_funded_unit_hours(n.resource_class_id, s.country, n.tier, a.month),
    marketplace_covered_unit_hours(n.resource_class_id, s.country, n.tier, a.month),
    marketplace_admitted_unit_hours(n.resource_class_id, a.zone, n.tier, a.month)
FROM marketplace_admission a
JOIN marketplace_nodeclass n ON n.id = a.node_class_id
JOIN marketplace_site s ON s.id = n.site_id
LEFT JOIN (
    SELECT w.id, w.asked_at, w.month, w.zone, m.resource_class_id, m.tier
    FROM marketplace_admission w JOIN marketplace_nodeclass m ON m.id = w.node_class_id WHERE w.state = 'WAITLIST'
) r ON r.month = a.month AND r.zone = a.zone AND r.resource_class_id = n.resource_class_id AND r.tier = n.tier
WHERE a.id = ANY(%s)
GROUP BY a.id, a.state, a.month, a.zone, n.resource_class_id, n.tier, s.country
"""


def places_for(rows: list[Admission]) -> list[Place]:
    """The places of these requests, in one query however many they are."""
    if not rows:
        return []
    with connection.cursor() as cursor:
        cursor.execute(PLACES, [[row.pk for row in rows]])
        found = {key: figures for key, *figures in cursor.fetchall()}
    return [
        Place(row, int(place), int(waiting), int(funded), Cover(int(covered), int(admitted)))
        for row in rows for place, waiting, funded, covered, admitted in [found[row.pk]]
    ]  # fmt: skip


def _lock_product(node_class: NodeClass, admission: Admission) -> None:
    """Take the lock that the trigger takes too, so that the figures in a refusal are those it was made on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_lock_product(%s, %s, %s, %s)", [
            node_class.resource_class_id, admission.zone, node_class.tier, admission.month])  # fmt: skip


def _offered_unit_hours(node_class: NodeClass, month: date) -> int:
    in_month = [
        bid for bid in node_class.promised()
        if bid.window.kind == "market" and delivery_month(bid.window) == month
    ]  # fmt: skip
    return sum(bid.unit_hours for bid in in_month)


def _home_zone(country: str, month: date) -> str:
    """The smallest listed zone of a country in a month; of two as small the first by name; else the country."""
    sizes = []
    for zone in Zone.objects.all():
        members = zone_countries(zone=zone, on=month)
        if country in members:
            sizes.append((len(members), zone.pk))
    return min(sizes)[1] if sizes else country
