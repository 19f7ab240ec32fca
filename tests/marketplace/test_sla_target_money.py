"""Typed targets in a market that really commits: money to the last micro, evidence on chain, and the API's door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.payout.services import confirm_credits, post_credits
from marketplace.sla.evidence import check_receipt, receipt_of_target, seal_evidence
from marketplace.sla.targets import judge_targets
from tests.journey import world
from tests.journey.refusals import untouched
from tests.marketplace.test_credit_at_once import failed, finish
from tests.marketplace.test_delivery import take, witness
from tests.marketplace.test_delivery_doors import Agent
from tests.marketplace.test_sla_targets import broken, promised


def test_credits_of_targets_are_posted_within_five_minutes_and_settled_to_the_last_micro(
    own_world: Callable[[str], str],
) -> None:
    own_world("delivering")
    m.Lease.objects.filter(demand__reference="genome").update(sla_targets={
        "start_by_minutes_max": 15, "latency_p95_ms_max": 20, "repair_minutes_max": 240, "notice_hours_min": 72,
    })  # fmt: skip
    lease, window = world.lease("genome"), world.window()
    before = balance(code="buyer.available", party=lease.buyer_id).minor
    first, _ = witness(0)
    take(replace(first, probe_failed=failed(17)), hours=1)  # of eighteen minutes that its availability allows
    now = clock.move_to(window.slot_at(1) + timedelta(minutes=1))

    cycle.advance_until_quiet(now=now)

    credit = m.EarlyCredit.objects.get()
    assert (credit.kind, credit.amount_micros) == ("target", -(-lease.fee_micros // 10))
    assert credit.posted_at - credit.broken_at <= timedelta(minutes=5)
    assert balance(code="buyer.available", party=lease.buyer_id).minor == before + credit.amount_micros
    with untouched():
        assert judge_targets(window=window, now=now) == 0
        assert post_credits(window=window, now=now) == 0
        assert confirm_credits(now=now) == 0

    finish()

    verdict, line = m.Verdict.objects.get(lease=lease), m.SettlementLine.objects.get(lease=lease)
    found = dict(m.TargetVerdict.objects.filter(lease=lease).values_list("target", "outcome"))
    assert found == {"start_by_minutes_max": "broken", "latency_p95_ms_max": "kept", "notice_hours_min": "kept",
                     "repair_minutes_max": "kept"}  # fmt: skip
    assert (verdict.is_below_sla, verdict.is_breach) == (True, False)  # a broken target slashes nobody
    assert (verdict.credit.amount_micros, verdict.credit.targets_micros) == (credit.amount_micros,) * 2
    assert line.credit_micros == line.credited_before_micros == credit.amount_micros
    assert line.earned_micros + line.returned_micros + line.credit_micros == lease.fee_micros
    assert compare_when_still(read_words, now=clock.now()) == []


def test_evidence_of_a_target_is_anchored_with_its_day_and_a_changed_word_shows(
    own_world: Callable[[str], str],
) -> None:
    own_world("delivering")
    live = promised(start_by_minutes_max=15)
    live.probe_slot(0, down=(1 << 17) - 1)
    now = clock.move_to(live.after(0))
    assert judge_targets(window=world.window(), now=now) == 1
    row = broken()
    assert receipt_of_target(row)["day"] is None

    later = clock.move_to(now + timedelta(days=1))
    assert seal_evidence(now=later) >= 1  # an earlier window may have had a day of its own
    cycle.run_chain(now=later)

    receipt = receipt_of_target(m.TargetVerdict.objects.get(pk=row.pk))
    assert m.EvidenceDay.objects.get(day=now.date()).verdicts == 1
    assert check_receipt(receipt) == []
    forged = {**receipt, "evidence": [*receipt["evidence"][:-1], "x"]}
    assert check_receipt(forged) == ["the evidence gives another hash"]
    with untouched():
        assert seal_evidence(now=later) == 0


def test_a_demand_asks_for_targets_over_the_api_and_a_contradiction_names_its_rule(
    own_world: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_world("collecting")
    agent = Agent(world.party("elm"), clock.now(), monkeypatch)
    body = {
        "window": f"win_{world.window().pk.hex}", "reference": "swift", "kind": "divisible", "quantity_units": 1,
        "accepted_classes": ["H100"], "start_slot": 0, "end_slot": 24, "price_limit_micros": 1_000_000,
        "sla_code": "99.0", "sla_targets": {"latency_p50_ms_max": 50, "latency_p95_ms_max": 20},
    }  # fmt: skip

    refusal = agent.post("/demands", body).json()
    made = agent.post("/demands", body | {"sla_targets": {"latency_p95_ms_max": 20}})

    assert (refusal["code"], refusal["rule"]) == ("contradictory_rules", "percentiles_rise")
    assert (made.status_code, made.json()["sla_targets"]) == (201, {"latency_p95_ms_max": 20})
    for odd in ([], "x", {"latency_p95_ms_max": "20"}, {"latency_p95_ms_max": 1.5}):
        assert agent.post("/demands", body | {"reference": "odd", "sla_targets": odd}).status_code == 422
    assert not m.Demand.objects.filter(reference="odd").exists()
