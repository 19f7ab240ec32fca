"""Typed targets in `bench sla`: hosts exactly at what they promised, and hosts at twice that, through the product.

Only hosts, networks and verifiers are simulated. A host at its budget misses exactly the share that its promise allows,
in bursts; starts, repairs and announces at the very bound; one verifier in ten lies, one report in a hundred is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from pricing.sla import FALSE_BREACH_RATE, FALSE_DOWN_RATE
from pricing.targets import (
    MENU,
    ONE_BPS,
    TARGETS,
    Notice,
    Target,
    allowed,
    judge_share,
    late_start,
    long_failures,
    short_notices,
    strays,
)
from tests.benchmarks.report import table

MONTH_MINUTES, CHECKS_A_MONTH, PROVEN_OPS = 43_200, 120, 1_000_000_000
BURSTS_MINUTES = (1, 10, 60)
FAST_MS, LIE_MS = 3, 5_000
LOST, LIARS = 0.01, 0.1
PERIODS_DAYS = (1, 7, 30)
TIMES = (1.0, 1.25, 1.5, 2.0, 3.0)

Minutes = npt.NDArray[np.bool_]


def measure_targets(rng: np.random.Generator, *, months: int) -> list[dict[str, Any]]:
    """Return one row per target: how many of `months` at the promise, and at twice it, were called broken."""
    return [
        {"target": target.name, "bound": target.menu[1], "months": months,
         "false_credits": sum(_is_broken(rng, target, times=1, month=month) for month in range(months)),
         "called_at_2x": sum(_is_broken(rng, target, times=2, month=month) for month in range(months)) / months}
        for target in MENU
    ]  # fmt: skip


def _is_broken(rng: np.random.Generator, target: Target, *, times: int, month: int) -> bool:
    bound = target.menu[1]
    if target.name.startswith("latency"):
        return _is_slow(rng, target, bound, times=times, burst=BURSTS_MINUTES[month % len(BURSTS_MINUTES)])
    if target.name.startswith("throughput"):
        # as noisy as a normal host may be whose spread is exactly promised; twice as noisy at twice
        noise = times * bound / ONE_BPS / norm.isf(target.missed_bps_max / ONE_BPS / 2)
        ops = PROVEN_OPS * (1 + noise * rng.standard_normal(CHECKS_A_MONTH))
        missed = sum(strays(ops=max(0, int(each)), proven_ops=PROVEN_OPS, spread_bps=bound) for each in ops)
        return judge_share(target.name, missed=missed, known=CHECKS_A_MONTH).outcome == "broken"
    if target.name.startswith("start"):
        return late_start(_holed(rng, "d" * (times * bound) + "u" * 600), bound=bound)[0] == "broken"
    if target.name.startswith("repair"):
        failure = "d" * (times * bound // 2) + "uu" + "d" * (times * bound - times * bound // 2)
        return bool(long_failures(_holed(rng, ("u" * 600 + failure) * 3 + "u" * 600), bound=bound))
    first = int(rng.integers(60, 2_000))
    notice = Notice(first - 60 * bound // times, first, first + 240)
    return bool(short_notices("u" * first + "m" * 240 + "u" * 60, [notice], bound_hours=bound))


def _holed(rng: np.random.Generator, minutes: str) -> str:
    """Minutes as probes see them: one in a hundred is unknown, and a good one is called down at the designed rate."""
    unknown, false_down = rng.random(len(minutes)) < LOST, rng.random(len(minutes)) < FALSE_DOWN_RATE
    return "".join(
        "?" if unknown[place] else "d" if false_down[place] and letter == "u" else letter
        for place, letter in enumerate(minutes)
    )


def _is_slow(rng: np.random.Generator, target: Target, bound: int, *, times: int, burst: int) -> bool:
    missed = min(MONTH_MINUTES, times * target.missed_bps_max * MONTH_MINUTES // ONE_BPS)
    medians = panel_medians(rng, burst_minutes(rng, missed, burst), fast_ms=FAST_MS, slow_ms=2 * bound)
    known = medians[medians >= 0]
    judged = judge_share(target.name, missed=int(np.count_nonzero(known > bound)), known=len(known))
    return judged.outcome == "broken"


def burst_minutes(rng: np.random.Generator, slow: int, burst: int) -> Minutes:
    """A month in which exactly so many minutes are slow, in bursts of so many (the last one may be shorter)."""
    blocks = -(-MONTH_MINUTES // burst)
    order = np.argsort(rng.random(blocks))
    minutes = (order[:, None] * burst + np.arange(burst)).ravel()
    found = np.zeros(MONTH_MINUTES, dtype=np.bool_)
    found[minutes[minutes < MONTH_MINUTES][:slow]] = True
    return found


def panel_medians(rng: np.random.Generator, slow: Minutes, *, fast_ms: int, slow_ms: int) -> npt.NDArray[np.int64]:
    """The median echo of each minute over three verifiers, -1 where fewer than two reported; a test holds it to
    `pricing.targets.median_ms`."""
    echoes = np.where(slow, slow_ms, fast_ms)[None, :].repeat(3, axis=0).astype(np.int64)
    if rng.random() < 3 * LIARS:  # at most one of the three: the limit of every panel
        echoes[0] = LIE_MS
    heard = rng.random(echoes.shape) >= LOST
    ordered = np.sort(np.where(heard, echoes, np.iinfo(np.int64).max), axis=0)
    count = heard.sum(axis=0)
    # the middle one of three, the lower one of two: (count - 1) // 2
    middle = np.take_along_axis(ordered, ((count - 1) // 2).clip(0)[None, :], axis=0)[0]
    return np.where(count >= 2, middle, -1)


def exact_rows() -> list[dict[str, Any]]:
    """The error table of the shares: k, and the rate of "broken" by how often the promise is missed."""
    rows = []
    for target in (each for each in MENU if each.is_share):
        for days in PERIODS_DAYS:
            known = 4 * days if target.name.startswith("throughput") else 1440 * days
            most, share = allowed(target.name, known), target.missed_bps_max / ONE_BPS
            rows.append({
                "target": target.name, "days": days, "known": known, "allowed": most,
                "broken_rate": {f"{times:g}": float(binom.sf(most, known, min(1.0, times * share + FALSE_DOWN_RATE)))
                                for times in TIMES},
            })  # fmt: skip
    return rows


def exact_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    head = ["target, period", "known", "k", *(f"{times:g} x" for times in TIMES), ""]
    yield from table(
        [head]
        + [[f"{TARGETS[row['target']].words}, {row['days']} d", f"{row['known']:,}", f"{row['allowed']:,}",
            *(f"{rate:.2g}" for rate in row["broken_rate"].values()), ""] for row in rows]
    )  # fmt: skip
    yield "x: how often the share is missed, over what the promise allows; late starts, repairs and notices are counted"


def target_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from table(
        [["typed target", "bound", "months each", "false credits at the promise", "called at twice", ""]]
        + [[row["target"], str(row["bound"]), f"{row['months']:,}", str(row["false_credits"]),
            f"{row['called_at_2x']:.4f}", ""] for row in rows]
    )  # fmt: skip


def target_faults(rows: Sequence[dict[str, Any]], *, power: float) -> list[str]:
    """What would be wrong: a promise that was kept and credited, or one missed twice over and not called."""
    faults = [f"{row['target']}: {row['false_credits']} months at the promise were credited" for row in rows
              if row["false_credits"]]  # fmt: skip
    faults += [f"{row['target']}: called in {row['called_at_2x']:.2%} of months at twice the promise only"
               for row in rows if row["called_at_2x"] < power]  # fmt: skip
    large = [row["target"] for row in exact_rows() if row["broken_rate"]["1"] > FALSE_BREACH_RATE]
    return faults + [f"{name}: a test larger than designed" for name in large]
