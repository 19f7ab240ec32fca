"""Whether two machines were measured at one time, so that one machine under two names could not have done both.

Let two chains last d1 and d2 and share a span o, each at 85 % or more of its class's rate. One machine of that rate
needs at least 0.85 d1 + 0.85 d2 for the work of both, and had d1 + d2 - o. So it was not one machine if

    d1 + d2 - o  <  0.85 (d1 + d2)        which is        o  >  0.15 (d1 + d2)

A machine twice as fast as its class could do both: it is two machines of that class. Lengths that are far apart share
too little, so each machine is asked for work of about the same time.
"""

from collections.abc import Sequence
from dataclasses import replace

from pricing.errors import MalformedProof
from pricing.presets import PILOT
from pricing.proof import PRESETS, Preset
from pricing.transcript import OPS_SHARE_BPS

ROLL_MS = 1_500  # what a chain of a roll call lasts at most; a workload rests for 2 s
ONE_BPS = 10_000
Span = tuple[int, int]  # from, until: milliseconds


def are_two(one: Span, other: Span) -> bool:
    """Whether two spans of work, each at its class's rate, are too much for one machine of that rate.

    Raises MalformedProof for a span that ends before it begins.
    """
    if one[1] < one[0] or other[1] < other[0]:
        raise MalformedProof("A span of work ends after it begins.")
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared * ONE_BPS > (ONE_BPS - OPS_SHARE_BPS) * (one[1] - one[0] + other[1] - other[0])


def all_together(machines: Sequence[Span]) -> bool:
    """Whether spans of one instant, one for each name, are the work of as many machines: any two of them were two.

    That no name was missing is the point of it. Where only pairs are asked for, each at an instant of its choice, two
    machines stand for three names: another one is silent each time. Raises MalformedProof for a span that ends before
    it begins.
    """
    if any(until < begins for begins, until in machines):
        raise MalformedProof("A span of work ends after it begins.")
    if len(machines) < 2:
        return True
    # `are_two` of all pairs at once, in one pass: its shared time is the least of four differences.
    rest = ONE_BPS - OPS_SHARE_BPS
    lengths = [until - begins for begins, until in machines]
    return (
        min(lengths) * OPS_SHARE_BPS > max(lengths) * rest
        and min(until * ONE_BPS - rest * (until - begins) for begins, until in machines)
        > max(begins * ONE_BPS + rest * (until - begins) for begins, until in machines)
    )


def sized_in_time(pilot_ns: int) -> Preset:
    """The chain of one block that this machine does in 0.75 to 1.5 seconds; on the slowest machines it lasts longer.

    `pilot_ns` is what the pilot block took by the chooser's own clock. It opens as many rows as a re-check. Raises
    MalformedProof for no time.
    """
    if pilot_ns <= 0:
        raise MalformedProof("A chain is sized by a measured pilot.")
    affordable = PILOT.operations * ROLL_MS * 1_000_000 // pilot_ns
    rows = [preset for name, preset in PRESETS.items() if name.split("-")[0] == "recheck"]
    sized = [_cut(row, max(1, min(row.products * row.blocks, affordable // (2 * row.size**3)))) for row in rows]
    fitting = [each for each in sized if each.operations <= affordable]
    return max(fitting, key=lambda each: each.operations, default=sized[0])


def _cut(row: Preset, products: int) -> Preset:
    opened = min(row.size, row.rows_opened * row.blocks)
    return replace(row, blocks=1, products=products, rows_opened=opened)
