"""Charts: whatever the figures, the drawing is whole, inside its frame, and says what the figures say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace import models as m
from marketplace.delivery.selectors import MeteredHour
from marketplace.insights.charts import Step, Trade, Use, merge_steps, supply_and_demand, utilisation
from marketplace.insights.drawing import Chart, nice_ticks, usd_text
from marketplace.insights.lease_charts import Hour, budget_burn, hour_grid, money_flow
from marketplace.insights.market import lease_hours

SVG = "{http://www.w3.org/2000/svg}"
prices = st.integers(100, 10**9).map(lambda micros: micros // 100 * 100)
steps = st.lists(st.builds(Step, prices, st.integers(0, 10**6)), max_size=40)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def drawings(chart: Chart) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in (chart.wide, chart.narrow)]


def assert_inside_its_frame(root: ElementTree.Element) -> None:
    width, height = (int(n) for n in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            if name in element.attrib:
                assert -1 <= float(element.attrib[name]) <= most + 1
        if element.tag == f"{SVG}rect":
            assert float(element.attrib["width"]) >= 0
            assert float(element.attrib["height"]) >= 0
        for number in NUMBER.findall(element.attrib.get("d", "")):
            assert -1 <= float(number) <= max(width, height) + 1


@given(steps, steps, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_two_sides_draw_inside_the_frame_and_lose_no_unit_hour(demand, supply, traded):
    trade = Trade(1_000, 1_940_000, 1_900_000, 2_000_000) if traded else None

    chart = supply_and_demand(demand, supply, trade=trade, title="H100 in the EU")

    for root in drawings(chart):
        assert_inside_its_frame(root)
        assert root.attrib["role"] == "img"
        assert root.find(f"{SVG}desc").text == chart.finding
    table = {"demand": 0, "supply": 0}
    for side, _, hours, _ in chart.rows:
        table[side] += int(hours.replace(",", ""))
    assert table == {"demand": sum(s.unit_hours for s in demand), "supply": sum(s.unit_hours for s in supply)}


@given(st.lists(st.integers(0, 60), max_size=168), st.integers(0, 2000), st.integers(0, 2000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_outage_burns_inside_the_frame_and_the_finding_counts_it(down, budget, breach, armed):
    chart = budget_burn(
        down, slots=168, budget_minutes=budget, breach_minutes=breach, is_armed=armed, title="Error budget"
    )

    for root in drawings(chart):
        assert_inside_its_frame(root)
    assert chart.finding.startswith(f"{sum(down):,} minutes down")


@given(st.dictionaries(st.integers(0, 167), st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=168))
@settings(max_examples=25, deadline=None)
def test_the_hours_of_a_lease_keep_every_minute(hours):
    metered = [Hour(slot, down, min(unknown, 60 - down)) for slot, (down, unknown) in hours.items()]

    chart = hour_grid(metered, slots=168, first_day=["12 Nov"] * 7, title="Minutes by hour")

    for root in drawings(chart):
        assert_inside_its_frame(root)
        assert sum("cell-" in e.attrib.get("class", "") for e in root.iter(f"{SVG}rect")) == 168
    assert sum(int(row[2].replace(",", "")) for row in chart.rows) == sum(h.down for h in metered)


def test_an_hour_stands_under_its_hour_of_the_day_also_where_the_window_begins_in_the_evening():
    window = m.Window(starts_at=datetime(2026, 12, 21, 20, tzinfo=UTC), slots=48)
    metered = [MeteredHour(slot, 60 if slot == 6 else 0, 0, 60, 0) for slot in range(4, 8)]  # down from two to three

    chart = lease_hours(m.Lease(window=window), metered)

    assert chart.rows == (("22 Dec", "180", "60", "0"),)
    for root in drawings(chart):
        cells = [e.attrib["class"] for e in root.iter(f"{SVG}rect") if "cell-" in e.attrib.get("class", "")]
        assert [place for place, tone in enumerate(cells) if tone == "cell-down"] == [24 + 2]
        assert [place for place, tone in enumerate(cells) if tone == "cell-up"] == [24, 24 + 1, 24 + 3]


@pytest.mark.parametrize("steps", [[], [Step(1_000_000, 5)], [Step(2_000_000, 5)] * 4, [Step(10**9, 10**6)] * 3])
def test_empty_one_point_equal_prices_and_a_million_units_draw(steps):
    for root in drawings(supply_and_demand(steps, steps, trade=None, title="Edges")):
        assert_inside_its_frame(root)


def test_every_text_is_escaped():
    nasty = '<script>"x"&</script>'

    chart = supply_and_demand([Step(100, 1)], [], trade=None, title=nasty, demand_words=nasty)
    bars = utilisation([Use(nasty, 1, 2)], title=nasty)

    for root in (*drawings(chart), *drawings(bars)):
        assert root.find(f"{SVG}title").text == nasty
    assert "<script" not in chart.wide + chart.narrow + bars.wide + bars.narrow


def test_a_sealed_side_is_not_drawn():
    assert "line-s" not in supply_and_demand([Step(100, 1)], [], trade=None, title="Sealed").wide
    assert "line-s" in supply_and_demand([Step(100, 1)], [Step(100, 1)], trade=None, title="Open").wide


def test_a_money_flow_adds_up_to_its_hold_or_is_refused():
    chart = money_flow(100, [("provider", 70, "payable"), ("fee", 5, "fee"), ("credit", 25, "credit")], title="Flow")

    widths = [float(r.attrib["width"]) for r in drawings(chart)[0].iter(f"{SVG}rect") if r.attrib["height"] == "34"]
    assert sum(widths) == pytest.approx(756, abs=0.5)
    with pytest.raises(AssertionError, match="add up"):
        money_flow(100, [("provider", 70, "payable")], title="Flow")
    with pytest.raises(AssertionError, match="negative"):
        money_flow(100, [("provider", 110, "payable"), ("fee", -10, "fee")], title="Flow")


def test_more_sold_than_offered_is_refused():
    assert utilisation([Use("H100", 1, 2)], title="Use").rows[0][3] == "50.0 %"
    with pytest.raises(AssertionError, match="more sold"):
        utilisation([Use("H100", 3, 2)], title="Use")


def test_utilisation_is_told_per_class_and_the_network_s_figure_nowhere():
    chart = utilisation([Use("H100", 300, 400), Use("VCPU-8", 7, 11_000)], title="Use")
    text = " ".join([chart.wide, chart.narrow, *(" ".join(row) for row in chart.rows)])

    assert "H100: 300 of 400 unit-hours" in chart.wide
    assert [row[3] for row in chart.rows] == ["75.0 %", "0.1 %"]
    assert not re.search(r"\b307\b|11,400|2\.7 %|2\.6 %", text)  # the sums, and their share


def test_equal_neighbours_are_one_step():
    assert merge_steps([Step(5, 1), Step(5, 2), Step(4, 1)]) == [Step(5, 3), Step(4, 1)]


@given(st.integers(0, 10**15))
def test_ticks_are_whole_rise_evenly_and_reach_the_top(highest):
    ticks = nice_ticks(highest)

    assert ticks[0] == 0
    assert ticks[-1] >= highest
    assert len({b - a for a, b in pairwise(ticks)}) == 1
    assert len(ticks) <= 9


@pytest.mark.parametrize(
    ("micros", "places", "text"),
    [(1_940_000, 2, "$1.94"), (1_945_000, 2, "$1.95"), (-3_500_000, 2, "-$3.50"), (1, 6, "$0.000001"),
     (1_234_567_890_000, 2, "$1,234,567.89"), (0, 2, "$0.00"), (999_999, 2, "$1.00")],
)  # fmt: skip
def test_money_is_shown_from_integers(micros, places, text):
    assert usd_text(micros, places) == text
