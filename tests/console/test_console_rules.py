"""Rules for everybody are set on one page, by who may operate the market, with a reason; each refusal is told."""

from __future__ import annotations

import pytest
from django.test import Client

from ledger.rewards import reward_pool_micros
from marketplace import models as m
from marketplace.insights.public_benefit import benefit_report
from marketplace.oversight.reports import report_rule
from marketplace.supply.lapses import lapse_rule
from tests.doors.factories import seat

PATH = "/console/rules/"
READ = {
    "lapse": lambda: lapse_rule().windows,
    "report": lambda: (report_rule().deposit_micros, report_rule().reward_micros),
    "set_aside": lambda: benefit_report().share_ppm,
}  # fmt: skip
# rule, what is typed, what then holds, what is one too many
CHANGES = [
    ("lapse", {"windows": 5}, 5, {"windows": 1}),
    ("report", {"deposit_micros": "$7", "reward_micros": "9.000001"}, (7_000_000, 9_000_001),
     {"deposit_micros": "0", "reward_micros": "1"}),
    ("set_aside", {"share_ppm": 50_000}, 50_000, {"share_ppm": 10**6 + 1}),
]  # fmt: skip


def put(client: Client, rule: str, reason: str = "as decided", **fields: object) -> str:
    told = {f"{rule}-{name}": value for name, value in (fields | {"reason": reason}).items()}
    answer = client.post(PATH, told | {"act": rule}, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


@pytest.mark.parametrize(("rule", "good", "then", "bad"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_rule_is_set_with_its_reason_and_a_bad_one_is_told(market, staff, rule, good, then, bad):
    before = READ[rule]()
    assert "(bad_input)" in put(staff, rule, **bad)
    assert "(bad_input)" in put(staff, rule, reason="", **good)
    assert READ[rule]() == before != then

    put(staff, rule, **good)
    assert READ[rule]() == then
    assert m.AuditLine.objects.filter(actor="staff@console.example", reason="as decided").exists()


def test_the_pool_is_filled_out_of_capital_and_no_further(market, staff):
    before = reward_pool_micros()
    assert "(not_funded)" in put(staff, "pool", micros="1,000,000,000")
    assert reward_pool_micros() == before


@pytest.mark.parametrize(("rule", "name", "rest"), [
    ("report", "deposit_micros", {"reward_micros": "1"}), ("pool", "micros", {}),
    ("first_lease", "first_lease_cap_micros", {"tier": 0, "undertaking_max_micros": "1"}),
])  # fmt: skip
def test_money_is_typed_in_dollars_to_the_last_micro_and_a_seventh_decimal_is_refused(market, staff, rule, name, rest):
    page = staff.get(PATH).content.decode()
    assert "micro-USD" not in page
    assert "dollars" in page

    for typed, why in (("1.9400001", "At most six decimals"), ("-1", "such as 1.94"), ("1e3", "such as 1.94")):
        told = put(staff, rule, **rest | {name: typed})
        assert why in told
        assert "(bad_input)" in told

def test_an_auditor_sees_the_rules_and_sets_none(market):
    auditor = Client()
    foundation = m.Party.objects.get(slug="foundation")
    auditor.force_login(seat(foundation, "auditor@console.example", "auditor", is_staff=True))

    assert "Set aside for research" in auditor.get(PATH).content.decode()
    for rule, good, then, _ in CHANGES:
        assert "(" in put(auditor, rule, **good)
        assert READ[rule]() != then
    assert auditor.post(PATH, {"act": "nothing"}).status_code == 404
