"""Comparator quotes (M-096): what others ask for comparable capacity, edge zones of clouds included.

They are cited, never mixed with prices of this market: a quote is what somebody asks, a price is what was paid.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.db import transaction
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber

from marketplace.catalogue.limits import require_name, require_whole
from marketplace.catalogue.models import ResourceClass
from marketplace.catalogue.services import find_named
from marketplace.errors import BadInput, PriceOutOfRange
from marketplace.governance.services import record
from marketplace.insights.quote_models import ComparatorQuote
from marketplace.parties.countries import require_country
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act

PRICE_MAX_MICROS = 10**9


@transaction.atomic
def add_quote(
    *, seat: Seat, resource_class: str, provider: str, place: str, country: str, is_edge: bool, price_micros: int,
    source: str, quoted_on: date, now: datetime,
) -> ComparatorQuote:  # fmt: skip
    """Enter a published price, micro-USD per unit-hour; the same again is the same row.

    Raises BadInput without a source or for a day that has not come, PriceOutOfRange.
    """
    require_act(seat, "operate", "enter comparator quotes")
    chosen = find_named(ResourceClass, resource_class, field="resource_class")
    if chosen is None:
        raise BadInput("Choose a resource class.", field="resource_class")
    for field, text, longest in (("provider", provider, 80), ("place", place, 80), ("source", source, 300)):
        require_name(text, field=field, longest=longest)
    require_country(country, "country")
    if not 1 <= require_whole(price_micros, field="price_micros") <= PRICE_MAX_MICROS:
        raise PriceOutOfRange("A price is at least one micro-USD per unit-hour.", field="price_micros")
    today = now.astimezone(UTC).date()
    if quoted_on > today:
        raise BadInput("A quote was made on a day that has come.", field="quoted_on")
    quote, is_new = ComparatorQuote.objects.get_or_create(
        resource_class=chosen, provider=provider, place=place, quoted_on=quoted_on, price_micros=price_micros,
        defaults={"country": country, "is_edge": is_edge, "source": source, "entered_on": today,
                  "person": seat.user.email},
    )  # fmt: skip
    if is_new:
        record(actor=seat.user.email, action="add_quote", subject=chosen.pk, reason=source, now=now, provider=provider,
               place=place, price_micros=price_micros, quoted_on=str(quoted_on))  # fmt: skip
    return quote


def current_quotes() -> QuerySet[ComparatorQuote]:
    """The newest quote of each provider, place and class, by class and price."""
    newest = Window(RowNumber(), partition_by=[F("resource_class"), F("provider"), F("place")],
                    order_by=[F("quoted_on").desc(), F("id").desc()])  # fmt: skip
    return ComparatorQuote.objects.annotate(age=newest).filter(age=1).order_by("resource_class", "price_micros", "id")
