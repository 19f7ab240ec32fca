"""The doors for signed statements: heartbeats, probes, readings and counter-readings.

Each call takes a list and takes all of it or nothing; a statement that stands already is passed over, so any call may
be sent again. What is refused says why by its class, and which item of the list it was by the fact `item`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction

from marketplace.agent.errors import (
    AgentError,
    ReadingForged,
    ReadingMalformed,
    ReadingOutOfSequence,
    ReadingReplayed,
)
from marketplace.agent.readings import (
    START,
    ChainHead,
    SignedReport,
    SlotReport,
    accept_report,
    read_report,
)
from marketplace.agent.statements import (
    EXTRA,
    FIRST,
    Beat,
    ProbeStatement,
    accept_statement,
    is_echo_of,
    read_statement,
)
from marketplace.delivery import evidence_models as rows
from marketplace.delivery.health import note_heartbeat, note_rounds
from marketplace.delivery.models import Reading, ReportChain
from marketplace.delivery.probing import RUNNING, Draw, Draws, minute_of_day, slot_of, witness_key
from marketplace.delivery.promises import Promise, promises
from marketplace.delivery.tallies import refresh_tallies
from marketplace.errors import (
    BadInput,
    ClockSkewed,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportMalformed,
    ReportOutOfSequence,
    ReportRefused,
    ReportReplayed,
    WrongInstant,
)
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.supply.key_models import UnitProver
from marketplace.supply.models import NodeClass
from pricing.health import CLOCK_SKEW_MAX_SECONDS, INTERVAL_SECONDS
from pricing.health import ProbeReport as Seen

SKEW = timedelta(seconds=CLOCK_SKEW_MAX_SECONDS)
BEAT_AGE_MAX = timedelta(minutes=5)  # an older heartbeat says nothing about now
EVIDENCE_HOURS = 72  # after the end of a slot nothing more is heard about it
CLASS_OF: dict[type[AgentError], type[ReportRefused]] = {
    ReadingForged: ReportForged, ReadingMalformed: ReportMalformed, ReadingReplayed: ReportReplayed,
    ReadingOutOfSequence: ReportOutOfSequence,
}  # fmt: skip


@contextmanager
def typed(item: int = 0) -> Iterator[None]:
    """Tell a refusal of the agent's arithmetic, or of ours, as one of the market with the place in the list."""
    try:
        yield
    except AgentError as error:
        facts = {name: fact for name, fact in error.facts.items() if name not in ("machine", "cause")}
        kind = CLASS_OF.get(type(error), ReportRefused)
        raise kind(str(error), field="report", cause=error.code, item=item, **facts) from error
    except ReportRefused as error:
        error.facts.setdefault("item", item)
        raise


# --- heartbeats ----------------------------------------------------------------------------------------------------


@transaction.atomic
def take_heartbeats(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take heartbeats of a provider's machines, oldest first; returns how many were new.

    Raises ReportForged, ReportMalformed, ReportReplayed for a number that another heartbeat had, ClockSkewed for one
    sent more than 2 seconds in the future, ReportLate for one older than 5 minutes.
    """
    taken = 0
    for item, each in enumerate(signed):
        with typed(item):
            taken += _take_beat(party, each, now)
    return taken


def _take_beat(party: Party, signed: SignedReport, now: datetime) -> bool:
    node_class, prover, public_key = own_unit(party, read_statement(Beat, signed.body).machine)
    if prover is not None:
        return _take_beat_of_unit(prover, accept_statement(Beat, signed, public_key=public_key), now)
    beat = accept_statement(Beat, signed, public_key=bytes(node_class.machine_key))
    pulse = rows.Pulse.objects.select_for_update().filter(pk=node_class.pk).first()
    if pulse and beat.sequence <= pulse.sequence:
        if bytes(pulse.body) == signed.body:
            return False
        raise ReportReplayed("That number was taken before.", sequence=beat.sequence, taken=pulse.sequence)
    sent_at = _sent_now(beat, now)
    leases = _leases_of(node_class, beat)
    rows.Pulse.objects.update_or_create(
        node_class=node_class,
        defaults={
            "sequence": beat.sequence, "sent_at": sent_at, "received_at": now, "devices": beat.devices,
            "probe_address": beat.probe_address, "workload_address": beat.workload_address, "body": signed.body,
            "signature": signed.signature,
        },
    )  # fmt: skip
    owed = promises(leases=leases)
    for lease in leases:
        promise = owed.get((lease.pk, slot_of(lease, now)))
        if promise is not None:
            devices = beat.devices[str(lease.pk)]
            note_heartbeat(lease=lease, devices=devices, devices_leased=promise.units, now=now)
    return True


def _take_beat_of_unit(prover: UnitProver, beat: Beat, now: datetime) -> bool:
    """Of one more unit's prover: that it is there, and where. It carries no lease; the machine that meters does."""
    if beat.devices or beat.workload_address:
        raise ReportForged("Only the machine that meters speaks for leases.", field="devices")
    if beat.sequence == prover.sequence:
        return False
    if beat.sequence < prover.sequence:
        raise ReportReplayed("That number was taken before.", sequence=beat.sequence, taken=prover.sequence)
    _sent_now(beat, now)
    prover.sequence, prover.seen_at, prover.probe_address = beat.sequence, now, beat.probe_address
    prover.save(update_fields=["sequence", "seen_at", "probe_address"])
    return True


def _sent_now(beat: Beat, now: datetime) -> datetime:
    """When it was sent. Raises ClockSkewed, or ReportLate."""
    sent_at = moment(beat.sent_at_ms)
    if sent_at > now + SKEW:
        raise ClockSkewed("The machine's clock is ahead of the market's.", market_time_ms=_ms(now))
    if sent_at < now - BEAT_AGE_MAX:
        raise ReportLate("A heartbeat of more than five minutes ago says nothing about now.", market_time_ms=_ms(now))
    return sent_at


def _leases_of(node_class: NodeClass, beat: Beat) -> list[Lease]:
    wanted = [parse_uuid(text) for text in beat.devices]
    found = locked_leases(wanted)
    if any(lease.node_class_id != node_class.pk for lease in found.values()) or len(found) != len(wanted):
        raise ReportForged("The heartbeat speaks for a lease of another machine.", field="devices")
    return [lease for lease in found.values() if lease.state in RUNNING]


# --- probes --------------------------------------------------------------------------------------------------------


@transaction.atomic
def take_probes(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take a verifier's reports of probes, in any order; returns how many were new.

    Raises ReportForged, ReportMalformed, NotOnPanel, WrongInstant, ReportFromFuture, ReportLate, and ReportReplayed
    for a second report of one lease, minute and attempt with another body. What a verifier says of its own anchors and
    clock does not refuse a report: it makes it void.
    """
    key, read = witness_key(party), []
    for item, each in enumerate(signed):
        with typed(item):
            probe = accept_statement(ProbeStatement, each, public_key=key)
            if probe.verifier != party.slug:
                raise ReportForged("The report speaks for another verifier.", named=probe.verifier)
            read.append((item, each, probe, parse_uuid(probe.lease)))
    leases = locked_leases([lease_id for *_, lease_id in read])
    owed, draws = promises(leases=list(leases.values())), Draws()
    minutes = {moment(probe.minute_at * 1000) for _, _, probe, _ in read}
    known = rows.ProbeReport.objects.filter(lease__in=leases, verifier=party, minute_at__in=minutes)
    standing = {(row.lease_id, row.minute_at, row.attempt): bytes(row.body) for row in known}
    fresh: dict[tuple[UUID, datetime, int], rows.ProbeReport] = {}
    heard: set[tuple[UUID, int]] = set()
    for item, each, probe, lease_id in read:
        with typed(item):
            row = _probe_row(party, each, probe, leases.get(lease_id), owed, draws, now)
            place = (row.lease_id, row.minute_at, row.attempt)
            if place in standing:
                if standing[place] != each.body:
                    raise ReportReplayed("That minute was reported before, otherwise.", attempt=probe.attempt)
                continue
            if (row.lease_id, row.slot) not in heard:
                _refuse_late(row.lease, row.slot, now)
                heard.add((row.lease_id, row.slot))
            standing[place], fresh[place] = each.body, row
    rows.ProbeReport.objects.bulk_create(fresh.values())
    _follow(leases, list(fresh.values()), now)
    return len(fresh)


def _follow(leases: dict[UUID, Lease], fresh: Sequence[rows.ProbeReport], now: datetime) -> None:
    by_lease: dict[UUID, list[rows.ProbeReport]] = defaultdict(list)
    for row in fresh:
        by_lease[row.lease_id].append(row)
    for lease_id in sorted(by_lease):
        lease, mine = leases[lease_id], by_lease[lease_id]
        note_rounds(lease=lease, minutes={row.minute_at for row in mine}, now=now)
        refresh_tallies(lease=lease, slots={row.slot for row in mine}, now=now)
        _begin(lease)


def _probe_row(
    party: Party, signed: SignedReport, probe: ProbeStatement, lease: Lease | None,
    owed: dict[tuple[UUID, int], Promise], draws: Draws, now: datetime,
) -> rows.ProbeReport:  # fmt: skip
    if lease is None or probe.machine != str(lease.node_class_id):
        raise ReportForged("There is no such lease of that machine.", field="lease")
    minute_at = moment(probe.minute_at * 1000)
    draw = draws.of(lease, minute_at.date())
    if party.slug not in draw.panel or draw.committed_at > minute_at:
        raise NotOnPanel("This verifier was not drawn for that lease and day.", day=minute_at.date().isoformat())
    promise = owed.get((lease.pk, slot_of(lease, minute_at)))
    if promise is None:
        raise BadInput("This slot was never leased.", field="minute_at", slot=slot_of(lease, minute_at))
    if moment(probe.probed_at_ms) > now + SKEW:
        raise ReportFromFuture("That instant has not come.", market_time_ms=_ms(now))
    _refuse_wrong_instant(probe, draw, minute_at, party.slug)
    echo_ok = is_echo_of(bytes(lease.node_class.machine_key or b""), probe)
    seen = Seen(
        anchors_ok=(probe.anchors[0], probe.anchors[1], probe.anchors[2]), echo_ok=echo_ok, port_ok=probe.port_ok,
        clock_skew_seconds=probe.clock_skew_ms / 1000, devices_seen=probe.devices,
    )  # fmt: skip
    return rows.ProbeReport(
        lease=lease, verifier=party, slot=slot_of(lease, minute_at), minute_at=minute_at, attempt=probe.attempt,
        anchors_ok=all(probe.anchors), is_valid=seen.is_valid(), echo_ok=echo_ok, port_ok=probe.port_ok,
        devices=probe.devices, echo_ms=probe.echo_ms if echo_ok else None,
        has_failed=seen.has_failed(devices_leased=promise.units), body=signed.body, signature=signed.signature,
        received_at=now,
    )  # fmt: skip


def _refuse_wrong_instant(probe: ProbeStatement, draw: Draw, minute_at: datetime, verifier: str) -> None:
    """The first attempt at the secret second, the retry 5 to 15 secret seconds later, an extra one in its minute."""
    probed_at, minute = moment(probe.probed_at_ms), minute_of_day(minute_at)
    if probe.attempt == EXTRA:
        is_right = minute_at <= probed_at < minute_at + timedelta(seconds=INTERVAL_SECONDS)
    else:
        seconds = draw.second(minute) + (draw.retry_seconds(minute, verifier) if probe.attempt != FIRST else 0)
        is_right = abs(probed_at - minute_at - timedelta(seconds=seconds)) <= SKEW
    if not is_right:
        raise WrongInstant("That is not the second at which this lease was to be probed.", attempt=probe.attempt)


# --- readings ------------------------------------------------------------------------------------------------------


@transaction.atomic
def take_readings(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take a provider's readings of whole slots, each machine's in the order of its chain; returns how many were new.

    Backfill comes the same way. Raises ReportForged, ReportMalformed, ReportReplayed, ReportOutOfSequence (with the
    number that is expected), ReportFromFuture for a slot that is not over, ReportLate for one that is rated.
    """
    read, fresh = _read_all(signed), list[rows.SlotReport]()
    leases = locked_leases([lease_id for *_, lease_id in read])
    for item, each, given, lease_id in read:
        with typed(item):
            node_class = own_machine(party, given.machine)
            ReportChain.objects.get_or_create(node_class=node_class)
            chain = ReportChain.objects.select_for_update().get(node_class=node_class)
            if _stands(node_class, each):
                continue
            report, head = accept_report(
                each, public_key=bytes(node_class.machine_key), machine=str(node_class.pk),
                head=ChainHead(chain.sequence, chain.head),
            )  # fmt: skip
            lease = leases.get(lease_id)
            if lease is None or lease.node_class_id != node_class.pk:
                raise ReportForged("The reading speaks for a lease of another machine.", field="lease")
            fresh.append(_slot_row(lease, "provider", report, each, now))
            chain.sequence, chain.head = head.sequence, head.hash
            chain.save()
    return _keep(fresh, now)


def _stands(node_class: NodeClass, signed: SignedReport) -> bool:
    known = rows.SlotReport.objects.filter(lease__node_class=node_class, source="provider", body=signed.body)
    return known.exists() or Reading.objects.filter(lease__node_class=node_class, report=signed.body).exists()


@transaction.atomic
def take_counter_readings(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take a buyer's counter-readings of whole slots, each lease's in the order of its chain; returns how many are new.

    They have the form of readings, with the buyer's slug as machine. The refusals are those of readings.
    """
    key, read, fresh = witness_key(party), _read_all(signed), list[rows.SlotReport]()
    leases = locked_leases([lease_id for *_, lease_id in read])
    heads: dict[UUID, ChainHead] = {}
    for item, each, _, lease_id in read:
        with typed(item):
            lease = leases.get(lease_id)
            if lease is None or lease.buyer_id != party.pk:
                raise ReportForged("The counter-reading speaks for somebody else's lease.", field="lease")
            if rows.SlotReport.objects.filter(lease=lease, source="buyer", body=each.body).exists():
                continue
            head = heads.get(lease.pk) or counter_head(lease)
            report, heads[lease.pk] = accept_report(each, public_key=key, machine=party.slug, head=head)
            fresh.append(_slot_row(lease, "buyer", report, each, now))
    return _keep(fresh, now)


def counter_head(lease: Lease) -> ChainHead:
    """Return how far a lease's chain of counter-readings has been taken."""
    last = rows.SlotReport.objects.filter(lease=lease, source="buyer").order_by("-sequence").first()
    return ChainHead(last.sequence, SignedReport(bytes(last.body), b"").hash) if last else START


def _slot_row(
    lease: Lease, source: str, report: SlotReport, signed: SignedReport, now: datetime
) -> rows.SlotReport:  # fmt: skip
    starts_at = moment(report.slot_start_at * 1000)
    slot = slot_of(lease, starts_at)
    if (lease.pk, slot) not in promises(leases=[lease]):
        raise BadInput("This slot was never leased.", field="slot", slot=slot)
    if starts_at + timedelta(hours=1) > now:
        raise ReportFromFuture("This slot is not over yet.", slot=slot, market_time_ms=_ms(now))
    _refuse_late(lease, slot, now)
    if rows.SlotReport.objects.filter(lease=lease, slot=slot, source=source).exists():
        raise ReportReplayed("That slot was reported before, otherwise.", slot=slot)
    return rows.SlotReport(
        lease=lease, slot=slot, source=source, sequence=report.sequence, up_word=report.up_word, body=signed.body,
        signature=signed.signature, received_at=now,
    )  # fmt: skip


def _keep(fresh: Sequence[rows.SlotReport], now: datetime) -> int:
    slots: dict[UUID, set[int]] = defaultdict(set)
    for item, row in enumerate(fresh):
        if row.slot in slots[row.lease_id]:
            raise ReportReplayed("That slot is reported twice in one call.", slot=row.slot, item=item)
        slots[row.lease_id].add(row.slot)
    rows.SlotReport.objects.bulk_create(fresh)
    for lease in {row.lease_id: row.lease for row in fresh}.values():
        refresh_tallies(lease=lease, slots=slots[lease.pk], now=now)
        _begin(lease)
    return len(fresh)


# --- what the doors share ------------------------------------------------------------------------------------------


def own_machine(party: Party, machine: str) -> NodeClass:
    """The party's node class of that id, with its key in use. Raises ReportForged."""
    found = NodeClass.objects.filter(pk=parse_uuid(machine), party=party).first()
    if found is None or found.machine_key is None:
        raise ReportForged("There is no such machine with a key.", field="machine")
    return found


def own_unit(party: Party, machine: str) -> tuple[NodeClass, UnitProver | None, bytes]:
    """The party's machine of that id: its class, its row where it is one more unit's prover, and its key in use.

    Raises ReportForged.
    """
    # No key is locked: a verifier's report of it, which holds the roll, must not wait for this and this for the roll.
    provers = UnitProver.objects.select_for_update(of=("self",), no_key=True).select_related("node_class")
    prover = provers.filter(pk=parse_uuid(machine), node_class__party=party, retired_at=None).first()
    if prover is not None:
        return prover.node_class, prover, bytes(prover.public_key)
    node_class = own_machine(party, machine)
    return node_class, None, bytes(node_class.machine_key or b"")


def _read_all(signed: Sequence[SignedReport]) -> list[tuple[int, SignedReport, SlotReport, UUID]]:
    read = []
    for item, each in enumerate(signed):
        with typed(item):
            report = read_report(each.body)
            read.append((item, each, report, parse_uuid(report.lease)))
    return read


def locked_leases(wanted: Sequence[UUID]) -> dict[UUID, Lease]:
    """The leases, each locked until the call ends: health and tallies of one are made by one call at a time."""
    found = Lease.objects.select_for_update(of=("self",)).filter(pk__in=set(wanted)).select_related(
        "window", "node_class", "provider__parent", "buyer__parent", "demand"
    )
    return {lease.pk: lease for lease in found.order_by("pk")}


def _refuse_late(lease: Lease, slot: int, now: datetime) -> None:
    refuse_not_running(lease)
    is_rated = rows.SlotTally.objects.filter(lease=lease, slot=slot).exclude(rated_at=None).exists()
    if is_rated or Reading.objects.filter(lease=lease, slot=slot).exists():
        raise ReportLate("That slot is rated already.", slot=slot)
    if now > lease.window.slot_at(slot + 1) + timedelta(hours=EVIDENCE_HOURS):
        raise ReportLate("That slot ended too long ago.", slot=slot, heard_for_hours=EVIDENCE_HOURS)


def refuse_not_running(lease: Lease) -> None:
    """Refuse what is said of a lease that does not run, or not any more. Raises ReportLate."""
    if lease.state not in RUNNING or lease.window.state not in ("CLEARED", "DELIVERING"):
        raise ReportLate("This lease is not running.", state=lease.state)


def _begin(lease: Lease) -> None:
    if lease.state == "locked":
        Lease.objects.filter(pk=lease.pk).update(state="delivering")
        lease.state = "delivering"


def moment(milliseconds: int) -> datetime:
    """The moment of a number of unix milliseconds. Raises ReportMalformed."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ReportMalformed("That is no time.", field="at") from None


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def parse_uuid(text: str) -> UUID:
    """The id that a statement writes. Raises ReportMalformed."""
    try:
        return UUID(text)
    except ValueError:
        raise ReportMalformed("That is no id.") from None
