"""The catalogue, and the life of a window."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import date, datetime

from django.db import transaction
from django.db.models import Max, Q

from ledger.ids import uuid7
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_name, require_whole
from marketplace.catalogue.models import Window, WindowTransition, Zone, ZoneMember
from marketplace.errors import BadInput, BadSlots, ReferenceReused, StateSkipped, UnknownName
from marketplace.governance.services import record

GATE_MAX = 2**31
CONCENTRATION_PPM = 300_000
COVER_PPM, COVER_PPM_MAX = 2_000_000, 10**9  # twice the funded demand is let in, so that providers compete
# What may follow what. The database holds the same table in a trigger, for whoever does not come through here.
NEXT_STATES = {
    "COLLECTING": ("BIDDING", "FAILED"),
    "BIDDING": ("CLEARING", "FAILED"),
    "CLEARING": ("CLEARED", "FAILED"),
    "CLEARED": ("DELIVERING",),
    "DELIVERING": ("SETTLED",),
    "SETTLED": (),
    "FAILED": (),
}


@transaction.atomic
def open_window(
    *,
    name: str,
    slots: int,
    starts_at: datetime,
    demand_closes_at: datetime,
    no_cancel_from: datetime,
    bidding_closes_at: datetime,
    gate_unit_hours: int,
    gate_parties: int,
    kind: str = "market",
    concentration_ppm: int | None = CONCENTRATION_PPM,
    foundation_budget_micros: int | None = None,
    cover_ppm: int = COVER_PPM,
    salt: str = "",
    now: datetime,
) -> Window:
    """Open a window in COLLECTING, or return it when one of this name stands on the same terms.

    `gate_unit_hours` and `gate_parties` are what funded demand must reach before any bid is let in, and `cover_ppm` is
    how much capacity each funded unit-hour lets in, in parts per million. Of what trades in a
    product one parent may sell at most `concentration_ppm`, and the Foundation's own demand may cost at most
    `foundation_budget_micros` at its limits; None: no such rule.
    `salt` makes the pseudonyms of the public bundle; empty means fresh ones.
    """
    require_name(name, field="name", longest=60)
    for field, number in (("slots", slots), ("gate_unit_hours", gate_unit_hours), ("gate_parties", gate_parties)):
        require_whole(number, field=field)
    terms = {
        "slots": slots, "starts_at": starts_at, "demand_closes_at": demand_closes_at, "no_cancel_from": no_cancel_from,
        "bidding_closes_at": bidding_closes_at, "gate_unit_hours": gate_unit_hours, "gate_parties": gate_parties,
        "kind": kind, "concentration_ppm": concentration_ppm, "foundation_budget_micros": foundation_budget_micros,
        "cover_ppm": cover_ppm,
    }  # fmt: skip
    standing = Window.objects.filter(name=name).first()
    if standing:
        if any(getattr(standing, term) != value for term, value in terms.items()):
            raise ReferenceReused("Another window has this name.", field="name")
        return standing
    if not 1 <= slots <= 744:
        raise BadSlots("A window has 1 to 744 hourly slots.", field="slots")
    if kind not in Window.KINDS:
        raise BadInput(f"A window is one of {', '.join(Window.KINDS)}.", field="kind")
    if not now < demand_closes_at <= no_cancel_from <= bidding_closes_at <= starts_at:
        raise BadInput("A window's times must lie ahead and follow each other.", field="demand_closes_at")
    if not (1 <= gate_unit_hours < GATE_MAX and 1 <= gate_parties < GATE_MAX):
        raise BadInput("A gate asks for at least one unit-hour and one party.", field="gate_unit_hours")
    _check_rules(concentration_ppm, foundation_budget_micros)
    if not 1 <= require_whole(cover_ppm, field="cover_ppm") <= COVER_PPM_MAX:
        raise BadInput("A cover ratio is 1 to 1,000,000,000 parts per million.", field="cover_ppm")
    window_id = uuid7(now)
    number = (Window.objects.aggregate(top=Max("number"))["top"] or 0) + 1
    window = Window.objects.create(
        id=window_id, number=number, name=name, opened_at=now, **terms,
        pseudonym_salt=hashlib.sha256((salt or window_id.hex).encode()).digest(),
    )  # fmt: skip
    record(actor="foundation", action="open_window", subject=name, reason="window opened", now=now, slots=slots)
    return window


def _check_rules(concentration_ppm: object, foundation_budget_micros: object) -> None:
    if concentration_ppm is not None and not 1 <= require_whole(concentration_ppm, field="concentration_ppm") <= 10**6:
        raise BadInput("A cap on one parent's share is 1 to 1,000,000 parts per million.", field="concentration_ppm")
    if foundation_budget_micros is not None and not (
        0 <= require_whole(foundation_budget_micros, field="foundation_budget_micros") < MONEY_MAX_MICROS
    ):
        raise BadInput("A budget is no negative amount, and fits the books.", field="foundation_budget_micros")


@transaction.atomic
def move_window(*, window: Window, to_state: str, reason: str, now: datetime, **facts: object) -> Window:
    """Move a window one state on, with reason and figures. Raises StateSkipped; the database refuses it too."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if to_state not in NEXT_STATES[locked.state]:
        raise StateSkipped(
            f"A window in {locked.state} cannot move to {to_state}.", state=locked.state, to_state=to_state
        )
    WindowTransition.objects.create(
        window=locked, from_state=locked.state, to_state=to_state, reason=reason, facts=facts, at=now
    )
    locked.state = to_state
    locked.save(update_fields=["state"])
    record(
        actor="market", action="move_window", subject=locked.name, reason=reason, now=now, to_state=to_state, **facts
    )
    window.state = to_state
    return locked


def zone_countries(*, zone: Zone, on: date) -> tuple[str, ...]:
    """Member countries of a zone on a day, sorted."""
    rows = ZoneMember.objects.filter(zone=zone, valid_from__lte=on).filter(Q(valid_until=None) | Q(valid_until__gt=on))
    return tuple(sorted(rows.values_list("country", flat=True)))


def find_named(model: type, code: str | None, *, field: str):  # type: ignore[no-untyped-def]
    """The catalogue row called `code`; None for an empty code; UnknownName otherwise."""
    if not code:
        return None
    row = model.objects.filter(pk=code).first() if isinstance(code, str) and code.isprintable() else None
    if row is None:
        known = list(model.objects.values_list("pk", flat=True)[:30])
        raise UnknownName(
            f"There is no {model._meta.verbose_name} called {str(code)[:40]!r}.", field=field, known=known
        )
    return row


def require_known_classes(codes: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Accepted classes, sorted and each known; raises UnknownName or BadInput."""
    if not codes or isinstance(codes, str):
        raise BadInput("Name at least one accepted resource class.", field="accepted_classes")
    unknown = sorted(set(codes) - set(known))
    if unknown:
        raise UnknownName(
            f"There is no resource class called {str(unknown[0])[:40]!r}.",
            field="accepted_classes",
            known=sorted(known),
        )
    return tuple(sorted(set(codes)))
