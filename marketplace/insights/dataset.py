"""The public data set and index (M-085): what each cleared window traded, without anybody that could be told apart.

Two tables over all cleared windows, the same bytes from the same data. A product is written only with three buyers and
three providers behind it (siblings of one parent count once), a window only with three funded buyers; what is left out
is counted. Money is integer micro-USD, shares are parts per million.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence

from marketplace.catalogue.models import ResourceClass
from marketplace.clearing.models import Clearing, LineReason
from marketplace.demand.models import Demand
from marketplace.demand.selectors import FUNDED_STATES
from pricing.breakeven import price_per_peta_nanos

PARTIES_MIN = 3
WINDOWS = ("window", "starts_on", "slots", "funded_unit_hours", "filled_unit_hours", "fill_ppm", "premium_ppm",
           "premium_low_ppm", "premium_high_ppm", "left_out_products")  # fmt: skip
PRODUCTS = ("window", "resource_class", "tier", "unit_hours", "mean_price_micros", "nano_usd_per_peta_operations")
ABOUT = """Grove Exchange: what cleared windows traded

windows.csv   one row per cleared window: funded and filled demand in unit-hours, its share, what compliance added to
              the price (volume-weighted, with a 95 % bootstrap over hours), and how many products were left out.
products.csv  one row per window, resource class and tier: unit-hours, mean price in micro-USD per unit-hour, and
              nano-USD per 10^15 operations at the class's benchmark threshold.

Nothing is written from fewer than three buyers or, in a product, three providers; companies of one parent count once.
Made by: python3 manage.py dataset FOLDER. Licence of the data: CC0-1.0.
"""


def public_dataset() -> dict[str, bytes]:
    """Return the files of the data set by name."""
    ops = dict(ResourceClass.objects.values_list("code", "ops_per_sec"))
    windows: list[Sequence[object]] = []
    products: list[Sequence[object]] = []
    for clearing in Clearing.objects.select_related("window").order_by("window__number"):
        rows, left_out = _products(clearing, ops)
        row = _window(clearing, left_out)
        if row:
            windows.append(row)
            products += rows
    tables = {"windows.csv": _table(WINDOWS, windows), "products.csv": _table(PRODUCTS, products)}
    return {"README.txt": ABOUT.encode(), **tables}


def _window(clearing: Clearing, left_out: int) -> Sequence[object] | None:
    demands = Demand.objects.filter(window_id=clearing.window_id, state__in=FUNDED_STATES).exclude(hold_id=None)
    rows = list(demands.select_related("party__parent"))
    if len({row.party.owner_key for row in rows}) < PARTIES_MIN:
        return None
    funded = sum(row.unit_hours for row in rows)
    reasons = LineReason.objects.filter(clearing=clearing, demand__in=rows)
    filled = funded - sum(reasons.values_list("unfilled_unit_hours", flat=True))
    window = clearing.window
    premium = (clearing.premium_ppm, clearing.premium_low_ppm, clearing.premium_high_ppm)
    return (window.name, window.starts_at.date(), window.slots, funded, filled, 10**6 * filled // funded,
            *("" if part is None else part for part in premium), left_out)  # fmt: skip


def _products(clearing: Clearing, ops: dict[str, int]) -> tuple[list[Sequence[object]], int]:
    """The products with enough parties on both sides, and how many had too few."""
    groups: dict[tuple[str, int], list] = defaultdict(list)
    awards = clearing.awards.select_related("demand__party__parent", "bid__party__parent", "bid__node_class")
    for award in awards:
        groups[award.bid.node_class.resource_class_id, award.bid.node_class.tier].append(award)
    rows: list[Sequence[object]] = []
    for (code, tier), each in sorted(groups.items()):
        buyers, providers = ({party.owner_key for party in side} for side in
                             ((a.demand.party for a in each), (a.bid.party for a in each)))  # fmt: skip
        if min(len(buyers), len(providers)) < PARTIES_MIN:
            continue
        hours = sum(a.units * (a.end_slot - a.start_slot) for a in each)
        money = sum(a.amount_micros for a in each)
        mean = (2 * money + hours) // (2 * hours)
        rows.append((clearing.window.name, code, tier, hours, mean, price_per_peta_nanos(mean, ops[code])))
    return rows, len(groups) - len(rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
