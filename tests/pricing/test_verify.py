"""The published script against bundles that lie. Each falsifier seals its lie well: hashes are made to agree again."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pricing import verify
from pricing.book import canonical_json
from pricing.bundle import bundle_hash, public_bundle
from pricing.clearing import clear
from pricing.errors import BundleMismatch
from pricing.verify import verify_bundle
from tests.pricing.lines import bid, book, demand

SCRIPT = Path(verify.__file__)


def market():
    """Two traded products, a window, a priced-out line, a line at the price, and one that no rule lets in."""
    return book(
        demand("d1", 3_000, 2, (0, 4), vantage="paris", latency_ms_max=20),
        demand("d2", 2_500, 3, (0, 2)),
        demand("low", 1_000, 2, (0, 2)),
        demand("strict", 9_000, 1, (0, 1), tier_min=3),
        demand("w", 2_800, 2, (1, 4), kind="window"),
        bid("b1", 1_200, 3, (0, 4)),
        bid("b2", 1_500, 4, (0, 3), site="lyon"),
        bid("b3", 5_000, 4, (0, 4), quality_bps=9_000, tier=2),
        bid("shut", 100, 4, (0, 4), standing="SUSPENDED"),
        latency_ms={("paris", "berlin"): 15, ("paris", "lyon"): 35},
    )


class Forger:
    """A bundle taken apart, to be changed and sealed again as if nothing had happened."""

    def __init__(self, files):
        self.files = dict(files)
        self.rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}
        self.manifest = self.rows.pop("manifest.json")[0]

    def row(self, file, **match):
        return next(row for row in self.rows[f"{file}.jsonl"] if all(row.get(k) == v for k, v in match.items()))

    def award(self, demand_id):
        return self.row("awards", demand_id=demand_id)

    def cell(self, bid_id):
        name = next(row["signature"] for row in self.rows["masks.jsonl"] if bid_id in row.get("bids", ()))
        return self.row("prices", signature=name)

    def sealed(self):
        for name, rows in self.rows.items():
            self.files[name] = b"".join(canonical_json(row) + b"\n" for row in rows)
        hashes = {name: hashlib.sha256(self.files[name]).hexdigest() for name in self.rows}
        sealed = {name: hashes[name] for name in ("demands.jsonl", "bids.jsonl", "latency.jsonl")}
        self.manifest["input_hash"] = hashlib.sha256(
            canonical_json({"slots": self.manifest["slots"], **sealed})
        ).hexdigest()
        self.manifest["files"] = hashes
        self.manifest["counts"] = {
            name: len(self.rows[f"{name}.jsonl"]) for name in ("demands", "bids", "awards", "reasons")
        }
        return {**self.files, "manifest.json": canonical_json(self.manifest) + b"\n"}


@pytest.fixture(scope="module")
def honest():
    sealed_book = market()
    return public_bundle(sealed_book, clear(sealed_book), window="w1")


FORGERIES = {}


def forgery(*checks):
    """Register a lie with the checks that must name it; others may notice too."""
    def register(change):
        FORGERIES[change.__name__] = (change, checks)
        return change
    return register


@forgery("rules")
def serve_a_demand_from_beyond_its_latency_bound(f):
    f.award("d1")["bid_id"] = "b2"


@forgery("rules")
def serve_a_demand_that_no_capacity_complies_with(f):
    f.rows["awards.jsonl"].append({**f.award("d1"), "demand_id": "strict", "start_slot": 0, "end_slot": 1})


@forgery("masks")
def widen_a_mask(f):
    mask = next(row for row in f.rows["masks.jsonl"] if row.get("demands") == ["d1"])
    mask["accepts"] = sorted(row["signature"] for row in f.rows["masks.jsonl"] if "signature" in row)


@forgery("masks")
def shorten_a_measured_round_trip(f):
    f.row("latency", site="lyon")["latency_ms"] = 5


@forgery("masks")
def hide_a_bid_from_its_signature(f):
    next(row for row in f.rows["masks.jsonl"] if "b3" in row.get("bids", ()))["bids"].remove("b3")


@forgery("slots")
def stretch_an_award_beyond_its_demand(f):
    f.award("d2")["end_slot"] = 3


@forgery("quantities")
def sell_more_than_was_offered(f):
    f.award("d1")["units"] += 9


@forgery("windows")
def thin_a_window_in_one_slot(f):
    f.row("awards", demand_id="w", units=2)["units"] = 1


@forgery("balance")
def understate_what_a_line_misses(f):
    f.row("reasons", line_id="low")["unfilled_unit_hours"] -= 1


@forgery("prices")
def leave_out_the_price_of_a_trade(f):
    f.cell("b1")["price_micros"][0] = None


@forgery("prices")
def quote_a_price_where_nothing_traded(f):
    cell = f.cell("b3")
    cell["price_micros"][0] = cell["dual_micros"][0]


@forgery("prices")
def embellish_an_indicative_limit(f):
    f.cell("b3")["best_limit_micros"][0] += 100


@forgery("prices")
def price_off_the_tick(f):
    cell = f.cell("b1")
    cell["price_micros"][0] += 1
    cell["dual_micros"][0] += 1


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


@forgery("welfare")
def boast_of_more_welfare(f):
    f.manifest["welfare_micros"] += 100


@forgery("bound")
def lower_the_bound(f):
    f.manifest["bound_micros"] -= 100


@forgery("gap")
def allow_a_worse_allocation(f):
    """A smaller trade, everything else told truly: only the gap shows that it is not the best one."""
    award = f.award("d1")
    hours = award["end_slot"] - award["start_slot"]
    price = award["amount_micros"] // award["units"]
    award["units"] -= 1
    award["amount_micros"] -= price
    worth = hours * (3_000 - next(r["price_ask_micros"] for r in f.rows["bids.jsonl"] if r["id"] == award["bid_id"]))
    f.manifest["paid_micros"] -= price
    f.manifest["welfare_micros"] -= worth
    f.manifest["gap_micros"] += worth


@forgery("gap")
def leave_out_what_was_won_and_allow_oneself_the_gap(f):
    """The manifest may say what it likes: the gap alone decides."""
    allow_a_worse_allocation(f)
    f.manifest["gap_allowed_micros"] = 10**12


@forgery("masks")
def put_a_false_signature_before_the_true_one(f):
    true = next(row for row in f.rows["masks.jsonl"] if "signature" in row)
    f.rows["masks.jsonl"].insert(0, {**true, "bids": ["nobody"]})


@forgery("reasons_complete", "balance")
def leave_a_loser_without_a_reason(f):
    f.rows["reasons.jsonl"].remove(f.row("reasons", line_id="low"))


@forgery("reasons_complete", "balance")
def give_a_loser_two_reasons(f):
    f.rows["reasons.jsonl"].append(f.row("reasons", line_id="low"))


@forgery("reasons_complete", "balance")
def excuse_a_line_that_won(f):
    f.rows["reasons.jsonl"].append(
        {"side": "demand", "line_id": "d1", "code": "marginal", "detail": {"cause": "at_the_price"},
         "unfilled_unit_hours": 1}
    )


@forgery("reasons_true")
def blame_the_price_on_compliance(f):
    f.row("reasons", line_id="low").update(code="no_compliant_capacity", detail={"rule": "tier"})


@forgery("reasons_true")
def name_another_rule(f):
    f.row("reasons", line_id="strict")["detail"]["rule"] = "sla"


@forgery("reasons_true")
def make_a_miss_look_smaller(f):
    f.row("reasons", line_id="low")["detail"]["short_by_micros"] -= 100


@forgery("bound", "welfare")
def lower_a_sealed_limit(f):
    f.row("demands", id="d1")["price_limit_micros"] -= 100


@forgery("lines")
def move_a_sealed_price_off_the_tick(f):
    f.row("bids", id="b1")["price_ask_micros"] += 1


@forgery("lines")
def count_a_sealed_line_twice(f):
    f.rows["demands.jsonl"].insert(0, f.rows["demands.jsonl"][0])


@forgery("references")
def award_to_nobody(f):
    f.award("d1")["demand_id"] = "nobody"


@forgery("references")
def award_true_units(f):
    f.award("d1")["units"] = True


@forgery("references")
def drop_a_product_from_the_price_table(f):
    del f.rows["prices.jsonl"][0]


@forgery("files")
def write_a_float(f):
    f.award("d1")["units"] = 2.0


@forgery("files")
def follow_another_rule_version(f):
    f.manifest["rule_version"] = 2


@pytest.mark.parametrize("name", FORGERIES)
def test_each_forgery_is_caught_by_name(honest, name):
    change, checks = FORGERIES[name]
    forger = Forger(honest)
    assert verify_bundle(forger.sealed()).ok  # taking it apart and sealing it again is no lie

    change(forger)
    report = verify_bundle(forger.sealed())

    assert not report.ok
    assert set(checks) <= set(report.failed())


def test_an_honest_bundle_passes_every_check(honest):
    report = verify_bundle(honest)

    assert report.ok, report.failed()
    assert [check.name for check in report.checks] == [*verify.READING_CHECKS, *verify.CLEARING_CHECKS]
    assert (report.gap_micros, report.losers_without_reason, report.noncompliant_awards) == (0, 0, 0)
    assert report.welfare_micros == report.bound_micros > 0
    assert (report.awards, report.losers) == (
        len(honest["awards.jsonl"].splitlines()), len(honest["reasons.jsonl"].splitlines())
    )


def test_a_changed_byte_breaks_the_hash(honest):
    changed = {**honest, "awards.jsonl": honest["awards.jsonl"].replace(b'"units":2', b'"units":1', 1)}
    assert changed != honest

    assert verify_bundle(changed).failed() == ("hashes",)


def test_a_changed_line_with_new_file_hashes_still_breaks_the_input_hash(honest):
    forger = Forger(honest)
    forger.row("bids", id="shut")["accepted_rank"] = 5
    was = forger.manifest["input_hash"]
    files = forger.sealed()
    manifest = {**forger.manifest, "input_hash": was}

    assert verify_bundle({**files, "manifest.json": canonical_json(manifest) + b"\n"}).failed() == ("input_hash",)


@pytest.mark.parametrize("name", ["manifest.json", "awards.jsonl", "masks.jsonl"])
@pytest.mark.parametrize("text", [
    b"", b"{}\n", b"[]\n", b"\xff\n", b"{", b"[" * 100_000 + b"\n", b'{"a": 1}\n', b"NaN\n",
])
def test_what_cannot_be_read_is_a_failed_check_and_no_crash(honest, name, text):
    assert verify_bundle(honest).ok

    assert not verify_bundle({**honest, name: text}).ok


def test_a_missing_or_foreign_file_is_named(honest):
    without = {name: text for name, text in honest.items() if name != "reasons.jsonl"}

    assert verify_bundle(without).failed() == ("files",)
    assert "reasons.jsonl" in verify_bundle(without).checks[0].detail
    assert verify_bundle({**honest, "extra.txt": b""}).failed() == ("files",)


def test_a_bundle_is_canonical_and_its_hash_is_that_of_the_manifest(honest):
    for text in honest.values():
        for line in text.splitlines():
            assert canonical_json(json.loads(line)) == line

    assert bundle_hash(honest) == hashlib.sha256(honest["manifest.json"]).digest()


def test_an_outcome_is_only_bundled_with_its_own_book():
    one, other = market(), book(demand("d"), bid("b"))
    assert public_bundle(one, clear(one), window="w")

    with pytest.raises(BundleMismatch):
        public_bundle(one, clear(other), window="w")


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
    assert "gap 0 micro-USD" in good.stdout
    assert "BAD hashes" in bad.stdout
