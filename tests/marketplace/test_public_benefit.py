"""What is set aside for research is reported, and the report adds up (M-094)."""

from __future__ import annotations

import pytest
from django.db.models import Sum
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import BadInput, RoleForbidden
from marketplace.insights import public_benefit as benefit
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import refused


def total_of(name: str, **where: object) -> int:
    rows = m.Lease.objects.filter(state="settled", **where)
    return int(rows.aggregate(total=Sum(name))["total"] or 0)


@pytest.mark.stage("closed")
def test_the_report_adds_up_to_the_settled_leases_and_tells_no_thin_row() -> None:
    benefit.set_aside(seat=reviewer_seat(clock.now()), share_ppm=100_000, reason="a tenth", now=clock.now())
    m.Party.objects.filter(slug__in=("alder", "birch")).update(kind="research_buyer")

    report = benefit.benefit_report()

    assert [row.name for row in report.rows] == [benefit.TOGETHER]  # two research buyers: no window stands alone
    research = {"buyer__kind": "research_buyer"}
    for figure, name in (("unit_hours", "unit_hours"), ("fees_micros", "settlement_line__fee_micros")):
        assert getattr(report.total, figure) == sum(getattr(row, figure) for row in report.rows) == total_of(name)
        assert getattr(report.total, f"research_{figure}") == total_of(name, **research) > 0
    assert report.total.target_unit_hours == report.total.unit_hours // 10

    m.Party.objects.filter(slug__in=("cedar", "elm")).update(kind="research_buyer")
    rows = benefit.benefit_report().rows
    assert rows[0].name == world.MAIN  # four buyers of research
    assert sum(row.unit_hours for row in rows) == report.total.unit_hours
    assert "Public benefit" in Client().get("/market/public-benefit/").content.decode()


@pytest.mark.stage("closed")
def test_a_share_is_a_share_and_set_by_who_operates() -> None:
    seat, now = reviewer_seat(clock.now()), clock.now()
    buyer = make_seat(party=world.party("alder"), email="o@alder.example", password=None, role="owner", now=now)

    for share in (-1, 10**6 + 1):
        with refused(BadInput, field="share_ppm"):
            benefit.set_aside(seat=seat, share_ppm=share, reason="r", now=now)
    with refused(RoleForbidden):
        benefit.set_aside(seat=buyer, share_ppm=1, reason="r", now=now)
    assert benefit.benefit_report().share_ppm == 0
    assert benefit.benefit_report().total.missing_unit_hours == 0
