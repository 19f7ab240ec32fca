"""What a buyer commits beyond one demand: demand that stands, orders and grants, windows between two."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import api_key_of, seat_of
from marketplace.api.fields import Body, FlagIn, IdOut, Micros, MomentIn, TargetsIn, TextIn, TextsIn, WholeIn
from marketplace.api.paging import page_by_time
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.shapes import WindowOut
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.demand.funding import kept_micros, left_micros
from marketplace.demand.funding_models import LINE_KINDS, FundingLine
from marketplace.demand.models import FUNDING_KINDS, KINDS
from marketplace.demand.selectors import gates_of
from marketplace.demand.standing_models import StandingDemand, StandingEntry
from marketplace.demand.voucher_models import Voucher
from marketplace.escrow.advances import ask_line
from marketplace.escrow.standing import find_standing, renewal_cap_micros, reprice, stand, withdraw_standing
from marketplace.escrow.vouchers import redeem_voucher, vouchers_of
from marketplace.supply.bilateral import open_bilateral


class EntryOut(serializers.ModelSerializer):
    """One window that a standing demand entered."""

    window = IdOut("win", source="window_id")
    demand = IdOut("dem", source="demand_id")
    limit_micros = Micros(help_text="micro-USD per unit-hour of this entry")
    paid_micros = Micros(allow_null=True, help_text="what the last lease cost per unit-hour; null before the first")

    class Meta:
        model = StandingEntry
        fields = ("window", "demand", "limit_micros", "paid_micros", "refusal", "at")


class StandingDemandOut(serializers.ModelSerializer):
    """A demand that enters each following window until its end."""

    id = IdOut("sta", source="pk")
    price_limit_micros = Micros()
    renewal_cap_micros = serializers.SerializerMethodField()
    entries = EntryOut(many=True, read_only=True)

    class Meta:
        model = StandingDemand
        fields = (
            "id", "reference", "state", "terms", "price_limit_micros", "renewal_cap_ppm", "renewal_cap_micros",
            "funding_kind", "funding_number", "starts_at", "ends_at", "made_at", "closed_at", "entries",
        )  # fmt: skip

    @extend_schema_field(Micros(allow_null=True))
    def get_renewal_cap_micros(self, row: StandingDemand) -> Any:
        cap = renewal_cap_micros(row)
        return None if cap is None else str(cap)


class StandingDemandIn(Body):
    """What is needed in every window from one moment to another, over the whole of each."""

    reference = TextIn(40, help_text="your own name for it; used once")
    kind = TextIn(20, help_text=f"one of {', '.join(KINDS)}")
    accepted_classes = TextsIn(help_text="resource classes, any of which will do")
    quantity_units = WholeIn()
    price_limit_micros = WholeIn(help_text="micro-USD per unit-hour, on a tick of 100")
    renewal_cap_ppm = WholeIn(help_text="how far a renewal may rise above the last price paid, in parts per million")
    sla_code = TextIn(20)
    sla_targets = TargetsIn(required=False)
    starts_at = MomentIn()
    ends_at = MomentIn()
    funding = TextIn(14, required=False, help_text=f"one of {', '.join(FUNDING_KINDS)}; escrow when left out")
    number = TextIn(60, required=False, help_text="of the purchase order or grant")
    zone_code = TextIn(12, required=False)
    control_zone_code = TextIn(12, required=False)
    tier_min = WholeIn(required=False)
    vantage_code = TextIn(30, required=False)
    latency_ms_max = WholeIn(required=False)
    latency_class = TextIn(10, required=False, help_text="L10, L20, L50, L100 or batch: bound and SLA target at once")
    minimum_units = WholeIn(required=False)
    is_one_site = FlagIn(required=False)


class StandingList(ListMixin, ActView):
    shape = StandingDemandOut
    body = StandingDemandIn

    @extend_schema(operation_id="list_standing_demands", tags=["demands"], responses=page_of(StandingDemandOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your standing demands, oldest first, with the windows they entered."""
        rows = StandingDemand.objects.filter(party=request.party).prefetch_related("entries")
        return self.page(request, page_by_time(rows, self.query(request), created="made_at"))

    @extend_schema(operation_id="stand", tags=["demands"], request=StandingDemandIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, StandingDemandOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Let a demand stand. It is funded window by window, and a renewal never costs more than its cap."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        made = stand(
            party=request.party, seat=seat_of(request), key=api_key_of(request), now=request.now, **fields
        )
        return 201, dict(StandingDemandOut(made).data)


class RepriceIn(Body):
    """Another limit for the windows to come."""

    price_limit_micros = WholeIn()


class StandingPrice(ActView):
    body = RepriceIn

    @extend_schema(operation_id="reprice_standing_demand", tags=["demands"], request=RepriceIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, StandingDemandOut))  # fmt: skip
    def post(self, request: Any, standing: str) -> Response:
        """Change the limit of the windows to come. Refused with `renewal_above_cap` beyond the cap."""
        return self.perform(request, standing=standing)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(find_standing(key_of(ids["standing"], "sta"), request.party))
        made = reprice(standing=row, party=request.party, seat=seat_of(request), now=request.now, **fields)
        return 200, dict(StandingDemandOut(made).data)


class StandingWithdrawal(ActView):
    @extend_schema(operation_id="withdraw_standing_demand", tags=["demands"], request=None,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, StandingDemandOut))  # fmt: skip
    def post(self, request: Any, standing: str) -> Response:
        """Enter no further window. What stands in a window already is withdrawn there."""
        return self.perform(request, standing=standing)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(find_standing(key_of(ids["standing"], "sta"), request.party))
        made = withdraw_standing(standing=row, party=request.party, seat=seat_of(request), now=request.now)
        return 200, dict(StandingDemandOut(made).data)


class FundingLineOut(serializers.ModelSerializer):
    """A purchase order or a grant of yours."""

    id = IdOut("lin", source="pk")
    limit_micros = Micros()
    left_micros = serializers.SerializerMethodField()

    class Meta:
        model = FundingLine
        fields = ("id", "kind", "number", "state", "limit_micros", "left_micros", "valid_until", "reason", "asked_at",
                  "decided_at")  # fmt: skip

    @extend_schema_field(Micros())
    def get_left_micros(self, row: FundingLine) -> str:
        return str(left_micros(row))


class FundingLineIn(Body):
    """A purchase order or a grant that is to stand behind demands, once somebody else has approved it."""

    kind = TextIn(14, help_text=f"one of {', '.join(LINE_KINDS)}")
    number = TextIn(60)
    limit_micros = WholeIn()
    valid_until = MomentIn()


class FundingLineList(ListMixin, ActView):
    shape = FundingLineOut
    body = FundingLineIn

    @extend_schema(operation_id="list_funding_lines", tags=["money"], responses=page_of(FundingLineOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your purchase orders and grants, oldest first, with what is left of each."""
        rows = FundingLine.objects.filter(party=request.party)
        return self.page(request, page_by_time(rows, self.query(request), created="asked_at"))

    @extend_schema(operation_id="ask_funding_line", tags=["money"], request=FundingLineIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(201, FundingLineOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Ask for a purchase order or grant to stand behind demands. The Foundation decides; nothing counts before."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        person = request.user.get_username()
        line = ask_line(party=request.party, person=person, seat=seat_of(request), now=request.now, **fields)
        return 201, dict(FundingLineOut(line).data)


class VoucherOut(serializers.ModelSerializer):
    """A grant voucher that you redeemed: fund demand as `grant` by its number, and by nothing else."""

    id = IdOut("vou", source="pk")
    number = serializers.CharField()
    programme = serializers.CharField(source="programme.name")
    amount_micros = Micros()
    kept_micros = serializers.SerializerMethodField(help_text="not spent; the programme's when it ends")
    returned_micros = Micros()

    class Meta:
        model = Voucher
        fields = ("id", "number", "programme", "state", "amount_micros", "kept_micros", "returned_micros",
                  "valid_until", "redeemed_at", "closed_at")  # fmt: skip

    @extend_schema_field(Micros())
    def get_kept_micros(self, row: Voucher) -> str:
        return str(kept_micros(row.line))


class VoucherIn(Body):
    """The code of a voucher."""

    code = TextIn(100, help_text="as the programme gave it to you")


class VoucherList(ListMixin, ActView):
    shape = VoucherOut
    body = VoucherIn

    @extend_schema(operation_id="list_vouchers", tags=["money"], responses=page_of(VoucherOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """The vouchers that you redeemed, oldest first."""
        return self.page(request, page_by_time(vouchers_of(request.party), self.query(request), created="redeemed_at"))

    @extend_schema(operation_id="redeem_voucher", tags=["money"], request=VoucherIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, VoucherOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Redeem a code. Its credits are for demand alone; a code that is unknown, used or over is one 404."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = redeem_voucher(party=request.party, seat=seat_of(request), now=request.now, **fields)
        return 201, dict(VoucherOut(row).data)


class BilateralIn(Body):
    """A window between you and one provider."""

    provider = TextIn(60, help_text="its short name")
    name = TextIn(60, help_text="of the window; used once")
    slots = WholeIn(help_text="1 to 744 hours")
    starts_at = MomentIn()


class BilateralList(ActView):
    body = BilateralIn

    @extend_schema(operation_id="open_bilateral", tags=["windows"], request=BilateralIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, WindowOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Open a window with one provider: no market gate, the midpoint price, the same escrow, SLA and proof."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        window = open_bilateral(
            buyer=request.party, provider_slug=fields.pop("provider"), seat=seat_of(request), now=request.now, **fields
        )
        return 201, dict(WindowOut(window, context={"gates": gates_of([window])}).data)
