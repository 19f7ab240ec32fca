"""A demand pins its data, a signed meter shows what leaves, and any byte is a breach (M-072)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.agent.egress import EgressReport, read_egress, sign_egress
from marketplace.agent.errors import ReadingForged, ReadingMalformed
from marketplace.agent.readings import SignedReport
from marketplace.delivery.egress import meter_of, take_egress
from marketplace.demand.pins import pin_data
from marketplace.demo.keys import machine_key
from marketplace.errors import BadInput, NotYours, ReferenceReused, ReportFromFuture, WindowClosed
from marketplace.oversight.egress import watch_egress
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers


def signed(lease: m.Lease, slot: int, out: int, key: str = "harbour") -> SignedReport:
    start = int(lease.window.slot_at(slot).timestamp())
    return sign_egress(machine_key(key), lease=str(lease.pk), slot_start_at=start, egress_bytes=out)


def take(lease: m.Lease, slot: int, out: int, **changes: object) -> m.EgressReading:
    terms = {"party": lease.provider, "lease": lease, "signed": signed(lease, slot, out), "now": clock.now()}
    return take_egress(**terms | changes)


def climate_lease() -> m.Lease:
    return m.Lease.objects.select_related("provider", "window", "demand").get(
        demand__reference="climate", provider__slug="harbour")  # fmt: skip


@pytest.mark.stage("collecting")
def test_data_is_pinned_while_demand_is_collected_and_for_good() -> None:
    climate, birch = world.demand("climate"), world.party("birch")

    for limit in (-1, 2**53 + 1, 0.5, True):
        with refused(BadInput, field="limit_bytes"):
            pin_data(demand=climate, party=birch, limit_bytes=limit, now=clock.now())
    pin = pin_data(demand=climate, party=birch, limit_bytes=9, now=clock.now())
    assert pin_data(demand=climate, party=birch, limit_bytes=9, now=clock.now()) == pin
    with refused(ReferenceReused, limit_bytes=9):
        pin_data(demand=climate, party=birch, now=clock.now())
    with refused(NotYours):
        pin_data(demand=climate, party=world.party("alder"), now=clock.now())
    with refused(WindowClosed):
        pin_data(demand=world.demand("climate-0"), party=birch, now=clock.now())


@pytest.mark.stage("delivered")
def test_a_byte_of_pinned_data_that_leaves_is_a_breach_told_to_both() -> None:
    lease = climate_lease()
    with behind_the_triggers():
        m.EgressPin.objects.create(demand=lease.demand, at=clock.now())
    take(lease, lease.start_slot, 0)
    with untouched():
        assert watch_egress(now=clock.now()) == 0  # it was delivered: its provider is told while it runs
    assert not meter_of(lease).is_breach

    take(lease, lease.start_slot + 1, 1)
    assert watch_egress(now=clock.now()) == 1
    with untouched():
        assert watch_egress(now=clock.now()) == 0

    assert (meter_of(lease).egress_bytes, meter_of(lease).hours, meter_of(lease).is_breach) == (1, 2, True)
    assert (meter_of(lease).limit_bytes, meter_of(lease).hours_over) == (0, 1)
    assert m.WindDown.objects.get(lease=lease).cause == "egress"
    told = m.Notice.objects.filter(code="egress_breach").values_list("party__slug", flat=True)
    assert set(told) == {"birch", "harbour"}
    assert m.AuditLine.objects.get(action="egress_breach").facts["egress_bytes"] == 1


@pytest.mark.stage("delivered")
def test_bytes_of_data_that_is_not_pinned_are_metered_and_no_breach() -> None:
    lease = climate_lease()
    take(lease, lease.start_slot, 10**9)

    assert watch_egress(now=clock.now()) == 0
    assert (meter_of(lease).egress_bytes, meter_of(lease).is_breach) == (10**9, False)


@pytest.mark.stage("delivered")
def test_a_report_of_the_meter_is_the_machines_own_of_its_lease_and_hour() -> None:
    lease = climate_lease()
    slot = lease.start_slot
    assert take(lease, slot, 5) == take(lease, slot, 5)

    with refused(ReferenceReused, slot=slot):
        take(lease, slot, 6)
    with refused(BadInput, field="report", cause="reading_forged"):
        take(lease, slot + 1, 5, signed=signed(lease, slot + 1, 5, key="granite"))
    tampered = signed(lease, slot + 1, 5)
    with refused(BadInput, field="report", cause="reading_forged"):
        take(lease, slot + 1, 5, signed=SignedReport(tampered.body.replace(b"5", b"0", 1), tampered.signature))
    for outside in (lease.end_slot, -1):
        with refused(BadInput, field="report"):
            take(lease, outside, 5)
    with refused(ReportFromFuture, slot=slot + 1):
        take(lease, slot + 1, 5, now=lease.window.slot_at(slot + 1) + timedelta(minutes=59))
    with refused(NotYours):
        take(lease, slot + 1, 5, party=world.party("granite"))
    with refused(BadInput, field="report"):
        take(lease, slot + 1, 5, signed=signed(world.lease("genome"), slot + 1, 5))


def test_the_agents_half_signs_and_reads_only_what_can_be() -> None:
    key = machine_key("harbour")
    report = sign_egress(key, lease="l", slot_start_at=7200, egress_bytes=3)

    assert read_egress(report, public_key=key.public_bytes) == EgressReport("l", 7200, 3)
    for wrong in ({"slot_start_at": 7201}, {"egress_bytes": -1}, {"egress_bytes": True}):
        with pytest.raises(ReadingMalformed):
            sign_egress(key, **{"lease": "l", "slot_start_at": 7200, "egress_bytes": 3} | wrong)
    with pytest.raises(ReadingForged):
        read_egress(report, public_key=machine_key("granite").public_bytes)
