"""Planning pages: a list becomes a map, a line a filled demand, a mistake a line and a column; nothing is stored."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from marketplace import models as m
from marketplace.environment import CHECKOUT
from marketplace.errors import BadLines
from marketplace.insights.workload_map import home_zone_of, read_list
from tests.api.conftest import table_counts

SAMPLE = (CHECKOUT / "fixtures" / "workloads" / "workloads.csv").read_text(encoding="utf-8")
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
    page = post_list(client, f"{HEADER},latency_ms,memory_gib,present_usd_per_year\nNotes,8,health,168,50,80,610000")
    link = unescape(re.search(r'href="([^"]*demands/new/\?[^"]*)"', page.content.decode())[1])

    form = client.get(link).context["form"]

    assert form.initial | {"vantage_code": "-"} == {
        "reference": "Notes", "kind": "window", "accepted_classes": ["A100-80", "H100-80"], "quantity_units": "8",
        "start_slot": "0", "end_slot": "168", "price_limit_micros": "8.7282", "zone_code": "EU", "tier_min": "2",
        "sla_code": "99.9", "latency_ms_max": "50", "vantage_code": "-",
    }  # fmt: skip
    answer = client.post(reverse("portal:demand_new"), form.initial | {"window": market.collecting.pk})
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
        read_list(f"{HEADER}\na,0,public,1\nb,1,secret,1\nc,1,public,1\nc,x,public,1")

    assert [(line, column) for line, column, _ in refusal.value.mistakes] == [(2, "units"), (3, "data_class"),
                                                                             (5, "units")]  # fmt: skip


@pytest.mark.parametrize("text", [
    "a,1,public,1", "a;1;public;1", "a\t1\tpublic\t1", "\ufeffname,units,data_class,hours_per_week\na,1,Public,1",
    "units, data class, hours per week, name\n1, public, 1, a", "# a comment\na,1,public,1", '"a",1,public,1\n',
])  # fmt: skip
def test_commas_semicolons_tabs_and_any_order_under_a_header_are_read(text):
    (row,) = read_list(text)

    assert (row[1].name, row[1].units, row[1].data_class, row[1].hours_per_week) == ("a", 1, "public", 1)


def test_a_file_is_read_like_a_paste_and_one_that_is_no_text_is_refused(market, enter):
    client, url = enter("buyer"), reverse("portal:workloads")

    page = client.post(url, {"file": SimpleUploadedFile("w.csv", SAMPLE.encode())})
    broken = client.post(url, {"file": SimpleUploadedFile("w.csv", b"a\xff\xfe,1,public,1")})
    with pytest.raises(BadLines, match="NUL"):
        read_list("a\x00,1,public,1")
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
