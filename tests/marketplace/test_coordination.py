"""The cost of coming together is counted from the audit trail alone (M-091)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.governance.services import record
from marketplace.insights.coordination import coordination_trend
from tests.journey import world


@pytest.mark.stage("delivering")
def test_hours_counterparties_and_hands_come_from_the_trail_window_by_window() -> None:
    before = coordination_trend()
    early, main = before.rows

    assert [row.window for row in before.rows] == [world.EARLY, world.MAIN]
    leases = m.Lease.objects.filter(window=world.window()).exclude(state="refused")
    assert (main.leases, main.fills) == (leases.count(), leases.values("demand").distinct().count())
    assert main.counterparties_milli == 1000 * leases.values("demand", "provider").distinct().count() // main.fills
    waits = sorted(
        (m.AuditLine.objects.get(action="make_pack", subject=str(lease.pk)).at
         - m.AuditLine.objects.get(action="post_demand", subject=str(lease.demand_id)).at).total_seconds() // 60
        for lease in leases
    )  # fmt: skip
    assert main.median_minutes == waits[(len(waits) - 1) // 2] > 0
    assert (main.touches_milli, early.touches_milli) == (0, 0)  # programs did all of it

    lease = leases.first()
    for subject in (lease.pk, lease.demand_id):
        record(actor="ann@alder.example", action="look", subject=subject, reason="by hand", now=clock.now())
    record(actor="alder", action="look", subject=lease.pk, reason="by program", now=clock.now())
    after = coordination_trend()

    assert after.rows[1].touches_milli == 2000 // main.leases
    assert after.touches_change_milli == after.rows[1].touches_milli
    assert "hands on each lease rose by" in after.words
    assert before.rows[0] == after.rows[0]


@pytest.mark.stage("delivering")
def test_the_console_shows_the_trend_in_few_queries() -> None:
    client = Client()
    client.force_login(reviewer_seat(clock.now()).user)

    seen: list[str] = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        coordination_trend()
    body = client.get("/console/coordination/").content.decode()

    assert 3 <= len(seen) <= 6, seen  # a cursor of the trail opens and closes
    assert world.MAIN in body


@pytest.mark.stage("founded")
def test_before_the_first_lease_there_is_no_figure() -> None:
    trend = coordination_trend()

    assert (trend.rows, trend.minutes_change) == ([], None)
    assert "no trend" in trend.words
