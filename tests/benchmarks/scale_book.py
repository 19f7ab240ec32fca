"""The scale book: a million lines of one week, drawn from a seed straight into columns.

168 slots; 64 sets of attributes; 120 requirements whose masks all differ, asked for in proportions of Zipf's law with
exponent .7. Three lines of four are demands. A limit is lognormal(.08, .35) times the median cost of what is accepted,
an ask lognormal(-.10, .30) times its own cost, both on the tick of 100 micro-USD. Quantities follow Pareto's law; what
is offered is nine tenths of what is demanded, in unit-hours. Buyers and sellers share no parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pricing.book import (
    BID_COLUMNS,
    BLOCK,
    DEMAND_COLUMNS,
    PRICE_MAX_MICROS,
    TICK_MICROS,
    Bids,
    Book,
    Demands,
    book_from_columns,
)
from pricing.lines import Attributes, Requirement

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Columns = dict[str, Any]

SLOTS = 168
WORLD_SEED = 9  # 956 pairs of a requirement and a set of attributes
ATTRIBUTE_SETS, REQUIREMENTS = 64, 120
DEMAND_SHARE = 0.75
OFFERED_OVER_DEMANDED = 0.9
KIND_SHARES = (0.6, 0.3, 0.1)  # divisible, window, block

CLASSES = {  # micro-USD per unit-hour
    "H200-141GB": 3_200_000, "H100-80GB": 2_200_000, "A100-80GB": 1_200_000, "L40S-48GB": 900_000,
    "MI300X-192GB": 2_000_000, "A10-24GB": 450_000, "RTX4090-24GB": 400_000, "CPU-64": 80_000,
}  # fmt: skip
CLASS_SHARES = (0.08, 0.22, 0.18, 0.12, 0.05, 0.12, 0.15, 0.08)
SITES = {"ashburn": "US", "sanjose": "US", "frankfurt": "DE", "paris": "FR", "amsterdam": "NL", "montreal": "CA"}
SITE_SHARES = (0.25, 0.2, 0.2, 0.12, 0.13, 0.1)
TIERS, TIER_SHARES = (1, 2, 3), (0.5, 0.35, 0.15)
SLAS_BPS, SLA_SHARES = (9_900, 9_950, 9_990), (0.4, 0.4, 0.2)
HOME_ZONES = {"DE": "EU", "FR": "EU", "NL": "EU"}
LATENCY_MS = {
    ("boston", "montreal"): 12, ("boston", "ashburn"): 21, ("boston", "sanjose"): 74, ("boston", "paris"): 86,
    ("boston", "amsterdam"): 91, ("boston", "frankfurt"): 97, ("cologne", "frankfurt"): 8, ("cologne", "amsterdam"): 11,
    ("cologne", "paris"): 16, ("cologne", "ashburn"): 94, ("cologne", "montreal"): 103, ("cologne", "sanjose"): 158,
}  # fmt: skip

ACCEPTED = (  # positions in CLASSES
    (0, 1, 4), (0, 1), (1, 2), (0, 1, 2, 4), (2, 3), (3, 5, 6), (5, 6), (0, 1, 2, 3, 4, 5, 6), (7,), (0, 4),
)  # fmt: skip
ZONES = (("US",), ("DE", "FR", "NL"), ("DE",), ("CA", "DE", "FR", "NL"), ("CA",), ("CA", "US"), None, None, ("FR",))
NEAR = ((None, None), ("boston", 40), ("cologne", 30), ("boston", 80), (None, None))  # vantage, most milliseconds
TIER_MINS, SLA_MINS = (0, 2, 3), (0, 9_950, 9_990)
STRICT_SHARES = (0.6, 0.3, 0.1)

HOURS = (1, 2, 4, 8, 12, 24, 48, 72, 168)
HOUR_SHARES = (0.14, 0.12, 0.14, 0.18, 0.12, 0.16, 0.07, 0.04, 0.03)
OFFER_HOURS, OFFER_SHARES = (24, 48, 96, 168), (0.2, 0.2, 0.2, 0.4)
QUALITIES_BPS, QUALITY_SHARES = (9_440, 9_890, 9_974, 10_000), (0.1, 0.2, 0.4, 0.3)
BUYERS, SELLERS = 2_000, 400  # parents at most
DEMAND_UNITS_MAX, OFFER_UNITS_MAX = 512, 4_096


@dataclass(frozen=True)
class World:
    """What can be offered and what can be asked for; the same in every scale book."""

    attributes: tuple[Attributes, ...]  # [64]
    attribute_shares: Floats  # [64]
    cost_micros: Floats  # [64] per unit-hour
    requirements: tuple[Requirement, ...]  # [120]
    requirement_shares: Floats  # [120]
    worth_micros: Floats  # [120] median cost of what the requirement accepts


@cache
def world() -> World:
    """Draw attribute sets and requirements until all masks differ and none is empty."""
    rng = np.random.default_rng(WORLD_SEED)
    combinations = [(c, g, t, s) for c in range(8) for g in range(6) for t in range(3) for s in range(3)]
    weights = np.array(
        [CLASS_SHARES[c] * SITE_SHARES[g] * TIER_SHARES[t] * SLA_SHARES[s] for c, g, t, s in combinations]
    )
    chosen = rng.choice(len(combinations), ATTRIBUTE_SETS, replace=False, p=weights / weights.sum())
    kept = [combinations[k] for k in chosen]
    cost = np.array([_cost_micros(*each) for each in kept])
    attributes = tuple(_attributes(*each) for each in kept)

    requirements: dict[tuple[int, ...], Requirement] = {}
    while len(requirements) < REQUIREMENTS:
        wanted = _draw_requirement(rng)
        mask = tuple(k for k, known in enumerate(attributes) if accepts(wanted, known))
        if mask:
            requirements.setdefault(mask, wanted)
    zipf = 1 / np.arange(1, REQUIREMENTS + 1) ** 0.7
    return World(
        attributes=attributes, attribute_shares=weights[chosen] / weights[chosen].sum(), cost_micros=cost,
        requirements=tuple(requirements.values()), requirement_shares=zipf / zipf.sum(),
        worth_micros=np.array([np.median(cost[list(mask)]) for mask in requirements]),
    )  # fmt: skip


def accepts(wanted: Requirement, known: Attributes) -> bool:
    """Say whether such capacity may serve such a demand, by the rules that this book uses."""
    latency = LATENCY_MS.get((str(wanted.vantage), known.site))
    return (
        known.resource_class in wanted.accepted_classes
        and (wanted.countries is None or known.country in wanted.countries)
        and known.tier >= wanted.tier_min
        and known.sla_bps >= wanted.sla_bps_min
        and (wanted.latency_ms_max is None or (latency is not None and latency <= wanted.latency_ms_max))
    )


def scale_book(lines: int, kinds: str = "dw", seed: int = 1) -> Book:
    """Return the book of `lines` lines; `kinds` is "dw", which leaves the block lines out, or "dwk"."""
    columns, known = scale_columns(lines, kinds, seed), world()
    return book_from_columns(
        slots=SLOTS, demands=columns["demands"], bids=columns["bids"], requirements=known.requirements,
        attributes=known.attributes, parents=[*_names("buyer", BUYERS), *_names("seller", SELLERS)],
        latency_ms=LATENCY_MS, home_zones=HOME_ZONES,
    )  # fmt: skip


def churn(book: Book, share: float = 0.02, seed: int = 1) -> Book:
    """Amend `share` of the lines: each takes the place of a random other one's terms, at a price up to a tenth off.

    Ids, parents and ranks stay. Blocks take the terms of blocks; other lines whose terms hang together stay.
    """
    rng = np.random.default_rng(seed)
    is_plain = ~book.demands.is_indivisible & (book.demands.curve < 0)
    is_block = (book.demands.kind == BLOCK) & (book.demands.choice < 0) & ~book.demands.is_one_site
    demands = _amended(rng, book.demands, DEMAND_COLUMNS, [is_plain, is_block], share)
    bids = _amended(rng, book.bids, BID_COLUMNS, [~book.bids.is_indivisible & (book.bids.curve < 0)], share)
    return book_from_columns(
        slots=book.slots, demands=demands, bids=bids, requirements=book.requirements, attributes=book.attributes,
        parents=book.parents, choices=book.tables.choices, curves=book.tables.curves, latency_ms=book.latency_ms,
        rules=book.rules, home_zones=book.home_zones,
    )  # fmt: skip


def _amended(
    rng: np.random.Generator, side: Demands | Bids, names: tuple[str, ...], pools: list[npt.NDArray[np.bool_]],
    share: float,
) -> Columns:
    columns: Columns = {name: getattr(side, name).copy() for name in names}
    for is_member in pools:
        members = np.flatnonzero(is_member)
        amended = rng.permutation(members)[: round(share * len(members))]
        origin = rng.permutation(members)[: len(amended)]
        for name in names:
            if name not in ("rank", "parent", "choice", "curve", "is_foundation"):
                columns[name][amended] = getattr(side, name)[origin]
        columns["price"][amended] = on_tick(columns["price"][amended] * rng.uniform(0.9, 1.1, len(amended)))
    return {**columns, "ids": side.ids}


def scale_columns(lines: int, kinds: str = "dw", seed: int = 1) -> dict[str, Columns]:
    """Draw the lines: {"demands": columns, "bids": columns}, each a dict of arrays of equal length and of tables."""
    if kinds not in ("dw", "dwk"):
        raise ValueError(f"kinds is dw or dwk, not {kinds!r}")
    rng = np.random.default_rng(seed)
    n = round(lines * DEMAND_SHARE)
    demands = _draw_demands(rng, n)
    hours = demands["end"] - demands["start"]
    bids = _draw_bids(rng, lines - n, demanded_unit_hours=int((demands["quantity"] * hours).sum()))
    if kinds == "dw":
        kept = np.flatnonzero(demands["kind"] != BLOCK)
        demands = {name: _take(column, kept) for name, column in demands.items()}
    return {"demands": demands, "bids": bids}


def _draw_demands(rng: np.random.Generator, n: int) -> dict[str, Any]:
    known = world()
    requirement = rng.choice(REQUIREMENTS, n, p=known.requirement_shares)
    quantity = _pareto(rng, 1.3, 2, n, DEMAND_UNITS_MAX)
    hours = rng.choice(HOURS, n, p=HOUR_SHARES)
    hour_of_day = np.clip(np.rint(rng.normal(10, 4.5, n)), 0, 23).astype(np.int64)
    start = np.minimum(rng.integers(0, 7, n) * 24 + hour_of_day, SLOTS - hours)
    kind = rng.choice(3, n, p=KIND_SHARES).astype(np.int8)
    return {
        "ids": _names("d", n), "parent": rng.integers(0, _parents(n, BUYERS), n),
        "kind": kind, "quantity": quantity, "start": start, "end": start + hours,
        "price": on_tick(known.worth_micros[requirement] * rng.lognormal(0.08, 0.35, n)),
        "requirement": requirement, "rank": rng.permutation(n),
        "minimum": np.where(kind == BLOCK, quantity, 0), "choice": np.full(n, -1), "curve": np.full(n, -1),
        "is_one_site": np.zeros(n, dtype=np.bool_), "is_foundation": np.zeros(n, dtype=np.bool_),
    }  # fmt: skip


def _draw_bids(rng: np.random.Generator, m: int, *, demanded_unit_hours: int) -> dict[str, Any]:
    known = world()
    attributes = rng.choice(ATTRIBUTE_SETS, m, p=known.attribute_shares)
    quantity = _pareto(rng, 1.2, 8, m, OFFER_UNITS_MAX)
    hours = rng.choice(OFFER_HOURS, m, p=OFFER_SHARES)
    start = (rng.random(m) * (SLOTS - hours + 1)).astype(np.int64)
    quantity = _scaled(quantity, hours, to_unit_hours=OFFERED_OVER_DEMANDED * demanded_unit_hours)
    return {
        "ids": _names("b", m), "parent": BUYERS + rng.integers(0, _parents(m, SELLERS), m),
        "quantity": quantity, "start": start, "end": start + hours,
        "price": on_tick(known.cost_micros[attributes] * rng.lognormal(-0.10, 0.30, m)),
        "attributes": attributes, "quality": rng.choice(QUALITIES_BPS, m, p=QUALITY_SHARES),
        "rank": rng.permutation(m), "minimum": np.zeros(m, dtype=np.int64), "curve": np.full(m, -1),
    }  # fmt: skip


def _scaled(quantity: Ints, hours: Ints, *, to_unit_hours: float) -> Ints:
    """Scale whole quantities, nobody below one unit; small offers rounded up are made good by the large ones."""
    factor, scaled = 1.0, quantity
    for _ in range(8):
        factor *= to_unit_hours / max(1, int((scaled * hours).sum()))
        scaled = np.maximum(1, np.rint(quantity * factor)).astype(np.int64)
    return scaled


def on_tick(price_micros: Floats) -> Ints:
    """Round prices to the tick, inside the bounds of the engine with room for the quality score."""
    ticks = np.rint(price_micros / TICK_MICROS).astype(np.int64)
    return np.clip(ticks, 1, PRICE_MAX_MICROS // TICK_MICROS // 2) * TICK_MICROS


def _pareto(rng: np.random.Generator, shape: float, scale: float, n: int, most: int) -> Ints:
    return np.minimum(most, np.ceil(rng.pareto(shape, n) * scale + 0.01)).astype(np.int64)


def _parents(lines: int, most: int) -> int:
    return max(2, min(most, lines // 20))


def _names(letter: str, count: int) -> tuple[str, ...]:
    return tuple([f"{letter}{k:07d}" for k in range(count)])


def _take(column: Any, kept: Ints) -> Any:
    if isinstance(column, tuple):
        return tuple([column[k] for k in kept.tolist()])
    return column[kept] if isinstance(column, np.ndarray) else column


def _draw_requirement(rng: np.random.Generator) -> Requirement:
    names = list(CLASSES)
    vantage, latency_ms_max = NEAR[rng.integers(len(NEAR))]
    return Requirement(
        accepted_classes=tuple(names[k] for k in ACCEPTED[rng.integers(len(ACCEPTED))]),
        countries=ZONES[rng.integers(len(ZONES))], vantage=vantage, latency_ms_max=latency_ms_max,
        tier_min=TIER_MINS[rng.choice(3, p=STRICT_SHARES)], sla_bps_min=SLA_MINS[rng.choice(3, p=STRICT_SHARES)],
    )  # fmt: skip


def _attributes(c: int, g: int, t: int, s: int) -> Attributes:
    site, country = list(SITES.items())[g]
    return Attributes(
        resource_class=list(CLASSES)[c], country=country, parent_country=country, operator_country=country,
        keys_country=country, tier=TIERS[t], site=site, sla_bps=SLAS_BPS[s], standing="PROVEN",
    )  # fmt: skip


def _cost_micros(c: int, g: int, t: int, s: int) -> float:
    """Return the class's price, 12 % more per tier and 8 % per step of SLA, 6 % more outside the United States."""
    return list(CLASSES.values())[c] * (1 + 0.12 * t + 0.08 * s) * (1 + 0.06 * (g >= 2))
