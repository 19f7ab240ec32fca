"""What a buyer paid window by window, and the clauses that its leases carry (M-039)."""

from __future__ import annotations

import pytest

from marketplace import models as m
from marketplace.escrow.clauses import PORTABILITY, clauses_of
from marketplace.insights.price_history import price_history
from tests.journey import world
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("paid")


def test_the_same_need_stands_beside_what_it_cost_one_window_before() -> None:
    rows = price_history(world.party("alder"))

    assert [row.reference for row in rows if row.reference.startswith("genome")] == ["genome", "genome-0"]
    now, before = (row for row in rows if row.reference.startswith("genome"))
    leases = m.Lease.objects.filter(demand__reference="genome")
    assert now.price_micros == sum(x.fee_micros for x in leases) // sum(x.unit_hours for x in leases)
    assert (now.before_micros, before.before_micros) == (before.price_micros, None)
    assert now.change_ppm == (now.price_micros - before.price_micros) * 10**6 // before.price_micros
    assert {row.reference for row in rows} <= set(
        m.Demand.objects.filter(party__slug="alder").values_list("reference", flat=True))  # fmt: skip


def test_a_lease_tells_its_portability_and_the_cap_of_its_renewal() -> None:
    lease = world.lease("genome")
    words = {clause.name: clause.words for clause in clauses_of(lease)}
    leaves = lease.window.slot_at(lease.end_slot) + PORTABILITY

    assert f"{leaves:%d %B %Y, %H:%M} UTC" in words["portability"]
    assert "nothing else can be charged" in words["price"]
    assert "ends by itself" in words["renewal"]
    with behind_the_triggers():
        standing = m.StandingDemand.objects.create(
            id=lease.pk, party=lease.buyer, reference="s", terms={}, price_limit_micros=100, renewal_cap_ppm=75_000,
            funding_kind="escrow", starts_at=world.day(1), ends_at=world.day(99), made_at=world.day(1),
        )  # fmt: skip
        m.StandingEntry.objects.create(standing=standing, window=lease.window, demand=lease.demand, limit_micros=100,
                                       cap_ppm=75_000, at=world.day(2))  # fmt: skip

    renewal = next(c.words for c in clauses_of(world.lease("genome")) if c.name == "renewal")
    assert "never more than 7.5 % above" in renewal
