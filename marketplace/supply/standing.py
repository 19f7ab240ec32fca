"""The standing of a node class: what its proofs, checks and breaches allow it, from REGISTERED to PROVEN and back.

Each change has an actor, a reason and evidence, and is one of `STANDING_PATHS`; the database refuses any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from marketplace.errors import ProofRefused, WrongStanding
from marketplace.governance.services import record
from marketplace.supply.key_models import reenrolled_at, revoked_without_successor
from marketplace.supply.measured_class import list_as_measured, reaches
from marketplace.supply.models import STANDING_PATHS, Benchmark, NodeClass, Standing, StandingChange
from marketplace.supply.rolls import whole_roll_since

PROBATION_DAYS = 14
CHALLENGE_DAYS_NEEDED = 3  # full challenges on so many different days, the baseline's among them
RENEWAL_FROM_DAYS = 60  # a re-proof counts from this day of a proof to its end
CHECKS_NEEDED = 313
CHECK_FAILURES_ALLOWED, CHECK_FAILURES_FATAL = 2, 6
BREACH_MEMORY_DAYS = 90
BASELINE = 2


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
    whoever comes back from that starts its probation again. A PROVEN class that proves itself again from day 60 on,
    and answered a whole roll call since its proof, is PROVEN for the new proof's time; PROVEN -> PROBATION when the
    proof has expired.
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

    A second breach within 90 days of another suspends it, whichever is confirmed first. A class in PROBATION starts
    again from REGISTERED: challenge and checks.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    earlier = standing.last_breach_at
    standing.last_breach_at = max(earlier, breach_at) if earlier else breach_at
    again = earlier is not None and timedelta(0) < abs(breach_at - earlier) <= timedelta(days=BREACH_MEMORY_DAYS)
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
def void_proof(*, node_class: NodeClass, actor: str, reason: str, evidence: bytes, now: datetime) -> str:
    """Let nothing that was proven so far count: the machines are others, elsewhere, or out of service.

    A class on probation or only registered starts again; a proven one is suspended and comes back by a proof made
    since. One that is on its way out stays there. Returns its standing.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    if standing.state in ("REGISTERED", "PROBATION"):
        return restart(node_class=node_class, actor=actor, reason=reason, evidence=evidence, now=now)
    if standing.state in ("PROVEN", "DEGRADED"):
        suspend(node_class=node_class, actor=actor, reason=reason, evidence=evidence, now=now)
    Standing.objects.filter(node_class=node_class).update(restarted_at=now)
    return Standing.objects.get(node_class=node_class).state


@transaction.atomic
def readmit(*, node_class: NodeClass, actor: str, reason: str, now: datetime) -> str:
    """Let a SUSPENDED class back into PROBATION: its cause is named, and it was proven anew since. Checks start again.

    Raises WrongStanding for another standing, or while its machine key is revoked; ProofRefused without an attested
    proof since the suspension, since the machines were last changed or moved, or since the key was enrolled that
    followed a revoked one.
    """
    standing = Standing.objects.select_for_update().get(node_class=node_class)
    _require_path(standing, "PROBATION", from_only="SUSPENDED")
    if revoked_without_successor(node_class):
        raise WrongStanding("Its machine key was revoked: it enrols a new one first.", standing=standing.state)
    marks = (standing.changed_at, standing.restarted_at, reenrolled_at(node_class))
    from_at = max(mark for mark in marks if mark)
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


def fifth_percentile(scores: Iterable[int]) -> int:
    """The 5th percentile by nearest rank, 0 of none: with fewer than 20 scores the lowest."""
    ordered = sorted(scores)
    return ordered[-(-len(ordered) * 5 // 100) - 1] if ordered else 0


def _challenge(fresh: Any, node_class: NodeClass) -> Benchmark | None:
    """The first proof that reaches the declared class; else the last one, whatever it reaches."""
    in_order = list(fresh.order_by("finished_at", "epoch"))
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
    # An earlier proof that ran out has had its roll: what stands there now was not called by it.
    since = max(mark for mark in (standing.challenged_at, standing.proven_at) if mark)
    if whole_roll_since(standing.node_class, since) is None:
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
    """A baseline made from day 60 of the proof on, before it ended, if all machines answered a roll call meanwhile."""
    if standing.proven_at is None or standing.proven_until is None:
        return None
    renewed_from = standing.proven_at + timedelta(days=RENEWAL_FROM_DAYS)
    later = live.filter(finished_at__gte=renewed_from, finished_at__lte=standing.proven_until)
    later = later.filter(valid_until__gt=standing.proven_until).order_by("epoch")
    declared = standing.node_class.resource_class
    if not later.exists() or whole_roll_since(standing.node_class, standing.proven_at) is None:
        return None
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
