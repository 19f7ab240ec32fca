"""Supply: sites, classes, proofs and bids; what nobody proved cannot be sold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.errors import (
    BadInput,
    BadSlots,
    DemandFirst,
    NotEligible,
    NotYours,
    PriceOffTick,
    PriceOutOfRange,
    ProofRefused,
    QuantityOutOfRange,
    ReferenceReused,
    TooLate,
    UnknownName,
    WindowClosed,
)
from marketplace.supply.bids import place_bid, withdraw_bid
from marketplace.supply.services import Measured, enrol_node_class, record_benchmark, register_site
from marketplace.supply.standing import advance_standing, degrade, record_checks, restore
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("bidding")


def place(provider: str = "granite", **changes: Any) -> m.Bid:
    row = world.node_class(provider)
    terms: dict[str, Any] = {
        "party": row.party, "node_class": row, "window": world.window(), "reference": "new", "quantity_units": 1,
        "start_slot": 0, "end_slot": 5, "price_ask_micros": 1_000_000, "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip
    return place_bid(**terms | changes)


BAD: list[tuple[dict[str, Any], type[Exception], dict[str, Any]]] = [
    ({"price_ask_micros": 0}, PriceOutOfRange, {"field": "price_ask_micros", "price": 0}),
    ({"price_ask_micros": -100}, PriceOutOfRange, {"field": "price_ask_micros"}),
    ({"price_ask_micros": 2**63}, PriceOutOfRange, {"field": "price_ask_micros"}),
    ({"price_ask_micros": 199}, PriceOffTick, {"field": "price_ask_micros", "nearest": 100}),
    ({"price_ask_micros": 1e6}, BadInput, {"field": "price_ask_micros"}),
    ({"price_ask_micros": True}, BadInput, {"field": "price_ask_micros"}),
    ({"quantity_units": 0}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": 2**63}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": False}, BadInput, {"field": "quantity_units"}),
    ({"start_slot": -1}, BadSlots, {"field": "start_slot"}),
    ({"end_slot": 0}, BadSlots, {"field": "end_slot"}),
    ({"end_slot": 31}, BadSlots, {"field": "end_slot"}),
    ({"sla_code": "five nines"}, UnknownName, {"field": "sla_code"}),
    ({"sla_code": ""}, BadInput, {"field": "sla_code"}),
    ({"reference": ""}, BadInput, {"field": "reference"}),
    ({"reference": "nul\x00"}, BadInput, {"field": "reference"}),
    ({"sla_code": "99.0\x00"}, UnknownName, {"field": "sla_code"}),
    ({"reference": "x" * 61}, BadInput, {"field": "reference"}),
]


@pytest.mark.parametrize(("changes", "kind", "facts"), BAD, ids=[str(changes)[:60] for changes, _, _ in BAD])
def test_a_bad_bid_is_refused_beside_its_field(
    changes: dict[str, Any], kind: type[Exception], facts: dict[str, Any]
) -> None:
    with refused(kind, **facts):
        place(**changes)


def test_a_bid_is_taken_while_bidding_is_open_and_not_a_moment_longer() -> None:
    closes_at = world.window().bidding_closes_at

    with refused(WindowClosed, window=world.MAIN, state="BIDDING", closed_at=closes_at.isoformat()):
        place(now=closes_at)
    with refused(WindowClosed, window=world.EARLY, state="SETTLED"):
        place(window=world.window(world.EARLY))

    assert place(now=closes_at - timedelta(microseconds=1)).state == "sealed"


@pytest.mark.stage("collecting")
def test_no_bid_before_funded_demand() -> None:
    with refused(DemandFirst, window=world.MAIN, needed_unit_hours=600, funded_unit_hours=548):
        place()


def test_the_same_reference_with_the_same_terms_is_one_bid() -> None:
    first = place()

    with untouched():
        assert place() == first
    with refused(ReferenceReused, field="reference"):
        place(price_ask_micros=1_000_100)


def test_a_class_of_somebody_else_is_not_found() -> None:
    with refused(NotYours):
        place(party=world.party("harbour"))
    with refused(NotYours):
        withdraw_bid(bid=world.bid("granite"), party=world.party("harbour"), now=clock.now())


def test_a_class_offers_no_more_than_it_has_in_any_slot() -> None:
    with refused(NotEligible, rule="proven_units", allowed_units=8, already_offered=4, standing="PROVEN"):
        place(quantity_units=5)

    assert place(quantity_units=4).state == "sealed"


@pytest.mark.parametrize("state", ["REGISTERED", "DEGRADED", "SUSPENDED", "UNBONDING"])
def test_only_probation_and_proof_may_bid(state: str) -> None:
    with behind_the_triggers():
        m.Standing.objects.filter(node_class__party__slug="granite").update(state=state)

    with refused(NotEligible, rule="standing", standing=state):
        place()


def test_a_bid_is_withdrawn_until_the_no_cancel_period() -> None:
    bid, from_then = world.bid("granite"), world.window().no_cancel_from

    with refused(TooLate, no_cancel_from=from_then.isoformat()):
        withdraw_bid(bid=bid, party=bid.party, now=from_then)

    assert withdraw_bid(bid=bid, party=bid.party, now=from_then - timedelta(microseconds=1)).state == "withdrawn"
    with untouched():
        withdraw_bid(bid=bid, party=bid.party, now=from_then)  # it is done; asking late changes nothing


@pytest.mark.stage("cleared")
def test_an_opened_bid_is_binding() -> None:
    bid = world.bid("granite")

    with refused(WindowClosed, state="CLEARED"):
        withdraw_bid(bid=bid, party=bid.party, now=clock.now())


# --- sites and classes -----------------------------------------------------------------------------------------------
def site(**changes: Any) -> m.Site:
    facts: dict[str, Any] = {
        "party": world.party("sprout"), "code": "sprout-2", "city": "Turin", "country": "IT", "operator_country": "IT",
        "keys_country": "IT", "lat": 45.0, "lon": 7.7, "rtt_ms_p95": {"ams": (21, "bounded")}, "now": clock.now(),
    }  # fmt: skip
    return register_site(**facts | changes)


def enrol(**changes: Any) -> m.NodeClass:
    facts: dict[str, Any] = {
        "party": world.party("sprout"), "site": m.Site.objects.get(code="sprout-1"), "resource_class_code": "A100",
        "units": 2, "tier": 1, "claimed_name": "A100", "now": clock.now(),
    }  # fmt: skip
    return enrol_node_class(**facts | changes)


def test_a_site_belongs_to_a_provider_and_keeps_its_code() -> None:
    with refused(BadInput, field="party"):
        site(party=world.party("alder"))
    with refused(ReferenceReused, field="code"):
        site(code="granite-1")
    with refused(UnknownName, field="vantage"):
        site(rtt_ms_p95={"moon": (1, "measured")})
    for changes, field in (
        ({"country": "it"}, "country"), ({"operator_country": "ITA"}, "operator_country"),
        ({"keys_country": ""}, "keys_country"), ({"code": ""}, "code"), ({"city": "x" * 81}, "city"),
        ({"rtt_ms_p95": {"ams": (-1, "measured")}}, "rtt_ms_p95"),
        ({"rtt_ms_p95": {"ams": (1.5, "measured")}}, "rtt_ms_p95"),
        ({"rtt_ms_p95": {"ams": (1, "guessed")}}, "rtt_ms_p95"),
    ):  # fmt: skip
        with refused(BadInput, field=field):
            site(**changes)

    made = site()
    with untouched():
        assert site() == made


def test_a_class_is_enrolled_once_as_registered() -> None:
    for changes, kind, field in (
        ({"tier": 4}, BadInput, "tier"), ({"tier": True}, BadInput, "tier"),
        ({"resource_class_code": "TPU"}, UnknownName, "resource_class_code"),
        ({"resource_class_code": ""}, BadInput, "resource_class_code"),
        ({"units": 0}, QuantityOutOfRange, "quantity_units"), ({"units": 1.0}, BadInput, "quantity_units"),
        ({"claimed_name": ""}, BadInput, "claimed_name"), ({"machine_key": b"short"}, BadInput, "machine_key"),
    ):  # fmt: skip
        with refused(kind, field=field):
            enrol(**changes)
    with refused(NotYours):
        enrol(site=m.Site.objects.get(code="granite-1"))

    made = enrol()

    assert made.standing.state == "REGISTERED"
    assert made.chain_class == 7
    with untouched():
        assert enrol() == made


# --- proofs ----------------------------------------------------------------------------------------------------------
def prove(provider: str = "sprout", epoch: int = 1, kind: int = 1, **changes: Any) -> m.Benchmark:
    now = clock.now()
    node_class = changes.pop("node_class", None) or world.node_class(provider)
    reference = node_class.resource_class
    share = changes.pop("share_percent", 100)
    measured = Measured(
        ops_per_sec=changes.pop("ops_per_sec", reference.ops_per_sec * share // 100),
        mem_bytes=reference.mem_bytes, mem_bytes_per_sec=reference.mem_bytes_per_sec, seed=bytes(32),
        params_hash=bytes(32),
        transcript_hash=changes.pop("transcript_hash", bytes(32)), started_at=now - timedelta(minutes=2),
        finished_at=now - timedelta(minutes=1),
        valid_until=changes.pop("valid_until", now + timedelta(days=60)),
    )  # fmt: skip
    facts: dict[str, Any] = {
        "node_class": node_class, "kind": kind, "epoch": epoch, "measured": measured, "message": {},
        "signatures": [("0x1", 27, b"", b""), ("0x2", 27, b"", b"")], "is_simulated": True, "now": now,
    }  # fmt: skip
    return record_benchmark(**facts | changes)


def test_a_benchmark_needs_two_different_verifiers() -> None:
    one = ("0x1", 27, b"", b"")

    with refused(ProofRefused, needed=2):
        prove(signatures=[one])
    with refused(ProofRefused, signers=1, signatures=2):
        prove(signatures=[one, one])

    assert prove().attestations.count() == 2


def test_a_benchmark_is_of_a_known_kind_and_its_times_follow_each_other() -> None:
    with refused(ProofRefused, kind=3):
        prove(kind=3)
    with refused(ProofRefused):
        prove(valid_until=clock.now() - timedelta(minutes=1))

    assert prove(kind=2).kind == 2


def test_epochs_rise_and_one_epoch_is_one_transcript() -> None:
    made = prove(epoch=2)

    with untouched():
        assert prove(epoch=2) == made
    with refused(ProofRefused, epoch=2):
        prove(epoch=2, transcript_hash=b"x" * 32)
    with refused(ProofRefused, epoch=1, last=2):
        prove(epoch=1)


def test_a_challenge_starts_probation_and_nothing_else_does() -> None:
    sprout = world.node_class("sprout")
    with untouched():
        assert advance_standing(node_class=sprout, now=clock.now()) == "REGISTERED"

    prove()

    assert advance_standing(node_class=sprout, now=clock.now()) == "PROBATION"
    with untouched():
        assert advance_standing(node_class=sprout, now=clock.now()) == "PROBATION"


def cheaper_class(ops_share_percent: int = 60) -> m.ResourceClass:
    """A class below sprout's in operations and equal in memory."""
    own = world.node_class("sprout").resource_class
    return m.ResourceClass.objects.create(
        code="LESSER", name="lesser", ops_per_sec=own.ops_per_sec * ops_share_percent // 100, mem_bytes=own.mem_bytes,
        mem_bytes_per_sec=own.mem_bytes_per_sec, reference_price_micros=100,
    )  # fmt: skip


@pytest.mark.parametrize(("share_percent", "measured"), [(85, "declared"), (84, "LESSER")])
def test_a_class_that_measures_lower_is_listed_as_what_it_measures(share_percent: int, measured: str) -> None:
    sprout, lesser = world.node_class("sprout"), cheaper_class()
    declared = sprout.resource_class_id

    prove(share_percent=share_percent)

    assert advance_standing(node_class=sprout, now=clock.now()) == "PROBATION"
    listed = world.node_class("sprout").resource_class_id
    assert listed == (declared if measured == "declared" else lesser.code)
    gap = m.AuditLine.objects.filter(action="record_benchmark", subject=str(sprout.pk)).latest("no").facts
    assert (gap["claimed_class"], gap["measured_class"]) == (declared, listed)
    assert gap["ops_share_bps"] == share_percent * 100


def test_a_class_that_measures_nothing_known_stays_registered_until_it_proves_better() -> None:
    sprout = world.node_class("sprout")
    prove(ops_per_sec=1)
    with untouched():
        assert advance_standing(node_class=sprout, now=clock.now()) == "REGISTERED"

    prove(epoch=2, transcript_hash=b"b" * 32)

    assert advance_standing(node_class=sprout, now=clock.now()) == "PROBATION"


def test_a_measured_class_that_the_site_already_has_is_refused() -> None:
    sprout, lesser = world.node_class("sprout"), cheaper_class()
    enrol_node_class(
        party=sprout.party, site=sprout.site, resource_class_code=lesser.code, units=1, tier=0, claimed_name="lesser",
        now=clock.now(),
    )  # fmt: skip
    prove(node_class=sprout, share_percent=84)

    assert advance_standing(node_class=sprout, now=clock.now()) == "REGISTERED"
    assert m.NodeClass.objects.get(pk=sprout.pk).resource_class_id != lesser.code


def test_a_baseline_below_the_class_proves_nothing() -> None:
    basalt = world.node_class("basalt")
    record_checks(node_class=basalt, passed=400, failed=0, now=clock.now())
    prove("basalt", epoch=9, kind=2, share_percent=84)
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    prove("basalt", epoch=10, kind=2, share_percent=85)

    assert advance_standing(node_class=basalt, now=clock.now()) == "PROVEN"


@pytest.mark.parametrize(
    ("passed", "failed", "standing"), [(310, 2, "PROBATION"), (310, 3, "PROBATION"), (311, 2, "PROVEN")]
)
def test_proof_takes_313_checks_with_two_failures_at_most(passed: int, failed: int, standing: str) -> None:
    basalt = world.node_class("basalt")
    prove("basalt", epoch=9, kind=2)
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    record_checks(node_class=basalt, passed=passed, failed=failed, now=clock.now())

    assert advance_standing(node_class=basalt, now=clock.now()) == standing


def test_a_baseline_within_two_weeks_of_the_challenge_is_no_proof() -> None:
    basalt = world.node_class("basalt")
    record_checks(node_class=basalt, passed=400, failed=0, now=clock.now())
    m.Standing.objects.filter(node_class=basalt).update(challenged_at=clock.now() - timedelta(days=13, hours=23))
    prove("basalt", epoch=9, kind=2)

    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"


def test_an_expired_proof_is_probation_again() -> None:
    harbour = world.node_class("harbour")
    ends_at = harbour.standing.proven_until

    assert advance_standing(node_class=harbour, now=ends_at - timedelta(seconds=1)) == "PROVEN"
    assert advance_standing(node_class=harbour, now=ends_at) == "PROBATION"


def test_a_breach_degrades_and_only_clean_hours_with_a_fresh_proof_restore() -> None:
    harbour, now = world.node_class("harbour"), clock.now()
    degrade(node_class=harbour, reason="confirmed breach", breach_at=now, evidence=bytes(32), now=now)

    assert restore(node_class=harbour, clean_hours=100, now=now) == "DEGRADED"
    proof = prove("harbour", epoch=9, kind=2)
    m.Benchmark.objects.filter(pk=proof.pk).update(finished_at=now + timedelta(hours=49))
    assert restore(node_class=harbour, clean_hours=47, now=now + timedelta(hours=50)) == "DEGRADED"

    assert restore(node_class=harbour, clean_hours=48, now=now + timedelta(hours=50)) == "PROVEN"
