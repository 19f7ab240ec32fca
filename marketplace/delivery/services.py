"""Delivery: what was promised slot by slot, what was delivered minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from django.db import transaction

from marketplace.agent.readings import ChainHead, SignedReport, SlotReport, accept_report
from marketplace.catalogue.models import Window
from marketplace.delivery.evidence_models import SlotTally
from marketplace.delivery.intake import typed
from marketplace.delivery.models import Reading, ReportChain
from marketplace.delivery.promises import Promise, promises
from marketplace.delivery.tallies import is_tallied
from marketplace.errors import BadInput, WindowClosed
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.supply.models import NodeClass
from pricing.metering import UNKNOWN, UP, count_verdicts, judge_slots, pack, reconcile, unpack

VERIFIERS = 3
SILENCE_HOURS = 24  # after this a slot without any report is closed as unknown, and unpaid


@dataclass(frozen=True, slots=True)
class SlotWitness:
    """All that is known of one lease slot: the machine's signed report and the probes of three verifiers."""

    signed: SignedReport
    probe_valid: tuple[int, int, int]  # words: minutes with a valid report of that verifier
    probe_failed: tuple[int, int, int]  # words: minutes whose report failed
    echo_ms: tuple[int | None, ...] = ()  # median echo time of each minute; none where nobody measured it


@transaction.atomic
def record_slots(*, window: Window, node_class: NodeClass, witnesses: Sequence[SlotWitness], now: datetime) -> int:
    """Judge and keep slots that one node class delivered, in the order of its reports; returns how many were new.

    Raises ReportForged, ReportMalformed, ReportReplayed or ReportOutOfSequence, and BadInput for a slot that was never
    leased or is not over; then the whole call changes nothing. Reports that stand are passed over.
    """
    if window.state not in ("CLEARED", "DELIVERING"):
        raise WindowClosed("Only a delivering window takes readings.", state=window.state)
    if node_class.machine_key is None:
        raise BadInput("This node class has no machine key.", field="signature")
    ReportChain.objects.get_or_create(node_class=node_class)
    reports = ReportChain.objects.select_for_update().get(node_class=node_class)
    leases = list(Lease.objects.filter(window=window, node_class=node_class).exclude(state="refused"))
    owed = promises(leases=leases)
    if SlotTally.objects.filter(lease__in=leases).exists():
        raise BadInput("These leases are delivered live: their readings come with probes.", field="report")
    kept = {bytes(body) for body in Reading.objects.filter(lease__in=leases).values_list("report", flat=True)}
    fresh: list[tuple[tuple[UUID, int], SlotWitness, SlotReport]] = []
    head = ChainHead(reports.sequence, reports.head)
    for witness in witnesses:
        if witness.signed.body in kept:
            continue
        with typed(len(fresh)):
            report, head = accept_report(
                witness.signed, public_key=bytes(node_class.machine_key), machine=str(node_class.pk), head=head
            )
        fresh.append((_leased_slot(report, owed, window, now), witness, report))
    Reading.objects.bulk_create(_judged_rows(fresh, owed), batch_size=2000)
    reports.sequence, reports.head = head.sequence, head.hash
    reports.save()
    Lease.objects.filter(pk__in={key[0] for key, _, _ in fresh}, state="locked").update(state="delivering")
    return len(fresh)


def _leased_slot(
    report: SlotReport, owed: dict[tuple[UUID, int], Promise], window: Window, now: datetime
) -> tuple[UUID, int]:
    slot = (report.slot_start_at - int(window.starts_at.timestamp())) // 3600
    key = (UUID(report.lease), slot)
    if key not in owed:
        raise BadInput("This slot was never leased.", field="slot", slot=slot)
    if window.slot_at(slot + 1) > now:
        raise BadInput("This slot is not over yet.", field="slot", slot=slot)
    return key


def _judged_rows(
    fresh: Sequence[tuple[tuple[UUID, int], SlotWitness, SlotReport]], owed: dict[tuple[UUID, int], Promise]
) -> list[Reading]:
    if not fresh:
        return []
    valid = unpack(
        np.array([witness.probe_valid for _, witness, _ in fresh], dtype=np.int64).T
    )  # [verifiers, slots, 60]
    failed = unpack(np.array([witness.probe_failed for _, witness, _ in fresh], dtype=np.int64).T)
    verdicts = judge_slots(valid, failed)  # int8 [slots, 60]
    billable = reconcile(
        provider_up=np.array([report.up_word for *_, report in fresh], dtype=np.int64),
        probes_up=pack(verdicts == UP),
        probes_known=pack(verdicts != UNKNOWN),
    ).billable_minutes
    counts = count_verdicts(verdicts)
    rows = []
    for i, ((lease_id, slot), witness, report) in enumerate(fresh):
        promise = owed[lease_id, slot]
        rows.append(
            Reading(
                lease_id=lease_id, slot=slot, units=promise.units, amount_micros=promise.amount_micros,
                provider_up=report.up_word, probe_valid=list(witness.probe_valid),
                probe_failed=list(witness.probe_failed), minutes_down=int(counts.down[i]),
                minutes_unknown=int(counts.unknown[i]), minutes_billable=int(billable[i]),
                earned_micros=promise.earned_micros(int(billable[i])),
                above_ceiling_micros=promise.above_ceiling_micros(int(billable[i])),
                report=witness.signed.body, signature=witness.signed.signature, echo_ms=list(witness.echo_ms),
            )
        )  # fmt: skip
    return rows


@transaction.atomic
def close_delivery(*, window: Window, now: datetime) -> int:
    """End delivery of leases whose last slot is over and reported; returns how many ended.

    A slot that nobody reported within a day of the window's end is closed as unknown: unpaid, and no breach.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "DELIVERING":
        return 0
    open_leases = list(Lease.objects.filter(window=locked, state__in=("locked", "delivering")))
    ended = [lease for lease in open_leases if locked.slot_at(lease.until_slot) <= now]
    if not ended:
        return 0
    owed = promises(leases=ended)
    kept = set(Reading.objects.filter(lease__in=ended).values_list("lease_id", "slot"))
    kept |= is_tallied(lease.pk for lease in ended)  # those wait for their rating
    missing = [key for key in owed if key not in kept]
    if missing and now >= locked.ends_at + timedelta(hours=SILENCE_HOURS):
        Reading.objects.bulk_create([_silent(key, owed[key]) for key in missing])
        missing = []
    waiting = {lease_id for lease_id, _ in (*missing, *is_tallied(lease.pk for lease in ended))}
    done = [lease.pk for lease in ended if lease.pk not in waiting]
    count = Lease.objects.filter(pk__in=done).update(state="delivered")
    if count:
        record(actor="market", action="close_delivery", subject=locked.name, reason="slots over and reported", now=now,
               leases=count)  # fmt: skip
    return count


def _silent(key: tuple[UUID, int], promise: Promise) -> Reading:
    lease_id, slot = key
    return Reading(
        lease_id=lease_id, slot=slot, units=promise.units, amount_micros=promise.amount_micros, provider_up=0,
        probe_valid=[0] * VERIFIERS, probe_failed=[0] * VERIFIERS, minutes_down=0, minutes_unknown=60,
        minutes_billable=0, earned_micros=0, report=b"", signature=bytes(64),
    )  # fmt: skip
