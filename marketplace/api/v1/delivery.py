"""The live market: what machines, verifiers and buyers report of running leases, and what it adds up to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.agent.readings import START, SignedReport
from marketplace.api.errors import BadParameter
from marketplace.api.fields import Body, HexOut, IdField, IdOut, Micros, MomentIn, TextIn
from marketplace.api.paging import page_by_place, page_by_time, parameters
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ApiView, ListMixin, PublicView, found, key_of
from marketplace.delivery.causes import announce_maintenance, record_stop
from marketplace.delivery.checks import CheckOrder, check_orders, take_checks
from marketplace.delivery.evidence_models import (
    BuyerStop,
    DeliveryCase,
    MaintenanceNotice,
    ProbeDay,
    WitnessKey,
)
from marketplace.delivery.intake import (
    counter_head,
    take_counter_readings,
    take_heartbeats,
    take_probes,
    take_readings,
)
from marketplace.delivery.models import ReportChain
from marketplace.delivery.probing import Order, enrol_witness_key, probe_orders, suspects
from marketplace.delivery.rolls import RollOrder, open_call_of, roll_orders, take_measured, take_presences
from marketplace.delivery.selectors import cases_of, find_lease_of_party, lease_minutes
from marketplace.sla.burning import burn_rates
from marketplace.sla.evidence import receipt_of, receipt_of_target, statements_of
from marketplace.sla.models import TargetVerdict
from marketplace.sla.selectors import promised_and_measured
from marketplace.supply.proof_models import RollMember
from marketplace.supply.selectors import find_node_class

BATCH_MAX = 100
MINUTES_USUAL = 5
HOURS_SHOWN = 24
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
        return Response({"now_ms": int(request.now.timestamp() * 1000)})


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
    probe_at_ms = serializers.SerializerMethodField()
    retry_after_seconds = serializers.IntegerField(source="retry_seconds")
    devices = serializers.IntegerField(help_text="how many of the lease's devices have to answer")
    probe_address = serializers.SerializerMethodField()
    workload_address = serializers.SerializerMethodField()

    @extend_schema_field({"type": "integer", "description": "unix seconds, on the minute"})
    def get_minute_at(self, row: Order) -> int:
        return int(row.minute_at.timestamp())

    @extend_schema_field({"type": "integer", "description": "unix milliseconds"})
    def get_probe_at_ms(self, row: Order) -> int:
        return int(row.probe_at.timestamp() * 1000)

    @extend_schema_field({"type": "string", "description": "empty until the machine's first heartbeat"})
    def get_probe_address(self, row: Order) -> str:
        return row.pulse.probe_address if row.pulse else ""

    @extend_schema_field({"type": "string"})
    def get_workload_address(self, row: Order) -> str:
        return row.pulse.workload_address if row.pulse else ""


class OrdersOut(serializers.Serializer):
    """The probes of the asking verifier, by time; and the leases it is to probe once more, now."""

    now_ms = serializers.IntegerField()
    data = OrderOut(many=True)
    suspects = serializers.ListField(child=serializers.CharField(), help_text="lease ids; attempt 3")


FROM_AT = OpenApiParameter("from_at", OpenApiTypes.INT64, description="unix seconds; now when left out")
MINUTES = OpenApiParameter("minutes", OpenApiTypes.INT, description="1 to 60; 5 when left out")


class ProbeOrders(ApiView):
    @extend_schema(operation_id="list_probe_orders", tags=TAG, responses=OrdersOut, parameters=[FROM_AT, MINUTES])
    def get(self, request: Any) -> Response:
        """What you are to probe in the next minutes. Keep it to yourself until the day is over."""
        query = parameters(request, ("from_at", "minutes"))
        from_at = whole(query, "from_at", int(request.now.timestamp()))
        orders = probe_orders(
            verifier=request.party, from_at=datetime.fromtimestamp(min(from_at, 2**33), tz=request.now.tzinfo),
            minutes=whole(query, "minutes", MINUTES_USUAL), now=request.now,
        )  # fmt: skip
        again = [str(lease.pk) for lease in suspects(verifier=request.party, now=request.now)]
        frame = {"now_ms": int(request.now.timestamp() * 1000), "data": orders, "suspects": again}
        return Response(OrdersOut(frame).data)


def whole(query: dict[str, str], name: str, usual: int) -> int:
    """Return a whole number of the query. Raises BadParameter."""
    text = query.get(name, str(usual))
    if not text.isdigit() or len(text) > 12:
        raise BadParameter(f"The parameter {name} is a whole number.", parameter=name)
    return int(text)


# --- statements ----------------------------------------------------------------------------------------------------


class SignedIn(Body):
    """A statement's canonical JSON as text, and the signature over its prefix and those bytes."""

    body = TextIn(16_000)
    signature = TextIn(128, help_text="64 bytes in hex")


class StatementsIn(Body):
    """1 to 100 statements. All are taken or none; one that stands already is passed over."""

    statements = serializers.ListField(
        child=SignedIn(), allow_empty=False, max_length=BATCH_MAX,
        error_messages={"not_a_list": "Write a list of statements.", "empty": "Send at least one.",
                        "max_length": f"At most {BATCH_MAX} in one call."},
    )  # fmt: skip


class TakenOut(serializers.Serializer):
    """How many of the statements were new."""

    taken = serializers.IntegerField()
    passed_over = serializers.IntegerField(help_text="stood already")
    now_ms = serializers.IntegerField(help_text="the market's time")


class _Door(ActView):
    """A POST that takes signed statements. A statement that stands is passed over, so no reply is remembered."""

    body = StatementsIn
    is_idempotent = True
    is_under_caps = True
    take: ClassVar[Any]

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        given = fields["statements"]
        signed = [SignedReport(row["body"].encode(), hex_bytes(row["signature"])) for row in given]
        taken = type(self).take(party=request.party, signed=signed, now=request.now)
        now_ms = int(request.now.timestamp() * 1000)
        return 200, {"taken": taken, "passed_over": len(signed) - taken, "now_ms": now_ms}


def hex_bytes(text: str) -> bytes:
    """Return the bytes of a signature; what is no hex signs nothing."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class HeartbeatList(_Door):
    take = staticmethod(take_heartbeats)

    @extend_schema(operation_id="post_heartbeats", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Heartbeats of your machines, every 15 seconds."""
        return self.perform(request)


class ProbeReportList(_Door):
    take = staticmethod(take_probes)

    @extend_schema(operation_id="post_probe_reports", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you saw as a verifier, at the seconds you were ordered to look."""
        return self.perform(request)


class CheckOrderOut(serializers.Serializer):
    """One re-check: begin it at this instant or up to two minutes later, again ten minutes on if it was too low."""

    lease = serializers.CharField(source="lease.pk", help_text="a UUID with dashes")
    machine = serializers.CharField(source="lease.node_class_id", help_text="a UUID with dashes")
    interval = serializers.IntegerField()
    due_at_ms = serializers.SerializerMethodField()
    proven_ops = serializers.SerializerMethodField()
    machine_key = HexOut(source="lease.node_class.machine_key")
    probe_address = serializers.SerializerMethodField()

    @extend_schema_field({"type": "string", "description": "where its prover opens; empty until its first heartbeat"})
    def get_probe_address(self, row: CheckOrder) -> str:
        return row.pulse.probe_address if row.pulse else ""

    @extend_schema_field({"type": "integer", "description": "unix milliseconds"})
    def get_due_at_ms(self, row: CheckOrder) -> int:
        return int(row.due_at.timestamp() * 1000)

    @extend_schema_field({"type": "string", "description": "operations per second; under 90 % of it asks for a retry"})
    def get_proven_ops(self, row: CheckOrder) -> str:
        return str(row.proven_ops)


class CheckOrdersOut(serializers.Serializer):
    """The re-checks of the asking verifier that are due within the hour."""

    now_ms = serializers.IntegerField()
    data = CheckOrderOut(many=True)


class CheckOrders(ApiView):
    @extend_schema(operation_id="list_check_orders", tags=TAG, responses=CheckOrdersOut)
    def get(self, request: Any) -> Response:
        """Which running machines you are to measure again, and when. Keep it to yourself until then."""
        parameters(request, ())
        orders = check_orders(verifier=request.party, now=request.now)
        return Response(CheckOrdersOut({"now_ms": int(request.now.timestamp() * 1000), "data": orders}).data)


class CheckList(_Door):
    take = staticmethod(take_checks)

    @extend_schema(operation_id="post_rechecks", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you measured of a running lease's machine, at the time you were ordered to."""
        return self.perform(request)


class RollOut(serializers.Serializer):
    """The roll call that is open for these machines."""

    roll = serializers.CharField(source="roll_id", help_text="as statements write it: a UUID with dashes")
    machines = serializers.IntegerField(help_text="how many are called")
    closes_at_ms = serializers.SerializerMethodField()

    @extend_schema_field({"type": "integer", "description": "unix milliseconds"})
    def get_closes_at_ms(self, row: RollMember) -> int:
        return int(row.roll.closes_at.timestamp() * 1000)


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


class RollOrderOut(serializers.Serializer):
    """A class of machines that is called now, for a verifier to measure at its prover."""

    roll = serializers.CharField(source="member.roll_id", help_text="a UUID with dashes")
    machine = serializers.CharField(source="member.node_class_id", help_text="a UUID with dashes")
    machine_key = HexOut(source="member.node_class.machine_key")
    closes_at_ms = serializers.SerializerMethodField()
    probe_address = serializers.SerializerMethodField()

    @extend_schema_field({"type": "integer", "description": "unix milliseconds"})
    def get_closes_at_ms(self, row: RollOrder) -> int:
        return int(row.member.roll.closes_at.timestamp() * 1000)

    @extend_schema_field({"type": "string", "description": "where its prover opens; empty until its first heartbeat"})
    def get_probe_address(self, row: RollOrder) -> str:
        return row.pulse.probe_address if row.pulse else ""


class RollOrdersOut(serializers.Serializer):
    """The machines that are called now."""

    now_ms = serializers.IntegerField()
    data = RollOrderOut(many=True)


class RollOrders(ApiView):
    @extend_schema(operation_id="list_roll_orders", tags=TAG, responses=RollOrdersOut)
    def get(self, request: Any) -> Response:
        """Which machines you are to measure now, because the roll of their owner is called."""
        parameters(request, ())
        orders = roll_orders(verifier=request.party, now=request.now)
        return Response(RollOrdersOut({"now_ms": int(request.now.timestamp() * 1000), "data": orders}).data)


class RollAnswerList(_Door):
    take = staticmethod(take_presences)

    @extend_schema(operation_id="post_roll_answers", tags=["machines"], request=StatementsIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Your machines' own answers to the roll call that is open, signed by the machine key."""
        return self.perform(request)


class RollReportList(_Door):
    take = staticmethod(take_measured)

    @extend_schema(operation_id="post_roll_reports", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you measured of called machines, while their roll was open."""
        return self.perform(request)


class ReadingList(_Door):
    take = staticmethod(take_readings)

    @extend_schema(operation_id="post_readings", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Signed readings of whole slots by your machines, in the order of their chain; backfill too."""
        return self.perform(request)


class CounterReadingList(_Door):
    take = staticmethod(take_counter_readings)

    @extend_schema(operation_id="post_counter_readings", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Your own count of the leases that you buy: one witness beside the machine and the probes."""
        return self.perform(request)


class ChainOut(serializers.Serializer):
    """How far a chain of readings has been taken: the next one has the number after it and names this hash."""

    sequence = serializers.IntegerField()
    head = serializers.CharField()


class MachineChain(ApiView):
    @extend_schema(operation_id="get_reading_chain", tags=TAG, responses=ChainOut)
    def get(self, request: Any, node_class: str) -> Response:
        """Where the chain of one of your machines stands."""
        own = found(find_node_class(key_of(node_class, "cls"), request.party))
        chain = ReportChain.objects.filter(node_class=own).first()
        return Response({"sequence": chain.sequence if chain else 0, "head": chain.head if chain else START.hash})


class CounterChain(ApiView):
    @extend_schema(operation_id="get_counter_chain", tags=TAG, responses=ChainOut)
    def get(self, request: Any, lease: str) -> Response:
        """Where the chain of counter-readings of a lease that you buy stands."""
        row = found(find_lease_of_party(key_of(lease, "lea"), request.party))
        head = counter_head(found(row if row.buyer_id == request.party.pk else None))
        return Response({"sequence": head.sequence, "head": head.hash})


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


# --- what it adds up to --------------------------------------------------------------------------------------------


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
