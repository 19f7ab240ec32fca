"""Real failure records through the product's verdicts: `manage.py bench sla --replay DIR`.

Each record becomes the outages of machines, month by month; probes with their usual losses see them; verdict, credit,
warning and slash are the product's own functions. The records may not be bundled, so the folder is named by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pricing.attribution import MaintenanceNotice, maintenance_minutes
from pricing.metering import SLOT_MINUTES, count_verdicts, judge_slots
from pricing.penalties import slash_kind, slash_micros, stake_micros
from pricing.sla import credit_micros, judge, refund_micros
from tests.benchmarks.sla_months import MINUTES, SEATS, Shape, hit_minutes, reports_of

SLAS = (9900, 9950, 9990)
PRICE_MICROS, HOURS = 1_000_000, MINUTES // 60
FEE_MICROS = PRICE_MICROS * HOURS
MEMORY_MONTHS = 3  # a breach is remembered for 90 days
USUAL = Shape("replay", 1)


@dataclass(frozen=True)
class Outage:
    """A span in minutes since the record begins; announced ones are maintenance."""

    start: float
    end: float
    is_announced: bool = False


@dataclass(frozen=True)
class Record:
    """What is known of one machine, zone or site over whole months."""

    name: str
    months: int
    outages: tuple[Outage, ...]


@dataclass
class Tally:
    """What one record set came to under one SLA; money as a share of the fees."""

    months: int = 0
    below_sla: int = 0
    credit: float = 0
    refund: float = 0
    warnings: int = 0
    slashes: int = 0
    slashed: float = 0
    false_calls: int = 0  # in breach although truly within the budget
    missed: int = 0  # truly at twice the budget or worse, and not in breach
    unknown_months: int = 0  # too little was seen to slash
    breaches: dict[str, list[int]] = field(default_factory=dict)


def replay(folder: Path, *, seed: int = 6) -> dict[str, dict[int, Tally]]:
    """The tallies of each record set under each SLA. Raises FileNotFoundError when the folder lacks the records."""
    sets = {
        "university incident log, a year": [university_site(folder, 2025)],
        "spot zones, 2023 (AWS V100)": list(spot_zones(folder)),
        "LANL nodes, 2004": list(lanl_nodes(folder, 2004)),
    }
    return {name: tally_of(records, seed) for name, records in sets.items()}


def university_site(folder: Path, year: int) -> Record:
    """A whole site: every unplanned incident is an outage, planned work is announced in time."""
    log = pd.read_csv(folder / "ucsf_wynton_incidents_2018_2026.csv")
    for side in ("start", "stop"):
        log[side] = pd.to_datetime(log[side], errors="coerce")  # some are typos of the source
    begin = pd.Timestamp(year, 1, 1)
    mine = log[(log.hours > 0) & (log.stop > begin) & (log.start < begin + pd.Timedelta(days=360))]
    outages = [
        Outage(_minutes(row.start, begin), _minutes(row.stop, begin), "maintenance" in row.severity)
        for row in mine.itertuples()
    ]
    return Record(f"site {year}", 12, tuple(outages))


def spot_zones(folder: Path) -> Iterator[Record]:
    """A zone without a spot machine is a machine that is gone."""
    trace = pd.read_csv(folder / "spot_availability_aws_v100_2023-02.csv")
    for (name, zone), rows in trace.groupby(["trace", "zone_type"]):
        gone = rows[rows.available == 0]
        outages = tuple(Outage(row.start_s / 60, (row.start_s + row.length_s) / 60) for row in gone.itertuples())
        yield Record(f"{name} {zone}", int((rows.start_s + rows.length_s).max() // (MINUTES * 60)), outages)


def lanl_nodes(folder: Path, year: int) -> Iterator[Record]:
    """Every node of the systems in production that year, those without a failure too."""
    log = pd.read_csv(folder / "lanl_failures_sys_2_8_18_19_20.csv")
    for side in ("start", "end"):
        log[side] = pd.to_datetime(log[side])
    begin, end = pd.Timestamp(year, 1, 1), pd.Timestamp(year, 1, 1) + pd.Timedelta(days=360)
    for system, failures in log.groupby("system"):
        if failures.start.min() > begin or failures.end.max() < end:
            continue
        mine = failures[(failures.end > begin) & (failures.start < end)]
        by_node = dict(list(mine.groupby("node")))
        for node in range(int(failures.system_nodes.max())):
            rows = by_node.get(float(node), mine.iloc[:0])
            spans = (Outage(_minutes(r.start, begin), _minutes(r.end, begin)) for r in rows.itertuples())
            yield Record(f"{system}/{node}", 12, tuple(spans))


def _minutes(moment: pd.Timestamp, begin: pd.Timestamp) -> float:
    return (moment - begin).total_seconds() / 60


def tally_of(records: list[Record], seed: int) -> dict[int, Tally]:
    """Judge every month of every record under every SLA; the probes of a month are drawn once."""
    rng = np.random.default_rng(seed)
    tallies = {sla_bps: Tally() for sla_bps in SLAS}
    for record in records:
        good_hours = bad_hours = 0
        for month in range(record.months):
            down, true_down = _month(rng, record, month)
            verdicts = judge_slots(*(each.reshape(SEATS, -1, SLOT_MINUTES) for each in reports_of(rng, USUAL, down)))
            counts = count_verdicts(verdicts.reshape(1, -1))
            seen = int(counts.up[0]), int(counts.down[0]), int(counts.unknown[0])
            for sla_bps, tally in tallies.items():
                _judge_month(tally, record, month, sla_bps, seen, true_down, (good_hours, bad_hours))
            bad = int((count_verdicts(verdicts).down > 1).sum())
            good_hours, bad_hours = good_hours + HOURS - bad, bad_hours + bad
    return tallies


def _month(rng: np.random.Generator, record: Record, month: int) -> tuple[npt.NDArray[np.bool_], float]:
    """Minutes of a month whose secret second was down, and how long the machine was truly down (minutes)."""
    first = month * MINUTES
    spans = [(max(0.0, o.start - first), min(MINUTES, o.end - first), o.is_announced) for o in record.outages
             if o.start < first + MINUTES and o.end > first]  # fmt: skip
    excused = _excused([(int(start), int(-(-end // 1))) for start, end, announced in spans if announced])
    merged = _merged([(start * 60, end * 60) for start, end, _ in spans])
    if not merged:
        return np.zeros((1, MINUTES), dtype=np.bool_), 0.0
    starts, ends = (np.array(side, dtype=float) for side in zip(*merged, strict=True))
    down = hit_minutes(rng, starts, ends)
    down[list(excused)] = False
    true_down = float((ends - starts).sum()) / 60 - len(excused)
    return down[np.newaxis], max(0.0, true_down)


def _excused(spans: list[tuple[int, int]]) -> set[int]:
    whole = [(int(start), int(end)) for start, end in _merged([(float(a), float(b)) for a, b in spans])]
    return maintenance_minutes([MaintenanceNotice(start - 72 * 60, start, min(MINUTES, end)) for start, end in whole])


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order, overlapping ones joined."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _judge_month(
    tally: Tally, record: Record, month: int, sla_bps: int, seen: tuple[int, int, int], true_down: float,
    history: tuple[int, int],
) -> None:  # fmt: skip
    up, down, unknown = seen
    found = judge(down_minutes=down, known_minutes=up + down, unknown_minutes=unknown, sla_bps=sla_bps)
    refund = refund_micros(fee_micros=FEE_MICROS, unpaid_minutes=down + unknown, period_minutes=MINUTES)
    credit = credit_micros(FEE_MICROS, found.credit_step_bps, refunded_micros=refund)
    budget = MINUTES * (10_000 - sla_bps) / 10_000
    tally.months += 1
    tally.below_sla += found.credit_step_bps > 0
    tally.credit += credit / FEE_MICROS
    tally.refund += refund / FEE_MICROS
    tally.false_calls += found.breach and true_down <= budget
    tally.missed += not found.breach and true_down >= 2 * budget
    tally.unknown_months += found.exceeds_threshold and not found.breach
    if found.breach:
        _follow(tally, record, month, found.availability_ppm, history)


def _follow(tally: Tally, record: Record, month: int, availability_ppm: int, history: tuple[int, int]) -> None:
    """Warn or slash, as a proven machine would be that staked what its history asks for."""
    before = tally.breaches.setdefault(record.name, [])
    kind = slash_kind(earlier_breaches=sum(month - each < MEMORY_MONTHS for each in before),
                      availability_ppm=availability_ppm)  # fmt: skip
    stake = stake_micros(price_micros=PRICE_MICROS, units=1, hours=HOURS, good_hours=history[0], bad_hours=history[1])
    taken = slash_micros(kind=kind, lease_stake_micros=stake, class_stake_micros=stake)
    tally.warnings += taken == 0
    tally.slashes += taken > 0
    tally.slashed += taken / FEE_MICROS
    before.append(month)
