"""Three-way reconciliation: agreed slots are rated, contradictions become cases, and every slot ends in a Reading.

    all have spoken      provider, every seat of the panel, and the buyer if it has a key: rated at once, unless they
                         contradict one another
    nothing is held      rated a day after the slot: whoever has not spoken by then is not waited for
    something is held    rated 72 hours after the slot, by two of the three sources
    a contradiction      a case: two of three decide it 72 hours after the last new evidence, or a person does
    one judge signed     for a cause in the hour: a second one is waited for, 72 hours after the slot at most

Evidence is taken until a slot is rated and at most 72 hours after its end, so what came in which order changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.delivery.causes import Records
from marketplace.delivery.evidence_models import DeliveryCase, SlotReport, SlotTally, WitnessKey
from marketplace.delivery.models import Reading
from marketplace.delivery.probing import RUNNING
from marketplace.delivery.tallies import divide_fee, reading_of, refresh_tallies
from marketplace.errors import BadInput, WrongStanding
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act

SILENCE_HOURS = 24  # after its end a slot without a dispute waits for nobody
DECIDE_HOURS = 72  # without new evidence
OPENING_MINUTES = 15  # what is still under way at the end of a slot is no dispute yet


@transaction.atomic
def reconcile_window(*, window: Window, now: datetime) -> int:
    """Open, close and decide cases of a window's running leases, and rate what is ready; returns how many moved."""
    leases = Lease.objects.select_for_update(of=("self",)).filter(
        window=window, state__in=RUNNING,
        pk__in=SlotTally.objects.filter(lease__window=window, rated_at=None).values("lease"),
    )  # fmt: skip
    moved = 0
    for lease in leases.select_related("window", "buyer", "provider__parent", "demand").order_by("pk"):
        moved += _reconcile(lease, now)
    return moved


def _reconcile(lease: Lease, now: datetime) -> int:
    cases = {case.slot: case for case in DeliveryCase.objects.select_for_update().filter(lease=lease)}
    has_counter = WitnessKey.objects.filter(party_id=lease.buyer_id, revoked_at=None).exists()
    said = _provider_reports(lease)
    moved = 0
    if records := Records(lease):
        waiting = SlotTally.objects.filter(lease=lease, rated_at=None).values_list("slot", flat=True)
        refresh_tallies(lease=lease, slots=list(waiting), now=now, is_evidence=False)
    for tally in SlotTally.objects.select_for_update().filter(lease=lease, rated_at=None):
        tally.lease = lease
        ends_at = lease.window.slot_at(tally.slot + 1)
        if ends_at > now:
            continue
        case = _tend_case(tally, cases.get(tally.slot), ends_at, now)
        moved += case is not None and cases.get(tally.slot) is None
        is_half_signed = now < ends_at + timedelta(hours=DECIDE_HOURS) and records.is_half_signed(
            ends_at - timedelta(hours=1), ends_at
        )
        if not is_half_signed and _is_ready(tally, case, ends_at, has_counter, now):
            _rate(tally, case, said, now)
            moved += 1
    return moved


def _provider_reports(lease: Lease) -> Mapping[int, SlotReport]:
    return {row.slot: row for row in SlotReport.objects.filter(lease=lease, source="provider")}


def _tend_case(tally: SlotTally, case: DeliveryCase | None, ends_at: datetime, now: datetime) -> DeliveryCase | None:
    """Open a case where the sources contradict one another, move its date on by new evidence, close it by agreement."""
    decide_by = max(ends_at, tally.evidence_at) + timedelta(hours=DECIDE_HOURS)
    is_settled_minute = tally.is_complete or now >= ends_at + timedelta(minutes=OPENING_MINUTES)
    if case is None:
        return _open(tally, decide_by, now) if tally.disputed_word and is_settled_minute else None
    if case.state == "DECIDED":
        return case
    if not tally.disputed_word:
        _decide(case, "agreed", 0, "market", "new evidence: the sources agree", now)
    elif case.decide_by != decide_by:
        case.decide_by = decide_by
        case.save(update_fields=["decide_by"])
    return case


def _open(tally: SlotTally, decide_by: datetime, now: datetime) -> DeliveryCase:
    lease = tally.lease
    case = DeliveryCase.objects.create(
        id=uuid7(now), lease=lease, slot=tally.slot, disputed_word=tally.disputed_word, held_micros=tally.held_micros,
        opened_at=now, decide_by=decide_by,
    )  # fmt: skip
    minutes = tally.disputed_word.bit_count()
    record(actor="market", action="open_delivery_case", subject=case.pk, reason=f"{minutes} minutes in dispute",
           now=now, lease=lease.pk, slot=tally.slot, held_micros=tally.held_micros)  # fmt: skip
    tell_parties(
        parties={lease.buyer_id, lease.provider_id}, about=f"case:{case.pk}", code="delivery_case", now=now,
        sentence=f"{lease.demand.reference}, hour {tally.slot}: the sources disagree about {minutes} minutes. Their "
        f"fee is held; without new evidence two of three sources decide at {decide_by:%Y-%m-%d %H:%M} UTC.",
    )  # fmt: skip
    return case


def _is_ready(
    tally: SlotTally, case: DeliveryCase | None, ends_at: datetime, has_counter: bool, now: datetime
) -> bool:
    if case is not None and case.state == "OPEN":
        return now >= case.decide_by
    has_all = tally.is_complete and tally.provider_up is not None and (tally.buyer_up is not None or not has_counter)
    wait_hours = DECIDE_HOURS if tally.held_word else SILENCE_HOURS
    return has_all or now >= ends_at + timedelta(hours=wait_hours)


def _rate(tally: SlotTally, case: DeliveryCase | None, said: Mapping[int, SlotReport], now: datetime) -> None:
    """Write a slot's Reading: what was held is billed where two of three sources say up, else unpaid."""
    more = votes(tally)
    if case is not None and case.state == "OPEN":
        _decide(case, "two_of_three", more, "market", "72 hours without new evidence: two of three sources", now)
    finish(tally, more, said.get(tally.slot), now)


def votes(tally: SlotTally) -> int:
    """The held minutes that at least two of provider, probes and buyer call up. One that is down is never billed."""
    provider, buyer, probes = tally.provider_up or 0, tally.buyer_up or 0, tally.known_word & ~tally.down_word
    two = (provider & buyer) | (provider & probes) | (buyer & probes)
    return tally.held_word & two & ~tally.down_word


def finish(tally: SlotTally, billed_word: int, report: SlotReport | None, now: datetime) -> Reading:
    """Rate a slot for good: nothing is held any more, and its Reading stands."""
    tally.billable_word |= billed_word
    tally.held_word = tally.disputed_word = 0
    divide_fee(tally)
    tally.rated_at = now
    tally.save()
    reading = reading_of(tally, report)
    reading.save(force_insert=True)
    return reading


def _decide(case: DeliveryCase, outcome: str, billed_word: int, by: str, reason: str, now: datetime) -> None:
    case.state, case.outcome, case.billed_word = "DECIDED", outcome, billed_word
    case.decided_by, case.reason, case.decided_at = by, reason, now
    case.save()
    record(actor=by, action="decide_delivery_case", subject=case.pk, reason=reason, now=now, outcome=outcome,
           billed_minutes=billed_word.bit_count())  # fmt: skip
    tell_parties(
        parties={case.lease.buyer_id, case.lease.provider_id}, about=f"case decided:{case.pk}", now=now,
        code="delivery_case_decided",
        sentence=f"{case.lease.demand.reference}, hour {case.slot}: {billed_word.bit_count()} of the disputed minutes "
        f"are billed. {reason}.",
    )  # fmt: skip


@transaction.atomic
def decide_case(*, case_id: UUID, seat: Seat, bills: bool, reason: str, now: datetime) -> DeliveryCase:
    """Decide a case as a person of the Foundation: bill its held minutes, or none; a minute down stays unbilled.

    Raises RoleForbidden for anybody else, WrongStanding for a decided case, BadInput without a reason.
    """
    require_act(seat, "judge", "decide cases")
    if not reason.strip() or len(reason) > 300:
        raise BadInput("A decision has a reason of at most 300 characters.", field="reason")
    case = DeliveryCase.objects.select_for_update(of=("self",)).select_related("lease__demand", "lease__window").get(
        pk=case_id
    )
    if case.state == "DECIDED":
        raise WrongStanding("This case is decided.", outcome=case.outcome)
    Lease.objects.select_for_update().get(pk=case.lease_id)
    tally = SlotTally.objects.select_for_update().get(lease=case.lease, slot=case.slot)
    tally.lease = case.lease
    billed = tally.held_word & ~tally.down_word if bills else 0
    _decide(case, "people", billed, seat.user.email, reason, now)
    finish(tally, billed, _provider_reports(case.lease).get(case.slot), now)
    return case
