"""Typed targets: what may be promised, when a promise is broken, and that clearing by them can be checked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.errors import BadQuality, BadText, SlaError
from pricing.replay import replay_bundle
from pricing.sla import FALSE_BREACH_RATE, FALSE_DOWN_RATE
from pricing.targets import (
    MENU,
    NO_ECHO_MS,
    TARGETS,
    Late,
    Notice,
    allowed,
    check_targets,
    is_certainly_broken,
    judge_share,
    late_start,
    long_failures,
    median_ms,
    meets,
    percentile,
    short_notices,
    strays,
)
from pricing.verify import verify_bundle
from tests.pricing.lines import bid, book, demand

FAST = (("latency_p95_ms_max", 20),)
STEADY = (("latency_p95_ms_max", 10), ("notice_hours_min", 168), ("start_by_minutes_max", 5))


# --- what is promised ----------------------------------------------------------------------------------------------


def test_every_bound_of_the_menu_can_be_promised_alone_in_a_month():
    for target in MENU:
        assert target.name.endswith(("_max", "_min"))
        assert target.menu == tuple(sorted(target.menu, reverse=target.name.endswith("_min")))  # strictest first
        for bound in target.menu:
            check_targets({target.name: bound}, hours=720)


@pytest.mark.parametrize(
    ("targets", "hours", "rule", "target"),
    [
        ({"uptime_max": 5}, 720, "no_such_target", "uptime_max"),
        ({"latency_p95_ms_max": 21}, 720, "off_the_menu", "latency_p95_ms_max"),
        ({"latency_p95_ms_max": 20.0}, 720, "off_the_menu", "latency_p95_ms_max"),
        ({"latency_p95_ms_max": True}, 720, "off_the_menu", "latency_p95_ms_max"),
        ({"latency_p50_ms_max": 50, "latency_p95_ms_max": 20}, 720, "percentiles_rise", "latency_p95_ms_max"),
        ({"latency_p50_ms_max": 50, "latency_p99_ms_max": 20}, 720, "percentiles_rise", "latency_p99_ms_max"),
        ({"latency_p95_ms_max": 50, "latency_p99_ms_max": 20}, 720, "percentiles_rise", "latency_p99_ms_max"),
        ({"start_by_minutes_max": 60}, 1, "start_within_the_lease", "start_by_minutes_max"),
        ({"repair_minutes_max": 240}, 4, "repair_within_the_lease", "repair_minutes_max"),
        ({"throughput_spread_bps_max": 1000}, 23, "too_short_to_judge", "throughput_spread_bps_max"),
    ],
)
def test_a_target_that_contradicts_is_refused_with_its_rule(targets, hours, rule, target):
    with pytest.raises(SlaError) as refusal:
        check_targets(targets, hours=hours)

    assert (refusal.value.facts["rule"], refusal.value.facts["target"]) == (rule, target)


def test_what_does_not_contradict_is_taken():
    check_targets({"latency_p50_ms_max": 20, "latency_p95_ms_max": 20, "latency_p99_ms_max": 50}, hours=1)
    check_targets({"start_by_minutes_max": 60, "throughput_spread_bps_max": 1000}, hours=24)
    check_targets({"repair_minutes_max": 240}, hours=5)
    check_targets({}, hours=1)


def test_an_offer_meets_what_it_promises_as_strictly_or_more_so():
    asked = {"latency_p95_ms_max": 20, "notice_hours_min": 96}

    assert meets({"latency_p95_ms_max": 20, "notice_hours_min": 96}, asked)
    assert meets({"latency_p95_ms_max": 5, "notice_hours_min": 168, "repair_minutes_max": 15}, asked)
    assert not meets({"latency_p95_ms_max": 50, "notice_hours_min": 96}, asked)
    assert not meets({"latency_p95_ms_max": 20, "notice_hours_min": 72}, asked)
    assert not meets({"latency_p95_ms_max": 20}, asked)
    assert meets({}, {})


# --- a rule of clearing --------------------------------------------------------------------------------------------


def market():
    """The cheap offer promises less than the first demand asks for."""
    return book(
        demand("swift", 2_000, targets=FAST), demand("plain", 1_500),
        bid("cheap", 100, targets=(("latency_p95_ms_max", 50),)), bid("fit", 1_000, targets=STEADY),
    )  # fmt: skip


def test_a_demand_is_served_by_who_promises_as_much_although_it_asks_more():
    files = public_bundle(clear(market()), window="w")
    awards = {(row["demand_id"], row["bid_id"]) for row in map(json.loads, files["awards.jsonl"].splitlines())}

    assert awards == {("swift", "fit"), ("plain", "cheap")}
    assert verify_bundle(files).ok
    assert replay_bundle(files) == ()


def test_the_order_in_which_targets_are_named_changes_nothing():
    swapped = book(demand("d", targets=tuple(reversed(STEADY))), bid("b", targets=tuple(reversed(STEADY))))

    assert swapped.input_hash == book(demand("d", targets=STEADY), bid("b", targets=STEADY)).input_hash


@pytest.mark.parametrize(
    ("file", "said", "forged"),
    [
        ("attributes.jsonl", b'"latency_p95_ms_max":50', b'"latency_p95_ms_max":20'),
        ("requirements.jsonl", b'"targets":{"latency_p95_ms_max":20}', b'"targets":{"latency_p95_ms_max":50}'),
        ("requirements.jsonl", b'"targets":{"latency_p95_ms_max":20}', b'"targets":{}'),
        ("requirements.jsonl", b'"targets":{"latency_p95_ms_max":20}', b'"targets":{"latency":20}'),
    ],
)
def test_the_verifier_sees_a_target_that_was_changed(file, said, forged):
    files = public_bundle(clear(market()), window="w")
    assert said in files[file]

    assert not verify_bundle({**files, file: files[file].replace(said, forged)}).ok


def test_what_asks_for_nothing_is_published_as_before():
    files = public_bundle(clear(book(demand("d"), bid("b"))), window="w")

    assert b"targets" not in files["requirements.jsonl"] + files["attributes.jsonl"]


def test_a_demand_for_a_target_that_nobody_promises_names_the_rule():
    files = public_bundle(clear(book(demand("d", targets=FAST), bid("b"))), window="w")
    (reason,) = [row for row in map(json.loads, files["reasons.jsonl"].splitlines()) if row["line_id"] == "d"]

    assert (reason["code"], reason["detail"]["rule"]) == ("no_compliant_capacity", "targets")
    assert verify_bundle(files).ok


def test_a_stricter_promise_is_priced_as_part_of_the_sla():
    files = public_bundle(clear(book(
        demand("swift", 2_000, targets=FAST), demand("plain", 1_500), bid("b", 100), bid("fit", 900, targets=FAST),
    )), window="w")  # fmt: skip
    parts = [row["sla_micros"][0] for row in map(json.loads, files["prices.jsonl"].splitlines())]

    assert sorted(part for part in parts if part is not None)[-1] > 0
    assert verify_bundle(files).ok


@pytest.mark.parametrize(
    ("targets", "error"),
    [({"latency_p95_ms_max": 20}, BadText), ((("latency_p95_ms_max", 21),), BadQuality), ((("x", 1),), BadQuality),
     ((("latency_p95_ms_max", 20), ("latency_p95_ms_max", 50)), BadQuality), ((("latency_p95_ms_max",),), BadText)],
)  # fmt: skip
def test_a_line_names_targets_of_the_menu_once(targets, error):
    with pytest.raises(error):
        book(demand("d", targets=targets), bid("b"))
    with pytest.raises(error):
        book(demand("d"), bid("b", targets=targets))


# --- shares --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [each for each in MENU if each.is_share])
@pytest.mark.parametrize("known", [30, 120, 1440, 43_200])
def test_the_test_of_a_share_is_no_larger_than_designed(target, known):
    most, share = allowed(target.name, known), target.missed_bps_max / 10_000 + FALSE_DOWN_RATE

    assert binom.sf(most, known, share) <= FALSE_BREACH_RATE < binom.sf(most - 1, known, share)
    if most < known:  # with thirty samples half of them proves nothing
        assert judge_share(target.name, missed=most, known=known).outcome == "kept"
        assert judge_share(target.name, missed=most + 1, known=known).outcome == "broken"


def test_what_nobody_knows_breaks_nothing():
    assert judge_share("latency_p95_ms_max", missed=0, known=0).outcome == "unknown"
    assert judge_share("latency_p95_ms_max", missed=2, known=2).outcome == "unknown"
    assert judge_share("latency_p95_ms_max", missed=8, known=8).outcome == "broken"


def test_a_running_period_is_broken_only_when_nothing_can_mend_it():
    most = allowed("latency_p99_ms_max", 1440)

    assert not is_certainly_broken("latency_p99_ms_max", missed=most, period=1440)
    assert is_certainly_broken("latency_p99_ms_max", missed=most + 1, period=1440)
    assert judge_share("latency_p99_ms_max", missed=most + 1, known=1440).outcome == "broken"


def test_impossible_counts_are_refused():
    for call in (
        lambda: judge_share("latency_p95_ms_max", missed=3, known=2), lambda: allowed("repair_minutes_max", 9),
        lambda: allowed("latency_p95_ms_max", -1), lambda: percentile([1], share_bps=0),
        lambda: strays(ops=1, proven_ops=0, spread_bps=1000),
    ):  # fmt: skip
        with pytest.raises(SlaError):
            call()


def test_one_verifier_decides_no_minute():
    assert median_ms([3, 4, NO_ECHO_MS]) == 4
    assert median_ms([4, NO_ECHO_MS]) == 4  # the lower of two: doubt is not the provider's
    assert median_ms([4, NO_ECHO_MS, NO_ECHO_MS]) == NO_ECHO_MS
    assert median_ms([4]) is None
    assert median_ms([]) is None


def test_a_percentile_is_one_of_the_samples():
    samples = list(np.random.default_rng(1).permutation(np.arange(1, 101)))

    assert [percentile(samples, share_bps=bps) for bps in (5000, 9500, 9900, 10_000)] == [50, 95, 99, 100]
    assert percentile([7], share_bps=9500) == 7
    assert percentile([], share_bps=9500) is None


def test_a_check_strays_beyond_the_bound_on_either_side():
    facts = {"proven_ops": 1_000, "spread_bps": 1000}

    assert not strays(ops=900, **facts)
    assert not strays(ops=1_100, **facts)
    assert strays(ops=899, **facts)
    assert strays(ops=1_101, **facts)


# --- events --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "outcome", "late"),
    [
        ("u", "kept", None), ("ddddddu", "kept", None), ("dddddddu", "broken", Late(0, 6, 6, 7)),
        ("ddddddd", "broken", Late(0, 6, 6, 7)), ("dddddd", "unknown", None), ("", "unknown", None),
        ("????????u", "kept", None), ("??dd??dddu", "kept", None), ("mmmmmmmmu", "kept", None),
        ("d?d?ddd?ddu", "broken", Late(0, 9, 9, 7)),
    ],
)
def test_a_start_is_late_by_the_bad_minutes_before_the_first_good_one(minutes, outcome, late):
    assert late_start(minutes, bound=5) == (outcome, late)


@pytest.mark.parametrize(
    ("minutes", "found"),
    [
        ("uuudddddd", []),  # exactly the bound is kept
        ("uuuddddddduuu", []),  # one more may have been seen wrongly
        ("uuudddddddduuu", [Late(3, 10, 10, 8)]),
        ("uuuddd???dddddu", [Late(3, 13, 13, 8)]),  # what nobody knows neither ends a failure nor lengthens it
        ("uuuddduuddddduuu", [Late(3, 12, 12, 8)]),  # two good minutes are no repair
        ("uuudddduuuddduuu", []),  # three are
        ("dddddddddu", []),  # before the first good minute the lease has not started
        ("ddddddd", []),
        ("udddddddduuuddddddddd", [Late(1, 8, 8, 8), Late(12, 20, 19, 9)]),
        ("ummmmmmmmmmm", []),
    ],
)
def test_a_failure_lasts_until_three_good_minutes_in_a_row(minutes, found):
    assert long_failures(minutes, bound=6) == found


def test_a_short_notice_breaks_the_promise_only_where_it_cost_a_minute():
    minutes = "u" * 30 + "m" * 10 + "d" * 5 + "u" * 30

    def found(announced: int, first: int = 30, end: int = 45) -> list[Late]:
        return short_notices(minutes, [Notice(announced, first, end)], bound_hours=96)

    assert found(30 - 96 * 60) == []  # announced in time
    assert found(30 - 96 * 60 + 1) == [Late(30, 44, 30, 15)]
    assert found(0, first=50, end=60) == []  # it cost nothing
    assert found(-60, first=-30, end=35) == [Late(0, 34, 30, 5)]
    assert found(-60, first=-30, end=32) == [Late(0, 31, 30, 2)]
    assert found(-60, first=-30, end=31) == []  # a single minute may have been seen wrongly
    assert short_notices("", [Notice(0, 1, 2)], bound_hours=72) == []


def test_the_menu_credits_a_tenth_for_a_share_and_less_for_what_can_happen_often():
    assert {target.credit_bps for target in MENU if target.is_share} == {1000}
    assert (TARGETS["repair_minutes_max"].credit_bps, TARGETS["notice_hours_min"].credit_bps) == (500, 500)
