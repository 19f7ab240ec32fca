"""A site is measured by the Foundation from where it stands, and nothing that light cannot keep is taken."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import BadInput, RoleForbidden, UnknownName, WrongStanding
from marketplace.parties.services import make_seat
from marketplace.supply.changes import undo_change
from marketplace.supply.round_trips import distance_km, record_round_trip
from tests.journey import world
from tests.journey.refusals import refused
from tests.marketplace.test_changes import MOVE, change
from tests.owner import unseen

pytestmark = pytest.mark.stage("founded")


def site() -> m.Site:
    return world.node_class("granite").site


def measure(**changes: Any) -> m.SiteLatency:
    now = clock.now()
    terms = {"seat": reviewer_seat(now), "site": site(), "vantage_code": "ams", "rtt_ms_p95": 90, "echoes": 20,
             "measured_at": now, "now": now}  # fmt: skip
    return record_round_trip(**terms | changes)


def known() -> list[tuple[str, int, str]]:
    return list(site().latencies.values_list("vantage_id", "rtt_ms_p95", "method"))


def test_a_moved_site_has_none_until_it_is_measured_where_it_stands() -> None:
    assert known() == [("ams", 12, "measured")]
    moved = change("granite", **MOVE)
    assert known() == []
    with refused(BadInput, field="measured_at"):
        measure(measured_at=clock.now() - timedelta(hours=1))  # of where it was

    clock.move_to(clock.now() + timedelta(minutes=1))
    measure()
    measure(rtt_ms_p95=88, echoes=40)

    assert known() == [("ams", 88, "measured")]
    line = m.AuditLine.objects.filter(action="record_round_trip").order_by("pk").last()
    assert (line.facts["before_ms"], line.facts["after_ms"], line.facts["echoes"]) == (90, 88, 40)
    told = m.Notice.objects.filter(code="round_trip_measured", party=site().party).order_by("pk").last()
    assert "88 ms" in told.sentence
    undo_change(party=site().party, change=moved, reason="mistyped", now=clock.now())
    assert known() == [("ams", 12, "measured")]  # the place is the old one, and so is what was measured there


def test_what_cannot_be_is_refused_beside_its_field_and_nothing_changes() -> None:
    before, now = known(), clock.now()
    for wrong, field in (({"echoes": 19}, "echoes"), ({"rtt_ms_p95": 0}, "rtt_ms_p95"),
                         ({"rtt_ms_p95": 10_001}, "rtt_ms_p95"), ({"rtt_ms_p95": 1.5}, "rtt_ms_p95"),
                         ({"measured_at": now + timedelta(seconds=1)}, "measured_at"),
                         ({"measured_at": now - timedelta(days=30, seconds=1)}, "measured_at"),
                         ({"vantage_code": ""}, "vantage_code")):  # fmt: skip
        with refused(BadInput, field=field):
            measure(**{"now": now, "measured_at": now} | wrong)
    with refused(UnknownName, field="vantage_code"):
        measure(vantage_code="mars")
    owner = make_seat(party=site().party, email="own@granite.example", password=None, role="owner", now=now)
    with refused(RoleForbidden):
        measure(seat=owner)
    auditor = make_seat(party=reviewer_seat(now).party, email="a@f.example", password=None, role="auditor", now=now)
    with refused(RoleForbidden):
        measure(seat=auditor)
    unseen(m.Site.objects.filter(pk=site().pk), retired_at=now)
    with refused(WrongStanding):
        measure()
    assert known() == before


def test_a_time_that_light_could_not_keep_is_refused_and_the_least_one_is_taken() -> None:
    vantage = m.Vantage.objects.get(pk="ams")
    unseen(m.Site.objects.filter(pk=site().pk), lat=vantage.lat + 10.0, lon=vantage.lon)  # 1,112 km
    assert 1_111 < distance_km((vantage.lat, 0.0), (vantage.lat + 10.0, 0.0)) < 1_113

    with refused(BadInput, field="rtt_ms_p95", least_ms=12):
        measure(rtt_ms_p95=11)
    assert measure(rtt_ms_p95=12).rtt_ms_p95 == 12


def test_the_console_records_one_and_the_providers_page_shows_it() -> None:
    person, page = reviewer_seat(clock.now()).user, reverse("admin:round_trips")
    m.User.objects.filter(pk=person.pk).update(is_staff=True)
    staff, provider = Client(), Client()
    staff.force_login(m.User.objects.get(pk=person.pk))
    owner = make_seat(party=site().party, email="own@granite.example", password=None, role="owner", now=clock.now())
    provider.force_login(owner.user)
    own_page = reverse("onboarding:place", args=[site().pk])
    site().latencies.all().delete()
    assert "None is measured" in provider.get(own_page).content.decode()
    assert "not measured" in staff.get(page).content.decode()

    form = {"site": str(site().pk), "vantage_code": "ams", "rtt_ms_p95": "41", "echoes": "25",
            "measured_at": f"{clock.now() - timedelta(minutes=1):%Y-%m-%d %H:%M:%S}"}  # fmt: skip
    told = staff.post(page, form | {"echoes": "3"}, follow=True).content.decode()
    assert "20 echoes at least" in told
    assert "Round trip, milliseconds: " in staff.post(page, form | {"rtt_ms_p95": "x"}, follow=True).content.decode()
    staff.post(page, form)

    assert known() == [("ams", 41, "measured")]
    assert "41 ms from" in provider.get(own_page).content.decode()
