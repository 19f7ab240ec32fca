"""Windows: public, as on the market page."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from marketplace.api.paging import choice, page_by_mark, page_by_time
from marketplace.api.schema import CURSOR, LIMIT, page_of, parameter
from marketplace.api.shapes import ValuePage, WindowOut
from marketplace.api.views import ListMixin, PublicView, found, key_of, key_of_party
from marketplace.catalogue.models import STATES
from marketplace.catalogue.selectors import find_visible_window, list_windows, visible_to
from marketplace.demand.selectors import gates_of
from marketplace.insights.value import Value, values
from marketplace.supply.verifiers import is_demo_panel


class WindowList(ListMixin, PublicView):
    shape = WindowOut
    filters = ("state",)

    @extend_schema(
        operation_id="list_windows", tags=["windows"], auth=[], responses=page_of(WindowOut),
        parameters=[parameter("state", "only windows in this state", STATES), LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Windows with their gate: funded demand against what opens bidding. Oldest first.

        A window between two is listed for those two.
        """
        query = self.query(request)
        windows = visible_to(list_windows(), key_of_party(request)).prefetch_related("indicative_prices")
        if state := choice(query, "state", STATES):
            windows = windows.filter(state=state)
        page = page_by_time(windows, query, created="opened_at")
        return self.page(request, page, gates=gates_of(page.rows))


class ValueList(ListMixin, PublicView):
    frame = ValuePage

    @extend_schema(operation_id="list_values", tags=["market"], auth=[], responses=ValuePage,
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """What a dollar buys: proven operations per USD of each resource class, the most first."""
        page = page_by_mark(values(request.now), self.query(request), Value.mark)
        return self.framed(request, page, is_demo_panel=is_demo_panel())


class WindowDetail(PublicView):
    @extend_schema(operation_id="get_window", tags=["windows"], auth=[], responses=WindowOut)
    def get(self, request: Any, window: str) -> Response:
        """One window."""
        row = found(find_visible_window(key_of(window, "win"), key_of_party(request)))
        return Response(WindowOut(row, context={"gates": gates_of([row])}).data)
