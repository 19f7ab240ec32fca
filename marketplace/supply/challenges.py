"""Benchmarks that the market asks for and verifiers attest, each from its own place: one door, one quorum.

    machine     signs that it wants to be measured, and where its prover is
    market      draws the panel, makes the nonce and the terms, and lets them stand for half an hour
    verifiers   meet at the machine, measure it together, and each signs and hands in the transcript that all share
    market      checks the transcript itself, derives the attestation again, and takes only what says the same
    quorum      of one transcript makes the benchmark: its class follows from the score, and the contract is told

The panel of a node class is drawn for a day, by a secret of this server: asking again draws no other one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils.crypto import salted_hmac

from contracts.eip712 import BenchmarkAttestation, Signature
from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.rails.base import Chain
from ledger.rails.evm import chain
from marketplace.agent.attestation import Terms, attest, message_of, signer_of
from marketplace.agent.errors import AgentError
from marketplace.agent.measuring import check_echoes
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import ChallengeAsk, accept_statement, read_statement
from marketplace.catalogue.models import ResourceClass
from marketplace.errors import (
    AttestationForged,
    BadInput,
    ChallengeExpired,
    ChallengeStale,
    ClockSkewed,
    EvidenceReused,
    NotAnAttester,
    NotOnPanel,
    NotYours,
    OtherSpec,
    ReportForged,
    ReportMalformed,
    ReportReplayed,
    ResultDiffers,
    TranscriptAltered,
)
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.challenge_models import (
    Challenge,
    ChallengeReport,
    ChallengeResult,
    ChallengeSeat,
    ChallengeTranscript,
)
from marketplace.supply.entry import entry_rule
from marketplace.supply.models import Benchmark, NodeClass
from marketplace.supply.onchain import attest_class, ensure_address, submit_proof
from marketplace.supply.proof_models import VerifierSeat
from marketplace.supply.services import PROOF_DAYS_MAX, Measured, record_benchmark
from marketplace.supply.standing import advance_standing
from marketplace.supply.verifiers import attest_quorum, panel_for
from pricing.errors import PricingError
from pricing.presets import PILOT, choose
from pricing.proof import Preset
from pricing.transcript import ReferenceRow, Score, Transcript, score_of, verify_again

LIFE = timedelta(minutes=30)
ASKED_WITHIN = timedelta(seconds=10)
TERMS_FIELDS = frozenset(
    ("provider_id", "machine_id", "hw_key_hash", "kind", "params_hash", "started_at", "valid_until", "epoch")
)


@transaction.atomic
def open_challenge(*, party: Party, signed: SignedReport, now: datetime) -> Challenge:
    """Ask a panel to measure a node class, as its machine wishes; the same statement again is the same challenge.

    Raises ReportForged or ReportMalformed for a statement that its machine did not sign, ClockSkewed for one of another
    time, BadInput for a chain too small, ProofRefused for too few independent verifiers.
    """
    ask, node_class = _accept_ask(party, signed)
    locked = NodeClass.objects.select_for_update(of=("self",)).get(pk=node_class.pk)
    standing = Challenge.objects.filter(node_class=locked, body=signed.body).first()
    if standing is not None:
        return standing
    asked_at = datetime.fromtimestamp(ask.asked_at_ms / 1000, UTC)
    if abs(asked_at - now) > ASKED_WITHIN:
        raise ClockSkewed("A machine asks for the present.", market_time_ms=int(now.timestamp() * 1000))
    if ask.purpose == "demo" and not settings.DEMO:
        raise BadInput("A benchmark of this market is short or full.", field="purpose")
    panel = _draw(locked, now)
    preset, nonce, epoch = _preset_for(locked, ask.purpose), secrets.token_bytes(32), _next_epoch(locked)
    row = Challenge.objects.create(
        id=uuid7(now), node_class=locked, epoch=epoch, nonce=nonce, preset=asdict(preset), opened_at=now,
        terms=_terms(locked, kind=ask.kind, epoch=epoch, nonce=nonce, now=now).to_json(), closes_at=now + LIFE,
        prover_url=ask.prover_url, certificate=ask.certificate, token=ask.token, body=signed.body,
        signature=signed.signature,
    )  # fmt: skip
    ChallengeSeat.objects.bulk_create(ChallengeSeat(challenge=row, seat=seat) for seat in panel)
    record(actor=party.slug, action="open_challenge", subject=locked.pk, reason=f"{ask.purpose}, epoch {epoch}",
           now=now, panel=[seat.address for seat in panel])  # fmt: skip
    return row


def orders_for(*, verifier: Party, now: datetime) -> list[ChallengeSeat]:
    """What a verifier is to measure now: the newest open challenge of each class on whose panel it sits.

    Raises NotAnAttester for a party without a seat.
    """
    seat = _seat_of(verifier, now)
    drawn = ChallengeSeat.objects.filter(
        seat=seat, challenge__opened_at__lte=now, challenge__closes_at__gt=now, challenge__result=None
    ).exclude(challenge__reports__seat=seat)
    newest: dict[UUID, ChallengeSeat] = {}
    for each in drawn.select_related("challenge__node_class").order_by("challenge__opened_at", "challenge__epoch"):
        newest[each.challenge.node_class_id] = each
    return list(newest.values())


def find_challenge(pk: UUID, party: Party | None) -> Challenge | None:
    """A challenge, for the owner of its machines and for its panel; None for others."""
    row = Challenge.objects.filter(pk=pk).select_related("node_class").first()
    if row is None or party is None:
        return None
    is_on_panel = ChallengeSeat.objects.filter(challenge=row, seat__party=party).exists()
    return row if is_on_panel or row.node_class.party_id == party.pk else None


def take_attestation(
    *, party: Party, challenge: Challenge, transcript: bytes, message: Mapping[str, Any], signature: Signature,
    now: datetime,
) -> ChallengeReport:  # fmt: skip
    """Take what a verifier attests of a challenge; with the quorum of one transcript it becomes the benchmark.

    The same again is the same report. Raises NotAnAttester, NotOnPanel, ChallengeExpired, EvidenceReused,
    ChallengeStale, OtherSpec, TranscriptAltered, ResultDiffers, AttestationForged; ReportReplayed for a second report
    that says something else.
    """
    seat = _seat_of(party, now)
    if not ChallengeSeat.objects.filter(challenge=challenge, seat=seat).exists():
        raise NotOnPanel("This verifier was not drawn for that challenge.")
    name = hashlib.sha256(transcript).digest()
    standing = ChallengeReport.objects.filter(challenge=challenge, seat=seat).first()
    if standing is not None:
        if bytes(standing.transcript_id) != name or _signature_of(standing) != signature:
            raise ReportReplayed("This verifier handed in something else before.")
        return standing
    if not challenge.opened_at <= now < challenge.closes_at:
        raise ChallengeExpired("The challenge's time is over.", closes_at=challenge.closes_at.isoformat())
    if ChallengeTranscript.objects.filter(pk=name).exclude(challenge=challenge).exists():
        raise EvidenceReused("This transcript was handed in for another challenge.", transcript_hash=name.hex())
    # Before any row is locked: it costs up to seconds, and what is checked does not change.
    terms, score, checked = _check(challenge, transcript, name)
    attestation = attest(checked, score, terms)
    _require_says(attestation, message)
    if signer_of(attestation, signature, terms) != seat.address:
        raise AttestationForged("The attestation is not signed by the key of this verifier's seat.", seat=seat.address)
    if seat.address not in {each.name for each in checked.witnesses if each.has_accepted}:
        raise AttestationForged("A verifier attests what it accepted itself.", seat=seat.address)
    return _keep(challenge, seat, transcript, attestation, score, checked, signature, now)


@transaction.atomic
def _keep(
    challenge: Challenge, seat: VerifierSeat, transcript: bytes, attestation: BenchmarkAttestation, score: Score,
    checked: Transcript, signature: Signature, now: datetime,
) -> ChallengeReport:  # fmt: skip
    NodeClass.objects.select_for_update(of=("self",)).get(pk=challenge.node_class_id)  # reports come one by one
    result = ChallengeResult.objects.filter(challenge=challenge).select_related("benchmark").first()
    if result is not None and bytes(result.benchmark.transcript_hash) != score.transcript_hash:
        raise ResultDiffers("The quorum attested another transcript.",
                            transcript_hash=bytes(result.benchmark.transcript_hash).hex())  # fmt: skip
    kept, _ = ChallengeTranscript.objects.get_or_create(
        pk=score.transcript_hash, defaults={"challenge": challenge, "transcript": transcript, "received_at": now}
    )
    report = ChallengeReport.objects.create(
        challenge=challenge, seat=seat, transcript=kept, v=signature.v, r=signature.r, s=signature.s, received_at=now
    )
    record(actor=seat.party.slug, action="attest_benchmark", subject=challenge.node_class_id, now=now,
           reason=f"epoch {challenge.epoch}", transcript_hash=score.transcript_hash.hex())  # fmt: skip
    reports = list(ChallengeReport.objects.filter(challenge=challenge, transcript=kept).select_related("seat"))
    if result is None and len(reports) >= attest_quorum().needed:
        _settle(challenge, reports, attestation, score, checked, transcript, now)
    return report


def _settle(
    challenge: Challenge, reports: list[ChallengeReport], attestation: BenchmarkAttestation, score: Score,
    checked: Transcript, transcript: bytes, now: datetime,
) -> None:  # fmt: skip
    """Make the benchmark of a quorum: keep it, let the class follow from it, and bring it to the contract."""
    node_class = challenge.node_class
    benchmark = record_benchmark(
        node_class=node_class, kind=attestation.kind, epoch=challenge.epoch, is_simulated=False, transcript=transcript,
        measured=_measured(attestation, score, checked), message=message_of(attestation), now=now,
        signatures=[(each.seat_id, each.v, bytes(each.r), bytes(each.s)) for each in reports],
    )  # fmt: skip
    ChallengeResult.objects.create(challenge=challenge, benchmark=benchmark, settled_at=now)
    if not ChainIntent.objects.filter(key__startswith=f"attest:{node_class.chain_class}:").exists():
        attest_class(
            node_class=node_class, exposure_cap_micros=entry_rule(node_class.tier).first_lease_cap_micros,
            expires_at=benchmark.valid_until, nonce=1, now=now,
        )  # fmt: skip
    submit_proof(benchmark=benchmark, now=now)
    advance_standing(node_class=node_class, now=now)


def _accept_ask(party: Party, signed: SignedReport) -> tuple[ChallengeAsk, NodeClass]:
    try:
        machine = UUID(read_statement(ChallengeAsk, signed.body).machine)
        node_class = NodeClass.objects.filter(pk=machine, party=party).select_related("resource_class").first()
        if node_class is None or node_class.machine_key is None:
            raise ReportForged("There is no such machine with a key.", field="machine")
        return accept_statement(ChallengeAsk, signed, public_key=bytes(node_class.machine_key)), node_class
    except ValueError as error:
        raise NotYours("There is no such machine.") from error
    except AgentError as error:
        kind = ReportForged if error.code == "reading_forged" else ReportMalformed
        raise kind(str(error), field=str(error.facts.get("field", "body"))) from error


def _seat_of(party: Party, now: datetime) -> VerifierSeat:
    seat = VerifierSeat.objects.filter(party=party, retired_at=None).select_related("party").first()
    if seat is None or party.kind != "verifier" or seat.seated_at > now:
        raise NotAnAttester("This party holds no verifier's seat.")
    return seat


def _draw(node_class: NodeClass, now: datetime) -> list[VerifierSeat]:
    day = now.date().isoformat()

    def rank(seat: VerifierSeat) -> bytes:
        return salted_hmac("grove panel", f"{node_class.pk} {day} {seat.address}", algorithm="sha256").digest()

    drawn = sorted(panel_for(node_class), key=rank)[: attest_quorum().seats]
    return sorted(drawn, key=lambda seat: seat.address)


def _next_epoch(node_class: NodeClass) -> int:
    """One after every benchmark and every challenge, answered or not: no binding is ever asked for twice."""
    proven = Benchmark.objects.filter(node_class=node_class).aggregate(top=Max("epoch"))["top"] or 0
    asked = Challenge.objects.filter(node_class=node_class).aggregate(top=Max("epoch"))["top"] or 0
    return max(proven, asked) + 1


def _preset_for(node_class: NodeClass, purpose: str) -> Preset:
    """The row of the ladder that a machine of the declared class does in time, showing its memory where that is asked.

    A slower machine takes longer over it; what it scores is its own.
    """
    declared = node_class.resource_class
    pilot_ns = max(1, PILOT.operations * 1_000_000_000 // max(1, declared.ops_per_sec))
    return choose(purpose, pilot_ns=pilot_ns, memory_bytes=declared.mem_bytes if settings.PROOF_NEEDS_MEMORY else 0)


def _terms(node_class: NodeClass, *, kind: int, epoch: int, nonce: bytes, now: datetime) -> Terms:
    needs_memory, here = settings.PROOF_NEEDS_MEMORY, _chain()
    rows = tuple(
        ReferenceRow(
            each.code, each.ops_per_sec, each.mem_bytes if needs_memory else 0,
            each.mem_bytes_per_sec if needs_memory else 0,
        )
        for each in ResourceClass.objects.order_by("code")
    )  # fmt: skip
    return Terms(
        provider_address=ensure_address(party=node_class.party), node_class_id=node_class.chain_class, epoch=epoch,
        kind=kind, chain_id=here.chain_id, verifying_contract=here.address("stake"), reference_rows=rows,
        started_at=int(now.timestamp()), valid_until=int((now + timedelta(days=PROOF_DAYS_MAX)).timestamp()),
        declared=node_class.resource_class_id, challenge=nonce,
    )  # fmt: skip


def _chain() -> Chain:
    return chain()


def _check(challenge: Challenge, data: bytes, name: bytes) -> tuple[Terms, Score, Transcript]:
    """Read a transcript and check it against its challenge, whole, once; with what it proves."""
    terms, preset = Terms.from_json(challenge.terms), Preset(**challenge.preset)
    try:
        transcript = Transcript.from_bytes(data)
    except PricingError as error:
        raise TranscriptAltered("That is no transcript.", cause=error.code) from error
    if transcript.binding != terms.binding:
        raise ChallengeStale("The transcript answers another nonce than this challenge's.")
    seats = list(ChallengeSeat.objects.filter(challenge=challenge).order_by("seat").values_list("seat_id", flat=True))
    machine = bytes(challenge.node_class.machine_key or b"")
    if transcript.preset != preset:
        raise OtherSpec("Another chain was computed than the challenge asks for.", field="preset")
    if [witness.name for witness in transcript.witnesses] != seats:
        raise OtherSpec("Others sat than were drawn.", field="panel")
    if any(each.measures is not None and each.measures.vantage != each.name for each in transcript.witnesses):
        raise OtherSpec("A verifier measures distance from its own seat.", field="vantage")
    if transcript.machine_key != machine or transcript.sweep is None:
        raise OtherSpec("Another machine answered than the one that is enrolled.", field="machine_key")
    if ChallengeTranscript.objects.filter(pk=name).exists():
        return terms, score_of(transcript), transcript  # these very bytes were checked for another verifier
    try:
        score = verify_again(data, entropy=secrets.token_bytes(32))
        check_echoes(transcript)
    except PricingError as error:
        raise TranscriptAltered("The transcript does not verify.", cause=error.code) from error
    if score.transcript_hash != name:
        raise TranscriptAltered("A transcript is handed in without its advice rows.", cause="not_light")
    return terms, score, transcript


def _require_says(attestation: BenchmarkAttestation, message: Mapping[str, Any]) -> None:
    """Refuse an attestation that says anything else than the transcript proves on the challenge's terms."""
    proven = message_of(attestation)
    wrong = sorted(name for name in proven.keys() | message.keys() if proven.get(name) != message.get(name))
    if set(wrong) & TERMS_FIELDS or set(wrong) - proven.keys():
        raise OtherSpec("The attestation is on other terms than the challenge's.", fields=wrong)
    if wrong:
        raise ResultDiffers("The attestation says something else than the transcript proves.", fields=wrong)


def _measured(attestation: BenchmarkAttestation, score: Score, transcript: Transcript) -> Measured:
    moments = {
        name: datetime.fromtimestamp(getattr(attestation, name), UTC)
        for name in ("started_at", "finished_at", "valid_until")
    }
    return Measured(
        ops_per_sec=score.ops_per_second, mem_bytes=score.memory_bytes, mem_bytes_per_sec=score.memory_bytes_per_second,
        seed=attestation.seed, params_hash=attestation.params_hash, transcript_hash=attestation.transcript_hash,
        preset=transcript.preset.name, backend=transcript.backend, jitter_bps=score.jitter_bps,
        resident_bytes=score.resident_bytes, sweep_bytes_per_sec=score.sweep_bytes_per_second,
        radii=_radii(score),
        **moments,
    )  # fmt: skip


def _radii(score: Score) -> tuple[tuple[str, int], ...]:
    """Distances by the seats' vantages; of two seats at one vantage the larger one."""
    places = dict(VerifierSeat.objects.filter(pk__in=[name for name, _ in score.radii]).values_list("pk", "vantage"))
    found: dict[str, int] = {}
    for name, km in score.radii:
        found[places[name]] = max(km, found.get(places[name], 0))
    return tuple(sorted(found.items()))


def _signature_of(report: ChallengeReport) -> Signature:
    return Signature(report.v, bytes(report.r), bytes(report.s))
