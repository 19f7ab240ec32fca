"""Which capacity may serve which demand: each rule with one bid that passes and one that does not."""

import pytest

from pricing.eligibility import match_lines
from tests.pricing.lines import bid, book, demand

PARIS_BERLIN = {("paris", "berlin"): 20}
LONG = (0, 25)


def accepts(one_demand, one_bid, latency_ms=None):
    """None where the pair is eligible, else the rule that stands between."""
    return match_lines(book(one_demand, one_bid, slots=48, latency_ms=latency_ms)).emptied_by(0)


@pytest.mark.parametrize(("rule", "need", "passes", "fails"), [
    ("class", {"accepted_classes": ("H100", "H200")}, {"resource_class": "H200"}, {"resource_class": "A100"}),
    ("country", {"countries": ("DE", "FR")}, {"country": "FR"}, {"country": "US"}),
    ("control", {"control_countries": ("DE", "FR")}, {"parent_country": "FR"}, {"parent_country": "US"}),
    ("control", {"control_countries": ("DE", "FR")}, {"operator_country": "FR"}, {"operator_country": "US"}),
    ("control", {"control_countries": ("DE", "FR")}, {"keys_country": "FR"}, {"keys_country": "US"}),
    ("tier", {"tier_min": 2}, {"tier": 2}, {"tier": 1}),
    ("papers", {"papers": ("pci", "iso")}, {"papers": ("iso", "more", "pci")}, {"papers": ("pci",)}),
    ("latency", {"vantage": "paris", "latency_ms_max": 20}, {"site": "berlin"}, {"site": "lyon"}),
    ("sla", {"sla_bps_min": 9_950}, {"sla_bps": 9_950}, {"sla_bps": 9_900}),
    ("standing", {"slots": LONG}, {"standing": "PROVEN"}, {"standing": "PROBATION"}),
    ("standing", {}, {"standing": "PROBATION"}, {"standing": "DEGRADED"}),
    ("own_parent", {"parent": "acme"}, {"parent": "other"}, {"parent": "acme"}),
])
def test_each_rule_lets_pass_and_stops(rule, need, passes, fails):
    assert accepts(demand("d", **need), bid("b", slots=(0, 48), **passes), PARIS_BERLIN) is None
    assert accepts(demand("d", **need), bid("b", slots=(0, 48), **fails), PARIS_BERLIN) == rule


@pytest.mark.parametrize("standing", ["REGISTERED", "DEGRADED", "SUSPENDED"])
def test_no_other_standing_ever_serves(standing):
    assert accepts(demand("d"), bid("b", standing=standing)) == "standing"


def test_a_day_is_not_too_long_for_probation_and_one_slot_more_is():
    on_probation = bid("b", slots=(0, 48), standing="PROBATION")

    assert accepts(demand("d", slots=(10, 34)), on_probation) is None
    assert accepts(demand("d", slots=(10, 35)), on_probation) == "standing"


def test_a_latency_is_measured_or_it_fails_the_bound():
    near = demand("d", vantage="paris", latency_ms_max=20)

    assert accepts(near, bid("b"), {("paris", "berlin"): 20}) is None
    assert accepts(near, bid("b"), {("paris", "berlin"): 21}) == "latency"
    assert accepts(near, bid("b"), {("berlin", "paris"): 1}) == "latency"
    assert accepts(demand("d", vantage="paris"), bid("b"), {}) is None


def test_a_country_rule_that_names_nobody_accepts_nobody():
    assert accepts(demand("d", countries=None), bid("b")) is None
    assert accepts(demand("d", countries=()), bid("b")) == "country"


def test_the_rule_named_is_the_first_after_which_none_is_left():
    picky = demand("d", countries=("FR",), tier_min=2)
    found = match_lines(book(picky, bid("a", country="FR", tier=1), bid("b", country="DE", tier=3)))

    assert found.emptied_by(0) == "tier"
    assert found.mask_of_demand.tolist() == [-1]


def test_without_any_bid_the_first_rule_is_named():
    assert match_lines(book(demand("d"))).emptied_by(0) == "class"


def test_bids_that_look_the_same_share_a_signature_and_demands_with_the_same_mask_share_it():
    found = match_lines(book(
        bid("a", parent="x"), bid("b", parent="y"), bid("c", tier=2),
        demand("d"), demand("e", countries=("DE",)), demand("f", tier_min=2),
    ))

    assert len(found.signatures) == 2
    assert found.signature_of_bid[0] == found.signature_of_bid[1] != found.signature_of_bid[2]
    assert len(found.masks) == 2
    assert found.mask_of_demand[0] == found.mask_of_demand[1] != found.mask_of_demand[2]


def test_a_parent_is_part_of_the_signature_only_where_some_demand_has_it():
    found = match_lines(book(bid("a", parent="acme"), bid("b", parent="other"), demand("d", parent="acme")))

    assert [signature.parent for signature in found.signatures] == ["acme", None]
    assert found.masks == ((1,),)


def test_a_signature_keeps_its_name_from_book_to_book():
    one = match_lines(book(bid("a"), bid("b", tier=2)))
    other = match_lines(book(bid("z", ask=500)))

    assert other.signatures[0].name in {signature.name for signature in one.signatures}
