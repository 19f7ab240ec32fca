"""Orders that are split into several demands, and what a buyer paid so far."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import api_key_of, seat_of
from marketplace.api.fields import Body, IdOut, Micros, TextIn, WholeIn
from marketplace.api.paging import page_by_mark
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.shapes import DemandOut
from marketplace.api.v1.demand import DemandIn
from marketplace.api.views import ActView, ApiView, ListMixin, found, key_of
from marketplace.catalogue.selectors import find_visible_window
from marketplace.demand.legs import post_split
from marketplace.demand.selectors import find_demand
from marketplace.insights.legs import legs_report
from marketplace.insights.price_history import Paid, price_history


class StepIn(Body):
    """Further units at a lower price."""

    units = WholeIn()
    price_limit_micros = WholeIn(help_text="micro-USD per unit-hour, below that of the step before")


class SplitIn(DemandIn):
    """The terms of a demand, and how it is split: by a cap on one provider, into a sensitive and another leg, or into
    the steps of a price curve."""

    provider_share_max_ppm = WholeIn(required=False, help_text="the most of it that one owner of providers may serve")
    insensitive_units = WholeIn(required=False, help_text="units without rules about place, law and data")
    further_steps = StepIn(many=True, required=False, help_text="the demand's own units and price are the first step")
    fallback_venue = TextIn(120, required=False, help_text="where the insensitive leg goes for what is not awarded")


class LegsOut(serializers.Serializer):
    """The legs of an order, each a demand of its own."""

    demands = DemandOut(many=True)


class SplitList(ActView):
    body = SplitIn

    @extend_schema(operation_id="post_split_demand", tags=["demands"], request=SplitIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, LegsOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Post an order as several demands, all in the answer. Each is funded, cleared and withdrawn by itself."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        window = found(find_visible_window(fields.pop("window"), request.party.pk))
        if "further_steps" in fields:
            fields["further_steps"] = [(step["units"], step["price_limit_micros"]) for step in fields["further_steps"]]
        made = post_split(party=request.party, window=window, now=request.now, seat=seat_of(request),
                          key=api_key_of(request), **fields)  # fmt: skip
        return 200, dict(LegsOut({"demands": made}).data)


class PlaceOut(serializers.Serializer):
    """What one provider in one country serves of a leg."""

    provider = serializers.CharField()
    country = serializers.CharField()
    unit_hours = serializers.IntegerField()


class LegOut(serializers.Serializer):
    """Where one leg went, and where the rest of it goes."""

    demand = IdOut("dem", source="leg.demand_id")
    role = serializers.CharField(source="leg.role")
    asked_unit_hours = serializers.IntegerField(source="asked")
    served_unit_hours = serializers.IntegerField(source="served")
    stayed_in_its_zone = serializers.BooleanField(source="stayed")
    rest_goes_to = serializers.CharField(help_text="empty when nothing is left")
    places = PlaceOut(many=True)


class LegReportOut(serializers.Serializer):
    """Every leg of an order."""

    legs = LegOut(many=True)


class LegReportDetail(ApiView):
    @extend_schema(operation_id="get_leg_report", tags=["demands"], responses=LegReportOut)
    def get(self, request: Any, demand: str) -> Response:
        """Which leg of the order of this demand went where; none for a demand that stands alone."""
        row = found(find_demand(key_of(demand, "dem"), request.party))
        return Response(LegReportOut({"legs": legs_report(row)}).data)


class PaidOut(serializers.Serializer):
    """What one demand cost in one window, beside what the same need cost before."""

    demand = IdOut("dem")
    reference = serializers.CharField()
    window = serializers.CharField()
    starts_at = serializers.DateTimeField()
    resource_class = serializers.CharField()
    unit_hours = serializers.IntegerField()
    price_micros = Micros(help_text="mean per unit-hour")
    before_micros = Micros(allow_null=True)
    change_ppm = serializers.IntegerField(allow_null=True)
    cap_ppm = serializers.IntegerField(allow_null=True, help_text="of the renewal, where a demand stands")


class PriceHistory(ListMixin, ApiView):
    shape = PaidOut

    @extend_schema(operation_id="get_price_history", tags=["money"], responses=page_of(PaidOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """What you paid per unit-hour, window by window, newest first."""
        query = self.query(request)
        return self.page(request, page_by_mark(price_history(request.party), query, Paid.mark, is_falling=True))
