"""Whose doing a bad minute was: the records that say so, made before or signed by two, and what they come to.

Only PROVIDER costs the provider. BUYER, and MAINT within its limit, are paid although the minute was bad.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from ledger.ids import uuid7
from marketplace.delivery.evidence_models import (
    CLASS_CAUSES,
    LEASE_CAUSES,
    STOP_REASONS,
    BuyerStop,
    JudgedCause,
    MaintenanceNotice,
    ProbeReport,
    SlotTally,
)
from marketplace.delivery.probing import RUNNING
from marketplace.errors import BadInput, NotYours, Overlapping, TooLate
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act, require_seat
from marketplace.supply.models import NodeClass
from pricing.attribution import SIGNERS_NEEDED, MinuteEvidence, attribute, maintenance_minutes
from pricing.attribution import MaintenanceNotice as Span

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
STOP_BACKDATED_MAX = timedelta(minutes=1)  # a buyer's own record is made when it happens
MAINTENANCE_SPAN_MAX = timedelta(hours=4)
EVIDENCE_MAX = 300


@transaction.atomic
def announce_maintenance(
    *, party: Party, node_class: NodeClass, starts_at: datetime, ends_at: datetime, reason: str,
    seat: Seat | None = None, now: datetime,
) -> MaintenanceNotice:  # fmt: skip
    """Put a maintenance on record and tell the buyers of running leases.

    It excuses minutes only when it was announced 72 hours ahead, and four hours of a month; one is open at a time.
    Raises BadInput for a span that runs backwards, lasts over four hours, leaves its month or began already;
    Overlapping beside another notice; NotYours for somebody else's class; RoleForbidden for a seat that operates none.
    """
    require_seat(seat, party, "operate", "announce maintenance")
    if node_class.party_id != party.pk:
        raise NotYours("There is no such node class.")
    starts_at, ends_at = starts_at.astimezone(UTC), ends_at.astimezone(UTC)
    if not now < starts_at < ends_at <= starts_at + MAINTENANCE_SPAN_MAX:
        raise BadInput("A maintenance lies ahead and lasts four hours at most.", field="ends_at")
    if (ends_at - MINUTE).month != starts_at.month or not reason.strip() or len(reason) > 200:
        raise BadInput("A maintenance lies in one month and says why in 200 characters.", field="reason")
    NodeClass.objects.select_for_update().get(pk=node_class.pk)
    others = MaintenanceNotice.objects.filter(node_class=node_class, starts_at__lt=ends_at, ends_at__gt=starts_at)
    standing = others.filter(starts_at=starts_at, ends_at=ends_at, reason=reason).first()
    if standing:
        return standing
    if others.exists():
        raise Overlapping("One maintenance at a time.", field="starts_at")
    notice = MaintenanceNotice.objects.create(
        id=uuid7(now), node_class=node_class, starts_at=starts_at, ends_at=ends_at, reason=reason, announced_at=now
    )
    record(
        actor=seat.user.email if seat else party.slug, action="announce_maintenance", subject=node_class.pk,
        reason=reason, now=now, starts_at=starts_at.isoformat(), ends_at=ends_at.isoformat(),
    )  # fmt: skip
    buyers = Lease.objects.filter(node_class=node_class, state__in=("locking", "locked", "delivering"))
    tell_parties(
        parties=set(buyers.values_list("buyer_id", flat=True)), about=f"maintenance:{notice.pk}",
        code="maintenance_announced", now=now,
        sentence=f"{party.name} announces a maintenance from {starts_at:%Y-%m-%d %H:%M} UTC: {reason}",
    )  # fmt: skip
    return notice


@transaction.atomic
def record_stop(
    *, party: Party, lease: Lease, starts_at: datetime, ends_at: datetime, reason: str, now: datetime
) -> BuyerStop:
    """Note that the buyer itself does not use its lease for a span: bad minutes in it are its own, and are paid.

    Raises BadInput for a span that runs backwards, TooLate for one that began more than a minute ago.
    """
    if lease.buyer_id != party.pk:
        raise NotYours("There is no such lease.")
    if reason not in STOP_REASONS or ends_at <= starts_at:
        raise BadInput(f"A stop runs forward and is one of {', '.join(STOP_REASONS)}.", field="reason")
    standing = BuyerStop.objects.filter(lease=lease, starts_at=starts_at, ends_at=ends_at, reason=reason).first()
    if standing:
        return standing
    if starts_at < now - STOP_BACKDATED_MAX:
        raise TooLate("A stop is recorded when it happens, not afterwards.", recorded_at=now.isoformat())
    stop = BuyerStop.objects.create(
        id=uuid7(now), lease=lease, starts_at=starts_at, ends_at=ends_at, reason=reason, recorded_at=now
    )
    record(actor=party.slug, action="record_stop", subject=lease.pk, reason=reason, now=now,
           starts_at=starts_at.isoformat(), ends_at=ends_at.isoformat())  # fmt: skip
    return stop


@transaction.atomic
def sign_cause(
    *, of: Lease | NodeClass, cause: str, starts_at: datetime, ends_at: datetime, seat: Seat, evidence: str,
    now: datetime,
) -> JudgedCause:  # fmt: skip
    """Sign, as one judge, that bad minutes were not the provider's doing.

    Those of a lease may be the buyer's (BUYER, billed) or the network's (NETWORK); those of a whole class beyond
    anybody's power (FORCE_MAJEURE, for every lease on it); the last two are unpaid, and none costs the provider more. A
    signature counts once a second judge signed the same, each with evidence of their own. Until then hours in the span
    are not rated, for 72 hours at most. The parties are told of each signature. Raises RoleForbidden for anybody else,
    BadInput for a cause that does not fit, a span that runs backwards or evidence that is missing or over 300
    characters, TooLate when a slot in the span is rated: its money is decided.
    """
    require_act(seat, "judge", "sign a cause")
    person, evidence = seat.user.email, evidence.strip()
    subject, causes = ({"lease": of}, LEASE_CAUSES) if isinstance(of, Lease) else ({"node_class": of}, CLASS_CAUSES)
    if cause not in causes:
        raise BadInput(f"Judges sign here for {' or '.join(causes)}.", field="cause")
    leases = Lease.objects.filter(Q(pk=of.pk) if isinstance(of, Lease) else Q(node_class=of))
    running = leases.filter(state__in=RUNNING).select_related("demand")
    told = list(running.select_for_update(of=("self",)).order_by("pk"))
    _require_signable(SlotTally.objects.filter(lease__in=leases), starts_at, ends_at, evidence)
    signed, made = JudgedCause.objects.get_or_create(
        **subject, cause=cause, starts_at=starts_at, ends_at=ends_at, person=person,
        defaults={"id": uuid7(now), "evidence": evidence, "signed_at": now},
    )  # fmt: skip
    if made:
        record(actor=person, action="sign_cause", subject=of.pk, reason=evidence, now=now, cause=cause,
               starts_at=starts_at.isoformat(), ends_at=ends_at.isoformat())  # fmt: skip
        for lease in told:
            _tell_signed(signed, lease, now)
    return signed


WORDS = {
    "BUYER": "the buyer's doing: they are billed",
    "NETWORK": "the network's: they are not billed",
    "FORCE_MAJEURE": "beyond anybody's power: they are not billed",
}


def _tell_signed(signed: JudgedCause, lease: Lease, now: datetime) -> None:
    same = JudgedCause.objects.filter(
        lease=signed.lease_id, node_class=signed.node_class_id, cause=signed.cause, starts_at=signed.starts_at,
        ends_at=signed.ends_at,
    )  # fmt: skip
    span = f"from {signed.starts_at:%Y-%m-%d %H:%M} to {signed.ends_at:%Y-%m-%d %H:%M} UTC"
    counts = same.count() >= SIGNERS_NEEDED
    sentence = f"{lease.demand.reference}: {'two judges' if counts else 'one judge'} signed that bad minutes {span} "
    sentence += f"are {WORDS[signed.cause]}, and cost the provider nothing more."
    tell_parties(
        parties={lease.buyer_id, lease.provider_id}, about=f"cause:{signed.pk}:{lease.pk}", now=now,
        code="cause_decided" if counts else "cause_signed",
        sentence=sentence if counts else f"{sentence} It counts once a second one signs: {signed.evidence}",
    )  # fmt: skip


def _require_signable(
    tallies: QuerySet[SlotTally], starts_at: datetime, ends_at: datetime, evidence: str
) -> None:
    if ends_at <= starts_at:
        raise BadInput("An outage ends after it starts.", field="ends_at")
    if not evidence or len(evidence) > EVIDENCE_MAX:
        raise BadInput(f"A signature names its evidence in {EVIDENCE_MAX} characters.", field="evidence")
    for tally in tallies.exclude(rated_at=None).select_related("lease__window"):
        begins = tally.lease.window.slot_at(tally.slot)
        if begins < ends_at and starts_at < begins + HOUR:
            raise TooLate("A slot in that span is rated already.", slot=tally.slot)


@dataclass(frozen=True, slots=True)
class SignedCause:
    """What was signed about one span of a lease or of a class, in order of signing."""

    lease: Lease | None
    node_class: NodeClass | None
    cause: str
    starts_at: datetime
    ends_at: datetime
    signatures: list[JudgedCause]

    @property
    def counts(self) -> bool:
        """Whether two persons signed it."""
        return len({each.person for each in self.signatures}) >= SIGNERS_NEEDED

    @property
    def words(self) -> str:
        """What it means for the bill."""
        return WORDS[self.cause]


def signed_causes(*, lease: Lease | None = None, most: int) -> list[SignedCause]:
    """The newest spans that judges signed as not the provider's doing, at most so many; one lease's or everybody's."""
    found: dict[tuple[UUID | None, UUID | None, str, datetime, datetime], SignedCause] = {}
    related = ("lease__demand", "lease__provider", "lease__buyer", "node_class__party", "node_class__site")
    rows = JudgedCause.objects.select_related(*related)
    rows = rows if lease is None else _about(lease, rows)
    for row in rows.order_by("-starts_at", "signed_at", "id")[: most * SIGNERS_NEEDED * 2]:
        key = (row.lease_id, row.node_class_id, row.cause, row.starts_at, row.ends_at)
        signed = SignedCause(row.lease, row.node_class, row.cause, row.starts_at, row.ends_at, [])
        found.setdefault(key, signed).signatures.append(row)
    return list(found.values())[:most]


def _about(lease: Lease, rows: QuerySet[JudgedCause]) -> QuerySet[JudgedCause]:
    """What judges signed about a lease itself, and about its class while it ran."""
    begins, ends = lease.window.slot_at(lease.start_slot), lease.window.slot_at(lease.until_slot)
    beside = Q(node_class=lease.node_class_id, starts_at__lt=ends, ends_at__gt=begins)
    return rows.filter(Q(lease=lease) | beside)


@dataclass(frozen=True, slots=True)
class MinuteCounts:
    """What the panel's reports of one minute say beside the verdict."""

    valid: int
    without_anchors: int
    echo_ok: bool


class Records:
    """The records about one lease, looked up once for all its slots."""

    def __init__(self, lease: Lease) -> None:
        self.stops = list(BuyerStop.objects.filter(lease=lease))
        self.judged = list(_about(lease, JudgedCause.objects.all()))
        self.notices = list(MaintenanceNotice.objects.filter(node_class_id=lease.node_class_id))
        self._excused: dict[datetime, set[int]] = {}

    def __bool__(self) -> bool:
        return bool(self.stops or self.judged or self.notices)

    def is_half_signed(self, starts_at: datetime, ends_at: datetime) -> bool:
        """Whether a judge signed for a cause in a span, and no second one has signed the same yet."""
        persons: dict[tuple[str, datetime, datetime], set[str]] = defaultdict(set)
        for each in self.judged:
            if each.starts_at < ends_at and starts_at < each.ends_at:
                persons[each.cause, each.starts_at, each.ends_at].add(each.person)
        return any(len(signers) < SIGNERS_NEEDED for signers in persons.values())

    def _signers(self, cause: str, minute_at: datetime) -> tuple[str, ...]:
        return _best_signed([each for each in self.judged if each.cause == cause], minute_at)

    def cause_of(self, minute_at: datetime, counts: MinuteCounts) -> str:
        """The cause of a bad minute."""
        return attribute(
            MinuteEvidence(
                valid_reports=counts.valid, vantages_without_anchors=counts.without_anchors, echo_ok=counts.echo_ok,
                buyer_stopped=any(each.starts_at <= minute_at < each.ends_at for each in self.stops),
                is_maintenance=self._is_excused(minute_at),
                force_majeure_signers=self._signers("FORCE_MAJEURE", minute_at),
                network_signers=self._signers("NETWORK", minute_at), buyer_signers=self._signers("BUYER", minute_at),
            )
        )  # fmt: skip

    def _is_excused(self, minute_at: datetime) -> bool:
        if not self.notices:
            return False
        utc = minute_at.astimezone(UTC)
        month = utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if month not in self._excused:
            spans = [
                Span(*((at - month) // MINUTE for at in (row.announced_at, row.starts_at, row.ends_at)))
                for row in self.notices
                if row.starts_at.astimezone(UTC).strftime("%Y-%m") == month.strftime("%Y-%m")
            ]
            self._excused[month] = maintenance_minutes(spans)
        return (utc - month) // MINUTE in self._excused[month]


def _best_signed(rows: Sequence[JudgedCause], minute_at: datetime) -> tuple[str, ...]:
    """Who signed the span over a minute that most signed: two judges count who signed the same span, not two spans."""
    spans: dict[tuple[datetime, datetime], set[str]] = defaultdict(set)
    for each in rows:
        if each.starts_at <= minute_at < each.ends_at:
            spans[each.starts_at, each.ends_at].add(each.person)
    return tuple(sorted(max(spans.values(), key=len, default=set())))


def minute_counts(reports: Sequence[ProbeReport]) -> Mapping[datetime, MinuteCounts]:
    """What the reports say of each minute: first attempts, of which one was good enough if it was valid."""
    by_minute: dict[datetime, list[ProbeReport]] = defaultdict(list)
    for report in reports:
        if report.attempt == 1:
            by_minute[report.minute_at].append(report)
    return {
        minute: MinuteCounts(
            valid=sum(row.is_valid for row in rows),
            without_anchors=sum(not row.anchors_ok for row in rows),
            echo_ok=any(row.is_valid and row.echo_ok for row in rows),
        )
        for minute, rows in by_minute.items()
    }
