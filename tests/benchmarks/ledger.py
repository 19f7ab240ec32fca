"""The benchmark of the books: `manage.py bench ledger`.

Everything in one run, in turns, in a database of its own: COPY of the same bytes into a table with nothing but its
primary key (the limit), our posting in calls of 1 to 10,000, many callers at one hot account with and without the
poster, the ways people write such books with an ORM, and the audit of what was written. Every commit is durable. Times
on a shared machine swing: compare the ratios of a run, not the figures of two runs.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from tests.benchmarks import hordak, process
from tests.benchmarks.clearing import Tell, at_least
from tests.benchmarks.report import Report, table

HELP = "transfers per second by each path, beside raw COPY and naive books, and the audit of a million"
GOALS = {
    "ratio_to_copy": 0.4, "hot_over_direct": 10.0, "hot_p99_ms": 20.0, "over_naive_orm": 20.0,
    "over_naive_batched": 10.0, "over_hordak": 20.0, "bytes_per_transfer": 200.0, "verify_1e6_seconds": 10.0,
}  # fmt: skip
AT_MOST = {"hot_p99_ms", "bytes_per_transfer", "verify_1e6_seconds"}


def add_arguments(parser: ArgumentParser) -> None:
    """How often, on how many accounts, and how much to audit."""
    parser.add_argument("--turns", type=at_least(1), default=3, help="rounds of everything (default 3)")
    parser.add_argument("--accounts", type=at_least(2), default=1_000, help="that a settlement run spreads over (1000)")
    parser.add_argument("--transfers", type=at_least(1_000), default=1_000_000, help="to audit (default 1000000)")


def run(options: Mapping[str, Any], tell: Tell) -> Report:
    """Measure the books in a process of its own."""
    tell("posting, in turns with COPY and with naive books; then the audit")
    wanted = {name: options[name] for name in ("turns", "accounts", "transfers")}
    measured = process.run("tests.benchmarks.ledger_run", wanted)
    tell("django-hordak, in an environment of its own")
    measured["hordak"] = hordak.measure(options["turns"])
    figures = figures_of(measured)
    return Report(figures, list(rows_of(figures)), measured["faults"])


def figures_of(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures under their names: medians, each with its range."""
    rates = {name: middle(values) for name, values in measured["rates"].items()}
    ranges = {name: [min(values), max(values)] for name, values in measured["rates"].items()}
    batches = {str(size): rates[f"bulk {size}"] for size in measured["sizes"]}
    bulk = rates["bulk 10000"]
    of_hordak, why_not = measured["hordak"]
    hordak_per_s = middle(of_hordak) if of_hordak else None
    if of_hordak:
        ranges["hordak"] = [min(of_hordak), max(of_hordak)]
    turn_by_turn = zip(measured["rates"]["bulk 10000"], measured["rates"]["copy"], strict=True)
    return {
        "copy_limit_per_s": rates["copy"], "bulk_per_s": batches,
        "ratio_to_copy": median(ours / limit for ours, limit in turn_by_turn),
        "ratio_to_copy_10000_accounts": rates["bulk 10000 wide"] / rates["copy"],
        "hot_direct_per_s": rates["hot direct"], "hot_combined_per_s": rates["hot combined"],
        "hot_over_direct": rates["hot combined"] / rates["hot direct"],
        "p50_ms": middle(measured["hot_p50_ms"]), "p99_ms": middle(measured["hot_p99_ms"]),
        "naive_orm_per_s": rates["naive orm"], "naive_batched_per_s": rates["naive batched"],
        "over_naive_orm": bulk / rates["naive orm"], "over_naive_batched": bulk / rates["naive batched"],
        "hordak_per_s": hordak_per_s, "over_hordak": bulk / hordak_per_s if hordak_per_s else None,
        "hordak_not_measured": why_not,
        "bytes_per_transfer": measured["bytes_per_transfer"], "bytes": measured["bytes"],
        "verify_1e6_seconds": measured["verify_seconds"] * 1e6 / measured["verified"],
        "verified_transfers": measured["verified"], "accounts": measured["accounts"], "ranges": ranges,
    }  # fmt: skip


def middle(values: list[float]) -> float:
    """The median, to four digits."""
    return float(f"{median(values):.4g}")


def rows_of(figures: Mapping[str, Any]) -> Iterator[str]:
    """Draw the table."""

    def rate(name: str, value: float, key: str, more: str = "") -> list[str]:
        low, high = figures["ranges"][key]
        return [name, f"{value:,.0f}/s", f"{low:,.0f} to {high:,.0f}{more}"]

    def goal(name: str, key: str) -> str:
        wanted, value = GOALS[name], figures[key]
        is_reached = value <= wanted if name in AT_MOST else value >= wanted
        return f"goal {'<=' if name in AT_MOST else '>='} {wanted:g}: {'reached' if is_reached else 'missed'}"

    rows = [rate("raw COPY", figures["copy_limit_per_s"], "copy", ", primary key only")]
    rows += [rate(f"{int(size):,} a call", value, f"bulk {size}") for size, value in figures["bulk_per_s"].items()]
    rows += [
        ["10,000 a call / COPY", f"{figures['ratio_to_copy']:.2f}", goal("ratio_to_copy", "ratio_to_copy")],
        ["  over 10,000 accounts", f"{figures['ratio_to_copy_10000_accounts']:.2f}", "each row of them is rewritten"],
        rate("hot account, direct", figures["hot_direct_per_s"], "hot direct", ", 16 callers"),
        rate("hot account, combined", figures["hot_combined_per_s"], "hot combined", ", 16 callers"),
        ["  combined / direct", f"{figures['hot_over_direct']:.1f}", goal("hot_over_direct", "hot_over_direct")],
        ["  p99", f"{figures['p99_ms']:.1f} ms", f"p50 {figures['p50_ms']:.1f} ms; {goal('hot_p99_ms', 'p99_ms')}"],
        rate("naive ORM", figures["naive_orm_per_s"], "naive orm", ", one by one"),
        rate("naive batched", figures["naive_batched_per_s"], "naive batched", ", bulk_create, no balances"),
        ["ours / naive ORM", f"{figures['over_naive_orm']:.0f}", goal("over_naive_orm", "over_naive_orm")],
        ["ours / naive batched", f"{figures['over_naive_batched']:.1f}",
         goal("over_naive_batched", "over_naive_batched")],
        ["bytes per transfer", f"{figures['bytes_per_transfer']:.0f}",
         f"both unique keys included; {goal('bytes_per_transfer', 'bytes_per_transfer')}"],
        ["  and by account", f"{sum(figures['bytes'].values()):.0f}", "with the index that statements are read by"],
        ["audit of 1,000,000", f"{figures['verify_1e6_seconds']:.1f} s",
         f"{figures['verified_transfers']:,} read; {goal('verify_1e6_seconds', 'verify_1e6_seconds')}"],
    ]  # fmt: skip
    if figures["hordak_per_s"] is None:
        rows.append(["django-hordak", "-", figures["hordak_not_measured"]])
    else:
        rows.append(rate("django-hordak", figures["hordak_per_s"], "hordak", ", one by one, no balances"))
        rows.append(["ours / django-hordak", f"{figures['over_hordak']:.0f}", goal("over_hordak", "over_hordak")])
    return iter(table(rows))
