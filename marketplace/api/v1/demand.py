"""Demands of the asking party: list, read, post, fund, withdraw."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import api_key_of, seat_of
from marketplace.api.fields import Body, FlagIn, IdField, IdOut, TargetsIn, TextIn, TextsIn, WholeIn
from marketplace.api.paging import choice, page_by_time, parameters
from marketplace.api.schema import CURSOR, DRY_RUN, IDEMPOTENCY_KEY, LIMIT, WINDOW, act_answers, page_of, parameter
from marketplace.api.shapes import DemandDraft, DemandOut, FeasibilityOut
from marketplace.api.views import ActView, ApiView, ListMixin, found, key_of, window_filter
from marketplace.catalogue.selectors import find_visible_window
from marketplace.clearing.feasibility import feasibility_of
from marketplace.demand.approvals import approve_demand, refuse_demand
from marketplace.demand.legs import amend_step, fund_whole, withdraw_whole
from marketplace.demand.models import FUNDING_KINDS, KINDS, STATES, Demand
from marketplace.demand.pins import pin_data
from marketplace.demand.selectors import demands_of, find_demand
from marketplace.demand.services import post_demand
from marketplace.errors import RoleForbidden
from pricing.latency import CLASSES


class DemandIn(Body):
    """What a buyer needs in one window, at most at `price_limit_micros` per unit-hour, all-in."""

    window = IdField("win")
    reference = TextIn(60, help_text="your own name for it; used once")
    kind = TextIn(20, help_text=f"one of {', '.join(KINDS)}: any part, one ratio over all its slots, all or nothing")
    accepted_classes = TextsIn(help_text="resource classes, any of which will do")
    quantity_units = WholeIn(help_text="1 to 2^20")
    start_slot = WholeIn(help_text="first hourly slot of the window")
    end_slot = WholeIn(help_text="the slot after the last one")
    price_limit_micros = WholeIn(help_text="micro-USD per unit-hour, on a tick of 100")
    sla_code = TextIn(20)
    sla_targets = TargetsIn(required=False, help_text="what must be promised beside availability")
    zone_code = TextIn(12, required=False, allow_null=True, help_text="where the machines must stand")
    control_zone_code = TextIn(
        12, required=False, allow_null=True, help_text="where parent, operator and keys must sit"
    )
    tier_min = WholeIn(required=False, help_text="0 to 3; 0 when left out")
    vantage_code = TextIn(30, required=False, allow_null=True)
    latency_ms_max = WholeIn(required=False, allow_null=True, help_text="p95 round trip from the vantage")
    latency_class = TextIn(
        10, required=False, allow_null=True,
        help_text=f"one of {', '.join(CLASSES)}: the bound and its SLA target at once, measured from the vantage",
    )  # fmt: skip
    minimum_units = WholeIn(required=False, help_text="of a window: so many units or none; 0 when left out")
    is_one_site = FlagIn(required=False, help_text="of a window or block: all units in one site")
    data_class = TextIn(40, required=False, allow_null=True, help_text="what the work touches; it lifts the tier")
    purpose = TextIn(40, required=False, allow_null=True, help_text="of data under an agreement")
    required_controls = TextsIn(required=False, help_text="controls that the capacity must hold")
    accepts_interruptible = FlagIn(required=False, help_text="capacity that may be taken back will do")
    purchase_order = TextIn(
        60, required=False, help_text="number of an order of yours; above your party's threshold it may be asked for"
    )
    choice = TextIn(
        60, required=False, allow_null=True,
        help_text="of a window or block: of your demands of one choice in a window at most one is awarded; each has "
        "its own hold, and the losers' are released",
    )


class DemandList(ListMixin, ActView):
    shape = DemandOut
    filters = ("state", "window")
    body = DemandIn
    may_rehearse = True
    is_under_caps = True

    @extend_schema(
        operation_id="list_demands", tags=["demands"], responses=page_of(DemandOut),
        parameters=[parameter("state", "only demands in this state", STATES), WINDOW, LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your demands, oldest first. Nobody else's are ever listed."""
        query = self.query(request)
        rows = demands_of(request.party, state=choice(query, "state", STATES), window=window_filter(query))
        return self.page(request, page_by_time(rows.prefetch_related("reasons"), query, created="posted_at"))

    @extend_schema(
        operation_id="post_demand", tags=["demands"], request=DemandIn, parameters=[IDEMPOTENCY_KEY, DRY_RUN],
        responses=act_answers(201, DemandOut, draft=DemandDraft),
    )  # fmt: skip
    def post(self, request: Any) -> Response:
        """Post a demand. It moves no money and binds nobody until it is funded.

        A dry run also tells how many providers could serve it, and which rule keeps most out.
        """
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        return 201, dict(DemandOut(self._posted(request, fields)).data)

    def rehearse(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        demand = self._posted(request, fields)
        return 200, {**DemandOut(demand).data, "feasibility": FeasibilityOut(feasibility_of(demand)).data}

    def _posted(self, request: Any, fields: dict[str, Any]) -> Demand:
        window = found(find_visible_window(fields.pop("window"), request.party.pk))
        return post_demand(party=request.party, window=window, now=request.now, seat=seat_of(request),
                           key=api_key_of(request), **fields)  # fmt: skip


class DemandDetail(ApiView):
    @extend_schema(operation_id="get_demand", tags=["demands"], responses=DemandOut)
    def get(self, request: Any, demand: str) -> Response:
        """One of your demands; after clearing with the reason for what was not filled."""
        return Response(DemandOut(found(find_demand(key_of(demand, "dem"), request.party))).data)


class DemandFeasibility(ApiView):
    @extend_schema(operation_id="get_demand_feasibility", tags=["demands"], responses=FeasibilityOut)
    def get(self, request: Any, demand: str) -> Response:
        """How many providers could serve one of your demands, and which single rule keeps most out."""
        parameters(request, ())
        own = found(find_demand(key_of(demand, "dem"), request.party))
        return Response(FeasibilityOut(feasibility_of(own)).data)


class FundingIn(Body):
    """What stands behind a demand; without a body the order it names, or money in escrow."""

    funding = TextIn(
        14, required=False, help_text=f"{', '.join(FUNDING_KINDS)}; left out: the order it names, or escrow"
    )
    number = TextIn(60, required=False, help_text="of the purchase order or grant")


class DemandFunding(ActView):
    body = FundingIn
    body_may_be_empty = True
    is_under_caps = True

    @extend_schema(
        operation_id="fund_demand", tags=["demands"], request=FundingIn, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, DemandOut),
    )  # fmt: skip
    def post(self, request: Any, demand: str) -> Response:
        """Fund a demand: limit x units x hours is held out of your available money. Only funded demand counts."""
        return self.perform(request, demand=demand)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        demand = found(find_demand(key_of(ids["demand"], "dem"), request.party))
        return 200, dict(DemandOut(fund_whole(
            demand=demand, party=request.party, seat=seat_of(request), key=api_key_of(request), now=request.now,
            **fields)).data)


class StepChangeIn(Body):
    """What changes of one step of a price curve; what is left out stays."""

    quantity_units = WholeIn(required=False, help_text="1 to 2^20")
    price_limit_micros = WholeIn(required=False, help_text="micro-USD per unit-hour, between those of its neighbours")


class DemandStep(ActView):
    body = StepChangeIn

    @extend_schema(
        operation_id="amend_step", tags=["demands"], request=StepChangeIn, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, DemandOut),
    )  # fmt: skip
    def post(self, request: Any, demand: str) -> Response:
        """Change one step of a price curve while its window collects. A funded one is held anew at its new cost."""
        return self.perform(request, demand=demand)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = found(find_demand(key_of(ids["demand"], "dem"), request.party))
        step = amend_step(demand=own, party=request.party, seat=seat_of(request), now=request.now, **fields)
        return 200, dict(DemandOut(step).data)


class PinIn(Body):
    """How much of the data may leave in an hour."""

    limit_bytes = WholeIn(required=False, help_text="0 when left out: no byte")


class PinOut(serializers.Serializer):
    """The pin of a demand; it stays."""

    id = IdOut("dem", source="demand_id")
    limit_bytes = serializers.IntegerField()
    at = serializers.DateTimeField()


class DemandPin(ActView):
    body = PinIn
    body_may_be_empty = True

    @extend_schema(operation_id="pin_data", tags=["demands"], request=PinIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, PinOut))  # fmt: skip
    def post(self, request: Any, demand: str) -> Response:
        """Pin the data: an hour in which more leaves, or that nobody metered, is credited whole. It stays."""
        return self.perform(request, demand=demand)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = found(find_demand(key_of(ids["demand"], "dem"), request.party))
        pin = pin_data(demand=own, party=request.party, seat=seat_of(request), now=request.now, **fields)
        return 200, dict(PinOut(pin).data)


class ApprovalIn(Body):
    """One person's word on a demand that waits."""

    approve = FlagIn(help_text="true to approve, false to refuse")
    reason = TextIn(300, help_text="kept on the audit trail")


class DemandApprovals(ActView):
    body = ApprovalIn

    @extend_schema(
        operation_id="approve_demand", tags=["demands"], request=ApprovalIn, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, DemandOut),
    )  # fmt: skip
    def post(self, request: Any, demand: str) -> Response:
        """Approve or refuse a demand above your party's threshold. A person's act: a key cannot, nor who posted it."""
        return self.perform(request, demand=demand)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        demand = found(find_demand(key_of(ids["demand"], "dem"), request.party))
        seat = seat_of(request)
        if seat is None:
            raise RoleForbidden("An approval is a person's act: sign in.", roles=["approver", "owner"])
        service = approve_demand if fields["approve"] else refuse_demand
        return 200, dict(DemandOut(service(demand=demand, seat=seat, reason=fields["reason"], now=request.now)).data)


class DemandWithdrawal(ActView):
    is_under_caps = True  # it only lessens what a key has out

    @extend_schema(
        operation_id="withdraw_demand", tags=["demands"], request=None, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, DemandOut),
    )  # fmt: skip
    def post(self, request: Any, demand: str) -> Response:
        """Withdraw a demand while its window collects; its hold is released at once."""
        return self.perform(request, demand=demand)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        demand = found(find_demand(key_of(ids["demand"], "dem"), request.party))
        return 200, dict(DemandOut(withdraw_whole(
            demand=demand, party=request.party, seat=seat_of(request), now=request.now)).data)


