"""The demand-curve report (M-003): what funded demand says it would pay, and what each attribute adds to it.

Stated, not paid: no price is made of it.
It is for everybody, so nothing is drawn from fewer than three buyers; siblings of one parent are one buyer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from marketplace.clearing.selectors import last_clearing
from marketplace.demand.selectors import FUNDED_STATES, PARTIES_PER_STEP, CurveStep, blur_steps
from marketplace.insights.charts import Step, supply_and_demand
from marketplace.insights.drawing import Chart
from marketplace.insights.models import DemandStatement
from marketplace.insights.worth import ATTRIBUTES
from pricing.curves import Pair, StatedPremium, added_up, stated_premium

BAND_PPM = (200_000, 300_000)  # source text 0: what is paid for residency that is structural


@dataclass(frozen=True)
class AttributeLine:
    """One attribute: its stated premium, or None where fewer than three buyers spoke of it."""

    name: str
    words: str
    premium: StatedPremium | None


@dataclass(frozen=True)
class DemandReport:
    """What the report shows of all funded demand with curves."""

    attributes: list[AttributeLine]
    resource_class: str
    classes: list[str]
    attribute: str  # words of the one that most buyers of the class spoke of; "" where fewer than three did
    with_it: Chart | None
    without_it: Chart | None
    buyers: int
    hidden_groups: int
    measured: tuple[int, int, int] | None  # the premium of the last clearing: ppm, low, high


def demand_report(resource_class: str = "") -> DemandReport:
    """Return the report; curves for `resource_class`, or for the first class that three buyers spoke of."""
    statements = _statements()
    groups: dict[str, list[DemandStatement]] = {}
    for statement in statements:
        for code in statement.demand.accepted_classes:
            groups.setdefault(code, []).append(statement)
    wide = sorted(code for code, rows in groups.items() if len({_buyer(s) for s in rows}) >= PARTIES_PER_STEP)
    chosen = resource_class if resource_class in wide else next(iter(wide), "")
    lines = [
        AttributeLine(name, words, stated_premium(_pairs(statements, name), buyers_min=PARTIES_PER_STEP))
        for name, words in ATTRIBUTES.items()
    ]
    spoken = {name for s in statements for name in s.curves}
    hidden = len(groups) - len(wide) + sum(line.premium is None and line.name in spoken for line in lines)
    attribute, drawn = _widest(groups.get(chosen, []))
    words = f"The same demand without the {ATTRIBUTES.get(attribute)}, {chosen}"
    return DemandReport(
        attributes=lines, resource_class=chosen, classes=wide, buyers=len({_buyer(s) for s in statements}),
        attribute=ATTRIBUTES.get(attribute, ""), with_it=_chart(drawn, "", f"Stated demand as it stands, {chosen}"),
        without_it=_chart(drawn, attribute, words) if attribute else None, hidden_groups=hidden, measured=_measured(),
    )  # fmt: skip


def _widest(statements: list[DemandStatement]) -> tuple[str, list[DemandStatement]]:
    """The attribute that most buyers gave a curve without, and their statements; all of them where none is wide."""
    buyers = {name: {_buyer(s) for s in statements if name in s.curves} for name in ATTRIBUTES}
    name = max(ATTRIBUTES, key=lambda n: len(buyers[n]))
    if len(buyers[name]) < PARTIES_PER_STEP:
        return "", statements
    return name, [s for s in statements if name in s.curves]


def _statements() -> list[DemandStatement]:
    """The last statement with a curve of each funded demand."""
    rows = (
        DemandStatement.objects.filter(demand__state__in=FUNDED_STATES).exclude(demand__hold_id=None)
        .select_related("demand__party__parent").order_by("demand", "version")
    )  # fmt: skip
    last = {row.demand_id: row for row in rows}
    return [row for row in last.values() if row.curves]


def _buyer(statement: DemandStatement) -> str:
    return str(statement.demand.party.owner_key)


def _pairs(statements: Iterable[DemandStatement], attribute: str) -> list[Pair]:
    return [
        Pair(_buyer(s), _curve(s.curves[""]), _curve(s.curves[attribute]), s.demand.hours)
        for s in statements if attribute in s.curves
    ]  # fmt: skip


def _curve(steps: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((price, units) for price, units in steps)


def _chart(statements: list[DemandStatement], attribute: str, title: str) -> Chart | None:
    steps = [Step(s.price_micros, s.unit_hours) for s in blurred(statements, attribute)]
    return supply_and_demand(steps, [], trade=None, title=title, demand_words="stated demand") if steps else None


def blurred(statements: Iterable[DemandStatement], attribute: str) -> list[CurveStep]:
    """Return the added-up curves in steps of at least three buyers each; empty for fewer than three in all."""
    rows: list[tuple[Any, int, str]] = [
        (_curve(s.curves[attribute]), s.demand.hours, _buyer(s)) for s in statements if attribute in s.curves
    ]
    return blur_steps(added_up(rows))  # type: ignore[arg-type]


def _measured() -> tuple[int, int, int] | None:
    clearing = last_clearing()
    if clearing is None or clearing.premium_ppm is None:
        return None
    return clearing.premium_ppm, clearing.premium_low_ppm or 0, clearing.premium_high_ppm or 0
