"""Evidence of where a lease ran: of what was delivered, judged by its own facts, counted by the gate of phase 4."""

from __future__ import annotations

import hashlib
import json

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.errors import NotEligible, NotYours
from marketplace.insights.gates import phase_counts
from marketplace.insights.residency import export_residency, findings_of
from tests.journey import world
from tests.journey.refusals import refused
from tests.owner import behind_the_triggers


def export(lease: m.Lease, party: str = "") -> dict:
    buyer = world.party(party) if party else lease.buyer
    body = export_residency(lease=lease, party=buyer, person="a@buyer.example", now=clock.now())
    line = m.AuditLine.objects.order_by("-no").first()
    assert line is not None
    assert (line.action, line.subject) == ("export_residency", str(lease.pk))
    assert line.facts["sha256"] == hashlib.sha256(body).hexdigest()
    return json.loads(body)


@pytest.mark.stage("delivered")
def test_a_delivered_lease_is_shown_whole_and_counts_for_phase_4_once() -> None:
    assert phase_counts()["residency_exports"].have == 0
    document = export(world.lease("genome"))
    export(world.lease("genome"))

    assert all(kept for _, kept in findings_of(document))
    assert document["rules"]["zone"] == {"code": "EU", "source": "made for the tests", "members": ["DE", "FR", "IT"],
                                         "on": world.window().starts_at.date().isoformat()}  # fmt: skip
    assert (document["facts"]["site_country"], document["facts"]["slots"]) == ("DE", 30)
    assert {row["control"] for row in document["evidence"]} >= {"identity-checked", "iso-27001"}
    assert phase_counts()["residency_exports"].have == 1


@pytest.mark.stage("delivered")
def test_a_lease_that_ran_outside_its_zone_is_told_and_counts_for_nothing() -> None:
    lease = world.lease("genome")
    with behind_the_triggers():
        m.Site.objects.filter(node_classes__leases=lease).update(country="US")

    document = export(lease)

    assert dict(findings_of(document))["the site stands inside the zone"] is False
    assert phase_counts()["residency_exports"].have == 0


@pytest.mark.stage("delivering")
def test_nothing_is_shown_of_what_was_not_delivered() -> None:
    with refused(NotEligible, rule="delivered"):
        export(world.lease("genome"))


@pytest.mark.stage("delivered")
def test_a_strangers_lease_and_one_without_a_rule_are_refused() -> None:
    lease = world.lease("genome")
    with refused(NotYours):
        export(lease, "birch")
    with behind_the_triggers():
        m.Demand.objects.filter(pk=lease.demand_id).update(zone=None)
    with refused(NotEligible, rule="residency"):
        export(lease)
