"""The benchmark of clearing: `manage.py bench clearing`.

Clears a book cold and again after 2 % of its lines changed, in turns with a plain sort of the same lines, in a process
of its own; has the public bundle checked by the published verifier in another; asks greedy markets and well-known exact
solvers the same question. Exit 1 only where the verifier refuses. Times on a shared machine swing: compare the ratios.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

from tests.benchmarks import baselines, books, peers, process, sorting
from tests.benchmarks.report import Report, table

HELP = "welfare, bound, seconds and memory of one clearing, beside a sort, greedy markets and other solvers"
PEER_LINES_MAX = 3_000
SINGLE_SLOT_LINES = 1_000_000
GREEDY_GOAL, TIGHT_MAX = 1.25, 2.0  # over the best greedy market, wherever offered over demanded is at most so much
SAME_WELFARE = 1e-9  # solvers count in floats, and in parts of a unit
KEYS = (
    "lines", "seconds_cold", "seconds_warm", "peak_rss_mb", "welfare_micros", "bound_micros", "gap_micros",
    "paradoxical_accepted", "paradoxical_rejected", "rounds", "sort_seconds", "ratio_to_sort", "peers", "baselines",
    "offered_over_demanded", "single_slot_over_sort",
)  # fmt: skip

Tell = Callable[[str], None]


def add_arguments(parser: ArgumentParser) -> None:
    """Which book, how often, and beside whom."""
    parser.add_argument("--book", choices=("scale", "real"), default="scale", help="drawn for scale, or from real data")
    parser.add_argument("--lines", type=at_least(16), default=10_000, help="lines of the scale book (default 10000)")
    parser.add_argument("--providers", type=int, choices=books.PROVIDERS, default=30, help="of the real book")
    parser.add_argument("--kinds", choices=books.KINDS, default="dw", help="dw leaves the block lines out")
    parser.add_argument("--seed", type=at_least(0), default=1)
    parser.add_argument("--turns", type=at_least(1), default=3, help="how often each time is taken (default 3)")
    parser.add_argument("--peers", action=BooleanOptionalAction, help=f"default: up to {PEER_LINES_MAX} lines")


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that refuses smaller ones."""

    def read(text: str) -> int:
        if not text.isdigit() or int(text) < minimum:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {minimum}")
        return int(text)

    return read


def run(options: Mapping[str, Any], tell: Tell) -> Report:
    """Measure one book."""
    wanted = {name: options[name] for name in ("book", "lines", "providers", "kinds", "seed")}
    with tempfile.TemporaryDirectory(prefix="grove-bench-") as folder:
        tell("clearing, in turns with a sort")
        cleared = process.run("tests.benchmarks.clearing_run", {**wanted, "turns": options["turns"], "folder": folder})
        tell("checking the public bundle as an outsider would")
        checked = process.run("tests.benchmarks.verifying", {"folder": folder})
    book = books.make(wanted)
    lines = options["lines"] if options["book"] == "scale" else len(book.demands) + len(book.bids)
    greedy: dict[str, int] = {}
    if lines <= baselines.LINES_MAX:
        tell("greedy markets")
        greedy = baselines.welfare_of_baselines(book)
    solvers, absent = peers_of(book, lines, options, tell)
    single_slot = sorting.single_slot_over_sort() if lines >= SINGLE_SLOT_LINES else None
    figures = figures_of(lines, cleared, greedy, solvers, single_slot)
    faults = [] if checked["is_ok"] else [f"the verifier refuses the bundle: {checked['complaint']}"]
    return Report(figures, list(rows_of(figures, cleared, checked, absent)), faults)


def peers_of(
    book: Any, lines: int, options: Mapping[str, Any], tell: Tell
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Ask the other solvers, unless told not to or the book is no linear programme; and why some did not answer."""
    if options["peers"] is False or (options["peers"] is None and lines > PEER_LINES_MAX):
        return {}, {}
    if book.demands.is_indivisible.any():
        return {}, dict.fromkeys(peers.NAMES, "a book with blocks is no linear programme")
    return peers.measure_peers(book, tell)


def figures_of(
    lines: int, cleared: Mapping[str, Any], greedy: dict[str, int], solvers: dict[str, dict[str, Any]],
    single_slot: float | None,
) -> dict[str, Any]:
    """Return the figures under their names. Of each time the least counts, of the ratio the median of its turns."""
    figures = {
        "lines": lines, "seconds_cold": min(cleared["cold"]), "seconds_warm": min(cleared["warm"]),
        "sort_seconds": min(cleared["sorts"]),
        # The sort just before each cold run is its partner: both met the machine in the same mood.
        "ratio_to_sort": median(b / a for a, b in zip(cleared["sorts"][::2], cleared["cold"], strict=True)),
        "peers": solvers, "baselines": greedy, "single_slot_over_sort": single_slot,
    }  # fmt: skip
    figures.update({name: cleared[name] for name in KEYS if name not in figures})
    return {name: figures[name] for name in KEYS}


def over_the_best_greedy(figures: Mapping[str, Any]) -> list[str]:
    """How much better than the best greedy market; where that misses the goal, what no allocation can pass."""
    best = max(1, *figures["baselines"].values())
    ratio, ceiling = figures["welfare_micros"] / best, figures["bound_micros"] / best
    verdict = "reached" if ratio >= GREEDY_GOAL else f"missed; no allocation reaches more than {ceiling:.3f}"
    is_loose = figures["offered_over_demanded"] > TIGHT_MAX
    return ["over the best of these", f"{ratio:.3f}", "a loose book, no goal" if is_loose else
            f"goal {GREEDY_GOAL}: {verdict}"]  # fmt: skip


def rows_of(
    figures: Mapping[str, Any], cleared: Mapping[str, Any], checked: Mapping[str, Any], absent: Mapping[str, str]
) -> Iterator[str]:
    """Draw the table."""
    welfare, bound = figures["welfare_micros"], figures["bound_micros"]
    rows = [
        ["lines", f"{figures['lines']:,}", ""],
        ["offered / demanded", f"{figures['offered_over_demanded']:.2f}", "unit-hours"],
        ["welfare", f"{welfare:,}", "micro-USD"],
        ["bound", f"{bound:,}", f"gap {figures['gap_micros']:,}, {figures['gap_micros'] / max(1, bound):.1e} of it"],
        ["cold", f"{figures['seconds_cold']:.2f} s", f"from arrays to certificate, {figures['rounds']} rounds"],
        ["warm", f"{figures['seconds_warm']:.2f} s", "after 2 % of the lines changed"],
        ["peak memory", f"{figures['peak_rss_mb']:,.0f} MiB", "of the process that cleared"],
        ["sort", f"{figures['sort_seconds']:.4f} s", f"cold / sort {figures['ratio_to_sort']:.0f}"],
        ["noise", f"{max(cleared['sorts']) / min(cleared['sorts']):.2f} x", "slowest over fastest of the same sort"],
        ["awards, reasons, bundle", f"{cleared['publish_seconds']:.2f} s", "not counted in cold"],
        ["verifier", f"{checked['seconds']:.2f} s", f"{'accepts' if checked['is_ok'] else 'REFUSES'}, "
         f"{checked['peak_rss_mb']:,.0f} MiB"],
        ["blocks", f"{figures['paradoxical_accepted']:,}", "served against their price"],
        ["", f"{figures['paradoxical_rejected']:,}", "left out in the money"],
    ]  # fmt: skip
    if figures["single_slot_over_sort"] is not None:
        rows.append(["one slot / argsort", f"{figures['single_slot_over_sort']:.2f}", "1,000,000 lines a side"])
    rows += [[name, f"{welfare / value:.3f}", "welfare of clearing over this greedy market"]
             for name, value in figures["baselines"].items()]  # fmt: skip
    if figures["baselines"]:
        rows.append(over_the_best_greedy(figures))
    for name, peer in figures["peers"].items():
        apart = peer["welfare_micros"] / max(1, welfare) - 1
        reached = "the same welfare" if abs(apart) < SAME_WELFARE else f"a welfare {apart:+.1e} apart"
        slower = peer["seconds"] / figures["seconds_cold"]
        rows.append([name, f"{slower:.1f} x", f"{peer['seconds']:.2f} s to {reached}"])
    rows += [[name, "-", why] for name, why in absent.items()]
    return iter(table(rows))
