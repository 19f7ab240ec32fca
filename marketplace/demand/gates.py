"""What opens a window to bids, as data: unit-hours, distinct buyers, and money committed per resource class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from marketplace.catalogue.gate_models import GateRule
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_whole
from marketplace.catalogue.models import ResourceClass, Window
from marketplace.catalogue.services import find_named
from marketplace.demand.models import Demand
from marketplace.demand.services import funded_figures
from marketplace.errors import BadInput, ReferenceReused, WindowClosed
from marketplace.governance.services import record
from marketplace.parties.owners import FOUNDATION


@dataclass(frozen=True, slots=True)
class Figure:
    """One condition of a gate: what it asks for and what is there."""

    name: str
    needed: int
    have: int
    resource_class: str = ""

    @property
    def missing(self) -> int:
        return max(0, self.needed - self.have)


@transaction.atomic
def require_notional(*, window: Window, notional_micros: Mapping[str, int], now: datetime) -> list[GateRule]:
    """Ask for so much committed money per resource class before bids are let in; while the window collects.

    Saying the same again is one act. Raises UnknownName, BadInput, ReferenceReused, WindowClosed.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    rules = []
    for code, amount in sorted(notional_micros.items()):
        kind = find_named(ResourceClass, code, field="resource_class")
        if kind is None:
            raise BadInput("Choose a resource class.", field="resource_class")
        if not 1 <= require_whole(amount, field="notional_micros") < MONEY_MAX_MICROS:
            raise BadInput("A gate asks for a positive amount that fits the books.", field="notional_micros")
        standing = GateRule.objects.filter(window=locked, resource_class=kind).first()
        if standing and standing.notional_micros != amount:
            raise ReferenceReused("This window's gate asks for another amount.", field="notional_micros")
        if standing is None and locked.state != "COLLECTING":
            raise WindowClosed("The gate of this window was judged.", state=locked.state)
        rules.append(standing or GateRule.objects.create(window=locked, resource_class=kind, notional_micros=amount))
        if standing is None:
            record(actor="foundation", action="set_gate_rule", subject=locked.name, reason="money committed per class",
                   now=now, resource_class=code, notional_micros=amount)  # fmt: skip
    return rules


def gate_of(window: Window) -> list[Figure]:
    """Every condition of a window's gate with what funded demand has reached. A demand counts for each class it takes.

    Parties are counted by their last owner. Money is what demand would cost at its limits, in micro-USD. What the
    Foundation demands itself counts nowhere.
    """
    figures = funded_figures(window=window)
    rows = list(Demand.objects.filter(window=window, state="funded").exclude(party__in=FOUNDATION))
    found = [
        Figure("unit_hours", window.gate_unit_hours, figures["funded_unit_hours"]),
        Figure("parties", window.gate_parties, figures["funded_parties"]),
    ]
    for rule in window.gate_rules.all():
        committed = sum(row.hold_micros for row in rows if rule.resource_class_id in row.accepted_classes)
        found.append(Figure(f"notional_micros:{rule.resource_class_id}", rule.notional_micros, committed,
                            rule.resource_class_id))  # fmt: skip
    return found


def money_rules_of(window: Window) -> list[Figure]:
    """The part of a window's gate that asks for money per resource class, in micro-USD; often empty."""
    return [figure for figure in gate_of(window) if figure.resource_class]
