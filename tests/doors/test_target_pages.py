"""Typed SLA targets on the pages: chosen from the menu, refused beside their field, shown as promised and measured."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from marketplace import models as m
from pricing.targets import MENU
from tests.doors.test_forms import bid_of, demand_of
from tests.sealed import own_bid

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def breached(market) -> m.Lease:
    """A judged lease of the first buyer, with three targets of which one was broken."""
    lease = next(x for x in market.leases if x.buyer_id == market.buyers[0].pk and x.verdict.is_breach)
    m.Lease.objects.filter(pk=lease.pk).update(sla_targets={
        "latency_p95_ms_max": 20, "repair_minutes_max": 15, "start_by_minutes_max": 5,
    })  # fmt: skip
    facts = {"lease": lease, "evidence": [], "rule_version": "r", "judged_at": NOW, "known": 700}
    m.TargetVerdict.objects.create(
        id="018f0000-0000-7000-8000-000000000001", target="latency_p95_ms_max", bound=20, outcome="kept", measured=11,
        missed=7, allowed=52, evidence_hash=bytes(32), **facts,
    )
    m.TargetVerdict.objects.create(
        id="018f0000-0000-7000-8000-000000000002", target="repair_minutes_max", bound=15, outcome="broken", measured=47,
        event_minute=60, last_minute=106, missed=47, allowed=15, credit_bps=500, credit_micros=1_230_000,
        broken_at=NOW, evidence_hash=b"\xab" * 32, **facts,
    )
    m.TargetVerdict.objects.create(
        id="018f0000-0000-7000-8000-000000000003", target="start_by_minutes_max", bound=5, outcome="unknown",
        missed=0, allowed=5, evidence_hash=bytes(32), **facts,
    )
    return lease


def test_targets_are_chosen_from_the_menu_and_stand_on_the_page_of_the_demand(market, enter):
    client = enter("buyer")
    form = client.get(reverse("portal:demand_new")).content.decode()
    assert all(f'name="target_{target.name}"' in form for target in MENU)
    assert form.count("Not asked</option>") == len(MENU)
    assert "No promise" not in form

    chosen = {"target_latency_p95_ms_max": "20", "target_notice_hours_min": ""}
    client.post(reverse("portal:demand_new"), demand_of(market, **chosen))

    demand = m.Demand.objects.get(reference="FORM-1")
    assert demand.sla_targets == {"latency_p95_ms_max": 20}
    assert "Latency, 95 % of the minutes: at most 20 ms" in client.get(
        reverse("portal:demand", args=[demand.pk])).content.decode()


def test_a_latency_class_is_chosen_by_its_name_and_sets_bound_and_target(market, enter):
    client = enter("buyer")
    chosen = {"latency_class": "L20", "vantage_code": m.Vantage.objects.first().pk}
    client.post(reverse("portal:demand_new"), demand_of(market, **chosen))

    demand = m.Demand.objects.get(reference="FORM-1")
    assert (demand.latency_ms_max, demand.sla_targets) == (20, {"latency_p95_ms_max": 20})
    assert '<span class="tag">L20</span>' in client.get(reverse("portal:demand", args=[demand.pk])).content.decode()

    looser = client.post(reverse("portal:demand_new"), demand_of(
        market, reference="FORM-2", latency_ms_max="30", **chosen))  # fmt: skip
    assert looser.status_code == 422
    assert list(looser.context["form"].errors) == ["latency_class"]
    assert not m.Demand.objects.filter(reference="FORM-2").exists()


@pytest.mark.parametrize(("changes", "field", "rule"), [
    ({"target_latency_p50_ms_max": "50", "target_latency_p95_ms_max": "20"}, "target_latency_p95_ms_max",
     "percentiles_rise"),
    ({"target_throughput_spread_bps_max": "1000", "end_slot": "6"}, "target_throughput_spread_bps_max",
     "too_short_to_judge"),
    ({"target_repair_minutes_max": "17"}, "target_repair_minutes_max", "Select a valid choice"),
])  # fmt: skip
def test_a_contradictory_target_is_refused_beside_its_field_and_nothing_is_written(market, enter, changes, field, rule):
    reply = enter("buyer").post(reverse("portal:demand_new"), demand_of(market, **changes))

    assert reply.status_code == 422
    assert list(reply.context["form"].errors) == [field]
    assert rule in reply.content.decode()
    assert not m.Demand.objects.filter(reference="FORM-1").exists()


def test_a_bid_promises_targets_from_its_page_and_a_contradictory_one_is_refused(market, enter):
    client, url = enter("provider"), reverse("onboarding:bid_new")

    wrong = {"target_latency_p95_ms_max": "50", "target_latency_p99_ms_max": "20"}
    refused = client.post(url, bid_of(market, market.bidding, minimum_units="1", **wrong))
    sealed = client.post(url, bid_of(market, market.bidding, minimum_units="1", target_start_by_minutes_max="5"))

    assert refused.status_code == 422
    assert "target_latency_p99_ms_max" in refused.context["form"].errors
    assert sealed.status_code == 302
    assert own_bid(reference="FORM-B").sla_targets == {"start_by_minutes_max": 5}


def test_buyer_and_provider_see_what_was_promised_and_what_was_measured(market, enter):
    lease = breached(market)
    seat = m.Seat.objects.filter(party=lease.provider).first()
    provider = enter("provider")
    if seat is not None:
        provider.force_login(seat.user)

    pages = [
        enter("buyer").get(reverse("portal:lease", args=[lease.pk])),
        enter("buyer").get(reverse("portal:lease_minutes", args=[lease.pk])),
        *([provider.get(reverse("onboarding:lease_minutes", args=[lease.pk]))] if seat else []),
    ]

    for reply in pages:
        page = reply.content.decode()
        assert reply.status_code == 200
        for words in ("Promised and measured", "at most 20 ms", "11 ms", "7 of 700 minutes missed it", "47 minutes",
                      "broken", "not enough known", "$1.23", "abababab"):  # fmt: skip
            assert words in page, words


def test_a_lease_without_targets_shows_no_table_of_them(market, enter):
    lease = next(x for x in market.leases if x.buyer_id == market.buyers[0].pk)

    page = enter("buyer").get(reverse("portal:lease", args=[lease.pk])).content.decode()

    assert "Promised and measured" not in page
