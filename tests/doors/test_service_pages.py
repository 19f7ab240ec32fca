"""Four owner screens with a metric each, and what a dollar buys."""

from __future__ import annotations

import pytest
from django.urls import reverse

from marketplace import models as m
from marketplace.insights.service import SCREENS, screen_of
from marketplace.insights.value import ops_per_usd, values
from tests.doors.factories import NOW
from tests.owner import behind_the_triggers

METRICS = {
    "quality": "Leases that kept their SLA", "availability": "Known minutes that were up",
    "security": "Node classes with a live proof", "billing": "Settlements final on chain",
}  # fmt: skip


@pytest.mark.parametrize("topic", METRICS)
@pytest.mark.parametrize("who", ["buyer", "provider"])
def test_each_topic_has_an_owner_a_metric_and_something_to_do(topic, who, enter):
    page = enter(who).get(reverse("service", args=[topic]))
    text = page.content.decode()

    assert page.status_code == 200
    assert METRICS[topic] in text
    assert "Who answers for it" in text
    assert "What you can do" in text
    assert "contact support" not in text.lower()


def test_the_four_are_all_and_need_a_seat(enter):
    assert set(SCREENS) == set(METRICS)
    assert enter("buyer").get(reverse("service", args=["weather"])).status_code == 404
    assert enter(None).get(reverse("service", args=["quality"])).headers["Location"].startswith("/login/?next=")
    assert enter("fresh").get(reverse("service", args=["quality"])).status_code == 200  # nothing yet, and it says so


def test_the_metric_is_of_the_party_s_own_rows(market):
    party = market.buyers[0]
    verdicts = m.Verdict.objects.filter(lease__buyer=party)
    screen = screen_of("quality", party, NOW)

    kept, judged = verdicts.filter(is_below_sla=False).count(), verdicts.count()
    assert screen.rows[0].value == judged
    assert screen.metric_ppm == (kept * 1_000_000 // judged if judged else None)
    if judged:
        with behind_the_triggers():
            verdicts.update(is_below_sla=True)
        assert screen_of("quality", party, NOW).metric_ppm == 0


def test_a_dollar_buys_more_of_a_cheap_card_than_of_a_dear_one_and_the_page_says_so(market, enter):
    m.ResourceClass.objects.create(
        code="RTX4090", name="NVIDIA GeForce RTX 4090 24 GB", ops_per_sec=165_200_000_000_000, mem_bytes=24 << 30,
        mem_bytes_per_sec=1_008_000_000_000, reference_price_micros=530_000,
    )
    by_code = {row.code: row for row in values(NOW)}
    consumer = by_code["RTX4090"]
    assert consumer.reference_ops_per_usd == 165_200_000_000_000 * 3600 * 1_000_000 // 530_000
    assert (consumer.proofs, consumer.proven_ops_per_usd) == (0, 0)
    centre = by_code["H100-80"]
    assert centre.proofs > 0
    assert centre.proven_ops_per_usd == ops_per_usd(centre.proven_ops_per_sec, centre.price_micros) > 0

    text = enter(None).get(reverse("value")).content.decode()
    assert "RTX4090" in text
    assert "nobody is proven" in text
    assert "demo panel, not independent" in text


def test_a_class_page_shows_what_else_was_measured_and_what_was_not(market, enter):
    row = next(c for c in market.classes if c.party == market.providers[0] and c.standing.state == "PROVEN")
    mark = m.Benchmark.objects.filter(node_class=row).latest("epoch")
    m.Benchmark.objects.filter(pk=mark.pk).update(jitter_bps=10_400, resident_bytes=4 << 20, mem_bytes=0)
    m.BenchmarkVantage.objects.create(benchmark=mark, vantage="ams", radius_km=87)

    text = enter("provider").get(reverse("onboarding:class", args=[row.pk])).content.decode()

    for said in ("within 87 km of ams", "104.00 %", "hardware identity unattested", "this chain was too small",
                 "demo panel, not independent", "2 of 3 verifiers", "Prove again"):  # fmt: skip
        assert said in text, said
