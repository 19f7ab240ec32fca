"""A zone's list has versions; a new one is looked at against open demands and leases (M-063, M-067)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import zone_countries
from marketplace.demand.services import post_demand
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import BadInput, ContradictoryRules, CyclicOwnership, PastDate, RoleForbidden
from marketplace.oversight.rechecks import change_zone_list
from marketplace.parties.services import make_seat, register_party, set_owner
from tests.journey import world
from tests.journey.refusals import refused, untouched


def change(*members: str, days: int = 1, zone: str = "EU", **other: object) -> m.ZoneReport | None:
    now = clock.now()
    return change_zone_list(**{
        "zone": m.Zone.objects.get(pk=zone), "members": members, "source": "Official Journal, made for the test",
        "valid_from": (now + timedelta(days=days)).date(), "seat": reviewer_seat(now), "now": now, **other,
    })  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.stage("collecting")
def test_a_country_that_leaves_stops_matching_from_that_day_and_open_demands_are_told() -> None:
    day = world.window().starts_at.date()

    report = change("DE", "IT", valid_from=day)

    assert report is not None
    zone = m.Zone.objects.get(pk="EU")
    assert zone_countries(zone=zone, on=day - timedelta(days=1)) == ("DE", "FR", "IT")
    assert zone_countries(zone=zone, on=day) == ("DE", "IT")
    rows = {row["reference"]: (row["before"], row["after"]) for row in report.demands}
    assert rows["climate"] == (4, 3)  # harbour stands in France
    assert rows["sovereign"] == (4, 3)  # and is controlled from there
    assert "render" not in rows
    assert m.Notice.objects.filter(code="zone_changed", party__slug="birch").exists()
    assert (report.change.version, report.change.removed, report.change.added) == (2, ["FR"], [])


@pytest.mark.stage("delivering")
def test_a_lease_that_stands_where_the_list_ends_is_named() -> None:
    report = change("DE", "IT", days=1)

    assert report is not None
    leases = {(row["reference"], row["provider"]): row["countries"] for row in report.leases}
    assert leases[("climate", "Harbour")] == ["FR"]
    assert all(provider == "Harbour" for _, provider in leases)
    assert m.Notice.objects.filter(code="zone_changed", party__slug="harbour").exists()


@pytest.mark.stage("collecting")
def test_a_list_that_stands_already_changes_nothing() -> None:
    reviewer_seat(clock.now())
    with untouched():
        assert change("IT", "DE", "FR") is None

    assert change("IT", "DE", "FR", "ES") is not None


@pytest.mark.stage("collecting")
def test_the_past_of_a_list_is_not_rewritten() -> None:
    reviewer_seat(clock.now())
    with refused(PastDate, field="valid_from"):
        change("DE", days=0)
    with refused(BadInput, field="members"):
        change("DE", "XX")
    change("DE", "FR", days=20)
    with refused(BadInput, field="valid_from"):
        change("DE", days=10)
    auditor = make_seat(party=world.party("foundation"), email="aud@grove.example", password=None, role="auditor",
                        now=clock.now())  # fmt: skip
    with refused(RoleForbidden):
        change("DE", days=30, seat=auditor)

    row = m.ZoneMember.objects.get(zone="EU", country="DE")
    for wrong in ({"valid_until": "2010-01-01"}, {"country": "CH"}, {"valid_from": "1990-01-01"}):
        with pytest.raises(IntegrityError, match="zone_member_only_ends"), transaction.atomic():
            m.ZoneMember.objects.filter(pk=row.pk).update(**wrong)


# -- contradictory rules and owners ------------------------------------------------------------------------------------
def order(**rules: object) -> m.Demand:
    return post_demand(**{
        "party": world.party("alder"), "window": world.window(), "kind": "divisible", "accepted_classes": ["H100"],
        "reference": "contradiction", "quantity_units": 1, "start_slot": 0, "end_slot": 1, "price_limit_micros": 100,
        "sla_code": "99.0", "now": clock.now(), **rules,
    })  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.stage("collecting")
def test_a_residency_that_excludes_every_zone_of_the_tier_is_told_with_the_rule_that_removes_most() -> None:
    m.TierZone.objects.create(tier_id=3, zone_id="EU")

    with refused(ContradictoryRules, field="zone_code") as caught:
        order(zone_code="US", tier_min=3)

    assert caught.value.facts["removed"] == {"zone_code": 248, "tier_min": 246}
    assert "zone US removes most: 248 of 249" in str(caught.value)
    assert order(zone_code="EU", tier_min=3).tier_min == 3


@pytest.mark.stage("collecting")
def test_data_stays_in_its_zone_and_binds_a_demand_without_one() -> None:
    m.DataClass.objects.create(code="eu-only", name="EU only", tier_min=0, zone_id="EU", source="made for the test")

    with refused(ContradictoryRules, field="zone_code"):
        order(zone_code="US", data_class="eu-only")

    assert order(data_class="eu-only").zone_id == "EU"


@pytest.mark.stage("collecting")
def test_owners_in_a_circle_are_refused_and_a_child_sits_where_its_top_sits() -> None:
    now = clock.now()
    prairie, harbour, granite = (world.party(slug) for slug in ("prairie", "harbour", "granite"))
    set_owner(party=harbour, parent=prairie, actor="ann", now=now)
    set_owner(party=granite, parent=harbour, actor="ann", now=now)

    with refused(CyclicOwnership, field="parent"):
        set_owner(party=world.party("prairie"), parent=world.party("granite"), actor="ann", now=now)
    with refused(ContradictoryRules, field="parent_country"):
        register_party(slug="child", name="Child", kind="enterprise", country="DE", parent_country="DE",
                       parent=world.party("granite"), now=now)  # fmt: skip

    assert world.party("granite").ultimate_country == "US"  # an EU node with a US parent
    assert world.party("granite").parent_country == "US"
