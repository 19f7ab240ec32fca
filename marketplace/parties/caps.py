"""What a program's key may do at most: money per day, open orders, resource classes. Counted under the key's row lock.

An order is a bid or a demand. Its notional is units x hours x price per unit-hour. A row per order says which key
placed it and not what it says: a sealed bid stays sealed, and its notional is read in its party's own copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from marketplace.errors import BadInput, KeyCapped, NotYours
from marketplace.governance.services import record
from marketplace.parties.models import ApiKey, KeyUse, Party, Seat
from marketplace.parties.roles import require_seat

MONEY_MAX_MICROS = 10**18
OPEN_MAX = 100_000
Orders = Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Caps:
    """The most a key may do; None or an empty tuple: no such cap."""

    notional_day_max_micros: int | None = None  # of all orders it places in one UTC day
    open_orders_max: int | None = None  # that it has placed and that still wait for clearing
    resource_classes: tuple[str, ...] = ()  # the only ones it may order

    def require(self) -> None:
        """Raise BadInput for a cap that caps nothing sensible."""
        for field, most in (("notional_day_max_micros", MONEY_MAX_MICROS), ("open_orders_max", OPEN_MAX)):
            value = getattr(self, field)
            if value is not None and not 1 <= value <= most:
                raise BadInput("A cap is at least one; leave it out to have none.", field=field)
        if len(self.resource_classes) > 50 or any(not 1 <= len(code) <= 20 for code in self.resource_classes):
            raise BadInput("Name at most 50 resource classes.", field="resource_classes")


@dataclass(frozen=True, slots=True)
class Order:
    """An order about to be placed, and how the earlier ones of its key are counted."""

    kind: str  # `bid` or `demand`
    resource_classes: Collection[str]
    notional_micros: int
    notional_of: Callable[[Orders], int]  # micro-USD of those orders
    open_among: Callable[[Orders], int]  # how many of those orders still wait for clearing


def caps_of(key: ApiKey) -> Caps:
    """The caps of a key."""
    return Caps(key.notional_day_max_micros, key.open_orders_max, tuple(key.resource_classes))


@transaction.atomic
def cap_api_key(*, key: ApiKey, party: Party, caps: Caps, seat: Seat | None = None, now: datetime) -> ApiKey:
    """Change what a key may do from now on; what it placed today still counts."""
    require_seat(seat, party, "keys", "manage API keys")
    caps.require()
    locked = ApiKey.objects.select_for_update().filter(pk=key.pk, party=party).first()
    if locked is None:
        raise NotYours("There is no such key.")
    if locked.revoked_at:
        raise BadInput("A key that is revoked stays revoked: make a new one.", field="key")
    locked.notional_day_max_micros = caps.notional_day_max_micros
    locked.open_orders_max, locked.resource_classes = caps.open_orders_max, list(caps.resource_classes)
    locked.save(update_fields=["notional_day_max_micros", "open_orders_max", "resource_classes"])
    record(
        actor=seat.user.email if seat else party.slug, action="cap_api_key", subject=key.prefix, reason="caps changed",
        now=now, notional_day_max_micros=caps.notional_day_max_micros, open_orders_max=caps.open_orders_max,
        resource_classes=list(caps.resource_classes),
    )  # fmt: skip
    return locked


def require_within_caps(key: ApiKey | None, order: Order, now: datetime) -> None:
    """Refuse an order beyond a cap of its key with `key_capped`. Call it in the transaction that places the order.

    The row lock is held until that ends, so of two orders that fit alone only one is placed. The notional of a
    withdrawn order still counts on its day.
    """
    if key is None:
        return
    locked = ApiKey.objects.select_for_update().get(pk=key.pk)
    if locked.resource_classes and not set(order.resource_classes) <= set(locked.resource_classes):
        raise KeyCapped("This key may not order that resource class.", cap="resource_classes",
                        allowed=list(locked.resource_classes))  # fmt: skip
    used = KeyUse.objects.filter(key=locked, kind=order.kind)
    most = locked.open_orders_max
    if most is not None and (standing := order.open_among(list(used.values_list("subject", flat=True)))) >= most:
        raise KeyCapped("This key has as many open orders as it may have.", cap="open_orders_max", open=standing,
                        allowed=most)  # fmt: skip
    most = locked.notional_day_max_micros
    if most is not None:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        spent = order.notional_of(list(used.filter(at__gte=midnight).values_list("subject", flat=True)))
        if spent + order.notional_micros > most:
            raise KeyCapped(
                "That is more than this key may order in one day.", cap="notional_day_max_micros",
                ordered_micros=spent, this_micros=order.notional_micros, allowed_micros=most,
            )  # fmt: skip


def note_use(key: ApiKey | None, kind: str, subject: UUID, now: datetime) -> None:
    """Remember which key placed an order."""
    if key is not None:
        KeyUse.objects.create(key=key, kind=kind, subject=subject, at=now)


def require_placed_by(key: ApiKey | None, kind: str, subject: UUID) -> None:
    """Refuse a capped key that acts on an order it did not place: that order was never counted under its caps."""
    if key is not None and is_capped(key) and not KeyUse.objects.filter(key=key, kind=kind, subject=subject).exists():
        raise KeyCapped("A capped key acts on orders that it placed itself.", cap="own_orders")


def is_capped(key: ApiKey) -> bool:
    """Whether any cap is set."""
    return caps_of(key) != Caps()
