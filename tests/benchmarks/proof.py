"""The benchmark of the benchmark proof: `manage.py bench proof`.

In a process of its own, on one thread and in processor time of that thread: how fast each backend proves beside its own
bare multiplication, what checking costs beside proving, how many bytes a proof is, a thousand of each of the thirteen
cheats, a thousand honest provers on every backend present. Exit 1 when a cheat passes more often than theory allows, an
honest prover is refused or two backends commit to different bytes; slowness is only told.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks import process
from tests.benchmarks.clearing import Tell, at_least
from tests.benchmarks.report import Report, table

HELP = "rate and efficiency of each proving backend, cost of checking, honest provers and thirteen cheats"
GOALS = {"efficiency_vs_gemm": 0.90, "verify_share": {2048: 0.01, 4096: 0.005}}


def add_arguments(parser: ArgumentParser) -> None:
    """How large, how often."""
    parser.add_argument("--sizes", type=at_least(256), nargs="+", default=[2048], help="n of the chains (2048)")
    parser.add_argument("--turns", type=at_least(1), default=5, help="multiplications and chains in turn (5)")
    parser.add_argument("--attempts", type=at_least(1), default=1_000, help="of each cheat (1000)")
    parser.add_argument("--honest", type=at_least(1), default=1_000, help="honest provers per backend (1000)")


def run(options: Mapping[str, Any], tell: Tell) -> Report:
    """Measure in a process of its own."""
    tell("proving beside bare multiplication, then honest provers, then cheats; some minutes")
    wanted = {name: options[name] for name in ("sizes", "turns", "attempts", "honest")}
    figures = process.run("tests.benchmarks.proof_run", wanted)
    return Report(figures, list(rows_of(figures)), faults_of(figures))


def rows_of(figures: Mapping[str, Any]) -> Iterator[str]:
    """The tables."""
    head = ("backend", "n", "gops", "of own gemm", "prove s", "check s", "share", "goal", "")
    rows = [head]
    for row in figures["backends"]:
        share = row["verify_total_seconds"] / row["prove_seconds"]
        goal = GOALS["verify_share"].get(row["n"])
        reached = row["efficiency_vs_gemm"] >= GOALS["efficiency_vs_gemm"] and (goal is None or share <= goal)
        rows.append((
            row["backend"], str(row["n"]), f"{row['gops']:.1f}", f"{row['efficiency_vs_gemm']:.3f}",
            f"{row['prove_seconds']:.3f}", f"{row['verify_total_seconds']:.4f}", f"{share:.2%}",
            f"{goal:.1%}" if goal else "-", "" if reached else "missed",
        ))  # fmt: skip
    yield from table(rows)
    for name, why in figures["absent"].items():
        yield f"{name}: not measured. {why}"
    cheats = [("cheat", "tried", "caught", "theory", "")]
    for name, row in figures["cheats"].items():
        verdict = "" if row["caught"] >= row["least"] else "TOO FEW"
        cheats.append((name, str(row["tried"]), str(row["caught"]), f"{row['theory']:.4f}", verdict))
    yield from table(cheats)
    for name, row in figures["honest"].items():
        yield f"honest {name}: {row['accepted']} of {row['tried']} accepted"


def faults_of(figures: Mapping[str, Any]) -> list[str]:
    """What is wrong, not what is slow."""
    faults = [
        f"{name}: caught {row['caught']} of {row['tried']}, theory allows no fewer than {row['least']:.1f}"
        for name, row in figures["cheats"].items()
        if row["caught"] < row["least"]
    ]
    faults += [
        f"honest {name}: {row['accepted']} of {row['tried']}"
        for name, row in figures["honest"].items()
        if row["accepted"] < row["tried"]
    ]
    return faults + [f"{name} commits to other bytes than float32" for name in figures["differing"]]
