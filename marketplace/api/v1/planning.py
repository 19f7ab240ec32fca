"""Planning before any demand stands: where workloads belong. Nothing is stored but the reply to its key."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.response import Response

from marketplace.api.fields import Body, Micros, TextIn, WholeIn
from marketplace.api.schema import IDEMPOTENCY_KEY, act_answers
from marketplace.api.views import ActView
from marketplace.insights.workload_map import LINES_MAX, Placed, place_workloads
from pricing.workloads import SHAPES, Workload


class WorkloadIn(serializers.Serializer):
    """One workload as its owner sees it."""

    name = TextIn(60, help_text="becomes the reference of the demand")
    units = WholeIn(help_text="1 to 2^20")
    data_class = TextIn(40, help_text="a data class of the catalogue, such as public or regulated-health")
    hours_per_week = WholeIn(help_text="1 to 168")
    latency_ms = WholeIn(required=False, allow_null=True, help_text="p95 round trip it needs; left out: a batch")
    shape = TextIn(20, required=False, help_text=f"one of {', '.join(SHAPES)}; batch when left out")
    zone = TextIn(12, required=False, help_text="where its data must stay")
    memory_gib = WholeIn(required=False, help_text="per unit; any class that holds it is proposed")
    present_usd_per_year = WholeIn(required=False, help_text="what it costs now, whole dollars")

    def to_internal_value(self, data: Any) -> Any:
        """Refuse unknown fields here as the body does at its top."""
        unknown = [name for name in data if name not in self.fields] if isinstance(data, dict) else []
        if unknown:
            sentence = ErrorDetail("There is no such field.", code="unknown_field")
            raise serializers.ValidationError({name: [sentence] for name in unknown})
        return super().to_internal_value(data)


class WorkloadsIn(Body):
    """A list of workloads, placed as a whole or not at all."""

    workloads = serializers.ListField(child=WorkloadIn(), allow_empty=False, max_length=LINES_MAX)


class PlacementOut(serializers.Serializer):
    """Where one workload belongs, with the rule that decided each part and the terms of its demand."""

    name = serializers.CharField(source="placement.workload.name")
    quadrant = serializers.CharField(source="placement.quadrant")
    route = serializers.CharField(source="placement.route", help_text="mesh, hybrid or central")
    latency_class = serializers.CharField(source="placement.latency_class")
    tier_min = serializers.IntegerField(source="placement.tier")
    zone_code = serializers.CharField(source="placement.zone", help_text="empty: anywhere")
    control_zone_code = serializers.CharField(source="placement.control_zone", help_text="empty: no rule")
    kind = serializers.CharField(source="placement.kind")
    is_one_site = serializers.BooleanField(source="placement.is_one_site")
    sla_bps = serializers.IntegerField(source="placement.sla_bps")
    accepted_classes = serializers.ListField(child=serializers.CharField(), source="form.accepted_classes")
    price_limit_micros = Micros(
        source="placement.price_limit_micros", help_text="what a unit-hour costs now; 0: not told"
    )
    rules = serializers.ListField(child=serializers.CharField(), source="placement.rules")


class PlacementsOut(serializers.Serializer):
    """All of them, in the order of the list."""

    placements = PlacementOut(many=True)


class WorkloadPlacements(ActView):
    body = WorkloadsIn
    is_under_caps = True  # it writes nothing

    @extend_schema(
        operation_id="place_workloads", tags=["planning"], request=WorkloadsIn, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, PlacementsOut),
    )  # fmt: skip
    def post(self, request: Any) -> Response:
        """Place workloads on latency and privacy. Moves nothing; each placement has the terms of its demand."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        found = [(line, Workload(**row)) for line, row in enumerate(fields["workloads"], start=1)]
        placed: list[Placed] = place_workloads(found, party=request.party, on=request.now.date())
        return 200, dict(PlacementsOut({"placements": placed}).data)
