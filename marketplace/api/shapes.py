"""What the API writes: one shape per noun of the glossary. Money is text, times are UTC, ids carry their kind."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.api.fields import HexOut, IdOut, Micros, MicrosList, PageFrame, TargetsIn, id_schema, id_text
from marketplace.api.problems import fact_text
from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award, Backup, IndicativePrice, LineReason
from marketplace.demand.models import Demand
from marketplace.escrow.backup_models import StepIn
from marketplace.escrow.clauses import clauses_of
from marketplace.escrow.models import Lease
from marketplace.insights.words import reason_sentence
from marketplace.supply.models import Bid, NodeClass

COUNT = {"type": "integer", "minimum": 0}
NULLABLE_COUNT = {"type": ["integer", "null"], "minimum": 0}


class Gate(serializers.Serializer):
    """Funded demand against what opens bidding."""

    funded_unit_hours = serializers.IntegerField()
    needed_unit_hours = serializers.IntegerField()
    parties = serializers.IntegerField(help_text="distinct funded buyers; siblings of one parent count once")
    needed_parties = serializers.IntegerField()
    is_met = serializers.BooleanField()


class IndicativeOut(serializers.ModelSerializer):
    """A reference, not a quote: no sealed bid is in it, and it is frozen when bidding opens."""

    resource_class = serializers.CharField(source="resource_class_id")
    low_micros = Micros()
    high_micros = Micros()

    class Meta:
        model = IndicativePrice
        fields = ("resource_class", "method", "low_micros", "high_micros", "bids", "source", "made_at")


class WindowOut(serializers.ModelSerializer):
    """A span of hourly slots that are cleared together."""

    id = IdOut("win", source="pk")
    ends_at = serializers.DateTimeField(read_only=True)
    foundation_budget_micros = Micros(allow_null=True)
    gate = serializers.SerializerMethodField()
    indicative_prices = IndicativeOut(many=True, read_only=True)

    class Meta:
        model = Window
        fields = (
            "id", "number", "name", "kind", "state", "slots", "starts_at", "ends_at", "demand_closes_at",
            "no_cancel_from", "bidding_closes_at", "opened_at", "concentration_ppm", "foundation_budget_micros", "gate",
            "indicative_prices",
        )  # fmt: skip

    @extend_schema_field(Gate)
    def get_gate(self, window: Window) -> Any:
        return Gate(self.context["gates"][window.pk]).data


class ReasonOut(serializers.ModelSerializer):
    """Why a line, or what was left of it, was not filled."""

    sentence = serializers.SerializerMethodField()
    detail = serializers.SerializerMethodField()

    class Meta:
        model = LineReason
        fields = ("code", "sentence", "unfilled_unit_hours", "detail")

    def get_sentence(self, reason: LineReason) -> str:
        return reason_sentence(reason.code, reason.detail)

    @extend_schema_field({"type": "object", "additionalProperties": True})
    def get_detail(self, reason: LineReason) -> Any:
        return fact_text("detail", reason.detail)


class DemandOut(serializers.ModelSerializer):
    """A buyer's order in one window."""

    id = IdOut("dem", source="pk")
    window = IdOut("win", source="window_id")
    price_limit_micros = Micros()
    hold_micros = Micros(help_text="the most it can cost")
    zone_code = serializers.CharField(source="zone_id", allow_null=True)
    control_zone_code = serializers.CharField(source="control_zone_id", allow_null=True)
    vantage_code = serializers.CharField(source="vantage_id", allow_null=True)
    sla_code = serializers.CharField(source="sla_id")
    sla_targets = TargetsIn(help_text="beside availability")
    data_class = serializers.CharField(source="data_class_id", allow_null=True)
    required_controls = serializers.ListField(child=serializers.CharField())
    unit_hours = serializers.IntegerField()
    line_number = serializers.CharField(help_text="of the order or grant behind it; empty for none")
    reason = serializers.SerializerMethodField()

    class Meta:
        model = Demand
        fields = (
            "id", "window", "reference", "state", "kind", "accepted_classes", "quantity_units", "start_slot",
            "end_slot", "unit_hours", "price_limit_micros", "hold_micros", "sla_code", "sla_targets",
            "zone_code", "control_zone_code", "tier_min", "vantage_code", "latency_ms_max", "minimum_units",
            "is_one_site", "choice", "data_class", "purpose", "required_controls", "accepts_interruptible",
            "line_number", "posted_at", "funded_at", "funding_kind", "reason",
        )  # fmt: skip

    @extend_schema_field(ReasonOut(allow_null=True))
    def get_reason(self, demand: Demand) -> Any:
        return _reason_of(demand)


class FeasibilityOut(serializers.Serializer):
    """Providers that could serve a demand as things stand; counts only. Capacity and prices are not looked at."""

    proven = serializers.IntegerField(help_text="with proven machines that break no rule of it")
    waiting = serializers.IntegerField(help_text="further ones whose machines have proven nothing yet")
    rule = serializers.CharField(help_text="the rule that alone keeps most out; empty: no single rule decides it")
    removes = serializers.IntegerField(help_text="how many more could serve it without that rule")
    failing = serializers.DictField(child=serializers.IntegerField(), help_text="rule: providers that fail it")


class DemandDraft(DemandOut):
    """A demand as it would be, and who could serve it: it has no id, because no row was written."""

    id = None  # type: ignore[assignment]
    feasibility = FeasibilityOut(read_only=True)

    class Meta(DemandOut.Meta):
        fields = (*DemandOut.Meta.fields[1:], "feasibility")


class BidOut(serializers.ModelSerializer):
    """A provider's own offer. Its rank among others is not told: before close it would count them."""

    id = IdOut("bid", source="pk")
    window = IdOut("win", source="window_id")
    node_class = IdOut("cls", source="node_class_id")
    price_ask_micros = Micros(allow_null=True)
    sla_code = serializers.CharField(source="sla_id", allow_null=True)
    sla_targets = TargetsIn(allow_null=True, help_text="beside availability")
    reason = serializers.SerializerMethodField()

    class Meta:
        model = Bid
        fields = (
            "id", "window", "node_class", "reference", "state", "quantity_units", "start_slot", "end_slot",
            "price_ask_micros", "minimum_units", "sla_code", "sla_targets", "placed_at", "reason",
        )  # fmt: skip

    @extend_schema_field(ReasonOut(allow_null=True))
    def get_reason(self, bid: Bid) -> Any:
        return _reason_of(bid)


class BidDraft(BidOut):
    """A bid as it would be: it has no id, because no row was written."""

    id = None  # type: ignore[assignment]

    class Meta(BidOut.Meta):
        fields = BidOut.Meta.fields[1:]


def _reason_of(line: Demand | Bid) -> Any:
    reason = next(iter(line.reasons.all()), None)
    return ReasonOut(reason).data if reason else None


class CapacityOut(serializers.ModelSerializer):
    """A node class of the party: machines of one site and resource class that are proven together."""

    id = IdOut("cls", source="pk")
    site = serializers.CharField(source="site.code")
    country = serializers.CharField(source="site.country")
    resource_class = serializers.CharField(source="resource_class_id")
    standing = serializers.CharField(source="standing.state")
    proven_until = serializers.DateTimeField(source="standing.proven_until", allow_null=True)
    machine_key = HexOut(allow_null=True, help_text="public half of the key in use; null before enrolment")

    class Meta:
        model = NodeClass
        fields = (
            "id", "site", "country", "resource_class", "claimed_name", "units", "tier", "standing", "proven_until",
            "machine_key", "enrolled_at",
        )  # fmt: skip


class ValueOut(serializers.Serializer):
    """One resource class: operations per second and per USD, as its row says and as live proofs show."""

    resource_class = serializers.CharField(source="code")
    name = serializers.CharField()
    price_micros = Micros(help_text="reference price, micro-USD per unit-hour")
    proofs = serializers.IntegerField(help_text="live proofs of proven classes; 0: the proven figures say nothing")
    is_simulated = serializers.BooleanField(help_text="one proof at least is recorded, not measured")
    reference_ops_per_sec = serializers.IntegerField()
    proven_ops_per_sec = serializers.IntegerField(help_text="lower median of the live proofs")
    reference_ops_per_usd = serializers.IntegerField()
    proven_ops_per_usd = serializers.IntegerField()
    jitter_bps = serializers.IntegerField(help_text="p95 over p50 of block times, the worst; 0: not measured")


class ValuePage(PageFrame):
    """What a dollar buys, class by class, the most first."""

    is_demo_panel = serializers.BooleanField(help_text="demo panel, not independent")
    data = ValueOut(many=True)


class BackupOut(serializers.Serializer):
    """Who would step in, agreed beforehand and not reserved: activation checks everything again."""

    provider = serializers.CharField(source="bid.party.name")
    site = serializers.CharField(source="bid.node_class.site.code")
    country = serializers.CharField(source="bid.node_class.site.country")
    strike_price_micros = Micros(help_text="micro-USD per unit-hour")
    is_reserved = serializers.SerializerMethodField()

    def get_is_reserved(self, backup: Backup) -> bool:
        return False


class PartsOut(serializers.Serializer):
    """What the amount is made of; the parts add up to it to the micro-USD."""

    base_micros = Micros(help_text="what capacity of the class costs anywhere")
    scarcity_micros = Micros(help_text="what demand above supply adds")
    locality_micros = Micros(help_text="what zone and site add")
    tier_micros = Micros(help_text="what the tier adds")
    sla_micros = Micros(help_text="what the SLA adds")


class AwardOut(serializers.ModelSerializer):
    """A run of slots in which a bid serves a demand. Each side sees its own line only, and the lease both share."""

    id = IdOut("awd", source="pk")
    window = IdOut("win", source="clearing.window_id")
    role = serializers.SerializerMethodField()
    demand = serializers.SerializerMethodField()
    bid = serializers.SerializerMethodField()
    lease = serializers.SerializerMethodField()
    resource_class = serializers.CharField(source="bid.node_class.resource_class_id")
    country = serializers.CharField(source="bid.node_class.site.country")
    tier = serializers.IntegerField(source="bid.node_class.tier")
    unit_hours = serializers.SerializerMethodField()
    amount_micros = Micros()
    slot_prices_micros = MicrosList()
    parts = serializers.SerializerMethodField()
    backup = serializers.SerializerMethodField()

    class Meta:
        model = Award
        fields = (
            "id", "window", "role", "demand", "bid", "lease", "resource_class", "country", "tier", "start_slot",
            "end_slot", "units", "unit_hours", "amount_micros", "slot_prices_micros", "parts",
            "backup",
        )  # fmt: skip

    def _bought(self, award: Award) -> bool:
        return award.demand.party_id == self.context["party"].pk

    @extend_schema_field({"type": "string", "enum": ["buyer", "provider"]})
    def get_role(self, award: Award) -> str:
        return "buyer" if self._bought(award) else "provider"

    @extend_schema_field({**id_schema("dem"), "type": ["string", "null"]})
    def get_demand(self, award: Award) -> str | None:
        return id_text("dem", award.demand_id) if self._bought(award) else None

    @extend_schema_field({**id_schema("bid"), "type": ["string", "null"]})
    def get_bid(self, award: Award) -> str | None:
        return None if self._bought(award) else id_text("bid", award.bid_id)

    @extend_schema_field({**id_schema("lea"), "type": ["string", "null"]})
    def get_lease(self, award: Award) -> str | None:
        return id_text("lea", award.lease_id)  # type: ignore[attr-defined]

    @extend_schema_field(PartsOut(allow_null=True))
    def get_parts(self, award: Award) -> Any:
        return PartsOut(award).data if award.parts_micros else None

    @extend_schema_field(BackupOut(allow_null=True))
    def get_backup(self, award: Award) -> Any:
        backup = getattr(award, "backup", None) if self._bought(award) else None  # the buyer's, not its rival's
        return BackupOut(backup).data if backup else None

    @extend_schema_field(COUNT)
    def get_unit_hours(self, award: Award) -> int:
        return award.units * (award.end_slot - award.start_slot)


class VerdictOut(serializers.Serializer):
    """The outcome of a lease period, with the figures to repeat it."""

    known_minutes = serializers.IntegerField()
    down_minutes = serializers.IntegerField()
    unknown_minutes = serializers.IntegerField()
    threshold_minutes = serializers.IntegerField(help_text="a breach needs more down minutes than this")
    availability_ppm = serializers.IntegerField()
    is_below_sla = serializers.BooleanField()
    is_breach = serializers.BooleanField()
    earned_micros = Micros()
    unpaid_micros = Micros()
    rule_version = serializers.CharField()
    evidence_sha256 = HexOut(source="evidence_hash")
    breach_at = serializers.DateTimeField(allow_null=True)
    judged_at = serializers.DateTimeField()


class CreditOut(serializers.Serializer):
    """Money returned for a broken SLA; nobody has to claim it."""

    amount_micros = Micros()
    step_bps = serializers.IntegerField()
    source = serializers.CharField()
    posted_at = serializers.DateTimeField(allow_null=True)


class SlashCaseOut(serializers.Serializer):
    """What followed from a confirmed breach."""

    outcome = serializers.CharField()
    sentence = serializers.CharField()
    amount_micros = Micros()
    forfeit_micros = Micros()
    to_buyer_micros = Micros()
    to_pool_micros = Micros()
    refusal = serializers.CharField(help_text="the contract's own sentence when it refused")
    executable_at = serializers.DateTimeField(allow_null=True)
    executed_at = serializers.DateTimeField(allow_null=True)


class SettlementOut(serializers.Serializer):
    """What a lease came to: earned is payable, holdback and fee; earned, returned and credit are its whole fee."""

    epoch = serializers.IntegerField(source="settlement.epoch")
    earned_micros = Micros()
    payable_micros = Micros()
    holdback_micros = Micros()
    fee_micros = Micros()
    returned_micros = Micros()
    credit_micros = Micros()
    final_at = serializers.DateTimeField(source="settlement.final_at", allow_null=True)


class PartyOut(serializers.Serializer):
    """The other side of a lease."""

    slug = serializers.CharField()
    name = serializers.CharField()


class ClauseOut(serializers.Serializer):
    """One clause of a lease, as both parties read it."""

    name = serializers.CharField()
    words = serializers.CharField()


class StepInOut(serializers.ModelSerializer):
    """What was decided when the lease's machine failed: its backup stepped in, or why not. The newest decision."""

    begins_at = serializers.SerializerMethodField()
    returned_micros = Micros()

    class Meta:
        model = StepIn
        fields = ("state", "code", "sentence", "failed_at", "from_slot", "begins_at", "returned_micros", "decided_at")

    @extend_schema_field({"type": "string", "format": "date-time"})
    def get_begins_at(self, row: StepIn) -> Any:
        return _utc(row.lease.window.slot_at(row.from_slot))


class LeaseOut(serializers.ModelSerializer):
    """The running contract between one demand and one bid, with verdict, credit and slash case."""

    id = IdOut("lea", source="pk")
    window = IdOut("win", source="window_id")
    role = serializers.SerializerMethodField()
    demand = serializers.SerializerMethodField()
    bid = serializers.SerializerMethodField()
    buyer = PartyOut()
    provider = PartyOut()
    resource_class = serializers.CharField(source="node_class.resource_class_id")
    site = serializers.CharField(source="node_class.site.code")
    country = serializers.CharField(source="node_class.site.country")
    tier = serializers.IntegerField(source="node_class.tier")
    starts_at = serializers.SerializerMethodField()
    ends_at = serializers.SerializerMethodField()
    fee_micros = Micros()
    sla_targets = TargetsIn(help_text="promised beside availability")
    verdict = serializers.SerializerMethodField()
    credit = serializers.SerializerMethodField()
    slash_case = serializers.SerializerMethodField()
    settlement = serializers.SerializerMethodField()
    clauses = serializers.SerializerMethodField()
    is_backup = serializers.SerializerMethodField(help_text="it took over the rest of a failed lease's hours")
    step_in = serializers.SerializerMethodField()

    class Meta:
        model = Lease
        fields = (
            "id", "window", "role", "demand", "bid", "buyer", "provider", "resource_class", "site", "country", "tier",
            "start_slot", "end_slot", "starts_at", "ends_at", "unit_hours", "fee_micros", "sla_bps", "sla_targets",
            "is_armed", "ended_slot", "state", "made_at", "verdict", "credit", "slash_case", "settlement", "clauses",
            "is_backup", "step_in",
        )  # fmt: skip

    @extend_schema_field(ClauseOut(many=True))
    def get_clauses(self, lease: Lease) -> Any:
        return ClauseOut(clauses_of(lease), many=True).data

    def get_is_backup(self, lease: Lease) -> bool:
        return lease.step_in_id is not None

    @extend_schema_field(StepInOut(allow_null=True))
    def get_step_in(self, lease: Lease) -> Any:
        newest = next(iter(lease.step_ins.all()), None)
        return StepInOut(newest).data if newest else None

    def _bought(self, lease: Lease) -> bool:
        return lease.buyer_id == self.context["party"].pk

    @extend_schema_field({"type": "string", "enum": ["buyer", "provider"]})
    def get_role(self, lease: Lease) -> str:
        return "buyer" if self._bought(lease) else "provider"

    @extend_schema_field({**id_schema("dem"), "type": ["string", "null"]})
    def get_demand(self, lease: Lease) -> str | None:
        return id_text("dem", lease.demand_id) if self._bought(lease) else None

    @extend_schema_field({**id_schema("bid"), "type": ["string", "null"]})
    def get_bid(self, lease: Lease) -> str | None:
        return None if self._bought(lease) else id_text("bid", lease.bid_id)

    @extend_schema_field({"type": "string", "format": "date-time"})
    def get_starts_at(self, lease: Lease) -> Any:
        return _utc(lease.window.slot_at(lease.start_slot))

    @extend_schema_field({"type": "string", "format": "date-time"})
    def get_ends_at(self, lease: Lease) -> Any:
        return _utc(lease.window.slot_at(lease.until_slot))

    @extend_schema_field(VerdictOut(allow_null=True))
    def get_verdict(self, lease: Lease) -> Any:
        verdict = getattr(lease, "verdict", None)
        return VerdictOut(verdict).data if verdict else None

    @extend_schema_field(CreditOut(allow_null=True))
    def get_credit(self, lease: Lease) -> Any:
        credit = getattr(getattr(lease, "verdict", None), "credit", None)
        return CreditOut(credit).data if credit else None

    @extend_schema_field(SlashCaseOut(allow_null=True))
    def get_slash_case(self, lease: Lease) -> Any:
        case = getattr(getattr(lease, "verdict", None), "slash_case", None)
        return SlashCaseOut(case).data if case else None

    @extend_schema_field(SettlementOut(allow_null=True))
    def get_settlement(self, lease: Lease) -> Any:
        line = getattr(lease, "settlement_line", None)
        return SettlementOut(line).data if line else None


def _utc(instant: Any) -> Any:
    return serializers.DateTimeField().to_representation(instant)
