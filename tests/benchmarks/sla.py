"""The benchmark of verdicts: `manage.py bench sla`.

Ten thousand lease-months whose hosts were down for exactly their budget go through the product's own functions, and so
do months at twice the budget. A false slash, a test larger than designed or a power under its goal is a fault; being
slow is none. `--table` prints the error table of the breach test, `--replay DIR` what real failure records come to.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from pricing.performance import (
    HONEST_FAILURE_RATE,
    Check,
    failures_allowed,
    has_failed,
    is_performance_breach,
    needs_retry,
    shortfall_micros,
)
from pricing.sla import FALSE_BREACH_RATE, FALSE_DOWN_RATE, threshold_minutes
from tests.benchmarks.clearing import Tell
from tests.benchmarks.report import Report, table
from tests.benchmarks.sla_months import SHAPES, Shape, judged_months
from tests.benchmarks.sla_replay import Tally, replay
from tests.benchmarks.sla_targets import (
    exact_rows,
    exact_table,
    measure_targets,
    target_faults,
    target_table,
)

HELP = "false slashes and power of the breach test over simulated lease-months, through the product's functions"
LEASE_MONTHS, POWER_MONTHS = 10_000, 1_000
SLAS = (9900, 9950, 9990)
POWER_SHAPES = tuple(shape for shape in SHAPES if shape.name.startswith("bursts"))
GOALS = {"false_slash_at_budget": 0, "power_at_2x": 0.99, "seconds": 60, "dip_called": 1.0, "noise_called": 0.0}
CHECKS_A_MONTH, PROVEN_OPS, HOURS_OF_FEE_MICROS = 120, 1_000_000_000, 1_000_000
# (name in the figures, what the host still does of its proven score on average, its noise)
HOSTS = (("dip", 0.4, 0.05), ("noise", 1.0, 0.05))
AVAILABILITIES = (0.998, 0.996, 0.995, 0.99, 0.98, 0.95)
PERIODS = ((9900, 1440), (9900, 43_200), (9950, 1440), (9950, 43_200), (9990, 10_080), (9990, 43_200))


def add_arguments(parser: ArgumentParser) -> None:
    """How many months, the seed, and the table instead of the run."""
    parser.add_argument("--months", type=int, default=LEASE_MONTHS, help="lease-months at the budget")
    parser.add_argument("--power-months", type=int, default=POWER_MONTHS, help="per SLA and outage length, at 2x")
    parser.add_argument("--check-months", type=int, default=1_000, help="months of 120 re-checks, per kind of host")
    parser.add_argument("--target-months", type=int, default=60, help="per typed target, at the promise and at 2x")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--replay", type=Path, metavar="DIR", help="replay the failure records of a folder and stop")
    parser.add_argument("--table", action="store_true", help="print the error table of the breach test and stop")


def run(options: Mapping[str, Any], tell: Tell) -> Report:
    """Judge all months, or reproduce the error table."""
    if options["table"]:
        rows, typed = error_table(), exact_rows()
        figures = {"error_table": rows, "performance": performance_rates(), "targets": typed}
        return Report(figures, [*table_of(rows), "", *exact_table(typed)])
    if options["replay"]:
        tell("replaying real failure records; some minutes")
        found = replay(options["replay"])
        figures = {name: {sla: asdict(tally) for sla, tally in by.items()} for name, by in found.items()}
        return Report(figures, list(replay_rows(found)))
    tell(f"judging {options['months']:,} lease-months at the budget, then months at twice the budget")
    figures = measure(
        months=options["months"], power_months=options["power_months"], check_months=options["check_months"],
        target_months=options["target_months"], seed=options["seed"],
    )  # fmt: skip
    return Report(figures, list(rows_of(figures)), faults_of(figures))


def measure(*, months: int, power_months: int, check_months: int, target_months: int, seed: int) -> dict[str, Any]:
    """Return the figures under their names; counts of months, rates from 0 to 1."""
    rng = np.random.default_rng(seed)
    started, worked = time.perf_counter(), time.process_time()
    by_shape: dict[str, dict[str, int]] = {shape.name: {"months": 0, "false": 0, "credited": 0} for shape in SHAPES}
    for shape, sla_bps, count in _shares(months):
        for judged in judged_months(rng, shape=shape, sla_bps=sla_bps, months=count, times_budget=1):
            by_shape[shape.name]["months"] += 1
            by_shape[shape.name]["false"] += judged.breach
            by_shape[shape.name]["credited"] += judged.credit_step_bps > 0
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    power = [
        {"sla_bps": sla_bps, "shape": shape.name, "months": power_months,
         "power": sum(each.breach for each in judged_months(
             rng, shape=shape, sla_bps=sla_bps, months=power_months, times_budget=2)) / power_months}
        for sla_bps in SLAS for shape in POWER_SHAPES
    ]  # fmt: skip
    return {
        "lease_months": sum(row["months"] for row in by_shape.values()),
        "false_slash_at_budget": sum(row["false"] for row in by_shape.values()),
        "power_at_2x": min(row["power"] for row in power),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "largest_size": max(size_of(sla_bps, minutes) for sla_bps, minutes in PERIODS),
        "naive_rule_false": sum(row["credited"] for row in by_shape.values()),
        "by_shape": by_shape,
        "power": power,
        "goals": GOALS,
        "performance": {name: checked_months(rng, share=share, noise=noise, months=check_months)
                        for name, share, noise in HOSTS},
        "targets": measure_targets(rng, months=target_months),
    }  # fmt: skip


def checked_months(rng: np.random.Generator, *, share: float, noise: float, months: int) -> dict[str, float]:
    """How often the product calls a host slow that does `share` of its proven score on average: rates from 0 to 1.

    The noise of both tries is normal and independent. The proven score is the host's average, not its 5th percentile
    as in the market: the harder case for an honest host.
    """
    called = failed_checks = credited = 0
    for _ in range(months):
        tries = np.maximum(0, PROVEN_OPS * share * (1 + noise * rng.standard_normal((CHECKS_A_MONTH, 2))))
        failed = 0
        for first, second in tries.astype(np.int64).tolist():
            check = Check(first, second if needs_retry(ops=first, proven_ops=PROVEN_OPS) else None)
            failed += has_failed(check, proven_ops=PROVEN_OPS)
            credited += shortfall_micros(check, proven_ops=PROVEN_OPS, interval_fee_micros=HOURS_OF_FEE_MICROS)
        called += is_performance_breach(failed=failed, checks=CHECKS_A_MONTH)
        failed_checks += failed
    checks = months * CHECKS_A_MONTH
    return {
        "share": share, "noise": noise, "months": months, "called_a_breach": called / months,
        "checks_failed": failed_checks / checks, "credited_of_fee": credited / (checks * HOURS_OF_FEE_MICROS),
    }  # fmt: skip


def size_of(sla_bps: int, minutes: int) -> float:
    """The chance that a host exactly on its budget is called in breach, at most."""
    p0 = (10_000 - sla_bps) / 10_000 + FALSE_DOWN_RATE
    return float(binom.sf(threshold_minutes(minutes, sla_bps), minutes, p0))


def error_table() -> list[dict[str, Any]]:
    """One row per SLA and period: k, times the budget, the false rate, and the power at true availabilities."""
    return [
        {
            "sla_bps": sla_bps, "minutes": minutes, "threshold": threshold_minutes(minutes, sla_bps),
            "times_budget": threshold_minutes(minutes, sla_bps) / (minutes * (10_000 - sla_bps) / 10_000),
            "false_rate": size_of(sla_bps, minutes),
            "breach_rate": {
                str(share): float(binom.sf(threshold_minutes(minutes, sla_bps), minutes, 1 - share + FALSE_DOWN_RATE))
                for share in AVAILABILITIES
            },
        }
        for sla_bps, minutes in PERIODS
    ]  # fmt: skip


def performance_rates() -> dict[str, Any]:
    """The test of 120 re-checks: how many failures are a breach, its false rate and its power."""
    k = failures_allowed(120)
    return {
        "checks": 120, "breach_at": k + 1, "false_rate": float(binom.sf(k, 120, HONEST_FAILURE_RATE)),
        "power": {str(share): float(binom.sf(k, 120, share)) for share in (0.1, 0.2, 0.3, 0.5)},
    }  # fmt: skip


def _shares(months: int) -> Iterator[tuple[Shape, int, int]]:
    """Cut the months evenly over shapes and SLAs, to the last one."""
    cells = [(shape, sla_bps) for shape in SHAPES for sla_bps in SLAS]
    for place, (shape, sla_bps) in enumerate(cells):
        yield shape, sla_bps, months * (place + 1) // len(cells) - months * place // len(cells)


def rows_of(figures: Mapping[str, Any]) -> Iterator[str]:
    yield from table(
        [["at the budget", "months", "false slashes", "credited", ""]]
        + [[name, f"{row['months']:,}", str(row["false"]), str(row["credited"]), ""]
           for name, row in figures["by_shape"].items()]
    )  # fmt: skip
    yield ""
    yield from table(
        [["at twice the budget", "months", "power", ""]]
        + [[f"{row['sla_bps'] / 100:g} %, {row['shape']}", f"{row['months']:,}", f"{row['power']:.4f}", ""]
           for row in figures["power"]]
    )  # fmt: skip
    yield ""
    yield from table(
        [["re-checks", "months", "called a breach", "checks failed", "credited of the fee", ""]]
        + [[f"{row['share']:.0%} of the proven score, {row['noise']:.0%} noise", f"{row['months']:,}",
            f"{row['called_a_breach']:.4f}", f"{row['checks_failed']:.6f}", f"{row['credited_of_fee']:.6f}", ""]
           for row in figures["performance"].values()]
    )  # fmt: skip
    yield ""
    yield from target_table(figures["targets"])
    yield ""
    yield (
        f"{figures['lease_months']:,} lease-months judged in {figures['seconds']} s "
        f"({figures['cpu_seconds']} s of a core, goal {GOALS['seconds']} s): "
        f"{figures['false_slash_at_budget']} false slashes, lowest power {figures['power_at_2x']:.4f}, "
        f"largest size {figures['largest_size']:.1e}"
    )


def table_of(rows: list[dict[str, Any]]) -> Iterator[str]:
    head = ["SLA, period", "k", "x budget", "false rate", *(f"{share:g}" for share in AVAILABILITIES), ""]
    yield from table(
        [head]
        + [[f"{row['sla_bps'] / 100:g} %, {row['minutes'] // 1440} d", str(row["threshold"]),
            f"{row['times_budget']:.2f}", f"{row['false_rate']:.1e}",
            *(f"{rate:.2g}" for rate in row["breach_rate"].values()), ""] for row in rows]
    )  # fmt: skip
    found = performance_rates()
    powers = ", ".join(f"{power:.2f} at {float(share):.0%}" for share, power in found["power"].items())
    yield (
        f"performance: breach at {found['breach_at']} of {found['checks']} re-checks, false rate "
        f"{found['false_rate']:.1e} at 2 % failures; power {powers}"
    )


def replay_rows(found: Mapping[str, Mapping[int, Tally]]) -> Iterator[str]:
    head = ["record", "SLA", "months", "credited", "of fees", "refunded", "warned", "slashed", "of fees", "false",
            "missed", ""]  # fmt: skip
    yield from table(
        [head]
        + [[name, f"{sla / 100:g} %", f"{t.months:,}", f"{t.below_sla:,}", f"{t.credit / max(1, t.months):.2%}",
            f"{t.refund / max(1, t.months):.2%}", str(t.warnings), str(t.slashes),
            f"{t.slashed / max(1, t.months):.3%}", str(t.false_calls), str(t.missed), ""]
           for name, by in found.items() for sla, t in by.items()]
    )  # fmt: skip
    yield "false: called in breach though truly within the budget; missed: truly at twice the budget and not called"


def faults_of(figures: Mapping[str, Any]) -> list[str]:
    """What would be wrong, not slow."""
    faults = []
    if figures["false_slash_at_budget"]:
        faults.append(f"{figures['false_slash_at_budget']} hosts exactly on their budget were called in breach")
    if figures["power_at_2x"] < GOALS["power_at_2x"]:
        faults.append(f"power {figures['power_at_2x']:.4f} at twice the budget is under {GOALS['power_at_2x']}")
    dip, noise = (figures["performance"][name]["called_a_breach"] for name, _, _ in HOSTS)
    if dip < GOALS["dip_called"]:
        faults.append(f"a dip of 60 % was called a breach in {dip:.2%} of months only")
    if noise > GOALS["noise_called"]:
        faults.append(f"5 % of noise was called a breach in {noise:.2%} of months")
    if figures["largest_size"] > FALSE_BREACH_RATE:
        faults.append(f"a test of size {figures['largest_size']:.1e} is larger than designed")
    return faults + target_faults(figures["targets"], power=GOALS["power_at_2x"])
