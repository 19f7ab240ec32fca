"""What the demo's buyers say of their demands: the large clouds' median quote, and a curve with and without the zone.

The quotes are those of `fixtures/demo/prices.csv`. What a zone is worth is invented: between 15 and 35 % more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date, datetime
from functools import cache

from marketplace.demand.models import Demand
from marketplace.demo.base import rows
from marketplace.demo.demands import on_tick
from marketplace.environment import CHECKOUT
from marketplace.insights.worth import SEGMENT_OF_KIND, state_worth, statement_of

SPOKEN_MAX = 120
QUOTED_ON = date(2026, 7, 31)
SOURCE = "gpurentalprices.com, 2026-07-31: median on-demand quote of large clouds"


@cache
def hyperscaler_micros() -> dict[str, int]:
    """The median quote of large clouds per class, micro-USD per unit-hour."""
    found = rows(CHECKOUT / "fixtures" / "demo", "prices.csv")
    return {row["resource_class"]: row["hyperscaler_micros"] for row in found}


def say_worth(demands: Iterable[Demand], *, now: datetime) -> int:
    """Let buyers speak of funded demands with a zone that have said nothing yet; returns how many spoke."""
    spoken = 0
    for demand in demands:
        quote = hyperscaler_micros().get(demand.accepted_classes[0])
        if demand.zone_id and demand.state == "funded" and quote and statement_of(demand) is None:
            state_worth(
                demand=demand, party=demand.party, segment=SEGMENT_OF_KIND[demand.party.kind], now=now,
                incumbent="A large cloud", quote_micros=on_tick(quote), quote_source=SOURCE, quoted_on=QUOTED_ON,
                curves=_curves(demand), pain="residency is promised, not structural",
                present_usd_per_year=max(1, quote * demand.quantity_units * 24 * 364 // 1_000_000),
            )  # fmt: skip
            spoken += 1
    return spoken


def _curves(demand: Demand) -> dict[str, list[tuple[int, int]]]:
    """All units at the limit, and at what they would fetch anywhere; half of them at both where there are two."""
    drawn = hashlib.sha256(demand.reference.encode()).digest()
    premium_percent = 115 + drawn[0] % 21
    limit, units = demand.price_limit_micros, demand.quantity_units
    first = -(-units // 2)
    steps = [(limit, first)] if units == first else [(limit, first), (on_tick(limit * 0.9), units - first)]
    return {"": steps, "zone": [(on_tick(price * 100 / premium_percent), n) for price, n in steps]}
