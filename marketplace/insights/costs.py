"""Cost of ownership (M-036): a comparison is computed by `pricing.tco` and kept whole, inputs and sources included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name
from marketplace.environment import CHECKOUT
from marketplace.errors import BadInput, NoCounterfactual
from marketplace.governance.services import record
from marketplace.insights.models import Comparison
from marketplace.parties.models import Party
from pricing.errors import EstimateError
from pricing.tco import Cost, Input, Range, break_even_bill_usd, difference_of, range_of

CASE = CHECKOUT / "fixtures" / "cost" / "case.json"
SIDES = ("now", "planned")
Inputs = Mapping[str, Mapping[str, Mapping[str, Any]]]  # side -> input -> low, base, high, source


@dataclass(frozen=True)
class Compared:
    """Two ways to run, each with its range and sensitivity, and what the bill of today rests on."""

    now: Cost
    planned: Cost
    counterfactual: str

    @property
    def difference(self) -> Range:
        """What the plan would save a year. Raises NoCounterfactual where nobody has billed or quoted the other way."""
        if not self.counterfactual:
            raise NoCounterfactual(
                "No saving is shown: name the invoice or quote of what is paid now.", field="counterfactual"
            )
        return difference_of(self.now, self.planned)

    @property
    def break_even_usd(self) -> int:
        """The planned bill, USD a year, at which both cost the same at base values."""
        return break_even_bill_usd(self.now, self.planned)


def compare(inputs: Inputs, *, curve: str, counterfactual: str = "") -> Compared:
    """Compute both sides. Raises BadInput whose field is `<side>-<input>` for an input that cannot be."""
    if counterfactual:
        require_name(counterfactual, field="counterfactual", longest=300)
    costs = []
    for side in SIDES:
        try:
            given = {key: Input(v["low"], v["base"], v["high"], v["source"]) for key, v in inputs[side].items()}
            costs.append(range_of(given, curve))
        except EstimateError as error:
            field = str(error.facts["field"])
            raise BadInput(str(error), field=field if field == "curve" else f"{side}-{field}") from error
    return Compared(costs[0], costs[1], counterfactual)


@transaction.atomic
def save_comparison(
    *, party: Party, name: str, inputs: Inputs, curve: str, counterfactual: str = "", now: datetime
) -> Comparison:
    """Keep a comparison with every input and source, and put it on the trail."""
    require_name(name, field="name", longest=60)
    found = compare(inputs, curve=curve, counterfactual=counterfactual)
    comparison = Comparison.objects.create(
        id=uuid7(now), party=party, name=name, curve=curve, inputs=inputs, counterfactual=counterfactual, made_at=now,
        now_low_micros=found.now.total.low, now_base_micros=found.now.total.base,
        now_high_micros=found.now.total.high, planned_low_micros=found.planned.total.low,
        planned_base_micros=found.planned.total.base, planned_high_micros=found.planned.total.high,
    )  # fmt: skip
    record(
        actor=party.slug, action="save_comparison", subject=comparison.pk, reason="kept", now=now, name=name,
        now_base_micros=found.now.total.base, planned_base_micros=found.planned.total.base,
    )  # fmt: skip
    return comparison


def comparisons_of(party: Party) -> list[Comparison]:
    """Return the comparisons a party kept, newest first."""
    return list(Comparison.objects.filter(party=party)[:20])


def find_comparison(comparison_id: UUID, party: Party) -> Comparison | None:
    """Return the party's own comparison, or None."""
    return Comparison.objects.filter(pk=comparison_id, party=party).first()


def example() -> dict[str, Any]:
    """Return the case of USD 7.1 M a year before and 4.3 M after, from its file."""
    found: dict[str, Any] = json.loads(CASE.read_text(encoding="utf-8"))
    return found
