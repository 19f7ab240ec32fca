"""What the evidence of a slot adds up to: made anew whenever a statement arrives, final once the slot is rated.

    billable  every source says up, or the bad minute was the buyer's doing or an excused maintenance
    held      the sources disagree, or only one of them saw the minute; nobody is paid for it and nobody gets it back
    unpaid    everything else

A minute that the probes call down is never billed for the provider's word, and never becomes up. An unknown one does
when the machine's unbroken chain of readings and the buyer's counter both say up.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from django.db import transaction

from marketplace.agent.statements import FIRST, RETRY
from marketplace.delivery.causes import MinuteCounts, Records, minute_counts
from marketplace.delivery.evidence_models import ProbeReport, SlotReport, SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.probing import Draws
from marketplace.delivery.promises import Promise, promises
from marketplace.escrow.models import Lease
from pricing.attribution import PAID_CAUSES
from pricing.metering import FULL_WORD, SLOT_MINUTES, UNKNOWN, UP, judge_slots, pack, reconcile, unpack
from pricing.targets import NO_ECHO_MS, median_ms

NOT_DELIVERED = MinuteCounts(valid=0, without_anchors=0, echo_ok=False)


@transaction.atomic
def refresh_tallies(
    *, lease: Lease, slots: Iterable[int], now: datetime, is_evidence: bool = True
) -> list[SlotTally]:
    """Make the tallies of some slots of a lease anew from all their evidence. The caller holds the lease's row.

    `is_evidence=False` looks again, because a record of somebody may have come, without putting off any decision.
    """
    wanted = sorted(set(slots))
    owed, records, draws = promises(leases=[lease]), Records(lease), Draws()
    standing = {row.slot: row for row in SlotTally.objects.filter(lease=lease, slot__in=wanted)}
    probes: dict[int, list[ProbeReport]] = {slot: [] for slot in wanted}
    for probe in ProbeReport.objects.filter(lease=lease, slot__in=wanted).select_related("verifier").defer(
        "body", "signature"
    ):
        probes[probe.slot].append(probe)
    said: dict[tuple[int, str], SlotReport] = {
        (row.slot, row.source): row for row in SlotReport.objects.filter(lease=lease, slot__in=wanted)
    }
    made = []
    for slot in wanted:
        row = standing.get(slot) or SlotTally(slot=slot)
        row.lease = lease
        if row.rated_at is None:
            _count(row, owed[lease.pk, slot], probes[slot], said, records, draws)
            row.evidence_at = now if is_evidence else row.evidence_at or now
            row.save()
        made.append(row)
    return made


def recount(row: SlotTally) -> SlotTally:
    """What the statements about a slot come to, counted anew and not written: for checking what stands."""
    lease, slot = row.lease, {"lease": row.lease_id, "slot": row.slot}
    fresh = SlotTally(lease=lease, slot=row.slot)
    said = {(each.slot, each.source): each for each in SlotReport.objects.filter(**slot)}
    probes = list(ProbeReport.objects.filter(**slot).select_related("verifier"))
    owed = promises(leases=[lease])[lease.pk, row.slot]
    _count(fresh, owed, probes, said, Records(lease), Draws())
    return fresh


def _count(
    row: SlotTally, promise: Promise, probes: Sequence[ProbeReport], said: Mapping[tuple[int, str], SlotReport],
    records: Records, draws: Draws,
) -> None:  # fmt: skip
    provider, buyer = said.get((row.slot, "provider")), said.get((row.slot, "buyer"))
    row.provider_up = provider.up_word if provider else None
    row.buyer_up = buyer.up_word if buyer else None
    row.units, row.amount_micros, row.most_micros = promise.units, promise.amount_micros, promise.most_micros
    begins = row.lease.window.slot_at(row.slot)
    panel = draws.of(row.lease, begins.astimezone(UTC).date()).panel if probes else ()
    row.probe_valid, row.probe_failed, row.is_complete = _probe_words(probes, panel, begins)
    row.echo_ms = _echo_times(probes, panel, begins)
    judge_probes(row)
    row.causes = _causes(row, probes, begins, records)
    weigh(row)


def judge_probes(row: SlotTally) -> None:
    """Say what the panel's words come to: minutes down, known, and unknown to everybody."""
    valid, failed = (unpack(np.array(words, dtype=np.int64))[:, None] for words in (row.probe_valid, row.probe_failed))
    verdicts = judge_slots(valid, failed)[0]
    known = FULL_WORD & ~int(pack(verdicts == UNKNOWN))
    backed = (row.provider_up or 0) & (row.buyer_up or 0)
    row.down_word = known & ~int(pack(verdicts == UP))
    row.known_word, row.unknown_word = known, FULL_WORD & ~known & ~backed


def weigh(row: SlotTally) -> None:
    """Divide the minutes and their fee among billed, held and unpaid; what is lost to rounding stays with the buyer."""
    claimed, known = row.provider_up or 0, row.known_word
    found = reconcile(provider_up=claimed, probes_up=known & ~row.down_word, probes_known=known, buyer_up=row.buyer_up)
    paid = sum(row.causes.get(cause, 0) for cause in PAID_CAUSES) if row.provider_up is not None else 0
    row.billable_word = int(found.billable) | paid
    row.held_word = int(found.held) & ~paid
    row.disputed_word = row.held_word & _contradictions(row) if row.provider_up is not None else 0
    divide_fee(row)


def divide_fee(row: SlotTally) -> None:
    """Give each part of the fee its minutes."""
    row.minutes_billable, row.minutes_held = row.billable_word.bit_count(), row.held_word.bit_count()
    row.minutes_unpaid = SLOT_MINUTES - row.minutes_billable - row.minutes_held
    promise = Promise(row.units, row.amount_micros, row.most_micros)
    row.billed_micros = promise.earned_micros(row.minutes_billable)
    upper = promise.earned_micros(row.minutes_billable + row.minutes_held)
    row.held_micros = upper - row.billed_micros
    row.unpaid_micros = row.amount_micros - upper


def _contradictions(row: SlotTally) -> int:
    claimed, known = row.provider_up or 0, row.known_word
    probed = known & ~row.down_word
    against = (claimed ^ probed) & known
    return against if row.buyer_up is None else against | (claimed ^ row.buyer_up) | ((row.buyer_up ^ probed) & known)


def _probe_words(
    probes: Sequence[ProbeReport], panel: Sequence[str], begins: datetime
) -> tuple[list[int], list[int], bool]:
    """Words of valid and of failed minutes per seat, and whether no seat still owes a report.

    A failure counts once its retry has failed too: until then its minute has no valid report of that seat.
    """
    place = {slug: seat for seat, slug in enumerate(panel)}
    seen: dict[tuple[int, int, int], ProbeReport] = {}
    for probe in probes:
        if probe.verifier.slug not in place:
            continue  # its owner has changed since the draw
        minute = int((probe.minute_at - begins) // timedelta(minutes=1))
        seen[place[probe.verifier.slug], minute, probe.attempt] = probe
    valid, failed, is_complete = [0, 0, 0], [0, 0, 0], bool(probes)
    for seat in range(3):
        for minute in range(SLOT_MINUTES):
            first, retry = seen.get((seat, minute, FIRST)), seen.get((seat, minute, RETRY))
            decisive = retry if first and first.is_valid and first.has_failed else first
            is_complete = is_complete and decisive is not None
            if decisive is not None and decisive.is_valid:
                valid[seat] |= 1 << minute
                failed[seat] |= decisive.has_failed << minute
    return valid, failed, is_complete


def _echo_times(probes: Sequence[ProbeReport], panel: Sequence[str], begins: datetime) -> list[int | None]:
    """The median echo time of each minute over the panel, ms; empty where no minute has one.

    Whoever did not answer the first time and then did answer was slower than a probe waits.
    """
    heard: dict[int, dict[str, ProbeReport]] = defaultdict(dict)
    for probe in sorted(probes, key=lambda each: each.attempt):
        if probe.is_valid and probe.verifier.slug in panel and probe.attempt in (FIRST, RETRY):
            heard[int((probe.minute_at - begins) // timedelta(minutes=1))].setdefault(probe.verifier.slug, probe)
    answered = {(probe.minute_at, probe.verifier_id) for probe in probes if probe.attempt == RETRY and probe.echo_ok}
    found: list[int | None] = []
    for minute in range(SLOT_MINUTES):
        times = []
        for probe in heard[minute].values():
            if probe.echo_ms is not None:
                times.append(probe.echo_ms)
            elif not probe.echo_ok and (probe.minute_at, probe.verifier_id) in answered:
                times.append(NO_ECHO_MS)
        found.append(median_ms(times))
    return found if any(each is not None for each in found) else []


def _causes(row: SlotTally, probes: Sequence[ProbeReport], begins: datetime, records: Records) -> dict[str, int]:
    counts, found = minute_counts(probes), dict[str, int]()
    bad = row.down_word | row.unknown_word
    for minute in range(SLOT_MINUTES):
        if bad >> minute & 1:
            at = begins + timedelta(minutes=minute)
            cause = records.cause_of(at, counts.get(at, NOT_DELIVERED))
            found[cause] = found.get(cause, 0) | 1 << minute
    return found


def minutes_down(row: SlotTally) -> int:
    """Minutes that the probes call down, by the provider's doing: the only ones that cost it more than their fee."""
    return int(row.down_word & row.causes.get("PROVIDER", 0)).bit_count()


def reading_of(row: SlotTally, report: SlotReport | None) -> Reading:
    """The Reading that a tally comes to, not yet written."""
    promise = Promise(row.units, row.amount_micros, row.most_micros)
    others = {cause: word for cause, word in row.causes.items() if cause not in ("PROVIDER", "UNKNOWN")}
    return Reading(
        statements_hash=statements_hash(row),
        lease_id=row.lease_id, slot=row.slot, units=row.units, amount_micros=row.amount_micros,
        provider_up=row.provider_up or 0, buyer_up=row.buyer_up, probe_valid=row.probe_valid,
        probe_failed=row.probe_failed, causes=others, echo_ms=row.echo_ms, minutes_down=minutes_down(row),
        minutes_unknown=row.unknown_word.bit_count(), minutes_billable=row.minutes_billable,
        earned_micros=row.billed_micros, above_ceiling_micros=promise.above_ceiling_micros(row.minutes_billable),
        report=bytes(report.body) if report else b"",
        signature=bytes(report.signature) if report else bytes(64),
    )  # fmt: skip


def statements_hash(row: SlotTally) -> bytes:
    """SHA-256 over the hashes of every signed statement about a slot, sorted: what came when leaves no trace."""
    slot = {"lease_id": row.lease_id, "slot": row.slot}
    signed = [*ProbeReport.objects.filter(**slot), *SlotReport.objects.filter(**slot)]
    leaves = sorted(hashlib.sha256(bytes(each.signature) + bytes(each.body)).digest() for each in signed)
    return hashlib.sha256(b"".join(leaves)).digest()


def live_readings(lease: Lease) -> list[Reading]:
    """Rated slots of a lease, and those that are over, complete and not rated yet as they will be; in order of slot."""
    rated = {row.slot: row for row in Reading.objects.filter(lease=lease)}
    open_rows = SlotTally.objects.filter(lease=lease, is_complete=True, rated_at=None)
    said: dict[int, SlotReport] = {
        row.slot: row for row in SlotReport.objects.filter(lease=lease, source="provider")
    }
    for row in open_rows:
        rated.setdefault(row.slot, reading_of(row, said.get(row.slot)))
    return [rated[slot] for slot in sorted(rated)]


def is_tallied(lease_ids: Iterable[UUID]) -> set[tuple[UUID, int]]:
    """Return the slots of these leases that are tallied and not rated yet."""
    rows = SlotTally.objects.filter(lease__in=list(lease_ids), rated_at=None)
    return set(rows.values_list("lease_id", "slot"))
