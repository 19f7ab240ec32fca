"""Whose doing a bad minute was: only the provider's costs the provider; and evidence that anybody can check."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from ledger.ids import uuid7
from ledger.rails.evm import chain
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.delivery.cases import reconcile_window
from marketplace.delivery.causes import announce_maintenance, record_stop, sign_cause, signed_causes
from marketplace.delivery.tallies import minutes_down
from marketplace.errors import BadInput, NotYours, Overlapping, RoleForbidden, TooLate
from marketplace.parties.services import make_seat, register_party
from marketplace.sla.evidence import check_receipt, check_statements, receipt_of, seal_evidence, statements_of
from marketplace.sla.services import judge_window
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import Live, go_live
from tests.marketplace.test_delivery_doors import person

LOST = 0b11111


def judge(name: str, *, role: str = "judge") -> m.Seat:
    """A person of the Foundation."""
    house = register_party(slug="house", name="House", kind="foundation", country="CH", parent_country="CH",
                           now=clock.now())  # fmt: skip
    return make_seat(party=house, email=f"{name}@house.example", password=None, role=role, now=clock.now())


def tally(slot: int = 0) -> m.SlotTally:
    return m.SlotTally.objects.get(lease=world.lease("genome"), slot=slot)


def rated(live: Live, slot: int = 0) -> m.Reading:
    reconcile_window(window=world.window(), now=live.after(slot, hours=73))
    return m.Reading.objects.get(lease=live.lease, slot=slot)


@pytest.mark.stage("delivering")
def test_a_failure_that_nobody_else_caused_is_the_providers() -> None:
    live = go_live()
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))

    reading = rated(live)

    assert tally().causes == {"PROVIDER": LOST}
    assert (reading.minutes_down, reading.minutes_billable, reading.causes) == (5, 55, {})


@pytest.mark.stage("delivering")
def test_announced_maintenance_is_paid_and_costs_nothing_but_without_72_hours_notice_it_is_the_providers() -> None:
    live = go_live()
    granite, node_class = world.party("granite"), live.lease.node_class
    early, late = live.at(-73 * 60), live.at(-60)
    announce_maintenance(party=granite, node_class=node_class, starts_at=live.at(0), ends_at=live.at(3),
                         reason="new switches", now=early)  # fmt: skip
    announce_maintenance(party=granite, node_class=node_class, starts_at=live.at(3), ends_at=live.at(5),
                         reason="forgot", now=late)  # fmt: skip
    assert m.Notice.objects.filter(code="maintenance_announced", party=live.lease.buyer).count() == 2
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))

    reading = rated(live)

    assert tally().causes == {"MAINT": 0b111, "PROVIDER": 0b11000}
    assert (reading.minutes_down, reading.minutes_billable) == (2, 58)
    assert reading.causes == {"MAINT": 0b111}


@pytest.mark.stage("delivering")
def test_maintenance_is_refused_when_it_overlaps_lasts_too_long_or_lies_behind() -> None:
    live = go_live()
    granite, node_class, now = world.party("granite"), live.lease.node_class, live.at(-100 * 60)
    told = {"party": granite, "node_class": node_class, "reason": "r", "now": now}
    first = announce_maintenance(**told, starts_at=live.at(0), ends_at=live.at(60))

    with untouched():
        assert announce_maintenance(**told, starts_at=live.at(0), ends_at=live.at(60)) == first
    with refused(Overlapping, field="starts_at"):
        announce_maintenance(**told, starts_at=live.at(59), ends_at=live.at(70))
    with refused(BadInput, field="ends_at"):
        announce_maintenance(**told, starts_at=live.at(100), ends_at=live.at(341))
    with refused(BadInput, field="ends_at"):
        announce_maintenance(**told, starts_at=now - timedelta(minutes=1), ends_at=live.at(0))
    with refused(NotYours):
        announce_maintenance(**told | {"party": world.party("harbour")}, starts_at=live.at(80), ends_at=live.at(90))


@pytest.mark.stage("delivering")
def test_a_buyer_that_stopped_its_workload_pays_for_minutes_in_which_only_that_is_down() -> None:
    live = go_live()
    buyer = live.lease.buyer
    with refused(TooLate):
        record_stop(party=buyer, lease=live.lease, starts_at=live.at(0), ends_at=live.at(5), reason="stopped",
                    now=live.at(2))  # fmt: skip
    record_stop(party=buyer, lease=live.lease, starts_at=live.at(0), ends_at=live.at(3), reason="stopped",
                now=live.at(0))  # fmt: skip
    for verifier in live.panel:  # the machine answers, the workload's port does not
        sent = [live.probe(minute, verifier, port_ok=False, attempt=n) for minute in range(5) for n in (1, 2)]
        live.send_probes(verifier, sent, live.after(0))
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))

    assert tally().causes["BUYER"] == 0b111
    assert tally().causes["PROVIDER"] == 0b11000
    assert minutes_down(tally()) == 2
    assert tally().billable_word & LOST == 0b111


@pytest.mark.stage("delivering")
def test_force_majeure_takes_two_people_and_comes_before_the_rating() -> None:
    live = go_live()
    told = {"of": live.lease.node_class, "cause": "FORCE_MAJEURE", "evidence": "flood"}
    span = told | {"starts_at": live.at(0), "ends_at": live.at(5)}
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))
    ann, ben, eve, cat = judge("ann"), judge("ben"), judge("eve", role="auditor"), judge("cat")
    sign_cause(**span, seat=ann, now=live.after(0))
    with untouched():
        sign_cause(**span, seat=ann, now=live.after(0))
    assert tally().causes == {"PROVIDER": LOST}
    assert reconcile_window(window=world.window(), now=live.after(0)) == 0  # all have spoken, and one judge: it waits
    with refused(RoleForbidden):
        sign_cause(**span, seat=eve, now=live.after(0))
    with refused(BadInput, field="evidence"):
        sign_cause(**{**span, "evidence": " "}, seat=ben, now=live.after(0))
    with refused(BadInput, field="cause"):
        sign_cause(**span | {"cause": "BUYER"}, seat=ben, now=live.after(0))  # a class has no buyer
    with refused(BadInput, field="cause"):
        sign_cause(**span | {"of": live.lease}, seat=ben, now=live.after(0))  # an outage is a whole class's
    sign_cause(**span, seat=ben, now=live.after(0))
    assert {row.cause for row in signed_causes(lease=live.lease, most=5)} == {"FORCE_MAJEURE"}

    reading = rated(live)

    assert (reading.minutes_down, reading.minutes_billable) == (0, 55)  # unpaid, and nobody's fault
    assert reading.causes == {"FORCE_MAJEURE": LOST}
    assert m.Notice.objects.filter(code="cause_decided").count() == 2
    with refused(TooLate, slot=0):
        sign_cause(**span, seat=cat, now=live.after(0, hours=74))
    with pytest.raises(IntegrityError, match="judged_cause_comes_before_the_rating"), transaction.atomic():
        m.JudgedCause.objects.create(
            id=uuid7(clock.now()), node_class=live.lease.node_class, cause="FORCE_MAJEURE", starts_at=live.at(0),
            ends_at=live.at(5), person="cat", evidence="e", signed_at=clock.now(),
        )  # fmt: skip


@pytest.mark.stage("delivering")
def test_two_judges_who_sign_two_different_spans_of_an_outage_have_not_signed_the_same() -> None:
    live = go_live()
    told = {"of": live.lease.node_class, "cause": "FORCE_MAJEURE", "evidence": "flood", "now": live.at(30)}
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))
    sign_cause(**told, starts_at=live.at(0), ends_at=live.at(5), seat=judge("ann"))
    sign_cause(**told, starts_at=live.at(0), ends_at=live.at(6), seat=judge("ben"))

    assert rated(live).minutes_down == 5


@pytest.mark.stage("delivering")
@pytest.mark.parametrize(("judges", "counted"), [(2, (0, 0)), (0, (0, 1))])
def test_an_hour_that_lost_only_excused_minutes_counts_neither_way_in_the_quality_score(
    judges: int, counted: tuple[int, int]
) -> None:
    live = go_live()
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))
    for name in ("ann", "ben")[:judges]:
        sign_cause(of=live.lease.node_class, cause="FORCE_MAJEURE", starts_at=live.at(0), ends_at=live.at(5),
                   seat=judge(name), evidence="flood", now=live.after(0))  # fmt: skip
    rated(live)
    before = m.Standing.objects.get(node_class=live.lease.node_class)
    m.Lease.objects.filter(pk=live.lease.pk).update(state="delivered")

    judge_window(window=world.window(), now=live.after(0, hours=80))

    after = m.Standing.objects.get(node_class=live.lease.node_class)
    gained = (after.good_hours - before.good_hours, after.bad_hours - before.bad_hours)
    assert gained == tuple(live.units * each for each in counted)


@pytest.mark.stage("delivering")
def test_a_path_that_two_vantages_lost_is_the_networks() -> None:
    live = go_live()
    live.probe_slot(0, void=FULL_WORD)

    assert tally().causes == {"NETWORK": FULL_WORD}
    assert minutes_down(tally()) == 0


@pytest.mark.stage("delivering")
def test_the_statements_of_a_slot_give_the_hash_that_its_verdict_rests_on() -> None:
    live = go_live()
    live.probe_slot(0, down=1)
    live.send_reading(live.reading(0), now=live.after(0))
    reading = rated(live)
    verdict = m.Verdict(lease=live.lease)
    statements = statements_of(verdict, 0)

    assert len(statements) == 3 * 61 + 1
    assert check_statements(statements, bytes(reading.statements_hash).hex())
    assert not check_statements(statements[1:], bytes(reading.statements_hash).hex())


def test_a_receipt_leads_to_the_root_on_chain_and_a_changed_one_does_not(own_world: Callable[[str], str]) -> None:
    own_world("delivered")
    judge_window(window=world.window(), now=clock.now())
    verdicts = list(m.Verdict.objects.filter(lease__window=world.window()))
    assert check_receipt(receipt_of(verdicts[0])) == ["its day is not sealed yet"]
    before = m.EvidenceDay.objects.count()

    now = clock.move_to(clock.now() + timedelta(days=1))
    assert seal_evidence(now=now) == 2 - before  # the early window's day, and this one
    cycle.run_chain(now=now)
    with untouched():
        assert seal_evidence(now=now) == 0

    for verdict in verdicts:
        receipt = json.loads(json.dumps(receipt_of(verdict)))
        kept = bytes(chain().call("anchor", "bundle_of", receipt["day"]["anchor_number"]))
        assert check_receipt(receipt, root=kept) == []
        changed = copy.deepcopy(receipt)
        changed["evidence"][1] += 1
        assert check_receipt(changed, root=kept) == ["the evidence gives another hash"]
        changed = copy.deepcopy(receipt)
        changed["day"]["path"][0][1] = "00" * 32
        assert check_receipt(changed, root=kept) == ["the path leads to another root"]


@pytest.mark.stage("delivering")
@pytest.mark.parametrize(("cause", "billable"), [("BUYER", 60), ("NETWORK", 55)])
def test_two_judges_say_whose_doing_it_was_and_an_hour_waits_for_the_second(cause: str, billable: int) -> None:
    live = go_live()
    live.probe_slot(0, down=LOST)
    span = {"of": live.lease, "cause": cause, "starts_at": live.at(0), "ends_at": live.at(10)}
    sign_cause(**span, seat=judge("one"), evidence="the firewall's log", now=live.at(30))
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))

    assert reconcile_window(window=world.window(), now=live.after(0)) == 0  # all have spoken, and one judge
    assert set(m.Notice.objects.filter(code="cause_signed").values_list("party__slug", flat=True)) == {
        "alder", "granite"
    }  # fmt: skip
    with untouched():
        sign_cause(**span, seat=judge("one"), evidence="the firewall's log", now=live.after(0))
    sign_cause(**span, seat=judge("two"), evidence="a trace of the path", now=live.after(0))
    reading = rated(live)

    assert (reading.minutes_down, reading.minutes_billable, reading.causes) == (0, billable, {cause: LOST})
    assert m.Notice.objects.filter(code="cause_decided").count() == 2


@pytest.mark.stage("delivering")
def test_one_judge_alone_two_spans_and_a_rated_hour_change_nothing() -> None:
    live = go_live()
    live.probe_slot(0, down=LOST)
    live.send_reading(live.reading(0, FULL_WORD & ~LOST), now=live.after(0))
    one, two, auditor = judge("one"), judge("two"), judge("three", role="auditor")
    span = {"of": live.lease, "cause": "BUYER", "starts_at": live.at(0), "ends_at": live.at(10)}
    with refused(RoleForbidden):
        sign_cause(**span, seat=auditor, evidence="log", now=live.at(30))
    with refused(BadInput, field="evidence"):
        sign_cause(**span, seat=one, evidence=" ", now=live.at(30))
    with refused(BadInput, field="cause"):
        sign_cause(**span | {"cause": "FATE"}, seat=one, evidence="log", now=live.at(30))
    with refused(BadInput, field="ends_at"):
        sign_cause(**span | {"ends_at": live.at(0)}, seat=one, evidence="log", now=live.at(30))
    sign_cause(**span, seat=one, evidence="log", now=live.at(30))
    sign_cause(**span | {"ends_at": live.at(9)}, seat=two, evidence="log", now=live.at(30))  # another span

    reading = rated(live)  # 72 hours later

    assert (reading.minutes_down, reading.causes) == (5, {})
    with refused(TooLate, slot=0):
        sign_cause(**span, seat=two, evidence="log", now=live.after(0, hours=74))


@pytest.mark.stage("delivering")
def test_judges_sign_in_the_console_and_both_parties_read_it_on_their_pages() -> None:
    live = go_live()
    live.round(0)
    register_party(slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=clock.now())
    first, second = person("house", "judge", is_staff=True), person("house", "judge", is_staff=True, name="second")
    auditor, address = person("house", "auditor", is_staff=True), "/console/causes/"
    span = {"lease": str(live.lease.pk), "cause": "NETWORK", "starts_at": live.at(0).isoformat(),
            "ends_at": live.at(5).isoformat()}  # fmt: skip

    assert "None." in first.get(address).content.decode()
    auditor.post(address, {**span, "evidence": "trace"})
    first.post(address, {**span, "starts_at": "soon", "evidence": "trace"})
    assert first.post(address, {**span, "lease": "x", "evidence": "trace"}).status_code == 404
    assert not m.JudgedCause.objects.exists()
    first.post(address, {**span, "evidence": "the carrier's outage notice"})
    assert "waits for a second judge" in second.get(address).content.decode()
    second.post(address, {**span, "evidence": "our own trace"})
    assert "waits for a second judge" not in second.get(address).content.decode()
    for slug, door in (("alder", "portal"), ("granite", "onboarding")):
        page = person(slug, "owner").get(f"/{door}/leases/{live.lease.pk}/minutes/").content.decode()
        assert "our own trace" in page
        assert "not billed" in page
