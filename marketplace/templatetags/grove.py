"""Template tags of every page: money, units, times, state badges, charts. No rule of the market lives here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms, template
from django.conf import settings
from django.forms import BoundField
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from marketplace import doors
from marketplace.agent.keys import fingerprint_of
from marketplace.insights import words
from marketplace.insights.drawing import usd_text
from marketplace.navigation import navigation_of
from marketplace.portal.fonts import is_cut
from pricing.latency import class_of
from pricing.targets import MENU, TARGETS, bound_words

MICROS_PER_CENT = 10_000
register = template.Library()
PREFIXES = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@register.filter
def usd(micros: int | None, places: int = 2) -> str:
    """Show integer micro-USD as dollars: 1940000 -> $1.94. Less than a cent is shown whole: 1 -> $0.000001."""
    if micros is None:
        return "–"
    if places == 2 and 0 < abs(int(micros)) < MICROS_PER_CENT:
        return usd_text(int(micros), 6).rstrip("0")
    return usd_text(int(micros), places)


@register.filter
def usd_rate(micros: int | None) -> SafeString | str:
    """Show a price: $1.94 per unit-hour. Below a cent the digits that matter stay."""
    if micros is None:
        return "–"
    places = 2 if micros % 10_000 == 0 else 4
    return format_html('{} <span class="unit">per unit-hour</span>', usd_text(int(micros), places))


@register.filter
def usd_exact(micros: int | None) -> str:
    """Show micro-USD with all six decimals."""
    return "–" if micros is None else usd_text(int(micros), 6)


@register.filter
def usd_signed(micros: int) -> str:
    """Show a movement with its sign: +$12.00, -$3.50."""
    return ("+" if micros > 0 else "") + usd(int(micros))


@register.filter
def usd_saving(micros: int) -> str:
    """Say a yearly difference in words, to the dollar: `$2,800,000 less`, `$3 more`."""
    return usd_text(abs(micros), 0) + (" more" if micros < 0 else " less")


@register.filter
def tenths(value: int) -> str:
    """Show tenths: 144 -> 14.4."""
    return f"{value / 10:g}"


@register.filter
def words_of_target(name: str) -> str:
    """Show a typed SLA target by its words."""
    return TARGETS[name].words if name in TARGETS else name


@register.filter
def targets_in_words(targets: dict[str, int] | None) -> list[str]:
    """Show what is promised beside availability, a line each."""
    asked = targets or {}
    return [f"{each.words}: {bound_words(each, asked[each.name])}" for each in MENU if each.name in asked]


@register.simple_tag
def latency_class(demand: Any) -> str:
    """Show the latency class whose bound and target a demand keeps; empty where it keeps none."""
    return class_of(latency_ms_max=demand.latency_ms_max, targets=demand.sla_targets)


@register.simple_tag
def short_of(needed_micros: int, have_micros: int) -> str:
    """Show how much of an amount is missing."""
    return usd_text(max(0, needed_micros - have_micros))


@register.filter
def count(number: int | None) -> str:
    """Show a whole number with thousands separators."""
    return "–" if number is None else f"{int(number):,}"


@register.filter
def percent_bps(bps: int | None) -> str:
    """Show basis points as a percentage: 9950 -> 99.50 %."""
    return "–" if bps is None else f"{int(bps) // 100}.{int(bps) % 100:02d} %"


@register.filter
def percent_ppm(ppm: int | None) -> str:
    """Show parts per million as a percentage: 998123 -> 99.812 %."""
    return "–" if ppm is None else f"{int(ppm) // 10_000}.{int(ppm) % 10_000 // 10:03d} %"


@register.filter
def percent_signed(ppm: int | None) -> str:
    """Show parts per million that may be below zero, to a tenth of a percent, half away from zero: -12.3 %."""
    if ppm is None:
        return "–"
    tenths = (abs(int(ppm)) + 500) // 1000
    return f"{'-' if ppm < 0 and tenths else ''}{tenths // 10}.{tenths % 10} %"


@register.filter
def metric(number: int, unit: str = "") -> str:
    """Show a large figure with a metric prefix and three digits: 987707377000000 -> 987 T."""
    for size, prefix in PREFIXES:
        if number >= size:
            return f"{number // size:,}.{number % size * 10 // size} {prefix}{unit}"
    return f"{number} {unit}"


@register.filter
def utc(instant: datetime | str | None) -> SafeString | str:
    """Show an instant in UTC, readable by machines too. A document says it as text (ISO 8601)."""
    if not instant:
        return "–"
    at = (datetime.fromisoformat(instant) if isinstance(instant, str) else instant).astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', at.isoformat(timespec="seconds"), f"{at:%d %b %Y, %H:%M} UTC")


@register.filter
def day(instant: datetime | None) -> str:
    """Show the UTC day of an instant."""
    return "–" if instant is None else f"{instant.astimezone(UTC):%d %b %Y}"


@register.filter
def distance(instant: datetime | None, now: datetime) -> str:
    """Say how far away an instant is: in 3 h 12 min, 2 days ago."""
    if instant is None:
        return ""
    seconds = int((instant - now).total_seconds())
    minutes = abs(seconds) // 60
    if minutes >= 2880:
        words_ = f"{minutes // 1440} days"
    elif minutes >= 60:
        words_ = f"{minutes // 60} h {minutes % 60} min" if minutes < 1440 else f"1 day {minutes % 1440 // 60} h"
    else:
        words_ = f"{minutes} min"
    return f"in {words_}" if seconds >= 0 else f"{words_} ago"


@register.filter
def some(names: list[str]) -> str:
    """Name up to three things, then say how many more there are."""
    if len(names) <= 3:
        return " or ".join(names)
    return f"{', '.join(names[:2])} or {len(names) - 2} more"


@register.filter
def hexed(raw: bytes | memoryview | str | None) -> str:
    """Show bytes as 0x hex."""
    if raw is None:
        return "–"
    return raw if isinstance(raw, str) else "0x" + bytes(raw).hex()


@register.filter
def fingerprint(public_key: bytes | memoryview | None) -> str:
    """Show a public key as people compare it: eight groups of four hex digits."""
    return "–" if public_key is None else fingerprint_of(bytes(public_key))


@register.filter
def short(text: str, keep: int = 10) -> str:
    """Shorten a hash or address in the middle."""
    return text if len(text) <= 2 * keep + 1 else f"{text[:keep]}…{text[-4:]}"


@register.filter
def slot_at(window: Any, slot: int) -> SafeString | str:
    """Show when an hourly slot of a window starts."""
    return utc(window.slot_at(slot))


@register.simple_tag
def badge(kind: str, state: str) -> SafeString:
    """Draw a state as a badge that carries words, never colour alone."""
    tone, text = words.badge(kind, state)
    return format_html('<span class="tag tag-{}">{}</span>', tone, text)


@register.simple_tag
def state_words(kind: str, state: str) -> str:
    """Say a state in words."""
    return words.badge(kind, state)[1]


@register.filter
def transfer_words(reason_: str) -> str:
    """Say why money moved."""
    return words.TRANSFERS.get(reason_, reason_.replace("_", " "))


@register.filter
def account_words(code: str) -> str:
    """Say what an account of a party is."""
    return words.ACCOUNTS.get(code, code)


@register.filter
def part_words(name: str) -> str:
    """Return what a part of a price is called."""
    return words.PARTS[name]


@register.filter
def supply_words(name: str) -> str:
    """Return what a column of a site or node class is called."""
    return words.SUPPLY.get(name, name.replace("_", " "))


@register.simple_tag
def reason(code: str, detail: dict | None = None) -> str:
    """Say why a line was not filled."""
    return words.reason_sentence(code, detail)


@register.simple_tag
def next_words(window: Any) -> str:
    """Say what happens next in a window."""
    return words.what_happens_next(window)


@register.simple_tag
def next_time(window: Any) -> tuple[str, datetime] | None:
    """Return the next event of a window and its time."""
    return words.next_time(window)


@register.inclusion_tag("parts/chart.html")
def chart(drawn: Any, table_open: bool = False) -> dict[str, Any]:
    """Place a finished chart: both drawings, the finding, and the table of its figures. Its text is escaped inside."""
    return {"chart": drawn, "wide": mark_safe(drawn.wide), "narrow": mark_safe(drawn.narrow), "open": table_open}


@register.inclusion_tag("parts/field.html")
def field(bound: BoundField, prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """Place a form field with its label, hint and errors, tied together for screen readers."""
    described = []
    at = bound.id_for_label or bound.auto_id  # several boxes have no one box that a label could name
    if bound.help_text:
        described.append(f"{at}_hint")
    if bound.errors:
        described.append(f"{at}_error")
    widget = bound.field.widget
    is_boxes = isinstance(widget, forms.CheckboxSelectMultiple)
    is_check = isinstance(widget, forms.CheckboxInput)
    kind = "" if is_boxes or is_check else "form-select" if isinstance(widget, forms.Select) else "form-control"
    attrs = {"class": kind + (" is-invalid" if bound.errors else "")}
    if described:
        attrs["aria-describedby"] = " ".join(described)
    if bound.errors:
        attrs["aria-invalid"] = "true"
    return {
        "field": bound, "widget": bound.as_widget(attrs=attrs), "prefix": prefix, "suffix": suffix,
        "is_check": is_check, "is_boxes": is_boxes, "at": at,
    }  # fmt: skip


@register.simple_tag(takes_context=True)
def door(context: Context) -> dict[str, Any]:
    """Return what the frame of every page needs: seat, party, market time, theme, whether this is a demo."""
    request = context.get("request")
    if request is None or not hasattr(request, "user"):
        return {"theme": "auto", "demo": settings.DEMO}
    seat = doors.seat_of(request)
    party = seat.party if seat else None
    theme = request.COOKIES.get("theme", "auto")
    return {
        "seat": seat, "party": party, "links": navigation_of(request, party), "now": doors.market_time(request),
        "demo": settings.DEMO, "theme": theme if theme in ("light", "dark") else "auto", "home": doors.home_of(request),
    }


@register.simple_tag(takes_context=True)
def market_now(context: Context) -> datetime:
    """Return market time."""
    return doors.market_time(context["request"])


@register.simple_tag
def font_is_cut() -> bool:
    """Say whether the small font was cut; else the system's font serves and no request is wasted."""
    return is_cut()


@register.simple_tag(takes_context=True)
def query(context: Context, **changes: Any) -> str:
    """Return the present query string with some values changed; empty values are dropped."""
    values = context["request"].GET.copy()
    for name, value in changes.items():
        values.pop(name, None)
        if value not in (None, ""):
            values[name] = str(value)
    return "?" + values.urlencode()
