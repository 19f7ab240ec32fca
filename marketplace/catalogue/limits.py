"""The bounds every order keeps, said once for demands and bids."""

from __future__ import annotations

from collections.abc import Mapping

from marketplace.catalogue.models import Window
from marketplace.errors import (
    BadInput,
    BadSlots,
    ContradictoryRules,
    PriceOffTick,
    PriceOutOfRange,
    QuantityOutOfRange,
)
from pricing.errors import SlaError
from pricing.targets import check_targets

TICK_MICROS = 100
PRICE_MAX_MICROS = 10**9
QUANTITY_MAX_UNITS = 2**20
MONEY_MAX_MICROS = 2**62


def require_price(price_micros: object, *, field: str) -> int:
    """A price in micro-USD per unit-hour: a whole number from 100 to 1e9 on the tick of 100."""
    price = require_whole(price_micros, field=field)
    if not TICK_MICROS <= price <= PRICE_MAX_MICROS:
        raise PriceOutOfRange(
            "A price is between 100 and 1,000,000,000 micro-USD per unit-hour.", field=field, price=price
        )
    if price % TICK_MICROS:
        raise PriceOffTick("A price is a multiple of 100 micro-USD.", field=field, nearest=price - price % TICK_MICROS)
    return price


def require_quantity(quantity_units: object) -> int:
    """Whole units, 1 to 2^20."""
    quantity = require_whole(quantity_units, field="quantity_units")
    if not 1 <= quantity <= QUANTITY_MAX_UNITS:
        raise QuantityOutOfRange("A quantity is a whole number of units from 1 to 1,048,576.", field="quantity_units")
    return quantity


def require_slots(start_slot: object, end_slot: object, *, window: Window) -> tuple[int, int]:
    """A half-open range of hourly slots inside the window."""
    start, end = require_whole(start_slot, field="start_slot"), require_whole(end_slot, field="end_slot")
    if not 0 <= start < window.slots:
        raise BadSlots(f"The first slot is between 0 and {window.slots - 1}.", field="start_slot", slots=window.slots)
    if not start < end <= window.slots:
        raise BadSlots(
            f"The end slot is after the first slot and at most {window.slots}.", field="end_slot", slots=window.slots
        )
    return start, end


def require_targets(targets: Mapping[str, int] | None, *, hours: int) -> dict[str, int]:
    """Typed SLA targets of the menu, by name; raises BadInput off the menu, ContradictoryRules with the `rule` broken.

    A target that nothing in so many hours could show to be broken contradicts its lease.
    """
    if targets is not None and not isinstance(targets, Mapping):
        raise BadInput("Targets are names with their bounds.", field="sla_targets")
    asked = dict(targets or {})
    try:
        check_targets(asked, hours=hours)
    except SlaError as error:
        is_menu = error.facts["rule"] in ("no_such_target", "off_the_menu")
        refusal = BadInput if is_menu else ContradictoryRules
        raise refusal(str(error), field="sla_targets", **error.facts) from error
    return dict(sorted(asked.items()))


def require_whole(number: object, *, field: str) -> int:
    """A whole number, of any size; raises BadInput."""
    # A bool is an int to Python, and a float has already lost money: both are refused, never coerced.
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadInput("Write a whole number.", field=field)
    return number


def require_name(name: object, *, field: str, longest: int) -> str:
    """A printable text of 1 to `longest` characters that is not blank; raises BadInput."""
    if not isinstance(name, str) or not name.strip() or len(name) > longest or not name.isprintable():
        raise BadInput(f"Write 1 to {longest} printable characters.", field=field)
    return name
