"""A broken promise is credited without being asked for, and an exact test decides whether it was a breach."""

from __future__ import annotations

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.sla.services import evidence_hash, judge_window
from pricing.sla import threshold_minutes
from tests.journey import world
from tests.journey.refusals import untouched

BROKEN = {"genome", "imaging"}


def verdicts() -> dict[str, m.Verdict]:
    rows = m.Verdict.objects.filter(lease__window=world.window()).select_related("lease__demand")
    return {row.lease.demand.reference: row for row in rows}


@pytest.mark.stage("judged")
def test_every_lease_has_its_verdict_and_only_the_twins_are_broken() -> None:
    assert len(verdicts()) == 6
    assert {reference for reference, row in verdicts().items() if row.is_breach} == BROKEN
    assert {reference for reference, row in verdicts().items() if row.is_below_sla} == BROKEN


@pytest.mark.stage("judged")
def test_a_breach_is_more_down_minutes_than_chance_explains() -> None:
    genome, imaging = verdicts()["genome"], verdicts()["imaging"]

    assert genome.threshold_minutes == threshold_minutes(genome.known_minutes, 9900)
    assert genome.down_minutes == imaging.down_minutes == 60 > genome.threshold_minutes
    assert genome.breach_at == world.window().slot_at(11)  # 45 of its minutes lie in slot 10: already too many


@pytest.mark.stage("judged")
def test_the_harmed_buyers_get_a_quarter_of_the_fee_without_a_claim() -> None:
    credits = {row.verdict.lease.demand.reference: row for row in m.Credit.objects.filter(
        verdict__lease__window=world.window()).select_related("verdict__lease__demand")}  # fmt: skip

    assert set(credits) == BROKEN
    for reference, credit in credits.items():
        assert credit.step_bps == 2_500  # below 99.0 %, above 95.0 %
        assert credit.amount_micros == -(-world.lease(reference).fee_micros // 4)


@pytest.mark.stage("judged")
def test_a_proven_provider_pays_from_escrow_and_an_unproven_one_from_its_holdback() -> None:
    assert world.lease("genome").verdict.credit.source == "escrow"
    assert world.lease("imaging").verdict.credit.source == "holdback"


@pytest.mark.stage("judged")
def test_minutes_that_were_not_delivered_are_not_paid() -> None:
    for row in verdicts().values():
        assert row.earned_micros + row.unpaid_micros == row.lease.fee_micros
    assert verdicts()["climate"].unpaid_micros == 0
    assert verdicts()["genome"].unpaid_micros == -(-world.lease("genome").fee_micros // 30)  # one hour of thirty


@pytest.mark.stage("judged")
def test_a_verdict_rests_on_its_readings() -> None:
    row = verdicts()["genome"]
    readings = list(row.lease.readings.order_by("slot"))
    assert evidence_hash(row.lease, readings) == bytes(row.evidence_hash)

    readings[3].probe_failed = [1, 1, 0]

    assert evidence_hash(row.lease, readings) != bytes(row.evidence_hash)


@pytest.mark.stage("judged")
def test_judging_again_changes_nothing() -> None:
    with untouched():
        assert judge_window(window=world.window(), now=clock.now()) == 0
