"""The live market: its time, who signs, what verifiers are to look at, and what is put on record beforehand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.fields import Body, HexOut, IdField, IdOut, MomentIn, PageFrame, TextIn, UnixMs
from marketplace.api.paging import page_by_mark, page_by_place, parameters, whole
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ApiView, ListMixin, PublicView, found, key_of
from marketplace.delivery.causes import announce_maintenance, record_stop
from marketplace.delivery.checks import CheckOrder, check_orders
from marketplace.delivery.evidence_models import (
    BuyerStop,
    MaintenanceNotice,
    ProbeDay,
    WitnessKey,
)
from marketplace.delivery.probing import Order, enrol_witness_key, probe_orders, suspects, verifier_keys
from marketplace.delivery.rolls import RollOrder, open_call_of, open_call_of_unit, roll_orders
from marketplace.delivery.selectors import find_lease_of_party
from marketplace.supply.selectors import find_node_class, find_unit_prover

MINUTES_USUAL = 5
TAG = ["delivery"]


# --- time, keys, days ----------------------------------------------------------------------------------------------


class TimeOut(serializers.Serializer):
    """The market's time."""

    now_ms = serializers.IntegerField(help_text="unix milliseconds")


class MarketTime(PublicView):
    @extend_schema(operation_id="get_time", tags=TAG, responses=TimeOut)
    def get(self, request: Any) -> Response:
        """The market's time: set the clock of your statements by it."""
        parameters(request, ())
        return Response({"now_ms": _ms(request.now)})


class WitnessKeyIn(Body):
    """A fresh Ed25519 key, and its signature over the enrolment prefix and `witness:` with your party's slug."""

    public_key = TextIn(64, help_text="32 bytes in hex")
    signature = TextIn(128, help_text="64 bytes in hex")


class WitnessKeyOut(serializers.ModelSerializer):
    """The key by which a verifier signs its probes, or a buyer its counter-readings."""

    id = IdOut("key", source="pk")
    public_key = HexOut()

    class Meta:
        model = WitnessKey
        fields = ("id", "public_key", "enrolled_at", "revoked_at")


class WitnessKeyList(ActView):
    body = WitnessKeyIn
    is_under_caps = True  # no statement is an order: a capped key may make all of them

    @extend_schema(operation_id="enrol_witness_key", tags=TAG, request=WitnessKeyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, WitnessKeyOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Enrol the key that you sign with. An earlier one is revoked; a verifier is drawn within two days."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        key = enrol_witness_key(party=request.party, now=request.now, **fields)
        return 200, dict(WitnessKeyOut(key).data)


class ProbeDayOut(serializers.ModelSerializer):
    """A UTC day: what was committed to before it, and its secret once it is over."""

    commitment = HexOut()
    secret = serializers.SerializerMethodField()

    class Meta:
        model = ProbeDay
        fields = ("day", "commitment", "organisations", "committed_at", "secret", "revealed_at")

    @extend_schema_field({"type": ["string", "null"], "description": "hex; null until the day is over"})
    def get_secret(self, row: ProbeDay) -> str | None:
        return bytes(row.revealed).hex() if row.revealed else None


class ProbeDayList(ListMixin, PublicView):
    shape = ProbeDayOut

    @extend_schema(operation_id="list_probe_days", tags=TAG, responses=page_of(ProbeDayOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Every day's commitment and, once it is over, its secret: anybody can draw its panels and seconds again."""
        query = self.query(request)
        rows = list(ProbeDay.objects.order_by("day"))
        return self.page(request, page_by_place(rows[::-1], query))


# --- orders --------------------------------------------------------------------------------------------------------


class OrderOut(serializers.Serializer):
    """One probe: at this instant, and after a failure once more so many seconds later."""

    lease = serializers.CharField(source="lease.pk", help_text="the id as statements write it: a UUID with dashes")
    machine = serializers.CharField(source="lease.node_class_id", help_text="a UUID with dashes")
    machine_key = HexOut(source="lease.node_class.machine_key")
    minute_at = serializers.SerializerMethodField()
    probe_at_ms = UnixMs(source="probe_at")
    retry_after_seconds = serializers.IntegerField(source="retry_seconds")
    devices = serializers.IntegerField(help_text="how many of the lease's devices have to answer")
    probe_address = serializers.SerializerMethodField()
    workload_address = serializers.SerializerMethodField()

    @extend_schema_field({"type": "integer", "description": "unix seconds, on the minute"})
    def get_minute_at(self, row: Order) -> int:
        return int(row.minute_at.timestamp())

    @extend_schema_field({"type": "string", "description": "empty until the machine's first heartbeat"})
    def get_probe_address(self, row: Order) -> str:
        return row.pulse.probe_address if row.pulse else ""

    @extend_schema_field({"type": "string"})
    def get_workload_address(self, row: Order) -> str:
        return row.pulse.workload_address if row.pulse else ""


class OrdersOut(PageFrame):
    """The probes of the asking verifier, by time; and the leases it is to probe once more, now."""

    now_ms = serializers.IntegerField()
    data = OrderOut(many=True)
    suspects = serializers.ListField(child=serializers.CharField(), help_text="lease ids; attempt 3")


FROM_AT = OpenApiParameter("from_at", OpenApiTypes.INT64, description="unix seconds; now when left out")
MINUTES = OpenApiParameter("minutes", OpenApiTypes.INT, description="1 to 60; 5 when left out")


class ProbeOrders(ListMixin, ApiView):
    frame = OrdersOut
    filters = ("from_at", "minutes")

    @extend_schema(operation_id="list_probe_orders", tags=TAG, responses=OrdersOut,
                   parameters=[FROM_AT, MINUTES, LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """What you are to probe in the next minutes, by time. Keep it to yourself until the day is over."""
        query = self.query(request)
        from_at = whole(query, "from_at", int(request.now.timestamp()))
        orders = probe_orders(
            verifier=request.party, from_at=datetime.fromtimestamp(min(from_at, 2**33), tz=request.now.tzinfo),
            minutes=whole(query, "minutes", MINUTES_USUAL), now=request.now,
        )  # fmt: skip
        again = [str(lease.pk) for lease in suspects(verifier=request.party, now=request.now)]
        page = page_by_mark(orders, query, lambda order: (_ms(order.probe_at), str(order.lease.pk)))
        return self.framed(request, page, now_ms=_ms(request.now), suspects=again)


class CheckOrderOut(serializers.Serializer):
    """One re-check: begin it at this instant or up to two minutes later, again ten minutes on if it was too low."""

    lease = serializers.CharField(source="lease.pk", help_text="a UUID with dashes")
    machine = serializers.CharField(source="lease.node_class_id", help_text="a UUID with dashes")
    interval = serializers.IntegerField()
    due_at_ms = UnixMs(source="due_at")
    proven_ops = serializers.SerializerMethodField()
    machine_key = HexOut(source="lease.node_class.machine_key")
    probe_address = serializers.SerializerMethodField()

    @extend_schema_field({"type": "string", "description": "where its prover opens; empty until its first heartbeat"})
    def get_probe_address(self, row: CheckOrder) -> str:
        return row.pulse.probe_address if row.pulse else ""

    @extend_schema_field({"type": "string", "description": "operations per second; under 90 % of it asks for a retry"})
    def get_proven_ops(self, row: CheckOrder) -> str:
        return str(row.proven_ops)


class CheckOrdersOut(PageFrame):
    """The re-checks of the asking verifier that are due within the hour."""

    now_ms = serializers.IntegerField()
    data = CheckOrderOut(many=True)


class CheckOrders(ListMixin, ApiView):
    frame = CheckOrdersOut

    @extend_schema(operation_id="list_check_orders", tags=TAG, responses=CheckOrdersOut, parameters=[LIMIT, CURSOR])
    def get(self, request: Any) -> Response:
        """Which running machines you are to measure again, and when. Keep it to yourself until then."""
        query = self.query(request)
        orders = check_orders(verifier=request.party, now=request.now)
        page = page_by_mark(orders, query, lambda order: (_ms(order.due_at), str(order.lease.pk), order.interval))
        return self.framed(request, page, now_ms=_ms(request.now))


class RollOut(serializers.Serializer):
    """The roll call that is open for these machines."""

    roll = serializers.CharField(source="roll_id", help_text="as statements write it: a UUID with dashes")
    machines = serializers.IntegerField(help_text="how many of the class are called, each by itself")
    closes_at_ms = UnixMs(source="roll.closes_at")


class CallOut(serializers.Serializer):
    """Whether your machines are called now."""

    roll = RollOut(allow_null=True)


class MachineRoll(ApiView):
    @extend_schema(operation_id="get_machine_roll", tags=["machines"], responses=CallOut)
    def get(self, request: Any, node_class: str) -> Response:
        """The open roll call of your machines, or null. It is not announced; look once a minute."""
        parameters(request, ())
        own = found(find_node_class(key_of(node_class, "cls"), request.party))
        return Response(CallOut({"roll": open_call_of(own, now=request.now)}).data)


class UnitCallOut(CallOut):
    """Whether this unit's prover is called now, and the keys of all verifiers: who may ask it to prove."""

    witnesses = serializers.ListField(child=serializers.CharField(), help_text="Ed25519 keys, 32 bytes in hex each")


class UnitRoll(ApiView):
    @extend_schema(operation_id="get_unit_roll", tags=["machines"], responses=UnitCallOut)
    def get(self, request: Any, unit: str) -> Response:
        """The open roll call of one more unit's prover, or null. It is not announced; look once a minute."""
        parameters(request, ())
        own = found(find_unit_prover(key_of(unit, "unt"), request.party))
        roll = open_call_of_unit(own, now=request.now)
        return Response(UnitCallOut({"roll": roll, "witnesses": verifier_keys()}).data)


class RollOrderOut(serializers.Serializer):
    """A machine that is called now, for a verifier to measure at its prover."""

    roll = serializers.CharField(source="machine.member.roll_id", help_text="a UUID with dashes")
    machine = serializers.CharField(source="machine.machine_id", help_text="a UUID with dashes")
    machine_key = HexOut(source="machine.public_key")
    closes_at_ms = UnixMs(source="machine.member.roll.closes_at")
    measure_at_ms = UnixMs(source="measure_at", help_text="all machines of the roll then")
    probe_address = serializers.CharField(help_text="where its prover opens; empty until its first heartbeat")


class RollOrdersOut(PageFrame):
    """The machines that are called now."""

    now_ms = serializers.IntegerField()
    data = RollOrderOut(many=True)


def _place_in_rolls(order: RollOrder) -> tuple[str, str]:
    return str(order.machine.member.roll_id), str(order.machine.machine_id)


class RollOrders(ListMixin, ApiView):
    frame = RollOrdersOut

    @extend_schema(operation_id="list_roll_orders", tags=TAG, responses=RollOrdersOut, parameters=[LIMIT, CURSOR])
    def get(self, request: Any) -> Response:
        """Which machines you are to measure now, because the roll of their owner is called."""
        query = self.query(request)
        orders = roll_orders(verifier=request.party, now=request.now)
        page = page_by_mark(orders, query, _place_in_rolls)
        return self.framed(request, page, now_ms=_ms(request.now))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


# --- records -------------------------------------------------------------------------------------------------------


class MaintenanceIn(Body):
    """A span in which your machines will be down."""

    node_class = IdField("cls")
    starts_at = MomentIn()
    ends_at = MomentIn()
    reason = TextIn(200)


class MaintenanceOut(serializers.ModelSerializer):
    """An announced maintenance; it excuses minutes only when announced 72 hours ahead, four hours a month."""

    id = IdOut("mai", source="pk")
    node_class = IdOut("cls", source="node_class_id")

    class Meta:
        model = MaintenanceNotice
        fields = ("id", "node_class", "starts_at", "ends_at", "reason", "announced_at")


class MaintenanceList(ActView):
    body = MaintenanceIn
    is_under_caps = True

    @extend_schema(operation_id="announce_maintenance", tags=TAG, request=MaintenanceIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, MaintenanceOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Announce a maintenance; the buyers of running leases are told."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = found(find_node_class(fields.pop("node_class"), request.party))
        notice = announce_maintenance(party=request.party, node_class=own, now=request.now, **fields)
        return 200, dict(MaintenanceOut(notice).data)


class StopIn(Body):
    """A span in which you do not use your lease."""

    starts_at = MomentIn()
    ends_at = MomentIn()
    reason = TextIn(12, help_text="stopped, over_quota or unfunded")


class StopOut(serializers.ModelSerializer):
    """The buyer's own record of not using its lease."""

    id = IdOut("stp", source="pk")
    lease = IdOut("lea", source="lease_id")

    class Meta:
        model = BuyerStop
        fields = ("id", "lease", "starts_at", "ends_at", "reason", "recorded_at")


class LeaseStops(ActView):
    body = StopIn
    is_under_caps = True

    @extend_schema(operation_id="record_stop", tags=TAG, request=StopIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, StopOut))  # fmt: skip
    def post(self, request: Any, lease: str) -> Response:
        """Note that you stopped your workload: minutes in which only it is down are yours, and are paid."""
        return self.perform(request, lease=lease)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(find_lease_of_party(key_of(ids["lease"], "lea"), request.party))
        return 200, dict(StopOut(record_stop(party=request.party, lease=row, now=request.now, **fields)).data)
