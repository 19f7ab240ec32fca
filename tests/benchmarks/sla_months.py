"""Simulated lease-months for the benchmark of verdicts: what hosts, networks and verifiers do, minute by minute.

Only the world is simulated here. What follows from the reports, the verdict of each minute, the counts and the test,
is the product's own code in `pricing.metering` and `pricing.sla`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pricing.metering import SLOT_MINUTES, count_verdicts, judge_slots
from pricing.sla import Judgement, judge

MINUTES = 30 * 1440
SEATS = 3  # verifiers that probe a lease on one day
POOL, LIARS = 10, 1  # organisations that may be drawn, and those that call every minute down
LOSS_RATE = 5e-4  # a probe of a good machine that still fails after its retry
VOID_RATE = 2e-3  # an anchor or a clock fails now and then
ANCHOR_SPELLS, SPELL_MINUTES = 6, 60  # of each seat in a bad month; two of them hit two seats at once
BLOCK = 25  # months judged at once

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """How a host fails and who watches it."""

    name: str
    outage_minutes: float  # length of an outage; under 1 the share of a flapping minute
    has_anchor_loss: bool = False
    has_liars: bool = False


SHAPES = (
    Shape("bursts of 1 min", 1),
    Shape("bursts of 5 min", 5),
    Shape("bursts of 30 min", 30),
    Shape("bursts of 60 min", 60),
    Shape("flapping, 70 % of a minute", 0.7),
    Shape("anchor loss", 30, has_anchor_loss=True),
    Shape("10 % lying verifiers", 30, has_liars=True),
    Shape("flapping, anchor loss, liars", 0.7, has_anchor_loss=True, has_liars=True),
)


def judged_months(
    rng: np.random.Generator, *, shape: Shape, sla_bps: int, months: int, times_budget: float
) -> Iterator[Judgement]:
    """Months whose host was down for exactly `times_budget` times what its SLA allows, judged by the product."""
    for first in range(0, months, BLOCK):
        count = min(BLOCK, months - first)
        down = np.stack([_down(rng, shape, sla_bps, times_budget) for _ in range(count)])
        valid, failed = reports_of(rng, shape, down)
        slots = (SEATS, count, MINUTES // SLOT_MINUTES, SLOT_MINUTES)
        verdicts = judge_slots(valid.reshape(slots), failed.reshape(slots))
        counts = count_verdicts(verdicts.reshape(count, MINUTES))
        for up_minutes, down_minutes, unknown in zip(counts.up, counts.down, counts.unknown, strict=True):
            yield judge(
                down_minutes=int(down_minutes), known_minutes=int(up_minutes + down_minutes),
                unknown_minutes=int(unknown), sla_bps=sla_bps,
            )  # fmt: skip


def _down(rng: np.random.Generator, shape: Shape, sla_bps: int, times_budget: float) -> Bools:
    """Minutes whose one secret second falls into an outage; all three verifiers look at that second."""
    budget_seconds = MINUTES * 60 * (10_000 - sla_bps) / 10_000 * times_budget
    if shape.outage_minutes < 1:
        flapping = rng.choice(MINUTES, size=int(budget_seconds / 60 / shape.outage_minutes), replace=False)
        down = np.zeros(MINUTES, dtype=np.bool_)
        down[flapping] = rng.random(len(flapping)) < shape.outage_minutes
        return down
    return hit_minutes(rng, *_outages(rng, budget_seconds, shape.outage_minutes * 60))


def _outages(rng: np.random.Generator, total: float, longest: float) -> tuple[npt.NDArray, npt.NDArray]:
    """Starts and ends in seconds of outages that never touch: the free time is cut at random between them."""
    whole, rest = divmod(total, longest)
    lengths = np.array([longest] * int(whole) + ([rest] if rest > 1e-6 else []))
    rng.shuffle(lengths)
    free = np.sort(rng.random(len(lengths))) * (MINUTES * 60 - total)
    starts = free + np.cumsum(lengths) - lengths
    return starts, starts + lengths


def hit_minutes(rng: np.random.Generator, starts: npt.NDArray, ends: npt.NDArray) -> Bools:
    """Minutes of a month whose secret second lies in an outage; starts and ends in seconds, in order and apart."""
    first, last = np.ceil(starts / 60).astype(int), np.floor(ends / 60).astype(int)
    steps = np.zeros(MINUTES + 2, dtype=np.int32)
    inside = last > first
    np.add.at(steps, first[inside], 1)
    np.add.at(steps, last[inside], -1)
    down = np.cumsum(steps)[:MINUTES] > 0
    edges = np.unique(np.concatenate([np.floor(starts / 60), np.floor(np.minimum(ends, MINUTES * 60 - 1e-3) / 60)]))
    seconds = edges * 60 + rng.random(len(edges)) * 60
    place = np.searchsorted(starts, seconds, "right") - 1
    down[edges.astype(int)] = (place >= 0) & (seconds < ends[np.maximum(place, 0)])
    return down


def reports_of(rng: np.random.Generator, shape: Shape, down: Bools) -> tuple[Bools, Bools]:
    """What three seats report, bool [3, months, minutes]: validity and failure."""
    size = (SEATS, *down.shape)
    failed = np.broadcast_to(down, size).copy()
    failed.reshape(-1)[_rare(rng, failed.size, LOSS_RATE)] = True
    valid = np.ones(size, dtype=np.bool_)
    valid.reshape(-1)[_rare(rng, valid.size, VOID_RATE)] = False
    for month in range(down.shape[0]):
        if shape.has_liars:
            _lie(rng, failed[:, month])
        if shape.has_anchor_loss:
            _lose_anchors(rng, valid[:, month])
    return valid, failed


def _rare(rng: np.random.Generator, size: int, rate: float) -> npt.NDArray:
    return rng.integers(0, size, rng.binomial(size, rate))


def _lie(rng: np.random.Generator, failed: Bools) -> None:
    """A liar calls every minute of its days down. Panels are drawn daily, one seat per organisation."""
    for day in range(30):
        for seat in np.flatnonzero(rng.permutation(POOL)[:SEATS] < LIARS):
            failed[seat, day * 1440 : (day + 1) * 1440] = True


def _lose_anchors(rng: np.random.Generator, valid: Bools) -> None:
    for spell, start in enumerate(rng.integers(0, MINUTES - SPELL_MINUTES, ANCHOR_SPELLS)):
        seats = slice(0, 2) if spell < 2 else int(rng.integers(SEATS))
        valid[seats, start : start + SPELL_MINUTES] = False
