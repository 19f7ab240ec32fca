"""Who buys (M-005): funded and filled demand per segment, and a forecast whose every figure has a source line (M-086).

A demand's segment is what its last statement says, else what kind of party its buyer is. Figures of fewer than three
buyers are not told; siblings of one parent are one buyer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from marketplace.clearing.models import LineReason
from marketplace.clearing.selectors import last_clearing
from marketplace.demand.models import Demand
from marketplace.demand.selectors import FUNDED_STATES, PARTIES_PER_STEP
from marketplace.environment import CHECKOUT
from marketplace.insights.models import SEGMENTS, DemandStatement
from marketplace.insights.worth import SEGMENT_OF_KIND

SCENARIO = CHECKOUT / "fixtures" / "scenario" / "default.json"
PPM = 1_000_000


@dataclass(frozen=True)
class SegmentRow:
    """One segment in the last cleared window; None where too few buyers stand behind it."""

    segment: str
    buyers: int | None
    funded_unit_hours: int | None
    filled_ppm: int | None
    forecast_unit_hours: int | None  # of the next window, by the scenario
    source: str  # where the forecast's figure comes from


def scenario() -> dict[str, Any]:
    """Return the default scenario, read from its file."""
    found: dict[str, Any] = json.loads(SCENARIO.read_text(encoding="utf-8"))
    return found


def segments(*, buyers_min: int = PARTIES_PER_STEP) -> list[SegmentRow]:
    """Return a row per segment, whether or not anybody is in it."""
    clearing = last_clearing()
    demands = _funded(clearing.window_id) if clearing else []
    said = _said(demands)
    left = dict(
        LineReason.objects.filter(clearing=clearing, side="demand").values_list("demand_id", "unfilled_unit_hours")
    )
    groups: dict[str, list[Demand]] = defaultdict(list)
    for demand in demands:
        groups[said.get(demand.pk) or SEGMENT_OF_KIND.get(demand.party.kind, "enterprise")].append(demand)
    known = scenario()["segments"]
    return [_row(name, groups[name], left, known[name], buyers_min) for name in SEGMENTS]


def _funded(window_id: Any) -> list[Demand]:
    rows = Demand.objects.filter(window_id=window_id, state__in=FUNDED_STATES).exclude(hold_id=None)
    return list(rows.select_related("party__parent"))


def _said(demands: list[Demand]) -> dict[Any, str]:
    rows = DemandStatement.objects.filter(demand__in=demands).order_by("version")
    return {row.demand_id: row.segment for row in rows}


def _row(name: str, rows: list[Demand], left: dict[Any, int], figure: dict[str, Any], buyers_min: int) -> SegmentRow:
    buyers = len({row.party.owner_key for row in rows})
    if 0 < buyers < buyers_min:
        return SegmentRow(name, None, None, None, None if figure["growth_ppm"] else 0, figure["source"])
    funded = sum(row.unit_hours for row in rows)
    filled = funded - sum(left.get(row.pk, 0) for row in rows)
    return SegmentRow(name, buyers, funded, PPM * filled // funded if funded else None,
                      funded * figure["growth_ppm"] // PPM, figure["source"])  # fmt: skip
