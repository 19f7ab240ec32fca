"""Each lease's documentation pack and record of processing, and counsel's sign-off (M-063, M-065, M-071)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import clear_window, close_bidding
from marketplace.compliance.evidence import end_evidence, review_evidence, submit_evidence
from marketplace.compliance.papers import Paper
from marketplace.demand import counsel
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import ReferenceReused, RoleForbidden, SamePerson, WindowClosed
from marketplace.escrow.packs import canonical, packs_of, read_pack
from marketplace.escrow.services import confirm_locks, lock_window
from marketplace.oversight.packs import complete_packs, wrong_packs
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers


def seat(slug: str, role: str) -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def document_high_risk(slug: str) -> m.Evidence:
    """A provider's technical documentation, handed in and accepted."""
    now = clock.now()
    paper = Paper("annex-iv.txt", b"logs, versions, data location", now, now + timedelta(days=200))
    row = submit_evidence(seat=seat(slug, "compliance"), control_code="ai-act-pack", paper=paper, issuer="body",
                          now=now)  # fmt: skip
    review_evidence(evidence=row, seat=reviewer_seat(now), is_accepted=True, reason="complete", now=now)
    return row


def clear() -> None:
    window = world.window()
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    clear_window(window=window, now=clock.now())


def flag_as_high_risk(reference: str) -> None:
    with behind_the_triggers():
        m.Demand.objects.filter(reference=reference).update(data_class_id="high-risk-ai", tier_min=1)


@pytest.mark.stage("closed")
def test_every_lease_has_its_pack_at_start_and_end_and_the_trail_has_its_hash() -> None:
    lease = world.lease("genome")
    end, start = packs_of(lease)
    record, told = read_pack(start)["processing_record"], read_pack(start)

    assert (start.stage, start.version, end.stage, end.version) == ("start", 1, "end", 2)
    assert m.LeasePack.objects.count() == 2 * m.Lease.objects.exclude(state="refused").count()
    assert (record["controller"]["id"], record["processor"]["id"], record["place"]) == ("alder", "granite", "DE")
    assert told["data_location"]["residency_rule"]["zone"] == "EU"
    assert {row["control"] for row in told["certificates"]} >= {"identity-checked", "iso-27001"}
    proofs = m.Benchmark.objects.filter(node_class__party__slug="granite", finished_at__lte=start.made_at)
    assert told["versions"]["benchmark"]["epoch"] == proofs.latest("epoch").epoch
    assert told["note"] == "Evidence, not legal advice."
    logs = read_pack(end)["logs"]
    assert (logs["readings"], logs["earned_micros"]) == (world.SLOTS, str(lease.verdict.earned_micros))
    assert read_pack(start)["logs"] == {}

    assert canonical(json.loads(bytes(end.body))) == bytes(end.body)
    line = m.AuditLine.objects.filter(action="make_pack", subject=str(lease.pk)).latest("no")
    assert line.facts["sha256"] == hashlib.sha256(bytes(end.body)).hexdigest()
    assert list(wrong_packs()) == []
    with untouched():
        assert complete_packs(window=world.window(), now=clock.now()) == 0


@pytest.mark.stage("closed")
def test_a_pack_that_was_altered_or_slipped_in_is_found() -> None:
    pack = packs_of(world.lease("genome"))[0]
    body = bytes(pack.body).replace(b'"country":"DE"', b'"country":"FR"')
    with behind_the_triggers():
        m.LeasePack.objects.filter(pk=pack.pk).update(body=body)
    assert any("is not what its hash says" in each for each in wrong_packs())

    with behind_the_triggers():
        m.LeasePack.objects.filter(pk=pack.pk).update(sha256=hashlib.sha256(body).digest())
    assert any("is not the one on the trail" in each for each in wrong_packs())


@pytest.mark.stage("bidding")
def test_a_high_risk_lease_without_its_documentation_is_not_locked_and_with_it_is() -> None:
    documentation = document_high_risk("harbour")
    flag_as_high_risk("climate")
    clear()
    assert m.Award.objects.filter(demand__reference="climate").values_list("bid__party__slug").distinct().count() == 1
    with transaction.atomic():
        end_evidence(evidence=documentation, seat=seat("harbour", "compliance"), reason="withdrawn", now=clock.now())
        lock_window(window=world.window(), now=clock.now())
        lease = m.Lease.objects.get(demand__reference="climate")
        assert (lease.state, lease.refusal) == (
            "refused", "Its documentation pack is mandatory and lacks: ai-act-pack.")  # fmt: skip
        assert not lease.packs.exists()
        assert m.Lease.objects.filter(demand__reference="tardy", state="locking").exists()
        transaction.set_rollback(True)

    lock_window(window=world.window(), now=clock.now())

    lease = m.Lease.objects.get(demand__reference="climate")
    assert lease.state == "locking"
    assert read_pack(packs_of(lease)[0])["lease"]["pack_is_mandatory"] is True
    assert not read_pack(packs_of(m.Lease.objects.get(demand__reference="tardy"))[0])["lease"]["pack_is_mandatory"]
    with behind_the_triggers():
        m.LeasePack.objects.filter(lease=lease).delete()
    with pytest.raises(IntegrityError, match="high_risk_lease_has_its_pack"), transaction.atomic():
        m.Lease.objects.filter(pk=lease.pk).update(state="locked")


# --- counsel ----------------------------------------------------------------------------------------------------------
def test_without_counsel_nothing_is_awarded_and_with_it_is(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    counsel.require_counsel(seat=seat("birch", "owner"), data_class=None, now=clock.now())
    lawyer, climate, imaging = seat("birch", "counsel"), world.demand("climate"), world.demand("imaging")
    others = seat("alder", "counsel")
    assert {row.reference for row in counsel.waiting_for_counsel(world.party("birch"))} == {"climate", "imaging"}

    with refused(RoleForbidden):
        counsel.sign_off(seat=seat("birch", "owner"), demand=climate, is_approved=True, reason="r", now=clock.now())
    counsel.sign_off(seat=lawyer, demand=climate, is_approved=True, reason="terms read", opinion=b"pdf",
                     now=clock.now())  # fmt: skip
    counsel.sign_off(seat=lawyer, demand=imaging, is_approved=False, reason="no transfer basis", now=clock.now())
    with refused(ReferenceReused):
        counsel.sign_off(seat=lawyer, demand=imaging, is_approved=True, reason="changed my mind", now=clock.now())
    world.take_bids()
    with refused(WindowClosed):
        counsel.sign_off(seat=others, demand=world.demand("genome"), is_approved=True, reason="late",
                         now=clock.now())  # fmt: skip
    clear()

    served = set(m.Award.objects.filter(clearing__window=world.window()).values_list("demand__reference", flat=True))
    assert "climate" in served
    assert "imaging" not in served
    reason = m.LineReason.objects.get(demand__reference="imaging")
    assert (reason.code, reason.detail) == ("no_compliant_capacity", {"rule": "papers"})
    word = m.CounselSignOff.objects.get(demand=climate)
    assert bytes(word.opinion_sha256) == hashlib.sha256(b"pdf").digest()


@pytest.mark.stage("collecting")
def test_counsel_is_another_person_than_posted_the_demand() -> None:
    lawyer = seat("birch", "counsel")
    m.Demand.objects.filter(reference="climate").update(posted_by=lawyer)

    with refused(SamePerson):
        counsel.sign_off(seat=lawyer, demand=world.demand("climate"), is_approved=True, reason="r", now=clock.now())


@pytest.mark.stage("collecting")
def test_a_rule_of_one_data_class_leaves_other_demands_alone_and_ends() -> None:
    owner = seat("birch", "owner")
    rule = counsel.require_counsel(seat=owner, data_class="regulated-health", now=clock.now())
    assert counsel.require_counsel(seat=owner, data_class="regulated-health", now=clock.now()) == rule
    assert counsel.waiting_for_counsel(world.party("birch")) == []

    with behind_the_triggers():
        m.Demand.objects.filter(reference="climate").update(data_class_id="regulated-health")
    assert [row.reference for row in counsel.waiting_for_counsel(world.party("birch"))] == ["climate"]
    counsel.end_counsel_rule(seat=owner, rule_id=rule.pk, reason="no longer asked", now=clock.now())
    assert counsel.waiting_for_counsel(world.party("birch")) == []


def test_a_turn_locks_and_documents_by_itself(own_world: Callable[[str], str]) -> None:
    own_world("bidding")
    document_high_risk("harbour")
    flag_as_high_risk("climate")

    cycle.advance_until_quiet(now=clock.move_to(world.window().bidding_closes_at))

    lease = world.lease("climate")
    assert lease.state == "locked"
    assert confirm_locks(window=world.window(), now=clock.now()) == 0
    assert read_pack(packs_of(lease)[0])["lease"]["pack_is_mandatory"] is True
