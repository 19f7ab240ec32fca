"""Supply: sites, node classes, benchmark proofs, standing, and sealed bids that wait for demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max

from ledger.ids import uuid7
from ledger.selectors import balance
from marketplace.capacity.services import require_sellable
from marketplace.catalogue.limits import require_name, require_price, require_quantity, require_slots, require_whole
from marketplace.catalogue.models import ResourceClass, SlaPreset, Vantage, Window
from marketplace.catalogue.services import find_named
from marketplace.compliance.holdings import Freezes, Holdings, Span
from marketplace.compliance.rules import require_tier_for_kind
from marketplace.demand.services import funded_figures
from marketplace.errors import (
    BadInput,
    DemandFirst,
    DeviceTaken,
    Frozen,
    NotEligible,
    NotYours,
    ProofRefused,
    QuantityOutOfRange,
    ReferenceReused,
    SealUnreadable,
    TooLate,
    WindowClosed,
    WrongStanding,
)
from marketplace.governance.services import record
from marketplace.parties.caps import Order, note_use, require_within_caps
from marketplace.parties.models import ApiKey, Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.parties.services import COUNTRY
from marketplace.supply.bilateral import require_let_in
from marketplace.supply.key_models import MachineKeyChange, reenrolled_at, revoked_without_successor
from marketplace.supply.measured_class import claim_gap, list_as_measured, note_gap, reaches
from marketplace.supply.models import (
    STANDING_PATHS,
    Attestation,
    Benchmark,
    Bid,
    NodeClass,
    Site,
    SiteLatency,
    Standing,
    StandingChange,
)
from marketplace.supply.proof_models import BenchmarkVantage
from marketplace.supply.rolls import whole_roll_since
from marketplace.supply.sealing import NAMES, Terms, read_own, with_own_terms, withdraw_seal, write_sealed
from marketplace.supply.verifiers import require_panel
from pricing.penalties import PROBATION_LEASE_HOURS, exposed_units

PROBATION_DAYS = 14
CHALLENGE_DAYS_NEEDED = 3  # full challenges on so many different days, the baseline's among them
PROOF_DAYS_MAX = 90
RENEWAL_FROM_DAYS = 60  # a re-proof counts from this day of a proof to its end
CHECKS_NEEDED = 313
CHECK_FAILURES_ALLOWED, CHECK_FAILURES_FATAL = 2, 6
BREACH_MEMORY_DAYS = 90
BASELINE = 2
MAY_BID = ("PROBATION", "PROVEN")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark run came to, as the verifiers signed it. All integers; hashes are 32 bytes."""

    ops_per_sec: int
    mem_bytes: int
    mem_bytes_per_sec: int
    seed: bytes
    params_hash: bytes
    transcript_hash: bytes
    started_at: datetime
    finished_at: datetime
    valid_until: datetime
    hw_key_hash: bytes | None = None  # None: hardware identity unattested
    preset: str = ""
    backend: str = ""
    jitter_bps: int = 0
    resident_bytes: int = 0
    sweep_bytes_per_sec: int = 0
    radii: tuple[tuple[str, int], ...] = ()  # (vantage, km)


@transaction.atomic
def register_site(
    *, party: Party, code: str, city: str, country: str, operator_country: str, keys_country: str, lat: float,
    lon: float, rtt_ms_p95: Mapping[str, tuple[int, str]], now: datetime,
) -> Site:  # fmt: skip
    """Record where machines stand, under whose law, and the round trips to the vantages.

    `rtt_ms_p95` maps a vantage code to (milliseconds, "measured" or "bounded").
    """
    if not party.is_provider:
        raise BadInput("Only providers have sites.", field="party")
    require_name(code, field="code", longest=60)
    require_name(city, field="city", longest=80)
    countries = {"country": country, "operator_country": operator_country, "keys_country": keys_country}
    for field, each in countries.items():
        if not COUNTRY.fullmatch(each):
            raise BadInput("A country is two capital letters (ISO 3166).", field=field)
    for rtt, method in rtt_ms_p95.values():
        if not 0 <= require_whole(rtt, field="rtt_ms_p95") < 2**31 or method not in SiteLatency.METHODS:
            raise BadInput("A round trip is whole milliseconds, measured or bounded.", field="rtt_ms_p95")
    standing = Site.objects.filter(code=code).first()
    if standing:
        if standing.party_id != party.pk:
            raise ReferenceReused("Another party has a site of this code.", field="code")
        return standing
    site = Site.objects.create(
        id=uuid7(now), party=party, code=code, city=city, lat=lat, lon=lon, **countries
    )
    SiteLatency.objects.bulk_create(
        SiteLatency(site=site, vantage=find_named(Vantage, vantage, field="vantage"), rtt_ms_p95=rtt, method=method)
        for vantage, (rtt, method) in sorted(rtt_ms_p95.items())
    )
    record(actor=party.slug, action="register_site", subject=code, reason="site registered", now=now, country=country)
    return site


@transaction.atomic
def enrol_node_class(
    *, party: Party, site: Site, resource_class_code: str, units: int, tier: int, claimed_name: str,
    machine_key: bytes | None = None, now: datetime,
) -> NodeClass:  # fmt: skip
    """Enrol machines that will be proven together; they start as REGISTERED and may win nothing yet."""
    if site.party_id != party.pk:
        raise NotYours("There is no such site.")
    if isinstance(tier, bool) or not isinstance(tier, int) or not 0 <= tier <= 3:
        raise BadInput("A tier is a whole number from 0 to 3.", field="tier")
    resource_class = find_named(ResourceClass, resource_class_code, field="resource_class_code")
    if resource_class is None:
        raise BadInput("Choose a resource class.", field="resource_class_code")
    require_quantity(units)
    require_name(claimed_name, field="claimed_name", longest=80)
    if machine_key is not None and len(machine_key) != 32:
        raise BadInput("A machine key is 32 bytes (Ed25519).", field="machine_key")
    standing = NodeClass.objects.filter(site=site, resource_class=resource_class).first()
    if standing:
        return standing
    require_tier_for_kind(party=party, tier=tier)
    was_used = machine_key is not None and MachineKeyChange.objects.filter(public_key=machine_key).exists()
    if was_used or (machine_key is not None and NodeClass.objects.filter(machine_key=machine_key).exists()):
        raise DeviceTaken("These machines are enrolled already, under the same key.", field="machine_key")
    number = (NodeClass.objects.aggregate(top=Max("chain_class"))["top"] or 0) + 1
    node_class = NodeClass.objects.create(
        id=uuid7(now), party=party, site=site, resource_class=resource_class, claimed_name=claimed_name, units=units,
        tier=tier, chain_class=number, machine_key=machine_key, enrolled_at=now,
    )  # fmt: skip
    Standing.objects.create(node_class=node_class, changed_at=now)
    if machine_key is not None:
        MachineKeyChange.objects.create(
            node_class=node_class, kind="enrolled", public_key=machine_key, actor=party.slug, at=now,
            reason="enrolled together with its machines",
        )  # fmt: skip
    record(actor=party.slug, action="enrol", subject=node_class.pk, reason=claimed_name, now=now, units=units)
    return node_class


@transaction.atomic
def record_benchmark(
    *, node_class: NodeClass, kind: int, epoch: int, measured: Measured, message: dict[str, Any],
    signatures: Sequence[tuple[str, int, bytes, bytes]], is_simulated: bool, transcript: bytes | None = None,
    now: datetime,
) -> Benchmark:  # fmt: skip
    """Keep a benchmark and its attestations `(signer, v, r, s)`; raises ProofRefused without a quorum.

    The same epoch again is the same benchmark. What it is worth on the market is decided by `advance_standing`.
    """
    standing = Benchmark.objects.filter(node_class=node_class, epoch=epoch).first()
    if standing:
        if bytes(standing.transcript_hash) != measured.transcript_hash:
            raise ProofRefused("This epoch was proven with another transcript.", epoch=epoch)
        return standing
    if kind not in dict(Benchmark.KINDS):
        raise ProofRefused("A benchmark is a challenge or a baseline.", kind=kind)
    if not measured.started_at <= measured.finished_at < measured.valid_until:
        raise ProofRefused("The times of a benchmark follow each other.", finished_at=measured.finished_at.isoformat())
    if measured.valid_until > measured.finished_at + timedelta(days=PROOF_DAYS_MAX):
        raise ProofRefused("A benchmark is valid for 90 days at most.", valid_until=measured.valid_until.isoformat())
    signers = {signer for signer, *_ in signatures}
    if len(signers) < len(signatures):
        raise ProofRefused("A verifier signs a benchmark once.", signers=len(signers), signatures=len(signatures))
    require_panel(node_class=node_class, signers=signers, now=now)
    _require_own_hardware(node_class, measured.hw_key_hash)
    top = Benchmark.objects.filter(node_class=node_class).aggregate(top=Max("epoch"))["top"] or 0
    if epoch <= top:
        raise ProofRefused("Epochs of a node class rise.", epoch=epoch, last=top)
    benchmark = Benchmark(
        id=uuid7(now), node_class=node_class, kind=kind, epoch=epoch, is_simulated=is_simulated,
        ops_per_sec=measured.ops_per_sec, mem_bytes=measured.mem_bytes,
        mem_bytes_per_sec=measured.mem_bytes_per_sec, seed=measured.seed, params_hash=measured.params_hash,
        transcript_hash=measured.transcript_hash, transcript=transcript, message=message,
        started_at=measured.started_at, finished_at=measured.finished_at, valid_until=measured.valid_until,
        hw_key_hash=measured.hw_key_hash, preset=measured.preset, backend=measured.backend,
        jitter_bps=measured.jitter_bps, resident_bytes=measured.resident_bytes,
        sweep_bytes_per_sec=measured.sweep_bytes_per_sec,
    )  # fmt: skip
    note_gap(benchmark, node_class.resource_class)
    benchmark.save(force_insert=True)
    BenchmarkVantage.objects.bulk_create(
        BenchmarkVantage(benchmark=benchmark, vantage=vantage, radius_km=km) for vantage, km in measured.radii
    )
    Attestation.objects.bulk_create(
        Attestation(benchmark=benchmark, signer=signer, v=v, r=r, s=s) for signer, v, r, s in signatures
    )
    record(
        actor=node_class.party.slug, action="record_benchmark", subject=node_class.pk, now=now, epoch=epoch,
        reason=f"{dict(Benchmark.KINDS)[kind]} attested by {len(signatures)}", simulated=is_simulated,
        **claim_gap(benchmark, node_class.resource_class),
    )  # fmt: skip
    return benchmark


def _require_own_hardware(node_class: NodeClass, hw_key_hash: bytes | None) -> None:
    """One piece of attested hardware serves one class; the contract and the database refuse it as well."""
    if hw_key_hash is None:
        return
    if len(hw_key_hash) != 32 or hw_key_hash == bytes(32):
        raise BadInput("A hardware key's hash is 32 bytes; leave it out where nothing attests.", field="hw_key_hash")
    if Benchmark.objects.filter(hw_key_hash=hw_key_hash).exclude(node_class=node_class).exists():
        raise DeviceTaken("This hardware proves another node class.", field="hw_key_hash")


@transaction.atomic
def record_checks(*, node_class: NodeClass, passed: int, failed: int, now: datetime) -> None:
    """Count hourly re-checks of a node class."""
    Standing.objects.filter(node_class=node_class).update(
        checks_passed=F("checks_passed") + passed, checks_failed=F("checks_failed") + failed
    )


@transaction.atomic
def record_hours(*, node_class_id: Any, good: int, bad: int) -> None:
    """Count delivered hours; the quality score of the next clearing is made of them."""
    Standing.objects.filter(node_class_id=node_class_id).update(
        good_hours=F("good_hours") + good, bad_hours=F("bad_hours") + bad
    )


@transaction.atomic
def advance_standing(*, node_class: NodeClass, now: datetime) -> str:
    """Move a node class on as far as its proofs carry it, and return its standing.

    REGISTERED -> PROBATION with a challenge attested since it last had to start again, listed as the class that it
    measures; where it measures none, nothing moves. PROBATION -> PROVEN with an attested baseline of that class at
    least 14 days later, full challenges on three different days, one roll call that all machines of the owner answered
    and 313 hourly checks with at most 2 failures; with 6 failures back to REGISTERED. An objective fault suspends, and
    whoever comes back from that starts its probation again. A PROVEN class that proves itself again from day 60 on is
    PROVEN for the new proof's time; PROVEN -> PROBATION when the proof has expired.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    live = Benchmark.objects.filter(node_class=node_class, valid_until__gt=now)
    if standing.state == "REGISTERED" and not revoked_without_successor(node_class):
        marks = [mark for mark in (standing.restarted_at, reenrolled_at(node_class)) if mark]
        fresh = live.filter(finished_at__gt=max(marks)) if marks else live
        challenge = _challenge(fresh, node_class)
        if challenge and list_as_measured(node_class=node_class, challenge=challenge, now=now):
            standing.challenged_at = standing.challenged_at or challenge.finished_at
            _change(standing, "PROBATION", "verifiers", "challenge attested by the quorum", _proof(challenge), now)
    if standing.state == "PROBATION" and standing.checks_failed >= CHECK_FAILURES_FATAL:
        reason = f"{standing.checks_failed} hourly checks failed"
        _start_again(standing, "verifiers", reason, _last_proof(standing), now)
    if standing.state == "PROBATION" and (baseline := _baseline(standing, live)):
        standing.proven_at, standing.proven_until = baseline.finished_at, baseline.valid_until
        scores = _challenges(standing, live).values_list("ops_per_sec", flat=True)
        standing.proven_ops_per_sec = fifth_percentile(scores)
        _change(standing, "PROVEN", "verifiers", "baseline attested after probation", _proof(baseline), now)
    if standing.state == "PROVEN" and (proof := _renewal(standing, live)):
        _renew(standing, proof, now)
    if standing.state == "PROVEN" and standing.proven_until and standing.proven_until <= now:
        _change(standing, "PROBATION", "market", "the proof expired", _last_proof(standing), now)
    return standing.state


@transaction.atomic
def degrade(*, node_class: NodeClass, reason: str, breach_at: datetime, evidence: bytes, now: datetime) -> None:
    """Note a confirmed breach. A PROVEN class takes no new orders until 48 clean hours; its leases run on.

    A second breach in 90 days suspends it. A class in PROBATION starts again from REGISTERED: challenge and checks.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    earlier = standing.last_breach_at
    standing.last_breach_at = max(earlier, breach_at) if earlier else breach_at
    again = earlier is not None and timedelta(0) < breach_at - earlier <= timedelta(days=BREACH_MEMORY_DAYS)
    if standing.state in ("PROVEN", "DEGRADED") and again:
        _change(standing, "SUSPENDED", "market", "second breach in 90 days", evidence, now)
    elif standing.state == "PROVEN":
        _change(standing, "DEGRADED", "market", reason, evidence, now)
    elif standing.state == "PROBATION":
        _start_again(standing, "market", reason, evidence, now)
    else:
        standing.save(update_fields=["last_breach_at"])


@transaction.atomic
def restart(*, node_class: NodeClass, actor: str, reason: str, evidence: bytes, now: datetime) -> str:
    """Let a class that is not proven yet start again from REGISTERED: challenge and checks so far are void."""
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    if standing.state == "PROBATION":
        _start_again(standing, actor, reason, evidence, now)
    elif standing.state == "REGISTERED":
        standing.restarted_at = now
        standing.save(update_fields=["restarted_at"])
    else:
        raise WrongStanding(f"A node class that is {standing.state} cannot start again.", standing=standing.state)
    return standing.state


@transaction.atomic
def set_back(*, node_class: NodeClass, reason: str, evidence: bytes, now: datetime) -> bool:
    """Degrade a PROVEN class by an alert: no new orders until it is restored. It is no breach and is not remembered.

    Returns whether it moved; any other standing stays.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    if standing.state != "PROVEN":
        return False
    _change(standing, "DEGRADED", "market", reason, evidence, now)
    return True


@transaction.atomic
def suspend(*, node_class: NodeClass, actor: str, reason: str, evidence: bytes, now: datetime) -> str:
    """Freeze a class (objective fault, incident, own wish): no new orders, slashing stays on. Returns its standing.

    Raises WrongStanding for a class that is on its way out already.
    """
    return _move(node_class, "SUSPENDED", actor=actor, reason=reason, evidence=evidence, now=now)


@transaction.atomic
def readmit(*, node_class: NodeClass, actor: str, reason: str, now: datetime) -> str:
    """Let a SUSPENDED class back into PROBATION: its cause is named, and it was proven anew since. Checks start again.

    Raises WrongStanding for another standing, or while its machine key is revoked; ProofRefused without an attested
    proof since the suspension, or since the key was enrolled that followed a revoked one.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    _require_path(standing, "PROBATION", from_only="SUSPENDED")
    if revoked_without_successor(node_class):
        raise WrongStanding("Its machine key was revoked: it enrols a new one first.", standing=standing.state)
    from_at = max(standing.changed_at, reenrolled_at(node_class) or standing.changed_at)
    since = Benchmark.objects.filter(node_class=node_class, valid_until__gt=now, finished_at__gt=from_at)
    proof = since.order_by("epoch").last()
    if proof is None:
        since_at = from_at.isoformat()
        raise ProofRefused("A suspended class comes back with a proof made since.", since=since_at)
    standing.checks_passed = standing.checks_failed = 0
    standing.challenged_at = proof.finished_at
    _change(standing, "PROBATION", actor, reason, _proof(proof), now)
    return standing.state


@transaction.atomic
def unbond(*, node_class: NodeClass, actor: str, evidence: bytes, now: datetime) -> str:
    """Let a class leave by its own wish. Liability follows its leases: slashing stays on until the stake is out.

    Raises WrongStanding from a standing that cannot leave; the database refuses it while a lease is open.
    """
    return _move(node_class, "UNBONDING", actor=actor, reason="own wish", evidence=evidence, now=now)


def _move(node_class: NodeClass, to_state: str, *, actor: str, reason: str, evidence: bytes, now: datetime) -> str:
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    if standing.state == to_state:
        return standing.state
    _require_path(standing, to_state)
    _change(standing, to_state, actor, reason, evidence, now)
    return standing.state


def _require_path(standing: Standing, to_state: str, *, from_only: str | None = None) -> None:
    if (standing.state, to_state) not in STANDING_PATHS or (from_only and standing.state != from_only):
        raise WrongStanding(
            f"A node class that is {standing.state} cannot become {to_state}.", standing=standing.state, wanted=to_state
        )


def _start_again(standing: Standing, actor: str, reason: str, evidence: bytes, now: datetime) -> None:
    """Back to REGISTERED: nothing of the probation so far counts any more."""
    standing.checks_passed = standing.checks_failed = 0
    standing.challenged_at, standing.restarted_at = None, now
    _change(standing, "REGISTERED", actor, reason, evidence, now)


@transaction.atomic
def restore(*, node_class: NodeClass, clean_hours: int, now: datetime) -> str:
    """Bring a DEGRADED class back to PROVEN: 48 clean hours and an attested proof made since it was degraded."""
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    if standing.state == "DEGRADED" and clean_hours >= 48:
        live = Benchmark.objects.filter(node_class=node_class, kind=2, valid_until__gt=now)
        fresh = live.filter(finished_at__gt=standing.changed_at).order_by("epoch").last()
        if fresh and reaches(fresh, node_class.resource_class):
            standing.proven_until = fresh.valid_until
            reason = f"{clean_hours} clean hours and a fresh proof"
            _change(standing, "PROVEN", "verifiers", reason, _proof(fresh), now)
    return standing.state


@transaction.atomic
def place_bid(
    *, party: Party, node_class: NodeClass, window: Window, reference: str, quantity_units: int, start_slot: int,
    end_slot: int, price_ask_micros: int, sla_code: str, minimum_units: int = 0, seat: Seat | None = None,
    key: ApiKey | None = None, now: datetime,
) -> Bid:  # fmt: skip
    """Seal an offer of capacity. Refused with `demand_first` until funded demand has opened the window.

    The ask is per unit-hour before the platform's fee. With `minimum_units` the bid sells the same units in all its
    slots, at least so many, or none. The same reference with the same terms returns the bid that
    stands. Raises NotEligible when standing, proven units or phase do not allow it, KeyCapped when the program's `key`
    may not offer that much.
    """
    require_seat(seat, party, "operate", "place bids")
    own = NodeClass.objects.select_related("standing", "party__parent").filter(pk=node_class.pk, party=party).first()
    if own is None:
        raise NotYours("There is no such node class.")
    if own.party.is_foundation:
        raise NotEligible("The Foundation runs the sealed bidding, so nothing that it owns takes part.",
                          rule="foundation")  # fmt: skip
    require_name(reference, field="reference", longest=60)
    start, end = require_slots(start_slot, end_slot, window=window)
    ask, quantity = require_price(price_ask_micros, field="price_ask_micros"), require_quantity(quantity_units)
    minimum = require_whole(minimum_units, field="minimum_units")
    if not 0 <= minimum <= quantity:
        raise QuantityOutOfRange("A minimum is at most the quantity.", field="minimum_units", quantity_units=quantity)
    sla = find_named(SlaPreset, sla_code, field="sla_code")
    if sla is None:
        raise BadInput("Choose an SLA preset.", field="sla_code")
    locked = _bidding(window, now)
    terms = Terms(quantity, start, end, ask, minimum, sla.pk)
    standing = Bid.objects.filter(party=party, reference=reference).first()
    if standing:
        if not _is_same(read_own(standing, party=party), locked, own, terms):
            raise ReferenceReused("This reference names another bid of yours.", field="reference")
        return standing
    require_within_caps(key, _order(party, own, quantity * (end - start) * ask), now)
    _require_eligible(own, locked, quantity, start, end, ask, now)
    _require_thawed(own, locked)
    require_sellable(
        own, quantity_units=quantity, ask_micros=ask, from_at=locked.slot_at(start), hours=end - start,
        taken=_offered(own, locked, start, end),
    )
    require_let_in(node_class=own, window=locked, unit_hours=quantity * (end - start))
    bid = write_sealed(
        party=party, node_class=own, window=locked, reference=reference, terms=terms,
        accepted_rank=_next_rank(locked), now=now,
    )  # fmt: skip
    note_use(key, "bid", bid.pk, now)
    return bid


@transaction.atomic
def withdraw_bid(*, bid: Bid, party: Party, seat: Seat | None = None, now: datetime) -> Bid:
    """Take a sealed bid back, until the no-cancel period begins."""
    require_seat(seat, party, "operate", "withdraw bids")
    standing = (
        Bid.objects.select_for_update(of=("self",)).select_related("window").filter(pk=bid.pk, party=party).first()
    )
    if standing is None:
        raise NotYours("There is no such bid.")
    if standing.state == "withdrawn":
        return read_own(standing, party=party)
    if standing.window.state != "BIDDING" or standing.state != "sealed":
        raise WindowClosed("This bid can no longer be withdrawn.", state=standing.window.state)
    if now >= standing.window.no_cancel_from:
        raise TooLate(
            "Bids cannot be withdrawn in the no-cancel period.",
            no_cancel_from=standing.window.no_cancel_from.isoformat(),
        )
    standing.state = "withdrawn"
    standing.save(update_fields=["state"])
    withdraw_seal(bid=standing)
    record(actor=party.slug, action="withdraw_bid", subject=bid.pk, reason="withdrawn", now=now)
    return read_own(standing, party=party)


def _order(party: Party, node_class: NodeClass, notional_micros: int) -> Order:
    """A bid as the caps of a key count it; sealed ones are read in their party's own copies."""

    def notional_of(bids: Sequence[UUID]) -> int:
        rows = with_own_terms(Bid.objects.filter(pk__in=bids), party=party)
        if any(row.quantity_units is None for row in rows):
            raise SealUnreadable("What this key offered today cannot be read, so nothing is added to it.")
        return sum(row.unit_hours * row.price_ask_micros for row in rows)

    return Order(
        kind="bid", resource_classes=[node_class.resource_class_id], notional_micros=notional_micros,
        notional_of=notional_of, open_among=lambda bids: Bid.objects.filter(pk__in=bids, state="sealed").count(),
    )  # fmt: skip


def _is_same(bid: Bid, window: Window, node_class: NodeClass, terms: Terms) -> bool:
    places = (bid.window_id, bid.node_class_id) == (window.pk, node_class.pk)
    return places and all(getattr(bid, name) == getattr(terms, name) for name in NAMES)


def _bidding(window: Window, now: datetime) -> Window:
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state == "COLLECTING":
        figures = funded_figures(window=locked)
        raise DemandFirst(
            "No bid before funded demand.", window=locked.name, needed_unit_hours=locked.gate_unit_hours,
            needed_parties=locked.gate_parties, **figures,
        )  # fmt: skip
    if locked.state != "BIDDING" or now >= locked.bidding_closes_at:
        raise WindowClosed(
            "Bidding in this window is closed.", window=locked.name, state=locked.state,
            closed_at=locked.bidding_closes_at.isoformat(),
        )  # fmt: skip
    return locked


def _require_eligible(
    node_class: NodeClass, window: Window, quantity_units: int, start: int, end: int, ask_micros: int, now: datetime
) -> None:
    state = node_class.standing.state
    if state not in MAY_BID:
        raise NotEligible(f"A node class that is {state} cannot bid.", rule="standing", standing=state)
    allowed = node_class.units
    if state == "PROBATION":
        if end - start > PROBATION_LEASE_HOURS:
            raise NotEligible(
                "On probation a lease lasts a day at most.", rule="probation_hours", hours=end - start,
                allowed_hours=PROBATION_LEASE_HOURS,
            )  # fmt: skip
        allowed = _probation_units(node_class, ask_micros, now)
    taken = _offered(node_class, window, start, end)
    if taken + quantity_units > allowed:
        raise NotEligible(
            "That is more than this node class may offer in these slots.", rule="proven_units", allowed_units=allowed,
            already_offered=taken, standing=state,
        )  # fmt: skip


def _probation_units(node_class: NodeClass, price_micros: int, now: datetime) -> int:
    """The units a class on probation may offer: a tenth, and after a breach what its holdback answers for (M-058 c)."""
    standing = node_class.standing
    breached = standing.last_breach_at is not None and now - standing.last_breach_at < timedelta(
        days=BREACH_MEMORY_DAYS
    )
    return exposed_units(
        price_micros=price_micros, capacity_units=node_class.units, good_hours=standing.good_hours,
        bad_hours=standing.bad_hours, breached_within_90_days=breached,
        holdback_micros=balance(code="provider.holdback", party=node_class.party_id, scope=node_class.pk).minor,
    )  # fmt: skip


def _require_thawed(node_class: NodeClass, window: Window) -> None:
    freezes = Freezes(window.starts_at)
    if not freezes.is_any:
        return
    tier = Holdings([node_class.party_id], Span(window.starts_at, window.ends_at)).tier_of(node_class)
    incident = freezes.of(node_class, tier)
    if incident:
        raise Frozen("An incident has frozen this provider or product.", incident=str(incident.pk))


def _offered(node_class: NodeClass, window: Window, start: int, end: int) -> int:
    """What a node class offers already in these slots, read in its party's own copies."""
    bids = [bid for bid in node_class.promised() if bid.state == "sealed" and bid.window_id == window.pk]
    return sum(bid.quantity_units for bid in bids if bid.start_slot < end and bid.end_slot > start)


def fifth_percentile(scores: Iterable[int]) -> int:
    """The 5th percentile by nearest rank, 0 of none: with fewer than 20 scores the lowest."""
    ordered = sorted(scores)
    return ordered[-(-len(ordered) * 5 // 100) - 1] if ordered else 0


def _challenge(fresh: Any, node_class: NodeClass) -> Benchmark | None:
    """The first proof that reaches the declared class; else the last one, whatever it reaches."""
    in_order = list(fresh.order_by("finished_at"))
    return next((each for each in in_order if reaches(each, node_class.resource_class)), (in_order or [None])[-1])


def _baseline(standing: Standing, live: Any) -> Benchmark | None:
    """The first baseline old enough and backed by enough checks."""
    if (
        standing.checks_passed + standing.checks_failed < CHECKS_NEEDED
        or standing.checks_failed > CHECK_FAILURES_ALLOWED
    ):
        return None
    if standing.challenged_at is None:
        return None
    ripe_at = standing.challenged_at + timedelta(days=PROBATION_DAYS)
    declared = standing.node_class.resource_class
    challenges = [each for each in _challenges(standing, live) if reaches(each, declared)]
    if len({each.finished_at.date() for each in challenges}) < CHALLENGE_DAYS_NEEDED:
        return None
    if whole_roll_since(standing.node_class, standing.challenged_at) is None:
        return None
    return next((each for each in challenges if each.finished_at >= ripe_at and _is_baseline(each)), None)


def _challenges(standing: Standing, live: Any) -> Any:
    """The challenges of this probation, in order: the one that admitted the class and all since."""
    return live.filter(finished_at__gte=standing.challenged_at).order_by("epoch")


def _is_baseline(benchmark: Benchmark) -> bool:
    """Whether a proof may carry PROVEN: a baseline, with memory, its rate and a place measured where that is asked."""
    if benchmark.kind != BASELINE:
        return False
    if not settings.PROOF_NEEDS_MEMORY:
        return True
    return bool(benchmark.mem_bytes and benchmark.mem_bytes_per_sec) and benchmark.vantages.exists()


def _renewal(standing: Standing, live: Any) -> Benchmark | None:
    """A baseline made from day 60 of the proof on, before it ended."""
    if standing.proven_at is None or standing.proven_until is None:
        return None
    renewed_from = standing.proven_at + timedelta(days=RENEWAL_FROM_DAYS)
    later = live.filter(finished_at__gte=renewed_from, finished_at__lte=standing.proven_until)
    later = later.filter(valid_until__gt=standing.proven_until).order_by("epoch")
    declared = standing.node_class.resource_class
    return next((each for each in later if _is_baseline(each) and reaches(each, declared)), None)


def _renew(standing: Standing, proof: Benchmark, now: datetime) -> None:
    """The state stays, so there is no change of standing to note; the trail says what it rests on from now on."""
    standing.proven_at, standing.proven_until = proof.finished_at, proof.valid_until
    standing.proven_ops_per_sec = proof.ops_per_sec
    standing.save(update_fields=["proven_at", "proven_until", "proven_ops_per_sec"])
    record(actor="verifiers", action="renew_proof", subject=standing.node_class_id, reason="proven again", now=now,
           proven_until=proof.valid_until.isoformat(), transcript=_proof(proof).hex())  # fmt: skip


def _proof(benchmark: Benchmark) -> bytes:
    return bytes(benchmark.transcript_hash)


def _last_proof(standing: Standing) -> bytes:
    """The transcript that a change without a new proof rests on: the last one."""
    last = Benchmark.objects.filter(node_class_id=standing.node_class_id).order_by("epoch").last()
    return _proof(last) if last else bytes(32)


def _change(standing: Standing, to_state: str, actor: str, reason: str, evidence: bytes, now: datetime) -> None:
    """Change a standing with its actor, reason and evidence; the database refuses one without the other."""
    StandingChange.objects.create(
        node_class_id=standing.node_class_id, from_state=standing.state, to_state=to_state, actor=actor, reason=reason,
        evidence=evidence, at=now,
    )  # fmt: skip
    standing.state, standing.changed_at = to_state, now
    standing.save()
    record(actor=actor, action="standing", subject=standing.node_class_id, reason=reason, now=now, to_state=to_state)


def _next_rank(window: Window) -> int:
    return (Bid.objects.filter(window=window).aggregate(top=Max("accepted_rank"))["top"] or 0) + 1
