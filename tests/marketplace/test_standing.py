"""A standing walks its path: each step has an actor, a reason and evidence, and probation stays small."""

from __future__ import annotations

from datetime import timedelta

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.clearing.books import served_tier
from marketplace.errors import NotEligible, ProofRefused, WrongStanding
from marketplace.supply.bids import place_bid
from marketplace.supply.standing import advance_standing, degrade, readmit, record_checks, suspend, unbond
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.marketplace.test_supply import prove

pytestmark = pytest.mark.stage("bidding")
EVIDENCE = bytes(range(32))


def last_change(provider: str) -> m.StandingChange:
    return m.StandingChange.objects.filter(node_class=world.node_class(provider)).latest("pk")


def offer(**changes: object) -> m.Bid:
    terms: dict[str, object] = {
        "party": world.party("basalt"), "node_class": world.node_class("basalt"), "window": world.window(),
        "reference": "small", "quantity_units": 1, "start_slot": 0, "end_slot": 24, "price_ask_micros": 1_000_000,
        "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip
    return place_bid(**terms | changes)  # type: ignore[arg-type]


def test_on_probation_a_lease_lasts_a_day_at_most() -> None:
    with refused(NotEligible, rule="probation_hours", hours=25, allowed_hours=24):
        offer(end_slot=25)

    assert offer().state == "sealed"


def test_on_probation_a_class_serves_t1_at_most() -> None:
    assert [served_tier("PROBATION", tier) for tier in range(4)] == [0, 1, 1, 1]
    assert [served_tier("PROVEN", tier) for tier in range(4)] == [0, 1, 2, 3]


def test_after_a_breach_a_class_offers_only_what_its_holdback_answers_for() -> None:
    standing = m.Standing.objects.filter(node_class=world.node_class("basalt"))
    standing.update(last_breach_at=clock.now() - timedelta(days=89))
    with refused(NotEligible, rule="proven_units", allowed_units=0, already_offered=2, standing="PROBATION"):
        offer()

    standing.update(last_breach_at=clock.now() - timedelta(days=90))
    assert offer().state == "sealed"


def test_a_breach_on_probation_starts_everything_again() -> None:
    basalt, now = world.node_class("basalt"), clock.now()
    record_checks(node_class=basalt, passed=300, failed=1, now=now)

    degrade(node_class=basalt, reason="confirmed breach", breach_at=now, evidence=EVIDENCE, now=now)

    standing = world.node_class("basalt").standing
    assert (standing.state, standing.checks_passed, standing.challenged_at) == ("REGISTERED", 0, None)
    assert (last_change("basalt").actor, bytes(last_change("basalt").evidence)) == ("market", EVIDENCE)
    assert advance_standing(node_class=basalt, now=now) == "REGISTERED"  # the old challenge admits nobody again
    fresh = prove("basalt", epoch=9, kind=1)
    m.Benchmark.objects.filter(pk=fresh.pk).update(finished_at=now + timedelta(hours=1))
    assert advance_standing(node_class=basalt, now=now + timedelta(hours=2)) == "PROBATION"


def test_six_failed_checks_end_a_probation_and_five_do_not() -> None:
    basalt = world.node_class("basalt")
    record_checks(node_class=basalt, passed=100, failed=5, now=clock.now())
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    record_checks(node_class=basalt, passed=0, failed=1, now=clock.now())

    assert advance_standing(node_class=basalt, now=clock.now()) == "REGISTERED"
    assert last_change("basalt").reason == "6 hourly checks failed"


def test_a_suspended_class_takes_no_orders_and_comes_back_by_a_new_proof_alone() -> None:
    harbour, now = world.node_class("harbour"), clock.now()
    facts = {"actor": "foundation:ada", "reason": "two machines under one name", "evidence": EVIDENCE, "now": now}
    assert suspend(node_class=harbour, **facts) == "SUSPENDED"
    with untouched():
        assert suspend(node_class=harbour, **facts) == "SUSPENDED"
    with refused(NotEligible, rule="standing", standing="SUSPENDED"):
        offer(party=world.party("harbour"), node_class=harbour)
    with refused(ProofRefused):
        readmit(node_class=harbour, actor="foundation:ada", reason="cause named", now=now)

    proof = prove("harbour", epoch=9, kind=2)
    m.Benchmark.objects.filter(pk=proof.pk).update(finished_at=now + timedelta(hours=1))

    later = now + timedelta(hours=2)
    assert readmit(node_class=harbour, actor="foundation:ada", reason="cause named", now=later) == "PROBATION"
    assert last_change("harbour").actor == "foundation:ada"


def test_nobody_is_readmitted_who_was_not_suspended() -> None:
    with refused(WrongStanding, standing="PROVEN", wanted="PROBATION"):
        readmit(node_class=world.node_class("harbour"), actor="foundation:ada", reason="-", now=clock.now())


def test_a_class_that_leaves_does_not_come_back_by_a_suspension() -> None:
    harbour = world.node_class("harbour")
    assert unbond(node_class=harbour, actor="harbour", evidence=EVIDENCE, now=clock.now()) == "UNBONDING"

    with refused(WrongStanding, standing="UNBONDING", wanted="SUSPENDED"):
        suspend(node_class=harbour, actor="foundation:ada", reason="late", evidence=EVIDENCE, now=clock.now())


def test_expiry_names_the_proof_that_expired() -> None:
    harbour = world.node_class("harbour")

    advance_standing(node_class=harbour, now=harbour.standing.proven_until)

    proof = m.Benchmark.objects.filter(node_class=harbour).latest("epoch")
    assert bytes(last_change("harbour").evidence) == bytes(proof.transcript_hash)
