"""Planning pages: a list becomes a map, a line a filled demand, a mistake a line and a column; nothing is stored."""

from __future__ import annotations

import csv
import json
import re
from datetime import timedelta
from html import unescape
from io import StringIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace import models as m
from marketplace.environment import CHECKOUT
from marketplace.errors import BadLines
from marketplace.insights.dataset import public_dataset
from marketplace.insights.drawing import usd_text
from marketplace.insights.ranges import Bar, range_bars
from marketplace.insights.savings import measure_window
from marketplace.insights.segments import scenario, segments
from marketplace.insights.squares import Square, quadrants
from marketplace.insights.workload_map import home_zone_of, read_list
from pricing.workloads import Data
from tests.api.conftest import table_counts
from tests.doors.factories import NOW, seat
from tests.doors.test_charts import assert_inside_its_frame, drawings
from tests.owner import behind_the_triggers

SAMPLE = (CHECKOUT / "fixtures" / "workloads" / "workloads.csv").read_text(encoding="utf-8")
KNOWN = {"public": Data(0)}
HEADER = "name,units,data_class,hours_per_week"


def post_list(client, text):
    return client.post(reverse("portal:workloads"), {"listing": text})


def test_twenty_workloads_fill_four_squares_and_write_nothing(market, enter):
    client = enter("buyer")
    before = table_counts()

    page = post_list(client, SAMPLE).content.decode()

    assert page.count("Make demand<") == 20
    for words, count in (("Near and private", 4), ("Near and open", 5), ("Patient and private", 6),
                         ("Patient and open", 5)):  # fmt: skip
        assert f"{words} · {count}" in page
    assert "mesh, because restricted data has no leg outside its zone" in page
    assert table_counts() == before


def test_a_placed_workload_is_one_click_from_its_filled_demand_which_posts(market, enter):
    client = enter("buyer")
    line = "Notes,8,regulated-health,168,50,80,610000"
    page = post_list(client, f"{HEADER},latency_ms,memory_gib,present_usd_per_year\n{line}")
    link = unescape(re.search(r'href="([^"]*demands/new/\?[^"]*)"', page.content.decode())[1])

    form = client.get(link).context["form"]

    assert form.initial | {"vantage_code": "-"} == {
        "reference": "Notes", "kind": "window", "accepted_classes": ["A100-80", "H100-80"], "quantity_units": "8",
        "start_slot": "0", "end_slot": "168", "price_limit_micros": "8.7282", "zone_code": "EU", "tier_min": "2",
        "sla_code": "99.9", "latency_ms_max": "50", "vantage_code": "-", "data_class": "regulated-health",
    }  # fmt: skip
    chosen = {"window": market.collecting.pk, "purpose": "treatment"}
    answer = client.post(reverse("portal:demand_new"), form.initial | chosen)
    demand = m.Demand.objects.get(reference="Notes")
    assert answer.headers["Location"] == reverse("portal:demand", args=[demand.pk])
    assert (demand.zone_id, demand.tier_min, demand.price_limit_micros) == ("EU", 2, 8_728_200)


def test_a_link_fills_no_field_that_the_form_lacks_and_breaks_on_no_value(enter):
    query = {"party": "x", "window": "nonsense", "quantity_units": "many", "accepted_classes": ["A", "B"]}

    page = enter("buyer").get(reverse("portal:demand_new"), query)

    assert page.status_code == 200
    assert page.context["form"].initial == {
        "window": "nonsense", "quantity_units": "many", "accepted_classes": ["A", "B"],
    }  # fmt: skip


BAD = [
    ("", 1, "list", "empty"), ("  \n\n", 1, "list", "empty"), (f"{HEADER}\n", 1, "list", "no workload"),
    (f"{HEADER},colour\na,1,public,1,red", 1, "colour", "no such column"),
    ("name,units,units\na,1,1", 1, "units", "stands twice"), ("name,units\na,1", 1, "data_class", "missing"),
    (f"{HEADER}\na,1,public", 2, "hours_per_week", "missing"), (f"{HEADER}\na,1,public,1,9", 2, "list", "5 values"),
    (f"{HEADER}\na,many,public,1", 2, "units", "whole number"),
    (f"{HEADER}\na,1.5,public,1", 2, "units", "whole number"),
    (f"{HEADER}\na,0,public,1", 2, "units", "from 1"), (f"{HEADER}\na,1,classified,1", 2, "data_class", "not taken"),
    (f"{HEADER}\na,1,public,1\n\nb,1,public,200", 4, "hours_per_week", "168"),
    (f"{HEADER}\na,1,public,1\na,2,public,1", 3, "name", "Line 2 has the same name"),
    (f"{HEADER},zone\na,1,public,1,ATLANTIS", 2, "zone", "no such zone"),
    (f"{HEADER},memory_gib\na,1,public,1,9000", 2, "memory_gib", "holds that much"),
    (f"{HEADER},latency_ms\na,1,public,1,10001", 2, "latency_ms", "10,000 ms"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "words"), BAD)
def test_a_mistake_is_told_by_line_and_column_and_places_nothing(text, line, column, words, market, enter):
    page = post_list(enter("buyer"), text)

    assert page.status_code == 422
    assert page.context["mistakes"][0][:2] == (line, column)
    assert words in page.context["mistakes"][0][2]
    assert b"Make demand<" not in page.content
    assert post_list(enter("buyer"), f"{HEADER}\na,1,public,1").content.count(b"Make demand<") == 1


def test_every_mistake_of_a_list_is_told_at_once():
    with pytest.raises(BadLines) as refusal:
        read_list(f"{HEADER}\na,0,public,1\nb,1,secret,1\nc,1,public,1\nc,x,public,1", KNOWN)

    assert [(line, column) for line, column, _ in refusal.value.mistakes] == [(2, "units"), (3, "data_class"),
                                                                             (5, "units")]  # fmt: skip


@pytest.mark.parametrize("text", [
    "a,1,public,1", "a;1;public;1", "a\t1\tpublic\t1", "\ufeffname,units,data_class,hours_per_week\na,1,Public,1",
    "units, data class, hours per week, name\n1, public, 1, a", "# a comment\na,1,public,1", '"a",1,public,1\n',
])  # fmt: skip
def test_commas_semicolons_tabs_and_any_order_under_a_header_are_read(text):
    (row,) = read_list(text, KNOWN)

    assert (row[1].name, row[1].units, row[1].data_class, row[1].hours_per_week) == ("a", 1, "public", 1)


def test_a_file_is_read_like_a_paste_and_one_that_is_no_text_is_refused(market, enter):
    client, url = enter("buyer"), reverse("portal:workloads")

    page = client.post(url, {"file": SimpleUploadedFile("w.csv", SAMPLE.encode())})
    broken = client.post(url, {"file": SimpleUploadedFile("w.csv", b"a\xff\xfe,1,public,1")})
    with pytest.raises(BadLines, match="NUL"):
        read_list("a\x00,1,public,1", KNOWN)
    too_long = post_list(client, "\n".join(f"w{n},1,public,1" for n in range(1_001)))

    assert page.content.count(b"Make demand<") == 20
    assert (broken.status_code, broken.context["mistakes"][0][1]) == (422, "list")
    assert too_long.context["mistakes"][0][:2] == (1_001, "list")


def test_home_is_the_smallest_zone_around_a_country():
    zones = {"EU": {"DE", "FR"}, "EEA": {"DE", "FR", "NO"}, "CH": {"CH"}}

    assert [home_zone_of(country, zones) for country in ("DE", "NO", "CH", "BR")] == ["EU", "EEA", "CH", ""]


def test_the_sample_can_be_filled_in_and_downloaded(enter):
    page = enter("buyer").get(reverse("portal:workloads"), {"sample": 1}).content.decode()
    assert SAMPLE.splitlines()[1] in unescape(page)
    answer = enter("buyer").get(reverse("portal:workload_sample"))
    assert (answer.content.decode(), answer.headers["Content-Type"]) == (SAMPLE, "text/csv; charset=utf-8")


# -- cost of ownership -------------------------------------------------------------------------------------------------


def cost_form(client, **changes):
    return client.get(reverse("portal:cost")).context["form"].initial | changes


def test_the_example_computes_to_ranges_whose_tables_sum_and_writes_nothing(market, enter):
    client = enter("buyer")
    before = table_counts()

    page = client.post(reverse("portal:cost"), cost_form(client, counterfactual="invoices of 2025"))

    text = page.content.decode()
    assert page.status_code == 200
    assert "$7,100,000" in text
    assert "$4,300,000" in text
    assert "$2,800,000 less at base values" in text
    for words, table in page.context["sensitivity"]:
        assert words in ("Now", "Planned")
        assert table["low"] - table["base"] == table["to_low"]
        assert table["high"] - table["base"] == table["to_high"]
    assert table_counts() == before


def test_no_saving_is_printed_without_a_counterfactual(market, enter):
    client = enter("buyer")

    page = client.post(reverse("portal:cost"), cost_form(client)).content.decode()

    assert "no_counterfactual" in page
    assert "No saving is shown" in page
    assert " less at base" not in page
    assert "$7,100,000" in page


def test_a_comparison_is_kept_found_again_and_nobody_elses(market, enter):
    client = enter("buyer")

    answer = client.post(reverse("portal:cost"), cost_form(client, name="Ours", keep="1"))

    kept = m.Comparison.objects.get(name="Ours")
    own = reverse("portal:comparison", args=[kept.pk])
    assert answer.headers["Location"] == own
    assert client.get(own).context["form"].initial["now-bill_usd-base"] == 3_600_000
    assert "Ours" in client.get(reverse("portal:cost")).content.decode()
    assert enter("other.buyer").get(own).status_code == 404
    assert "Ours" not in enter("other.buyer").get(reverse("portal:cost")).content.decode()


@pytest.mark.parametrize(("change", "field"), [
    ({"now-bill_usd-low": "many"}, "now-bill_usd-low"), ({"now-bill_usd-low": "-1"}, "now-bill_usd-low"),
    ({"now-egress_tb-source": ""}, "now-egress_tb-source"),
    ({"planned-egress_tb-low": "9999"}, "planned-egress_tb-base"),
    ({"planned-share_bps-high": "10001"}, "planned-share_bps-base"), ({"curve": "gaming"}, "curve"),
    ({"name": ""}, "name"),
])  # fmt: skip
def test_a_wrong_input_is_shown_where_it_stands_and_keeps_nothing(change, field, market, enter):
    client = enter("buyer")

    page = client.post(reverse("portal:cost"), cost_form(client, keep="1") | change)

    assert page.status_code == 422
    assert list(page.context["form"].errors) == [field]
    assert not m.Comparison.objects.exists()


# -- what a demand is worth --------------------------------------------------------------------------------------------


def demand_of(market, buyer, **where):
    return m.Demand.objects.filter(party=market.buyers[buyer], window=market.collecting, **where).first()


def test_a_buyer_says_what_a_demand_is_worth_and_sees_it_again(market, enter):
    client, demand = enter("buyer"), demand_of(market, 0, zone="EU")
    url = reverse("portal:worth", args=[demand.pk])
    said = {
        "segment": "enterprise", "pain": "queues", "quote_micros": "3.10", "incumbent": "A cloud",
        "quote_source": "offer 12", "quoted_on": "2026-11-01", "curve": "2.40, 2\n2.20; 1",
        "curve_zone": "2.00\t2",
    }  # fmt: skip

    assert client.post(url, said).headers["Location"] == reverse("portal:demand", args=[demand.pk])

    statement = m.DemandStatement.objects.get(demand=demand)
    assert (statement.quote_micros, statement.curves) == (
        3_100_000, {"": [[2_400_000, 2], [2_200_000, 1]], "zone": [[2_000_000, 2]]}
    )  # fmt: skip
    again = client.get(url).context["form"].initial
    assert (again["curve"], again["quote_micros"]) == ("2.4000, 2\n2.2000, 1", "3.1000")
    for wrong, field in (({"curve": "2.40"}, "curve"), ({"curve": "1, 1\n2, 1"}, "curve"),
                         ({"quote_source": ""}, "quote_source"), ({"quote_micros": "x"}, "quote_micros")):  # fmt: skip
        page = client.post(url, said | wrong)
        assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
    assert m.DemandStatement.objects.filter(demand=demand).count() == 1
    assert enter("other.buyer").get(url).status_code == 404
    assert url in client.get(reverse("portal:demand", args=[demand.pk])).content.decode()


def speak(market, buyers, *, with_micros=2_480_000, without_micros=2_000_000):
    """Let buyers say curves of a funded demand for an EU zone, all of one class."""
    for number in range(buyers):
        demand = m.Demand.objects.filter(party=market.buyers[number], window=market.collecting).first()
        with behind_the_triggers():
            m.Demand.objects.filter(pk=demand.pk).update(
                state="funded", hold_id=demand.pk, funded_at=NOW, zone="EU", accepted_classes=["A100-80"]
            )
            m.DemandStatement.objects.create(
                id=demand.pk, demand=demand, version=1, segment="enterprise", stated_at=NOW,
                curves={"": [[with_micros, 2]], "zone": [[without_micros, 2]]},
            )  # fmt: skip


def test_the_demand_report_shows_a_planted_premium_from_three_buyers_on_and_hides_two(market, client):
    url = reverse("demand_report")

    speak(market, 2)
    two = client.get(url)
    assert "24.0 %" not in two.content.decode()
    assert two.context["report"].hidden_groups == 2
    assert "fewer than 3 buyers are left out" in two.content.decode()

    with behind_the_triggers():
        m.DemandStatement.objects.all().delete()
    speak(market, 3)
    three = client.get(url)
    assert "24.0 %" in three.content.decode()
    premium = next(line.premium for line in three.context["report"].attributes if line.name == "zone")
    assert (premium.premium_ppm, premium.low_ppm, premium.high_ppm, premium.buyers) == (240_000, 240_000, 240_000, 3)
    assert three.context["report"].classes == ["A100-80"]
    for party in market.buyers:
        assert party.name not in three.content.decode()


# -- measured ----------------------------------------------------------------------------------------------------------


def measure(market, *, leases, quote_micros=3_000_000):
    """Let the buyers of some leases have named a quote in time, and measure them all."""
    for lease in leases:
        with behind_the_triggers():
            m.DemandStatement.objects.get_or_create(demand=lease.demand, defaults={
                "id": lease.demand_id, "version": 1, "segment": "enterprise", "quote_micros": quote_micros,
                "incumbent": "A cloud", "quote_source": "offer", "quoted_on": NOW.date(), "stated_at": NOW,
            })  # fmt: skip
    return measure_window(window=market.settled, now=NOW)


def test_claims_are_refused_below_their_n_and_made_at_it(market, client, monkeypatch):
    url = reverse("claims")
    assert client.get(url).content.decode().count("not enough data") == 3

    n = measure(market, leases=market.leases)
    buyers = len({lease.buyer_id for lease in market.leases})
    assert n >= 3
    assert buyers >= 3
    monkeypatch.setattr("marketplace.insights.savings.LEASES_MIN", n + 1)
    below = client.get(url).content.decode()
    monkeypatch.setattr("marketplace.insights.savings.LEASES_MIN", n)
    at = client.get(url).content.decode()

    assert f"n = {n} of {n + 1} leases" in below
    assert "less than quoted" not in below
    assert f"n = {n} leases of {buyers} buyers" in at
    assert at.count("less than quoted") == 1
    assert "95 % percentile bootstrap over buyers" in at


def test_a_buyer_sees_the_difference_of_each_lease_and_none_where_none_was_named(market, enter):
    mine = [lease for lease in market.leases if lease.buyer_id == market.buyers[0].pk]
    measure(market, leases=mine[:1])

    page = enter("buyer").get(reverse("portal:savings"))

    rows = {lease.pk: d for lease, d in page.context["rows"]}
    assert set(rows) == {lease.pk for lease in mine}
    assert rows[mine[0].pk].saved_micros == rows[mine[0].pk].quoted_micros - rows[mine[0].pk].paid_micros
    same = [lease for lease in mine if lease.demand_id == mine[0].demand_id]
    assert page.content.decode().count("no saving is shown without one") == len(mine) - len(same)


@given(st.lists(st.lists(st.integers(0, 10**17), min_size=3, max_size=3).map(sorted), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_ranges_draw_inside_the_frame(rows):
    chart = range_bars([Bar(f"<{n}>", *row) for n, row in enumerate(rows)], title="Costs & ranges")

    for root in drawings(chart):
        assert_inside_its_frame(root)
    assert [r[1] for r in chart.rows] == [usd_text(low) for low, _, _ in rows]


# Said by category: by its codec, as `st.text()` does, looking for what UTF-8 can say takes three seconds.
SAYABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(st.lists(SAYABLE, max_size=30), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_names_draw_inside_their_squares_and_are_counted(names):
    names = [[n for n in each if n.isprintable()] for each in names]  # as the list's reader lets through
    chart = quadrants([Square("Near & private", "mesh", tuple(each)) for each in names], title="<map>")

    for root in drawings(chart):
        assert_inside_its_frame(root)
    assert [int(row[2]) for row in chart.rows] == [len(each) for each in names]


# -- coverage ----------------------------------------------------------------------------------------------------------


def test_demand_in_an_empty_zone_is_seen_and_its_figure_only_from_three_buyers_on(market, client, enter):
    zone = m.Zone.objects.create(code="IS", name="Iceland", source="made for this test")
    m.ZoneMember.objects.create(zone=zone, country="IS", valid_from="1995-01-01")
    staff = enter(None)
    staff.force_login(seat(market.buyers[4], "coverage@doors.example", is_staff=True))

    def row(of, code="IS"):
        report = of.get(reverse("coverage")).context["report"]
        return next(z for z in report.zones if z.code == code)

    assert (row(client).asked.has_demand, row(client).is_empty_but_asked_for) == (False, False)
    asked = 0
    for buyers in (1, 2, 3):
        demand = m.Demand.objects.filter(party=market.buyers[buyers - 1], window=market.collecting).first()
        with behind_the_triggers():
            m.Demand.objects.filter(pk=demand.pk).update(
                state="funded", hold_id=demand.pk, funded_at=NOW, zone="IS"
            )
        asked += demand.unit_hours
        assert row(client).is_empty_but_asked_for
        assert row(client).asked.waiting_unit_hours == (asked if buyers == 3 else None)
        assert row(staff).asked.waiting_unit_hours == asked
    assert "demand, no proven capacity" in client.get(reverse("coverage")).content.decode()
    assert not row(client, "EU").is_empty_but_asked_for
    assert row(client, "EU").proven_units == sum(
        c.units for c in market.classes if c.standing.state == "PROVEN" and c.site.country in ("DE", "FR")
    )


def test_what_was_not_met_in_the_last_window_is_told_by_zone(market, client):
    report = client.get(reverse("coverage")).context["report"]

    rows = m.LineReason.objects.filter(side="demand", demand__zone="EU").exclude(code="not_funded")
    told = next(z for z in report.zones if z.code == "EU").asked.unmet_unit_hours
    buyers = {r.demand.party_id for r in rows}
    assert told == (sum(r.unfilled_unit_hours for r in rows) if len(buyers) >= 3 else None)
    assert report.window == market.settled.name
    assert report.vantages[0].within == (0, 4, 4, 4)  # every proven site lies 20 ms from Amsterdam
    for root in drawings(report.sites):
        assert_inside_its_frame(root)


# -- providers ---------------------------------------------------------------------------------------------------------


def test_a_provider_sees_the_week_it_could_sell_and_nothing_is_kept(market, enter):
    client, url = enter("provider"), reverse("onboarding:imports")
    export = CHECKOUT / "fixtures" / "imports" / "slurm.txt"
    before = table_counts()

    def upload(**changes):
        given = {"kind": "slurm", "time_zone": "Europe/Berlin", "capacity_units": 16, "carve_out_percent": 50}
        return client.post(url, given | {"file": SimpleUploadedFile("s.txt", export.read_bytes())} | changes)

    page = upload().content.decode()
    assert "gpu:h100" in page
    assert "Row 10: 4 values for 9 columns" in page
    assert "Columns not used: JobName, ExitCode." in page
    assert "8 kept for research" in page
    for wrong, field in (({"time_zone": ""}, "time_zone"), ({"capacity_units": 0}, "capacity_units"),
                         ({"file": ""}, "file"), ({"carve_out_percent": 101}, "carve_out_percent"),
                         ({"kind": "pbs"}, "kind")):  # fmt: skip
        refused = upload(**wrong)
        assert (refused.status_code, list(refused.context["form"].errors)) == (422, [field])
    broken = upload(file=SimpleUploadedFile("s.txt", b"\xff\xfe nothing"))
    assert (broken.status_code, list(broken.context["form"].errors)) == (422, ["__all__"])
    assert table_counts() == before


def test_a_proposed_week_becomes_the_calendar_by_one_button_and_is_taken_back_by_one(market, enter):
    client, url, node_class = enter("fresh"), reverse("onboarding:imports"), market.providers[5].node_classes.first()
    export = CHECKOUT / "fixtures" / "imports" / "slurm.txt"
    page = client.post(url, {"kind": "slurm", "time_zone": "Europe/Berlin", "capacity_units": 16,
                             "carve_out_percent": 50, "file": SimpleUploadedFile("s.txt", export.read_bytes())})
    proposal, _, form = page.context["proposals"][0]
    given = {"act": "week", "spans": json.dumps(form.initial["spans"]), "source": form.initial["source"],
             "node_class": str(node_class.pk), "valid_from": f"{NOW + timedelta(days=1):%Y-%m-%d}",
             "valid_until": f"{NOW + timedelta(days=90):%Y-%m-%d}"}  # fmt: skip

    for wrong in ({"spans": "[[0, 200, 1]]"}, {"spans": "{}"}, {"valid_until": "2020-01-01"}, {"node_class": "x"}):
        assert client.post(url, given | wrong).status_code == 422
    assert client.post(url, given).status_code == 302

    week = m.CalendarWeek.objects.get(node_class=node_class)
    assert week.unit_hours == proposal.sellable_unit_hours
    assert "Take it back" in client.get(reverse("onboarding:capacity")).content.decode()
    assert enter("provider").post(reverse("onboarding:week_undo", args=[week.pk])).status_code == 404
    client.post(reverse("onboarding:week_undo", args=[week.pk]))
    week.refresh_from_db()
    assert week.undone_at is not None


def test_a_provider_sees_its_break_even_beside_the_price_of_work(market, enter):
    client, url = enter("provider"), reverse("onboarding:break_even")
    figures = {"capital_usd": 30_000, "life_years": 5, "other_usd_per_year": 2_760, "watts": 700, "pue": "1.2",
               "kwh_micros": "0.15", "sold_percent": 100}  # fmt: skip

    page = client.get(url, figures)

    assert page.context["found"].price_micros == 1_154_900
    assert "$1.1549" in page.content.decode()
    works = [row.peta_nanos for row in page.context["prices"]]
    assert works == sorted(works)
    assert len(works) >= 2
    for wrong, field in (({"life_years": 0}, "life_years"), ({"pue": "0.9"}, "pue"), ({"watts": 10**7}, "watts")):
        refused = client.get(url, figures | wrong)
        assert (refused.status_code, list(refused.context["form"].errors)) == (422, [field])
    assert client.get(url).context["found"] is None
    stakes = [row.entry_stake_micros for row in page.context["entry"]]
    assert stakes == sorted(stakes)
    assert min(stakes) == 115_000_000
    assert "T3" in page.content.decode()


# -- the public data set -----------------------------------------------------------------------------------------------


def test_the_data_set_names_nobody_and_leaves_out_what_fewer_than_three_made(market, tmp_path):
    call_command("dataset", str(tmp_path / "one"), stdout=StringIO())
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "one").iterdir()}

    products = list(csv.DictReader(StringIO(files["products.csv"])))
    (window,) = csv.DictReader(StringIO(files["windows.csv"]))
    wide = {}
    for award in m.Award.objects.select_related("bid__node_class", "demand", "bid"):
        key = (award.bid.node_class.resource_class_id, str(award.bid.node_class.tier))
        sides = wide.setdefault(key, (set(), set()))
        sides[0].add(award.demand.party_id)
        sides[1].add(award.bid.party_id)
    enough = {key for key, sides in wide.items() if min(map(len, sides)) >= 3}
    assert {(p["resource_class"], p["tier"]) for p in products} == enough
    assert int(window["left_out_products"]) == len(wide) - len(enough) >= 1
    assert (window["window"], window["premium_ppm"]) == (market.settled.name, "214000")
    funded = sum(d.unit_hours for d in m.Demand.objects.filter(window=market.settled).exclude(hold_id=None))
    assert int(window["funded_unit_hours"]) == funded
    assert 0 < int(window["filled_unit_hours"]) < funded
    for party in (*market.buyers, *market.providers):
        assert all(party.name not in text and party.slug not in text for text in files.values())


def test_the_data_set_is_the_same_bytes_again_and_two_buyers_make_none(market, tmp_path):
    first = public_dataset()

    assert public_dataset() == first
    m.Party.objects.filter(pk__in=[b.pk for b in market.buyers[1:]]).update(parent=market.buyers[0])
    assert len(public_dataset()["windows.csv"].splitlines()) == len(public_dataset()["products.csv"].splitlines()) == 1
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(CommandError, match="not empty"):
        call_command("dataset", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_measured_premium_stands_beside_the_band_that_is_said_to_be_paid(market, client):
    page = client.get(reverse("market")).content.decode()

    assert "cost 21.400 % more" in page
    assert "95 % between 18.000 % and 25.100 %; 20 to 30 % is what buyers are said to pay elsewhere" in page


def test_a_segment_of_three_buyers_is_told_a_smaller_one_is_not_and_no_frontier_lab_is_expected(market, client):
    rows = {row.segment: row for row in segments()}
    demands = m.Demand.objects.filter(window=market.settled).exclude(hold_id=None)

    assert rows["enterprise"].funded_unit_hours == sum(d.unit_hours for d in demands)
    assert rows["enterprise"].buyers == 5
    assert 0 < rows["enterprise"].filled_ppm < 1_000_000
    assert (rows["research"].buyers, rows["research"].funded_unit_hours, rows["research"].filled_ppm) == (0, 0, None)

    for demand in demands.filter(party__in=market.buyers[:2]):
        with behind_the_triggers():
            m.DemandStatement.objects.create(
                id=demand.pk, demand=demand, version=1, segment="frontier_lab", stated_at=NOW
            )
    rows = {row.segment: row for row in segments()}
    assert (rows["frontier_lab"].buyers, rows["frontier_lab"].funded_unit_hours) == (None, None)
    assert rows["frontier_lab"].forecast_unit_hours == 0
    assert rows["enterprise"].buyers == 3
    assert {row.segment for row in segments(buyers_min=1) if row.buyers} == {"enterprise", "frontier_lab"}
    assert next(row.buyers for row in segments(buyers_min=1) if row.segment == "frontier_lab") == 2
    page = client.get(reverse("demand_report")).content.decode()
    assert "frontier labs have committed" in page


def test_no_market_size_is_written_in_code_or_page():
    """What a market is said to be worth stands in the scenario file alone: no code or page writes billions."""
    insights, portal = (CHECKOUT / "marketplace" / name for name in ("insights", "portal"))
    found = []
    for path in (*insights.rglob("*.py"), *portal.rglob("*.py"), *(CHECKOUT / "templates").rglob("*.html"),
                 *(CHECKOUT / "pricing").glob("*.py")):  # fmt: skip
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"(?:USD|\$|€)\s*\d[\d_,.]*\s*(?:bn|billion|trillion|T)\b|market.{0,20}\d[\d_]{9,}", line):
                found.append(f"{path.name}:{number} {line.strip()}")
    assert found == []
    assert re.search(r"USD 1\.3 trillion", (CHECKOUT / "fixtures" / "scenario" / "default.json").read_text())


def test_every_figure_of_the_scenario_has_its_source_line():
    found = scenario()["segments"]

    assert set(found) == {"enterprise", "public_sector", "research", "frontier_lab"}
    assert all(figure["source"] for figure in found.values())
