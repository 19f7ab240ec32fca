"""Supply: sites, node classes, and the benchmark proofs of their machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name, require_quantity, require_whole
from marketplace.catalogue.models import ResourceClass, Vantage
from marketplace.catalogue.services import find_named
from marketplace.compliance.rules import require_tier_for_kind
from marketplace.errors import BadInput, DeviceTaken, NotYours, ProofRefused, ReferenceReused, WrongStanding
from marketplace.governance.services import record
from marketplace.parties.countries import require_country
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.key_models import MachineKeyChange
from marketplace.supply.measured_class import claim_gap, note_gap
from marketplace.supply.models import Attestation, Benchmark, NodeClass, Site, SiteLatency, Standing
from marketplace.supply.proof_models import BenchmarkVantage
from marketplace.supply.verifiers import require_panel

PROOF_DAYS_MAX = 90


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
    lon: float, rtt_ms_p95: Mapping[str, tuple[int, str]], seat: Seat | None = None, now: datetime,
) -> Site:  # fmt: skip
    """Record where machines stand, under whose law, and the round trips to the vantages.

    `rtt_ms_p95` maps a vantage code to (milliseconds, "measured" or "bounded").
    """
    require_seat(seat, party, "operate", "register sites")
    if not party.is_provider:
        raise BadInput("Only providers have sites.", field="party")
    require_name(code, field="code", longest=60)
    require_name(city, field="city", longest=80)
    lat, lon = require_coordinate(lat, field="lat"), require_coordinate(lon, field="lon")
    countries = {"country": country, "operator_country": operator_country, "keys_country": keys_country}
    for field, each in countries.items():
        require_country(each, field)
    for rtt, method in rtt_ms_p95.values():
        if not 0 <= require_whole(rtt, field="rtt_ms_p95") < 2**31 or method not in SiteLatency.METHODS:
            raise BadInput("A round trip is whole milliseconds, measured or bounded.", field="rtt_ms_p95")
    standing = Site.objects.filter(code=code).first()
    if standing:
        if standing.party_id != party.pk:
            raise ReferenceReused("Another party has a site of this code.", field="code")
        _require_same(standing, {"city": city, "lat": lat, "lon": lon, **countries}, "This code names another site of "
                      "yours; change that one, or take another code.", field="code")  # fmt: skip
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
    machine_key: bytes | None = None, seat: Seat | None = None, now: datetime,
) -> NodeClass:  # fmt: skip
    """Enrol machines that will be proven together; they start as REGISTERED and may win nothing yet."""
    require_seat(seat, party, "operate", "enrol machines")
    if site.party_id != party.pk:
        raise NotYours("There is no such site.")
    if site.retired_at is not None:
        raise WrongStanding("This site is retired: bring it back first.", site=site.code)
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
        _require_same(standing, {"units": units, "tier": tier, "claimed_name": claimed_name}, "Machines of this kind "
                      "are enrolled here on other terms; change those.", field="resource_class_code")  # fmt: skip
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


def _require_same(standing: Any, terms: Mapping[str, Any], sentence: str, *, field: str) -> None:
    """Let the same words be said twice; the old row is no answer to other ones."""
    differs = sorted(name for name, value in terms.items() if getattr(standing, name) != value)
    if differs:
        raise ReferenceReused(sentence, field=field, differs=differs)


def require_coordinate(value: object, *, field: str) -> float:
    """Degrees: latitude from -90 to 90, longitude from -180 to 180."""
    most = 90.0 if field == "lat" else 180.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > most:
        raise BadInput(f"Degrees from -{most:.0f} to {most:.0f}.", field=field)
    return float(value)
