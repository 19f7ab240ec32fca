"""The published script against bundles that lie. Each falsifier seals its lie well: hashes are made to agree again."""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pricing import verify
from pricing.allocation import Cap
from pricing.bundle import bundle_hash, public_bundle
from pricing.clearing import clear
from pricing.lines import Rules, canonical_json
from pricing.verify import verify_bundle
from tests.pricing.allocations import Trade, case, random_case
from tests.pricing.bundles import Forger, everything, scale_bundle, write_bundle
from tests.pricing.lines import bid, book, demand, odd_cycle

SCRIPT = Path(verify.__file__)


@pytest.fixture(scope="module")
def honest():
    return write_bundle(*everything().parts)


FORGERIES = {}


def forgery(*checks):
    """Register a lie with the checks that must name it; others may notice too."""
    def register(change):
        FORGERIES[change.__name__] = (change, checks)
        return change
    return register


# -- files and lines ---------------------------------------------------------------------------------------------------


@forgery("references")
def write_a_float(f):
    f.award("d1")["units"] = 2.0


@forgery("references")
def award_true_units(f):
    f.award("d1")["units"] = True


@forgery("references")
def add_an_unknown_field(f):
    f.award("d1")["note"] = "x"


@forgery("lines")
def write_a_default_out(f):
    f.row("demands", id="d1")["minimum_units"] = 0


@forgery("files")
def follow_another_rule_version(f):
    f.manifest["rule_version"] = 1


@forgery("files")
def allow_another_tick(f):
    f.manifest["parameters"]["tick_micros"] = 1


@forgery("files")
def add_a_field_to_the_manifest(f):
    f.manifest["gap_allowed_micros"] = 10**12


@forgery("files")
def claim_a_share_above_one(f):
    f.manifest["sigma"] = [7, 6]


@forgery("lines")
def move_a_sealed_price_off_the_tick(f):
    f.row("bids", id="b1")["price_ask_micros"] += 1


@forgery("lines")
def count_a_sealed_line_twice(f):
    f.rows["demands.jsonl"].insert(0, f.rows["demands.jsonl"][0])


@forgery("lines")
def put_sealed_lines_out_of_order(f):
    f.rows["bids.jsonl"].reverse()


@forgery("lines")
def measure_one_round_trip_twice(f):
    f.rows["latency.jsonl"].insert(0, {**f.rows["latency.jsonl"][0], "latency_ms": 1})


@forgery("lines")
def put_other_facts_under_the_name_of_a_requirement(f):
    f.rows["requirements.jsonl"][0]["tier_min"] = 1


@forgery("lines")
def leave_out_attributes(f):
    del f.rows["attributes.jsonl"][0]


@forgery("lines")
def name_an_unused_requirement(f):
    f.rows["requirements.jsonl"].append({**f.rows["requirements.jsonl"][-1], "requirement": "f" * 16})


@forgery("lines")
def let_a_block_be_split(f):
    f.row("demands", id="huge")["minimum_units"] = 1


@forgery("lines")
def give_a_divisible_demand_a_minimum(f):
    f.row("demands", id="d1")["minimum_units"] = 1


@forgery("lines")
def end_a_line_after_the_window(f):
    f.row("demands", id="d1")["end_slot"] = 5


@forgery("input_hash")
def accept_a_line_earlier(f):
    f.row("bids", id="shut")["accepted_rank"] = 5


@forgery("input_hash", "masks")
def shorten_a_measured_round_trip(f):
    f.row("latency", site="lyon")["latency_ms"] = 5


@forgery("input_hash")
def count_a_country_to_another_zone(f):
    f.manifest["home_zones"]["IT"] = "EU"


@forgery("input_hash", "budget")
def cut_the_budget(f):
    f.manifest["rules"]["foundation_budget_micros"] = 1_700


@forgery("input_hash", "bound", "welfare")
def lower_a_sealed_limit(f):
    f.row("demands", id="d1")["price_limit_micros"] -= 100


@forgery("input_hash", "curves")
def let_a_curve_of_limits_rise(f):
    f.row("demands", id="s2")["price_limit_micros"] = 1_200


@forgery("input_hash", "curves")
def let_a_curve_of_asks_fall(f):
    f.row("bids", id="v4")["price_ask_micros"] = 800


@forgery("input_hash", "curves")
def join_two_orders_to_one_curve(f):
    f.row("demands", id="low")["curve"] = "s"


# -- references --------------------------------------------------------------------------------------------------------


@forgery("references")
def award_to_nobody(f):
    f.award("d1")["demand_id"] = "nobody"


@forgery("references")
def put_awards_out_of_order(f):
    f.rows["awards.jsonl"].reverse()


@forgery("references")
def award_the_same_twice(f):
    f.rows["awards.jsonl"].insert(0, f.rows["awards.jsonl"][0])


@forgery("references")
def cut_one_award_into_two(f):
    award = f.award("d1")
    half = {**award, "start_slot": 2, "amount_micros": 2 * (1_400 + 2_000)}
    award.update(end_slot=2, amount_micros=2 * 3_000)
    f.rows["awards.jsonl"].insert(f.rows["awards.jsonl"].index(award) + 1, half)


@forgery("references")
def drop_a_product_from_the_price_table(f):
    del f.rows["prices.jsonl"][0]


@forgery("references")
def leave_out_a_slot_of_prices(f):
    del f.cell("b1")["dual_micros"][3]


@forgery("references")
def relax_only_some_signatures(f):
    f.cell("b1")["relaxed_micros"] = None


# -- eligibility and the allocation ------------------------------------------------------------------------------------


@forgery("masks")
def widen_a_mask(f):
    next(row for row in f.rows["masks.jsonl"] if row.get("emptied_by") == "tier")["accepts"] = [
        row["signature"] for row in f.rows["masks.jsonl"] if "signature" in row][:1]


@forgery("masks")
def blame_another_rule_for_an_empty_mask(f):
    next(row for row in f.rows["masks.jsonl"] if row.get("emptied_by") == "tier")["emptied_by"] = "sla"


@forgery("masks")
def put_a_false_signature_before_the_true_one(f):
    f.rows["masks.jsonl"].insert(0, {**f.rows["masks.jsonl"][0], "parent": "nobody"})


@forgery("rules")
def serve_a_demand_from_beyond_its_latency_bound(f):
    f.award("d1")["bid_id"] = "b2"


@forgery("rules")
def serve_a_demand_that_no_capacity_complies_with(f):
    f.rows["awards.jsonl"].append({**f.award("d1"), "demand_id": "strict", "start_slot": 0, "end_slot": 1})
    f.rows["awards.jsonl"].sort(key=lambda row: row["demand_id"])


@forgery("slots")
def stretch_an_award_beyond_its_demand(f):
    f.award("d2")["end_slot"] = 3


@forgery("quantities")
def sell_more_than_was_offered(f):
    f.award("d1")["units"] += 9


@forgery("windows")
def thin_a_window_in_one_slot(f):
    f.row("awards", demand_id="w", bid_id="b1")["start_slot"] = 3


@forgery("minimums")
def serve_less_than_the_minimum(f):
    f.rows["awards.jsonl"].remove(f.row("awards", demand_id="part", bid_id="b2"))


@forgery("choices")
def serve_two_lines_of_one_choice(f):
    award = {**f.award("k1"), "demand_id": "k2", "start_slot": 1, "end_slot": 2}
    f.rows["awards.jsonl"].insert(f.rows["awards.jsonl"].index(f.award("k1")) + 1, award)


@forgery("sites")
def spread_one_site_over_two(f):
    award = f.award("one")
    half = {**award, "bid_id": "b1", "units": 1}
    award["units"] = 1
    f.rows["awards.jsonl"].insert(f.rows["awards.jsonl"].index(award), half)


@forgery("balance")
def understate_what_a_line_misses(f):
    f.row("reasons", line_id="low")["unfilled_unit_hours"] -= 1


# -- prices and money --------------------------------------------------------------------------------------------------


@forgery("prices")
def leave_out_the_price_of_a_trade(f):
    f.cell("b1")["price_micros"][0] = None


@forgery("prices")
def quote_a_price_where_nothing_traded(f):
    cell = f.cell("b3")
    cell["price_micros"][0] = cell["dual_micros"][0]


@forgery("prices")
def price_off_the_tick(f):
    cell = f.cell("b1")
    cell["price_micros"][0] += 1
    cell["dual_micros"][0] += 1


@forgery("prices")
def price_beside_the_dual(f):
    f.cell("b1")["price_micros"][0] += 100


@forgery("indicative")
def embellish_an_indicative_limit(f):
    f.cell("b3")["best_limit_micros"][0] += 100


@forgery("indicative")
def hide_an_indicative_ask(f):
    f.cell("b3")["best_ask_micros"][0] = None


@forgery("components")
def call_scarcity_a_base_cost(f):
    cell = f.cell("b1")
    cell["base_micros"][3] += 100
    cell["scarcity_micros"][3] -= 100


@forgery("asks")
def pay_a_provider_less_than_its_ask(f):
    cell = f.cell("b1")
    cell["price_micros"][0] = cell["dual_micros"][0] = 1_100


@forgery("limits")
def charge_a_buyer_more_than_its_limit(f):
    cell = f.cell("b1")
    cell["price_micros"][3] = cell["dual_micros"][3] = 9_900


@forgery("amounts")
def round_an_amount_up(f):
    f.award("d1")["amount_micros"] += 1


@forgery("amounts")
def misstate_what_was_paid_in_all(f):
    f.manifest["paid_micros"] -= 100


# -- house rules -------------------------------------------------------------------------------------------------------


@forgery("caps")
def sell_above_a_cap(f):
    f.row_of_cap("seller-v1")["units_max"] = 4


@forgery("caps")
def exempt_a_product_that_enough_parents_bid(f):
    f.manifest["caps"] = []
    f.manifest["caps_not_applicable"].append(["V100", "IT", 1])


@forgery("caps")
def keep_silent_about_a_product_without_enough_parents(f):
    f.manifest["caps_not_applicable"].remove(["H100", "EU", 1])


@forgery("caps")
def sell_more_than_the_share(f):
    f.row("awards", bid_id="v1")["units"], f.row("awards", bid_id="v2")["units"] = 4, 6


@forgery("bound", "settled_bound")
def claim_another_price_of_a_cap(f):
    for name in ("rho_micros", "rho_relaxed_micros"):
        f.row_of_cap("seller-v1")[name] = 300


@forgery("budget")
def write_a_fraction_in_another_way(f):
    f.manifest["sigma"] = [2, 12]


@forgery("bound", "reasons_true")
def claim_another_price_of_the_budget(f):
    f.manifest["sigma"] = [1, 3]


@forgery("settled_bound", "reasons_true", "bound")
def deny_that_the_budget_binds(f):
    f.manifest["sigma"] = [0, 1]


@forgery("budget", "input_hash")
def claim_that_a_budget_binds_that_pays_for_everything(f):
    f.manifest["rules"]["foundation_budget_micros"] = 3 * 1_800


@forgery("budget")
def leave_out_the_duals_that_the_budget_bound(f):
    for row in f.rows["prices.jsonl"]:
        row["relaxed_micros"] = None


# -- the certificate ---------------------------------------------------------------------------------------------------


@forgery("welfare")
def boast_of_more_welfare(f):
    f.manifest["welfare_micros"] += 100


@forgery("bound")
def lower_the_bound(f):
    f.manifest["bound_micros"] -= 100


@forgery("settled_bound")
def lower_the_settled_bound(f):
    f.manifest["settled_bound_micros"] -= 100


@forgery("gap")
def understate_the_gap(f):
    f.manifest["gap_micros"] -= 100


@forgery("gap", "exchanges")
def starve_a_window_and_call_it_rounding(f):
    starved = Forger(write_bundle(*starving(bid("b", 1_000, 9, (0, 2))).parts))
    f.rows, f.manifest = starved.rows, starved.manifest


def starving(*lines):
    """A window that gets 1 of 8 units, each worth 1,000 more than it costs in its two slots."""
    trades = [Trade("w", "b", t, 1) for t in (0, 1)]
    return case(book(demand("w", 1_500, 8, (0, 2), kind="window"), *lines, slots=2), *trades, lam=1_000)


@forgery("settled_bound")
def leave_out_what_was_won(f):
    """A smaller trade, everything else told truly: only the bound shows that it is not the best one."""
    award = f.award("d2")
    award["units"] -= 1
    award["amount_micros"] -= 3_000
    f.manifest["paid_micros"] -= 3_000
    f.manifest["welfare_micros"] -= 2_000
    f.manifest["gap_micros"] += 2_000


# -- reasons -----------------------------------------------------------------------------------------------------------


@forgery("reasons_complete", "balance")
def leave_a_loser_without_a_reason(f):
    f.rows["reasons.jsonl"].remove(f.row("reasons", line_id="low"))


@forgery("reasons_complete", "balance")
def leave_the_last_loser_without_a_reason(f):
    f.rows["reasons.jsonl"].pop()


@forgery("reasons_complete", "balance")
def give_a_loser_two_reasons(f):
    reason = f.row("reasons", line_id="low")
    f.rows["reasons.jsonl"].insert(f.rows["reasons.jsonl"].index(reason), reason)


@forgery("reasons_complete", "balance")
def excuse_a_line_that_won(f):
    f.rows["reasons.jsonl"].append(
        {"side": "demand", "line_id": "w", "code": "marginal", "detail": {"cause": "at_the_price"},
         "unfilled_unit_hours": 1}
    )


@forgery("reasons_complete", "balance")
def excuse_a_line_that_nobody_handed_in(f):
    f.row("reasons", line_id="low")["line_id"] = "nobody"


@forgery("reasons_true")
def blame_the_price_on_compliance(f):
    f.row("reasons", line_id="low").update(code="no_compliant_capacity", detail={"rule": "tier"})


@forgery("reasons_true")
def name_another_rule(f):
    f.row("reasons", line_id="strict")["detail"]["rule"] = "sla"


@forgery("reasons_true")
def make_a_miss_look_smaller(f):
    f.row("reasons", line_id="low")["detail"]["short_by_micros"] -= 100


@forgery("reasons_true")
def make_a_rejection_look_cheap(f):
    f.row("reasons", line_id="huge")["detail"]["opportunity_cost_micros"] -= 100


@forgery("reasons_true")
def blame_the_minimum_on_the_price(f):
    f.row("reasons", line_id="bm").update(code="priced_out", detail={"short_by_micros": 100})


@forgery("reasons_true")
def call_a_bound_budget_a_price(f):
    f.row("reasons", line_id="fund").update(code="priced_out", detail={"short_by_micros": 100, "slot": 0})


@forgery("reasons_true")
def hide_what_the_cap_took(f):
    f.row("reasons", line_id="v1")["detail"]["rho_micros"] = 100


@forgery("reasons_true")
def name_another_winner(f):
    f.row("reasons", line_id="k2")["detail"]["winner"] = "d1"


@pytest.mark.parametrize("name", FORGERIES)
def test_each_forgery_is_caught_by_name(honest, name):
    change, checks = FORGERIES[name]
    forger = Forger(honest)
    assert verify_bundle(forger.sealed()).ok  # taking it apart and sealing it again is no lie

    change(forger)
    report = verify_bundle(forger.sealed())

    assert not report.ok
    assert set(checks) <= set(report.failed())


ROBBERIES = {}


def robbery(build):
    ROBBERIES[build.__name__] = build
    return build


@robbery
def where_units_lie_idle_beside_an_indivisible_line():
    return starving(bid("b", 1_000, 9, (0, 2)), demand("k", 100, 1, (0, 1), kind="block"))


@robbery
def for_a_crony_in_the_same_slot():
    lines = bid("b", 100, 1), demand("crony", 1_000, 1, kind="window"), demand("better", 900_000, 1, kind="window")
    return case(book(*lines, slots=1), Trade("crony", "b", 0, 1), lam=1_000, relaxed_micros=np.array([[900_000]]))


@robbery
def for_two_cronies_one_after_the_other():
    lines = (bid("b", 100, 1, (0, 4)), demand("better", 5_000, 1, (0, 4), kind="window"),
             demand("early", 4_000, 1, (0, 2), kind="window"), demand("late", 4_000, 1, (2, 4), kind="window"))
    return case(book(*lines, slots=4), *(Trade("early" if t < 2 else "late", "b", t, 1) for t in range(4)), lam=4_000,
                relaxed_micros=np.array([[5_000] * 4]))


@robbery
def for_a_crony_that_overhangs():
    """Its first slot would lie idle without it, or serve the divisible demand that waits there."""
    lines = (bid("b", 100, 1, (0, 3)), demand("better", 9_000, 1, (1, 3), kind="window"),
             demand("crony", 5_000, 1, (0, 3), kind="window"), demand("waits", 900, 1, (0, 1)))
    return case(book(*lines, slots=3), *(Trade("crony", "b", t, 1) for t in range(3)), lam=[[900, 5_000, 5_000]],
                relaxed_micros=np.array([[900, 9_000, 9_000]]))


@robbery
def for_a_crony_of_another_rule_over_a_chain_of_pairs():
    """The crony has V100, which the mixed window could use in place of the H100 that the better one needs."""
    lines = (bid("h", 100, 1), bid("v", 100, 1, resource_class="V100"),
             demand("better", 9_000, 1, kind="window"),
             demand("mixed", 8_000, 1, kind="window", accepted_classes=("H100", "V100")),
             demand("crony", 7_000, 1, kind="window", accepted_classes=("V100",)))
    return case(book(*lines, slots=1), Trade("mixed", "h", 0, 1), Trade("crony", "v", 0, 1), lam=7_000,
                relaxed_micros=np.array([[9_000], [9_000]]))


@robbery
def for_a_divisible_demand_worth_less():
    lines = bid("b", 100, 1), demand("crony", 800, 1), demand("better", 900, 1, kind="window")
    return case(book(*lines, demand("k", 100, 1, kind="block"), slots=1), Trade("crony", "b", 0, 1), lam=800)


@robbery
def of_the_foundation_by_a_speck_of_sigma():
    """Its budget pays for two of three units, it gets none."""
    lines = bid("b", 100, 5), demand("f", 1_000, 3, is_foundation=True), demand("d", 500, 1)
    return case(book(*lines, slots=1, rules=Rules(foundation_budget_micros=2_000)), Trade("d", "b", 0, 1), lam=100,
                sigma=(1, 10**9), relaxed_micros=np.array([[100]]))


@robbery
def of_a_window_of_the_foundation_by_a_speck_of_sigma():
    lines = bid("b", 100, 5), demand("f", 1_000, 3, kind="window", is_foundation=True), demand("d", 500, 1)
    return case(book(*lines, slots=1, rules=Rules(foundation_budget_micros=2_000)), Trade("d", "b", 0, 1), lam=100,
                sigma=(1, 10**9), relaxed_micros=np.array([[100]]))


@robbery
def of_a_seller_below_its_cap():
    """Held at nothing, though its cap leaves it five units and the other two ask more than it does."""
    lines = (demand("d", 2_000, 10), *(bid(f"b{n}", 500 + 500 * n, 10, parent=f"p{n}") for n in range(3)))
    one = book(*lines, slots=1, rules=Rules(concentration_ppm=500_000))
    caps = tuple(Cap(n, ("H100", "DE", 1), 5, 0, 0, is_held=True) for n in range(3))
    place = {name: n for n, name in enumerate(one.parents)}
    caps = tuple(replace(cap, parent=place[f"p{cap.parent}"]) for cap in caps)
    return case(one, *(Trade("d", f"b{n}", 0, 5) for n in (1, 2)), lam=2_000, caps=caps, cap_of_bid=np.arange(3))


@pytest.mark.parametrize("name", ROBBERIES)
def test_who_is_held_down_in_the_money_may_not_be_robbed_of_a_unit(name):
    robbed = ROBBERIES[name]()

    report = verify_bundle(write_bundle(*robbed.parts))
    fair = verify_bundle(public_bundle(clear(robbed.book), window="w1"))

    assert report.failed() in (("exchanges",), ("gap", "exchanges"))
    assert fair.ok
    assert fair.welfare_micros > report.welfare_micros


def test_what_windows_miss_because_units_are_whole_is_added_up():
    report = verify_bundle(public_bundle(clear(odd_cycle(900)), window="w1"))

    assert report.ok
    assert report.missed_for_whole_units_micros > 0


def test_every_check_has_a_forgery_that_it_names():
    named = {check for _, checks in FORGERIES.values() for check in checks}

    assert {*verify.READING_CHECKS, *verify.CLEARING_CHECKS} - named == {"hashes"}


# -- honest bundles ----------------------------------------------------------------------------------------------------


def test_an_honest_bundle_passes_every_check(honest):
    report = verify_bundle(honest)

    assert report.ok, [check for check in report.checks if not check.ok]
    assert [check.name for check in report.checks] == [*verify.READING_CHECKS, *verify.CLEARING_CHECKS]
    assert (report.losers_without_reason, report.noncompliant_awards) == (0, 0)
    assert report.welfare_micros == report.settled_bound_micros == 69_500
    assert report.gap_micros == report.bound_micros - report.welfare_micros > 0
    assert (report.awards, report.losers) == (
        len(honest["awards.jsonl"].splitlines()), len(honest["reasons.jsonl"].splitlines())
    )
    assert (report.rejected_in_the_money, report.opportunity_cost_micros) == (2, 50 * (12_000 - 4_400) + 10 * 1_200)


@pytest.mark.parametrize("seed", range(60))
def test_the_script_and_the_engine_explain_and_split_alike_whatever_was_allocated(seed):
    """Random trades at random prices are no optimum: the certificate must say so, all else must agree."""
    report = verify_bundle(write_bundle(*random_case(seed).parts))

    assert set(report.failed()) <= {
        "asks", "limits", "budget", "welfare", "settled_bound", "gap", "exchanges"}
    assert not [check for check in report.checks if verify.UNREADABLE in check.detail]
    assert not [check for check in report.checks if check.name == "settled_bound" and "is not" in check.detail]


@pytest.fixture(scope="module")
def cleared():
    return clear(everything().book)


def test_the_bundle_of_the_engine_passes_every_check(cleared):
    files = public_bundle(cleared, window="w1")
    report = verify_bundle(files)

    assert report.ok, [check for check in report.checks if not check.ok]
    assert (report.welfare_micros, report.bound_micros, report.gap_micros) == (
        cleared.welfare_micros, cleared.bound_micros, cleared.gap_micros)
    assert (report.awards, report.losers) == (len(cleared.awards), len(cleared.reasons))
    assert bundle_hash(files) == hashlib.sha256(files["manifest.json"]).digest()


def test_a_second_writer_writes_the_same_bytes(cleared):
    """The totals of the certificate among them: summed once over columns, once line by line in fractions."""
    by_hand = write_bundle(cleared.book, cleared.eligibility, cleared.allocation, awards=cleared.award_columns)

    assert public_bundle(cleared, window="w1") == by_hand


def test_a_large_bundle_in_balance_passes():
    report = verify_bundle(scale_bundle(3_000))

    assert report.ok, [check for check in report.checks if not check.ok]
    assert report.gap_micros == 0


@pytest.fixture
def two_processes(monkeypatch):
    """Any bundle counts as large."""
    monkeypatch.setattr(verify, "LARGE", 0)


ONE_OF_EACH = sorted({checks: name for name, (_, checks) in FORGERIES.items()}.values())


@pytest.mark.parametrize("name", ["honest", *ONE_OF_EACH])
def test_two_processes_find_what_one_finds(honest, two_processes, tmp_path, name):
    forger = Forger(honest)
    if name != "honest":
        FORGERIES[name][0](forger)
    for file, text in forger.sealed().items():
        (tmp_path / file).write_bytes(text)

    assert verify.verify_path(tmp_path) == verify_bundle(forger.sealed())


@pytest.mark.parametrize("last_words", ["", "[[", '[[["prices", true, "all w'])
def test_what_a_killed_copy_left_open_is_checked_by_the_first(
    honest, two_processes, tmp_path, monkeypatch, last_words
):
    def die(_, pipe):
        pipe.write(last_words)
        pipe.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    for name, text in honest.items():
        (tmp_path / name).write_bytes(text)
    monkeypatch.setattr(verify.json, "dump", die)

    assert verify.verify_path(tmp_path) == verify_bundle(honest)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_million_lines_are_checked_within_two_gigabytes(tmp_path):
    for name, text in scale_bundle(1_000_000).items():
        (tmp_path / name).write_bytes(text)
    watched = (f"import runpy, sys; sys.argv = ['verify.py', {str(tmp_path)!r}]\n"
               f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
               "finally: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])")

    run = subprocess.run([sys.executable, "-I", "-c", watched], capture_output=True, text=True, check=True)

    assert int(run.stdout.splitlines()[-1]) < 2 << 20  # KiB; a process would inherit the peak of getrusage


# -- files that cannot be read -----------------------------------------------------------------------------------------


def test_a_changed_byte_breaks_the_hash(honest):
    changed = {**honest, "awards.jsonl": honest["awards.jsonl"].replace(b'"units":2', b'"units":1', 1)}
    assert changed != honest

    assert verify_bundle(changed).failed() == ("hashes",)


@pytest.mark.parametrize("name", ["manifest.json", "awards.jsonl", "masks.jsonl", "demands.jsonl", "reasons.jsonl"])
@pytest.mark.parametrize("text", [
    b"", b"\n", b"{}\n", b"[]\n", b"\xff\n", b"{", b"[" * 100_000 + b"\n", b'{"a": 1}\n', b"NaN\n", b'"\\ud800"\n',
    b"1" * 5_000 + b"\n",
])
def test_what_cannot_be_read_is_a_failed_check_and_no_crash(honest, name, text):
    files = {**honest, name: text}
    assert verify_bundle(honest).ok
    assert not verify_bundle(files).ok

    manifest = json.loads(honest["manifest.json"])
    manifest["files"][name] = hashlib.sha256(text).hexdigest()

    assert not verify_bundle({"manifest.json": canonical_json(manifest) + b"\n", **files}).ok
    if name != "manifest.json":
        assert not verify_bundle({**files, "manifest.json": canonical_json(manifest) + b"\n"}).ok


def test_a_missing_or_foreign_file_is_named(honest):
    without = {name: text for name, text in honest.items() if name != "reasons.jsonl"}

    assert verify_bundle(without).failed() == ("files",)
    assert "reasons.jsonl" in verify_bundle(without).checks[0].detail
    assert verify_bundle({**honest, "extra.txt": b""}).failed() == ("files",)


def test_a_bundle_is_canonical(honest):
    for text in honest.values():
        for line in text.splitlines():
            assert canonical_json(json.loads(line)) == line


# -- the script --------------------------------------------------------------------------------------------------------


def test_the_verifier_imports_the_standard_library_alone():
    tree = ast.parse(SCRIPT.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert imported <= sys.stdlib_module_names


def test_the_verifier_runs_as_a_script(honest, tmp_path):
    for name, text in honest.items():
        (tmp_path / name).write_bytes(text)
    run = [sys.executable, "-I", str(SCRIPT), str(tmp_path)]

    good = subprocess.run(run, capture_output=True, text=True, check=False)
    (tmp_path / "awards.jsonl").write_bytes(b"")
    bad = subprocess.run(run, capture_output=True, text=True, check=False)
    lost = subprocess.run([*run, "more"], capture_output=True, text=True, check=False)

    assert (good.returncode, bad.returncode, lost.returncode) == (0, 1, 2)
    assert "welfare 69500, bound 293300" in good.stdout
    assert "2 lines rejected in the money, 392000 micro-USD" in good.stdout
    assert "BAD hashes" in bad.stdout


def test_the_script_reads_a_zip_as_it_reads_a_directory(honest, tmp_path):
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in honest.items():
            archive.writestr(name, text)
    assert verify.verify_path(path) == verify_bundle(honest)

    path.write_bytes(path.read_bytes()[:-30])

    assert verify.main([str(path)]) == verify.main([str(tmp_path / "nothing")]) == 2


def test_a_zip_with_a_damaged_or_repeated_member_is_refused(honest, tmp_path):
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in honest.items():
            archive.writestr(name, text)
    assert verify.main([str(path)]) == 0
    path.write_bytes(path.read_bytes().replace(b'"kind":"divisible"', b'"kind":"windows  "', 1))
    assert verify.main([str(path)]) == 1

    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("awards.jsonl", b"")

    assert verify.main([str(path)]) == 1


def test_a_window_of_any_name_can_be_told_on_any_terminal(tmp_path):
    for name, content in public_bundle(clear(book(demand("d"), bid("b"))), window="\u6771\u4eac").items():
        (tmp_path / name).write_bytes(content)

    told = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)

    assert (told.returncode, told.stderr) == (0, "")
    assert "\\u6771" in told.stdout


def test_an_archive_of_an_unknown_version_is_no_bundle_and_no_crash(tmp_path):
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(raw)

    assert verify.main([str(path)]) == 2
