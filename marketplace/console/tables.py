"""How every table is shown: read only, its filters named one by one, money in dollars, bytes in hex.

Nothing that moves money or state is an editable field; acts are buttons that call services. `Bid` and the replies that
repeat bids are not registered at all, and no look-up reaches them: a filter is allowed only if it is written down here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import BigIntegerField, BinaryField, Field, Model, Sum
from django.http import Http404, HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from marketplace.console.reads import told_audit_lines
from marketplace.errors import SealBroken, SealKeyLost
from marketplace.insights.drawing import usd_text

# Never shown: when a key was used tells when its party was at work, and a salt unmasks the public bundle's names.
HIDDEN = {"last_used_at", "secret_sha256", "pseudonym_salt", "transcript", "calldata", "body", "report"}
MONEY = ("_micros", "_posted", "_pending")
PER_PAGE = 50


def money(name: str) -> Callable[[Any], str]:
    """Return a column that shows a field of micro-USD as dollars."""

    @admin.display(description=name.removesuffix("_micros").replace("_", " "), ordering=name)
    def shown(row: Any) -> str:
        value = getattr(row, name)
        return "–" if value is None else usd_text(int(value))

    return shown


def hexed(name: str) -> Callable[[Any], str]:
    """Return a column that shows a field of bytes in hex."""

    @admin.display(description=name.replace("_", " "))
    def shown(row: Any) -> str:
        value = getattr(row, name)
        return bytes(value).hex() if value is not None else "–"

    return shown


def _dollars(digits: str) -> str:
    text = str(digits)
    return f"{usd_text(int(text), 6)} ({text} micro-USD)" if text.lstrip("-").isdigit() else text


class Table(ModelAdmin):
    """A table that can be looked at and nothing else."""

    actions = None
    list_per_page = PER_PAGE
    show_full_result_count = False
    list_filter_sheet = True
    list_fullwidth = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow the filters of this table and nothing else: `?bids__isnull=0` would already name the bidders."""
        allowed: set[str] = set()
        for name in self.list_filter:
            field = self.model._meta.get_field(name)
            allowed |= {name, f"{name}__exact", f"{name}__isnull"}
            if field.is_relation:
                allowed.add(f"{name}__{field.related_model._meta.pk.name}__exact")
        return lookup in allowed

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        names: list[Any] = []
        for field in self.model._meta.fields:
            if field.name not in HIDDEN:
                names.append(hexed(field.name) if isinstance(field, BinaryField) else field.name)
        return names

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    @property
    def readonly_preprocess_fields(self) -> dict[str, Callable[[str], str]]:  # type: ignore[override]
        return {f.name: _dollars for f in self.model._meta.fields if is_money(f)}

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """There is no second history: what was done stands in the audit trail."""
        raise Http404("see the audit trail")


class Trail(Table):
    """The audit trail without its numbers: a gap among them would count the bids that are still sealed."""

    list_display_links = None

    def get_queryset(self, request: HttpRequest) -> Any:
        return told_audit_lines(super().get_queryset(request)).order_by("-no")

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        raise Http404("lines are read in the list")


class Told(Table):
    """What parties were told, but for what would name those whose bids were never opened."""

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).exclude(code__in=(SealKeyLost.code, SealBroken.code))


class Rolls(Table):
    """Roll calls with how many machines were called and how many answered."""

    def get_queryset(self, request: HttpRequest) -> Any:
        machines = {"called": Sum("members__machines"), "answered": Sum("members__answer__machines")}
        return super().get_queryset(request).annotate(**machines)


@admin.display(description="machines that answered")
def answered(row: Any) -> str:
    """Return the column of `Rolls` that says so."""
    return f"{row.answered or 0} of {row.called or 0}"


def is_money(field: Field) -> bool:
    """Say whether a field holds micro-USD."""
    return isinstance(field, BigIntegerField) and field.name.endswith(MONEY)


def table_of(model: type[Model], base: type[Table] = Table, **options: Any) -> type[Table]:
    """Return the admin class of a table. `show`, `filters` and `search` name its columns, filters, searched fields."""
    columns = [
        money(name) if isinstance(name, str) and name.endswith("_micros") else name for name in options.pop("show")
    ]
    filters, search = options.pop("filters", ()), options.pop("search", ())
    body = {"list_display": columns, "list_filter": filters, "search_fields": search, **options}
    return type(f"{model.__name__}Table", (base,), body)
