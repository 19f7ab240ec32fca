"""Nobody profits from a grant: above the ceiling of cost recovery the clearing price goes back to its buyer (M-024)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F, Sum

from ledger.models import Transfer
from marketplace import clock, invariants
from marketplace import models as m
from marketplace.capacity.services import Times, add_funding_source, tag_funding
from marketplace.demo.papers import reviewer_seat
from marketplace.insights.market import lease_money
from marketplace.parties.services import make_seat
from marketplace.payout.selectors import settled_lines_of, statement_line, statement_sums
from tests.journey import world

CEILING = 1_600_000  # harbour's own ask, the least that it can be


def tag(ceiling: int = CEILING, slug: str = "harbour") -> None:
    now = clock.now()
    seat = make_seat(party=world.party(slug), email=f"owner@{slug}.example", password=None, role="owner", now=now)
    add_funding_source(seat=reviewer_seat(now), code="cost-grant", name="cost", policy="cost_recovery",
                       source="the call", now=now)  # fmt: skip
    window = world.window()
    tag_funding(seat=seat, node_class=world.node_class(slug), source_code="cost-grant", units=4, floor_micros=1_000_000,
                ceiling_micros=ceiling, times=Times(window.starts_at, window.ends_at + timedelta(days=1)),
                now=now)  # fmt: skip


def test_what_lies_above_the_ceiling_goes_back_to_its_buyer_in_books_on_chain_and_in_the_statement(
    own_world: Callable[[str], str],
) -> None:
    own_world("collecting")
    tag()
    for act in (world.take_bids, world.clear, world.lock, world.deliver, world.judge, world.pay):
        act()

    leases = m.Lease.objects.filter(window=world.window(), provider__slug="harbour").select_related("verdict")
    assert leases
    prices = [p for lease in leases for a in lease.demand.awards.filter(bid=lease.bid) for p in a.slot_prices_micros]
    assert min(prices) > CEILING  # one price for all lies above it in every slot
    for lease in leases:
        rows = lease.readings.all()
        assert lease.verdict.earned_micros == sum(r.units * CEILING * r.minutes_billable // 60 for r in rows)
        above = sum(r.amount_micros * r.minutes_billable // 60 - r.units * CEILING * r.minutes_billable // 60
                    for r in rows)  # fmt: skip
        assert lease.verdict.above_ceiling_micros == above > 0
        line = m.SettlementLine.objects.get(lease=lease)
        assert line.earned_micros + line.returned_micros + line.credit_micros == lease.fee_micros
        assert line.returned_micros >= above
        shown = statement_line(line)
        assert (shown.above_ceiling_micros, shown.gross_micros) == (above, line.earned_micros)
        flow = lease_money(lease)
        assert flow is not None
        assert "above the ceiling" in str(flow.rows)
    harbour = world.party("harbour")
    assert statement_sums(harbour).above_ceiling_micros == sum(
        line.lease.verdict.above_ceiling_micros for line in settled_lines_of(harbour))  # fmt: skip
    others = m.Verdict.objects.exclude(lease__provider=harbour)
    assert others
    assert not others.exclude(above_ceiling_micros=0).exists()
    assert [found for found in invariants.check_everything(now=clock.now()) if not found.ok] == []
    moved = Transfer.objects.filter(code=304).aggregate(total=Sum("amount"))["total"]
    assert moved == m.SettlementLine.objects.aggregate(total=Sum("returned_micros"))["total"]


@pytest.mark.stage("delivering")
def test_the_database_lets_no_reading_earn_above_the_ceiling() -> None:
    lease = m.Lease.objects.filter(window=world.window(), provider__slug="harbour").first()
    assert lease is not None
    row = {"lease": lease, "slot": lease.start_slot, "units": 1, "amount_micros": 2_000_000, "provider_up": 0,
           "probe_valid": [], "probe_failed": [], "minutes_down": 0, "minutes_unknown": 0, "minutes_billable": 60,
           "report": b"", "signature": bytes(64)}  # fmt: skip
    tag()
    m.Lease.objects.filter(pk=lease.pk).update(made_at=F("made_at") + timedelta(days=1))  # signed after the tag

    with pytest.raises(IntegrityError, match="reading_earns_no_more_than_the_ceiling"), transaction.atomic():
        m.Reading.objects.create(earned_micros=CEILING + 1, **row)
    m.Reading.objects.create(earned_micros=CEILING, **row)


@pytest.mark.stage("delivering")
def test_a_tag_that_comes_after_the_lease_changes_no_price() -> None:
    tag()
    world.deliver()

    assert not m.Reading.objects.exclude(above_ceiling_micros=0).exists()
