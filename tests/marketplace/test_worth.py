"""What a demand is worth: said in time and in full or not at all, and what it was measured to save once it settled."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import BadInput, NoCounterfactual, NotYours, PriceOffTick, WindowClosed
from marketplace.insights.costs import compare, example, save_comparison
from marketplace.insights.demand_report import blurred
from marketplace.insights.savings import claims, difference_of_lease, leases_with_differences, measure_window
from marketplace.insights.worth import attributes_of, state_worth, statement_by, statement_of, told_buyers
from tests.journey import world
from tests.journey.refusals import refused
from tests.owner import behind_the_triggers

QUOTE: dict[str, Any] = {
    "incumbent": "A large cloud", "quote_micros": 3_000_000, "quote_source": "offer 4711",
    "quoted_on": date(2026, 1, 2),
}  # fmt: skip


def state(reference: str = "genome", **changes: Any) -> m.DemandStatement:
    demand = m.Demand.objects.get(reference=reference)
    said = {"demand": demand, "party": demand.party, "segment": "enterprise", "now": clock.now()}
    return state_worth(**said | changes)


@pytest.mark.stage("collecting")
def test_what_is_said_last_is_what_counts_and_is_on_the_trail():
    first = state(pain="queues", present_usd_per_year=1_900_000)
    second = state(**QUOTE, curves={"": [(3_000_000, 2), (2_500_000, 2)], "zone": [(2_400_000, 4)]})

    assert (first.version, second.version) == (1, 2)
    assert statement_of(second.demand) == second
    assert (first.has_counterfactual, second.has_counterfactual) == (False, True)
    assert second.curves == {"": [[3_000_000, 2], [2_500_000, 2]], "zone": [[2_400_000, 4]]}
    line = m.AuditLine.objects.order_by("-no").first()
    assert (line.action, line.facts["version"], line.facts["has_counterfactual"]) == ("state_worth", 2, True)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"segment": "everybody"}, BadInput, "segment"), ({"pain": "x" * 1001}, BadInput, "pain"),
    ({"pain": "a\x00"}, BadInput, "pain"), ({"present_usd_per_year": -1}, BadInput, "present_usd_per_year"),
    ({"present_usd_per_year": 1.5}, BadInput, "present_usd_per_year"),
    ({"incumbent": "A\ncloud"}, BadInput, "incumbent"), ({"quoted_on": date(2026, 1, 1)}, BadInput, "quoted_on"),
    (QUOTE | {"quote_micros": 3_000_050}, PriceOffTick, "quote_micros"),
    (QUOTE | {"quote_source": ""}, BadInput, "quote_source"), (QUOTE | {"incumbent": " "}, BadInput, "incumbent"),
    (QUOTE | {"quoted_on": None}, BadInput, "quoted_on"), (QUOTE | {"quoted_on": date(2999, 1, 1)}, BadInput,
                                                           "quoted_on"),
    (QUOTE | {"quote_latency_ms": 0}, BadInput, "quote_latency_ms"),
    (QUOTE | {"quote_country": "de"}, BadInput, "quote_country"),
    ({"curves": {"zone": [(2_400_000, 4)]}}, BadInput, "curve"),
    ({"curves": {"": [(1_000_000, 1), (2_000_000, 1)]}}, BadInput, "curve"),
    ({"curves": {"": [(1_000_050, 1)]}}, BadInput, "curve"), ({"curves": {"": [(1_000_000, 5)]}}, BadInput, "curve"),
    ({"curves": {"": [(1_000_000,)]}}, BadInput, "curve"),
    ({"curves": {"": [(1_000_000, 1)], "latency": [(900_000, 1)]}}, BadInput, "curve_latency"),
]  # fmt: skip


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "kind", "field"), BAD)
def test_what_cannot_be_said_is_refused_with_its_field_and_writes_nothing(changes, kind, field):
    with refused(kind, field=field):
        state(**changes)

    assert state(**QUOTE).version == 1


@pytest.mark.stage("collecting")
def test_what_hurts_is_said_before_any_demand_and_counts_with_the_demands_of_its_buyer():
    elm = world.party("elm")
    first = state_worth(party=elm, segment="enterprise", pain="queues", now=clock.now())
    second = state_worth(party=elm, segment="enterprise", pain="queues\nof a week", present_usd_per_year=1,
                         incumbent="A cloud", now=clock.now())  # fmt: skip

    assert (first.version, second.version, statement_by(elm)) == (1, 2, second)
    assert told_buyers({elm.pk, world.party("alder").pk}) == {elm.pk}
    state(pain="slow", present_usd_per_year=5)
    assert told_buyers({elm.pk, world.party("alder").pk}) == {elm.pk, world.party("alder").pk}


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "field"), [
    ({"pain": ""}, "pain"), ({"pain": " "}, "pain"), (QUOTE, "quote_micros"), ({"curves": {"": [(100, 1)]}}, "curve"),
    ({"party": "harbour"}, "party"),
])  # fmt: skip
def test_without_a_demand_there_is_a_pain_and_neither_quote_nor_curve(changes, field):
    said = {"party": "elm", "segment": "enterprise", "pain": "queues"} | changes
    with refused(BadInput, field=field):
        state_worth(**said | {"party": world.party(said["party"]), "now": clock.now()})


@pytest.mark.stage("collecting")
def test_a_curve_is_asked_for_without_each_attribute_that_a_demand_names():
    named = {d.reference: attributes_of(d) for d in m.Demand.objects.all()}

    assert named["genome"] == ["zone", "tier"]
    assert named["sovereign"] == ["control"]
    assert named["bargain"] == []


@pytest.mark.stage("collecting")
def test_nobody_speaks_for_another_and_nobody_once_demand_is_closed():
    with refused(NotYours):
        state(party=world.party("birch"))
    with refused(WindowClosed):
        state(now=world.window().demand_closes_at)
    with refused(WindowClosed):
        state("genome-0", now=clock.now() + timedelta(days=400))
    assert state(now=clock.now()).version == 1


# --- measured -------------------------------------------------------------------------------------------------------
def said_in_time(reference: str, **changes: Any) -> None:
    """Write a statement as it would stand had its buyer made it while the window collected."""
    demand = m.Demand.objects.get(reference=reference)
    with behind_the_triggers():
        m.DemandStatement.objects.create(
            id=demand.pk, demand=demand, version=1, segment="enterprise", stated_at=demand.posted_at, **QUOTE | changes
        )


@pytest.mark.stage("closed")
def test_a_lease_is_measured_against_its_own_quote_for_what_was_delivered_before_credits():
    said_in_time("genome", quote_latency_ms=40)
    said_in_time("climate", quote_micros=100)

    new = measure_window(window=world.window(), now=clock.now())

    rows = m.LeaseDifference.objects.all()
    assert new == len(rows) == m.Lease.objects.filter(demand__reference__in=("genome", "climate")).count() >= 2
    for row in rows:
        minutes = sum(r.units * r.minutes_billable for r in row.lease.readings.all())
        line = row.lease.settlement_line
        assert row.quoted_micros == minutes * row.statement.quote_micros // 60
        assert row.paid_micros == line.earned_micros + line.credit_micros
        assert row.saved_micros == row.quoted_micros - row.paid_micros
        assert (row.saved_micros > 0) == (row.lease.demand.reference == "genome")
        assert row.residency["country"] == row.lease.node_class.site.country
        assert difference_of_lease(row.lease) == row
    assert measure_window(window=world.window(), now=clock.now()) == 0


@pytest.mark.stage("closed")
def test_no_saving_is_told_where_no_counterfactual_was_named():
    said_in_time("genome", quote_micros=None, incumbent="", quote_source="", quoted_on=None)
    lease = m.Lease.objects.filter(demand__reference="genome").first()

    assert measure_window(window=world.window(), now=clock.now()) == 0
    with refused(NoCounterfactual, lease=str(lease.pk)):
        difference_of_lease(lease)
    assert all(found is None for _, found in leases_with_differences(lease.buyer))
    assert claims().price.n == 0


@pytest.mark.stage("closed")
def test_a_step_of_the_turn_measures_what_settled_and_claims_nothing_from_too_few():
    said_in_time("genome", quote_latency_ms=40)
    (step,) = (step for name, states, step in cycle.WINDOW_STEPS if "measure" in name and states == ("SETTLED",))

    moved = step(window=world.window(), now=clock.now())

    assert moved == m.LeaseDifference.objects.count() >= 1
    found = claims()
    assert (found.price.n, found.price.is_published, found.price.share_ppm) == (moved, False, None)
    assert found.in_zone[0] == found.in_zone[1] == found.price.n
    assert found.without_counterfactual == m.SettlementLine.objects.count() - found.price.n


# --- comparisons ----------------------------------------------------------------------------------------------------
@pytest.mark.stage("collecting")
def test_a_comparison_is_kept_whole_with_its_ranges_and_tells_a_saving_only_against_something():
    case, buyer = example(), world.party("alder")
    inputs = {side: case[side] for side in ("now", "planned")}

    kept = save_comparison(party=buyer, name="7.1 to 4.3", inputs=inputs, curve="commerce",
                           counterfactual="invoices of 2025", now=clock.now())  # fmt: skip

    assert (kept.now_base_micros, kept.planned_base_micros) == (7_100_000 * 10**6, 4_300_000 * 10**6)
    assert m.Comparison.objects.get(pk=kept.pk).inputs == inputs
    assert m.AuditLine.objects.order_by("-no").first().action == "save_comparison"
    assert compare(inputs, curve="commerce", counterfactual="invoices of 2025").difference.base == 2_800_000 * 10**6
    with refused(NoCounterfactual, field="counterfactual"):
        _ = compare(inputs, curve="commerce").difference


@pytest.mark.stage("collecting")
def test_a_comparison_with_a_figure_of_no_source_is_refused_by_side_and_input():
    case, buyer = example(), world.party("alder")
    for change, field in (({"source": " "}, "planned-egress_tb"), ({"low": 10**6}, "planned-egress_tb")):
        inputs = {"now": case["now"], "planned": case["planned"] | {"egress_tb": case["planned"]["egress_tb"] | change}}
        with refused(BadInput, field=field):
            save_comparison(party=buyer, name="n", inputs=inputs, curve="commerce", now=clock.now())
    for changes, field in (({"curve": "gaming"}, "curve"), ({"name": ""}, "name")):
        given = {"name": "n", "curve": "commerce", "inputs": case} | changes
        with refused(BadInput, field=field):
            save_comparison(party=buyer, now=clock.now(), **given)


# --- the report -----------------------------------------------------------------------------------------------------
@pytest.mark.stage("collecting")
def test_curves_are_added_up_in_steps_of_three_buyers_and_siblings_count_once():
    for reference in ("genome", "climate", "tardy"):
        state(reference, curves={"": [(2_000_000, 1)], "zone": [(1_600_000, 1)]})
    statements = list(m.DemandStatement.objects.select_related("demand__party__parent"))

    assert len(blurred(statements, "")) == 1
    assert blurred(statements[:2], "") == []
    m.Party.objects.filter(slug="elm").update(parent=world.party("alder"))
    siblings = list(m.DemandStatement.objects.select_related("demand__party__parent"))
    assert blurred(siblings, "") == []
