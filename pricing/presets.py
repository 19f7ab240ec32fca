"""Which chain a machine is asked for: rows of a ladder, chosen by whoever checks from a block that it timed itself.

A prover that dawdles in the pilot is asked for a smaller chain and scores no better by it: the score is operations over
time whatever the size, and each row of one purpose opens as many rows in all.
"""

from dataclasses import replace

from pricing.errors import MalformedProof
from pricing.proof import PRESETS, Preset

PILOT = PRESETS["pilot"]
# Seconds that a chain of a purpose may take; a row is chosen when the pilot's rate carries it in a quarter more.
TARGET_SECONDS = {"demo": 2, "recheck": 1, "short": 10, "full": 60}
# A class asks for 90 % of its memory, and a pass of the sweep leaves a small part unshown.
MEMORY_ASKED_PERCENT = 95
# Advice costs the wire, direct mode the checker's processor: trust.md section 3, step 4.
DIRECT_SHARE_PPM_MAX = 5_000
ADVICE_BYTES_MAX = 200_000_000


def choose(purpose: str, *, pilot_ns: int, memory_bytes: int = 0) -> Preset:
    """The largest row of the ladder that a machine does in time, sized to show `memory_bytes` when that is asked.

    `pilot_ns` is what the pilot block took by the chooser's own clock. Raises MalformedProof for no purpose or no time.
    """
    if purpose not in TARGET_SECONDS or pilot_ns <= 0 or memory_bytes < 0:
        raise MalformedProof("A ladder has a row for a purpose and a measured pilot.", purpose=purpose)
    rows = [preset for name, preset in PRESETS.items() if name.split("-")[0] == purpose]
    affordable = PILOT.operations * TARGET_SECONDS[purpose] * 1_250_000_000 // pilot_ns
    chosen = rows[0]
    for row in rows[1:]:
        if row.operations <= affordable:
            chosen = row
    return sized_for(chosen, memory_bytes)


def sized_for(preset: Preset, memory_bytes: int) -> Preset:
    """The preset with as many blocks as keep 95 % of `memory_bytes` resident; operations and opened rows about as many.

    With 0 bytes, or where its own blocks hold as much, the preset itself.
    """
    blocks = -(-memory_bytes * MEMORY_ASKED_PERCENT // 100 // preset.size**2)
    if blocks <= preset.blocks:
        return preset
    return replace(
        preset, blocks=blocks, products=max(1, preset.products * preset.blocks // blocks),
        rows_opened=max(1, -(-preset.rows_opened * preset.blocks // blocks)),
    )  # fmt: skip


def opens_directly(preset: Preset, *, prover_ops_per_second: int, checker_ops_per_second: int) -> bool:
    """Whether the opened rows are recomputed rather than advised.

    Direct mode costs q / n of the proof times the ratio of the two rates; it is taken up to a share of 0.5 %, or where
    the advice would pass 200 MB.
    """
    if prover_ops_per_second <= 0 or checker_ops_per_second <= 0:
        raise MalformedProof("Rates are positive.", prover=prover_ops_per_second, checker=checker_ops_per_second)
    advice_bytes = 4 * preset.products * preset.rows_opened * preset.size * preset.blocks
    cost = 1_000_000 * preset.rows_opened * prover_ops_per_second
    return (
        advice_bytes > ADVICE_BYTES_MAX or cost <= DIRECT_SHARE_PPM_MAX * preset.size * checker_ops_per_second
    )
