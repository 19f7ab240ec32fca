"""What a running or judged lease adds up to: its health, its targets, the evidence of its verdict, its cases."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.fields import IdOut, Micros
from marketplace.api.paging import page_by_time, parameters, whole
from marketplace.api.schema import CURSOR, LIMIT, page_of
from marketplace.api.views import ApiView, ListMixin, found, key_of
from marketplace.delivery.evidence_models import DeliveryCase
from marketplace.delivery.selectors import cases_of, find_lease_of_party, lease_minutes
from marketplace.sla.burning import burn_rates
from marketplace.sla.evidence import receipt_of, receipt_of_target, statements_of
from marketplace.sla.models import TargetVerdict
from marketplace.sla.selectors import promised_and_measured

HOURS_SHOWN = 24
TAG = ["delivery"]


class HourOut(serializers.Serializer):
    """One hour minute by minute, a letter each: u(p) d(own) ?(unknown); b(illed) h(eld) -(unpaid)."""

    slot = serializers.IntegerField(source="tally.slot")
    starts_at = serializers.DateTimeField()
    verdicts = serializers.CharField()
    money = serializers.CharField()
    causes = serializers.DictField(child=serializers.IntegerField(), help_text="minutes by cause")
    amount_micros = Micros(source="tally.amount_micros")
    billed_micros = Micros(source="tally.billed_micros")
    held_micros = Micros(source="tally.held_micros")
    unpaid_micros = Micros(source="tally.unpaid_micros")
    is_rated = serializers.BooleanField()


class HealthEventOut(serializers.Serializer):
    """A change of health."""

    from_state = serializers.CharField()
    to_state = serializers.CharField()
    reason = serializers.CharField()
    at = serializers.DateTimeField()


class BurnOut(serializers.Serializer):
    """How fast the error budget burned over the last whole hours, in tenths of an even burn."""

    hours = serializers.IntegerField()
    tenths = serializers.IntegerField()
    limit_tenths = serializers.IntegerField(help_text="told at once; over six hours the class is set back to DEGRADED")
    is_over = serializers.BooleanField()


class LeaseHealthOut(serializers.Serializer):
    """How the machine of a lease stands, its last changes, and its last 24 hours minute by minute."""

    state = serializers.CharField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    is_billed = serializers.BooleanField(allow_null=True)
    standing = serializers.CharField(help_text="of the provider's node class; DEGRADED takes no new orders")
    burn_rates = BurnOut(many=True)
    events = HealthEventOut(many=True)
    hours = HourOut(many=True)


class LeaseHealthDetail(ApiView):
    @extend_schema(operation_id="get_lease_health", tags=TAG, responses=LeaseHealthOut)
    def get(self, request: Any, lease: str) -> Response:
        """The health of a lease that you buy or provide."""
        parameters(request, ())
        row = found(find_lease_of_party(key_of(lease, "lea"), request.party))
        live = lease_minutes(row)
        health = live.health
        frame = {
            "state": health.state if health else None, "since": health.since if health else None,
            "is_billed": health.is_billed if health else None, "standing": row.node_class.standing.state,
            "burn_rates": burn_rates(row, now=request.now), "events": live.events, "hours": live.hours[:HOURS_SHOWN],
        }  # fmt: skip
        return Response(LeaseHealthOut(frame).data)


class EvidenceOut(serializers.Serializer):
    """A receipt: words, their hash, and the path to the root that the anchor contract keeps; `day` null before that."""

    evidence = serializers.JSONField()
    evidence_hash = serializers.CharField()
    rule_version = serializers.CharField()
    day = serializers.JSONField(allow_null=True)
    statements = serializers.JSONField(help_text="of the slot that was asked for", required=False)


SLOT = OpenApiParameter("slot", OpenApiTypes.INT, description="also every signed statement about this slot")


class LeaseEvidence(ApiView):
    @extend_schema(operation_id="get_lease_evidence", tags=TAG, responses=EvidenceOut, parameters=[SLOT])
    def get(self, request: Any, lease: str) -> Response:
        """The evidence of a lease's verdict as a receipt that anybody can check."""
        query = parameters(request, ("slot",))
        row = found(find_lease_of_party(key_of(lease, "lea"), request.party))
        verdict = found(getattr(row, "verdict", None))
        frame = receipt_of(verdict)
        if "slot" in query:
            frame["statements"] = statements_of(verdict, min(whole(query, "slot", 0), 2**31 - 1))
        return Response(EvidenceOut(frame).data)


class TargetVerdictOut(serializers.Serializer):
    """What became of a typed target, or of one event of it, with its receipt."""

    outcome = serializers.CharField(help_text="kept, broken or unknown")
    event_minute = serializers.IntegerField(help_text="of the lease, in which it began")
    measured = serializers.IntegerField(allow_null=True, help_text="in the unit that the target's name ends with")
    missed = serializers.IntegerField()
    known = serializers.IntegerField()
    allowed = serializers.IntegerField()
    credit_micros = Micros()
    broken_at = serializers.DateTimeField(allow_null=True)
    receipt = serializers.SerializerMethodField()

    @extend_schema_field(EvidenceOut)
    def get_receipt(self, row: TargetVerdict) -> Any:
        return receipt_of_target(row)


class TargetOut(serializers.Serializer):
    """One typed target of a lease: what was promised and what was measured."""

    target = serializers.CharField(source="name")
    promised = serializers.CharField()
    measured = serializers.CharField()
    outcome = serializers.CharField(help_text="running while the lease is not judged and nothing is broken for certain")
    credit_micros = Micros()
    verdicts = TargetVerdictOut(many=True)


class TargetsOut(serializers.Serializer):
    data = TargetOut(many=True)


class LeaseTargets(ApiView):
    @extend_schema(operation_id="get_lease_targets", tags=TAG, responses=TargetsOut)
    def get(self, request: Any, lease: str) -> Response:
        """What a lease that you buy or provide was promised beside availability, and what was measured."""
        parameters(request, ())
        row = found(find_lease_of_party(key_of(lease, "lea"), request.party))
        return Response(TargetsOut({"data": promised_and_measured(row)}).data)


class CaseOut(serializers.ModelSerializer):
    """A slot about which two sources contradict one another."""

    id = IdOut("cas", source="pk")
    lease = IdOut("lea", source="lease_id")
    disputed_minutes = serializers.IntegerField()
    held_micros = Micros()
    billed_minutes = serializers.IntegerField(allow_null=True)

    class Meta:
        model = DeliveryCase
        fields = ("id", "lease", "slot", "state", "disputed_minutes", "held_micros", "opened_at", "decide_by",
                  "outcome", "billed_minutes", "reason", "decided_at")  # fmt: skip


class CaseList(ListMixin, ApiView):
    shape = CaseOut

    @extend_schema(operation_id="list_delivery_cases", tags=TAG, responses=page_of(CaseOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """The cases of leases that you buy or provide, oldest first."""
        return self.page(request, page_by_time(cases_of(request.party), self.query(request), created="opened_at"))
