"""Latency classes: a name for a bound and for how it is probed, which a demand may tighten and never loosen."""

import pytest

from pricing.errors import SlaError
from pricing.latency import CLASSES, class_of, terms_of_class

P95 = "latency_p95_ms_max"


def test_the_classes_are_ten_to_a_hundred_milliseconds_and_batch_each_with_its_probes():
    assert {name: each.bound_ms for name, each in CLASSES.items()} == {
        "L10": 10, "L20": 20, "L50": 50, "L100": 100, "batch": None,
    }  # fmt: skip
    assert CLASSES["L20"].words == "L20: 95 % of the minutes at most 20 ms, by the median of 3 verifiers every 60 s"
    assert CLASSES["batch"].words == "batch: no bound; it waits"


@pytest.mark.parametrize(("name", "bound", "targets", "found"), [
    ("L20", None, {}, (20, {P95: 20})),
    ("L20", 15, {}, (15, {P95: 20})),
    ("L20", None, {P95: 10, "repair_minutes_max": 15}, (20, {P95: 10, "repair_minutes_max": 15})),
    ("batch", None, {"repair_minutes_max": 15}, (None, {"repair_minutes_max": 15})),
])  # fmt: skip
def test_a_class_names_bound_and_target_and_a_stricter_one_stands(name, bound, targets, found):
    assert terms_of_class(name, latency_ms_max=bound, targets=targets) == found


@pytest.mark.parametrize(("name", "bound", "targets", "rule"), [
    ("L30", None, {}, "no_such_class"),
    ("L20", 21, {}, "looser_than_its_class"),
    ("L20", None, {P95: 50}, "looser_than_its_class"),
    ("batch", 100, {}, "batch_has_no_bound"),
    ("batch", None, {"latency_p99_ms_max": 500}, "batch_has_no_bound"),
])  # fmt: skip
def test_what_is_looser_than_its_class_or_none_is_refused(name, bound, targets, rule):
    with pytest.raises(SlaError) as refusal:
        terms_of_class(name, latency_ms_max=bound, targets=targets)
    assert refusal.value.facts["rule"] == rule


@pytest.mark.parametrize(("bound", "targets", "name"), [
    (None, {}, "batch"), (20, {P95: 20}, "L20"), (5, {P95: 10}, "L10"), (20, {P95: 50}, "L50"),
    (20, {}, ""), (250, {P95: 250}, ""), (None, {P95: 20}, ""),
])  # fmt: skip
def test_a_demand_is_of_the_strictest_class_that_its_bound_and_its_target_both_keep(bound, targets, name):
    assert class_of(latency_ms_max=bound, targets=targets) == name


@pytest.mark.parametrize("name", list(CLASSES))
def test_what_a_class_asks_for_is_of_that_class(name):
    bound, targets = terms_of_class(name, latency_ms_max=None, targets={})

    assert class_of(latency_ms_max=bound, targets=targets) == name
