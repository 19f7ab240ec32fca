"""What a buyer says: what hurts, what it spends, what somebody else quotes, and what it would pay (M-002 to M-004)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.fields import Body, DayIn, IdOut, Micros, TextIn, WholeIn
from marketplace.api.paging import page_by_time
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.demand.selectors import find_demand
from marketplace.insights.models import SEGMENTS, DemandStatement
from marketplace.insights.worth import PAIN_MAX, state_worth, statements_by


class StatementOut(serializers.ModelSerializer):
    """One version of what you said, about a demand or about none."""

    id = IdOut("say", source="pk")
    demand = IdOut("dem", source="demand_id", allow_null=True)
    quote_micros = Micros(allow_null=True)

    class Meta:
        model = DemandStatement
        fields = (
            "id", "demand", "version", "segment", "pain", "present_usd_per_year", "incumbent", "quote_micros",
            "quote_latency_ms", "quote_country", "quote_source", "quoted_on", "curves", "stated_at",
        )  # fmt: skip


class CurveIn(serializers.Serializer):
    """A price curve of a demand, as it stands or without one attribute that it names."""

    without = TextIn(10, required=False, help_text="zone, control, tier or latency; left out: the demand as it stands")
    steps = serializers.ListField(
        child=serializers.ListField(child=WholeIn(), min_length=2, max_length=2), allow_empty=False, max_length=8,
        help_text="[micro-USD per unit-hour, units], prices falling",
    )  # fmt: skip


class StatementIn(Body):
    """What a demand is worth to you, or, without one, what hurts you today."""

    segment = TextIn(15, help_text=f"one of {', '.join(SEGMENTS)}")
    demand = TextIn(36, required=False, help_text="the demand it is about; left out: your needs at large")
    pain = TextIn(PAIN_MAX, required=False, help_text="what is wrong with the present way; asked for without a demand")
    present_usd_per_year = WholeIn(required=False, help_text="whole dollars")
    incumbent = TextIn(120, required=False, help_text="who supplies or quotes it")
    quote_micros = WholeIn(required=False, help_text="their all-in price per unit-hour, on the tick of 100")
    quote_latency_ms = WholeIn(required=False)
    quote_country = TextIn(2, required=False)
    quote_source = TextIn(300, required=False, help_text="offer, invoice or price list")
    quoted_on = DayIn(required=False)
    curves = serializers.ListField(child=CurveIn(), required=False, allow_empty=False, max_length=5)


class StatementList(ListMixin, ActView):
    shape = StatementOut
    body = StatementIn

    @extend_schema(operation_id="list_statements", tags=["demands"], responses=page_of(StatementOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Every version of what you said, oldest first."""
        return self.page(request, page_by_time(statements_by(request.party), self.query(request), created="stated_at"))

    @extend_schema(operation_id="state_worth", tags=["demands"], request=StatementIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, StatementOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Say what a demand is worth while its window collects, or what hurts before you have one."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        if "demand" in fields:
            fields["demand"] = found(find_demand(key_of(fields["demand"], "dem"), request.party))
        if "curves" in fields:
            fields["curves"] = {curve.get("without", ""): curve["steps"] for curve in fields["curves"]}
        return 201, dict(StatementOut(state_worth(party=request.party, now=request.now, **fields)).data)
