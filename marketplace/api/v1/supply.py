"""Bids and node classes of the asking party. A bid is sealed: nobody else can read it, find it or count it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import api_key_of, seat_of
from marketplace.api.fields import Body, IdField, TargetsIn, TextIn, WholeIn
from marketplace.api.paging import choice, page_by_time
from marketplace.api.schema import CURSOR, DRY_RUN, IDEMPOTENCY_KEY, LIMIT, WINDOW, act_answers, page_of, parameter
from marketplace.api.shapes import BidDraft, BidOut, CapacityOut
from marketplace.api.views import ActView, ApiView, ListMixin, found, key_of, window_filter
from marketplace.catalogue.selectors import find_visible_window
from marketplace.supply.bids import place_bid, withdraw_bid
from marketplace.supply.models import BID_STATES
from marketplace.supply.receipts import receipt_of
from marketplace.supply.sealing import with_own_terms
from marketplace.supply.selectors import bids_of, find_bid, find_node_class, node_classes_of


class BidIn(Body):
    """An offer of capacity of one node class, at least at `price_ask_micros` per unit-hour before the fee."""

    window = IdField("win")
    node_class = IdField("cls", help_text="one of your own, see /capacity")
    reference = TextIn(60, help_text="your own name for it; used once")
    quantity_units = WholeIn(help_text="1 to 2^20, within what is proven")
    start_slot = WholeIn(help_text="first hourly slot of the window")
    end_slot = WholeIn(help_text="the slot after the last one")
    price_ask_micros = WholeIn(help_text="micro-USD per unit-hour, on a tick of 100")
    sla_code = TextIn(20)
    sla_targets = TargetsIn(required=False, help_text="what you promise beside availability")
    minimum_units = WholeIn(
        required=False, help_text="the same units in all slots, at least so many, or none; 0 when left out"
    )


class BidList(ListMixin, ActView):
    shape = BidOut
    filters = ("state", "window")
    body = BidIn
    may_rehearse = True
    is_under_caps = True

    @extend_schema(
        operation_id="list_bids", tags=["bids"], responses=page_of(BidOut),
        parameters=[parameter("state", "only bids in this state", BID_STATES), WINDOW, LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your own bids, oldest first. No filter reaches anybody else's."""
        query = self.query(request)
        rows = bids_of(request.party, window=window_filter(query))
        if state := choice(query, "state", BID_STATES):
            rows = rows.filter(state=state)
        page = page_by_time(rows.prefetch_related("reasons"), query, created="placed_at")
        with_own_terms(page.rows, party=request.party)
        return self.page(request, page)

    @extend_schema(
        operation_id="place_bid", tags=["bids"], request=BidIn, parameters=[IDEMPOTENCY_KEY, DRY_RUN],
        responses=act_answers(201, BidOut, draft=BidDraft),
    )  # fmt: skip
    def post(self, request: Any) -> Response:
        """Seal a bid. Refused with `demand_first` until funded demand has opened the window."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        window = found(find_visible_window(fields.pop("window"), request.party.pk))
        node_class = found(find_node_class(fields.pop("node_class"), request.party))
        bid = place_bid(party=request.party, node_class=node_class, window=window, seat=seat_of(request),
                        key=api_key_of(request), now=request.now, **fields)  # fmt: skip
        return 201, dict(BidOut(bid).data)


class BidDetail(ApiView):
    @extend_schema(operation_id="get_bid", tags=["bids"], responses=BidOut)
    def get(self, request: Any, bid: str) -> Response:
        """One of your bids; after clearing with the reason for what was not used."""
        return Response(BidOut(found(find_bid(key_of(bid, "bid"), request.party))).data)


class BidReceiptOut(serializers.Serializer):
    """A commitment to a sealed bid: with the exported audit trail and `offline.py` anybody can check it."""

    format = serializers.CharField()
    bid = serializers.CharField(help_text="as the trail names it")
    reference = serializers.CharField()
    window = serializers.CharField(help_text="as the trail names it")
    window_name = serializers.CharField()
    placed_at = serializers.CharField()
    commitment = serializers.CharField(help_text="SHA-256 of the text, in hex")
    line_hash = serializers.CharField(help_text="of the line on the audit trail, in hex")
    text = serializers.CharField(help_text="the sealed terms in clear, for you alone; empty where your key is lost")


class BidReceipt(ApiView):
    @extend_schema(operation_id="get_bid_receipt", tags=["bids"], responses=BidReceiptOut)
    def get(self, request: Any, bid: str) -> Response:
        """The receipt of one of your bids; it stands from the moment the bid is placed."""
        own = found(find_bid(key_of(bid, "bid"), request.party))
        return Response(BidReceiptOut(receipt_of(bid=own, party=request.party)).data)


class BidWithdrawal(ActView):
    is_under_caps = True  # it only lessens what a key has out

    @extend_schema(
        operation_id="withdraw_bid", tags=["bids"], request=None, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, BidOut),
    )  # fmt: skip
    def post(self, request: Any, bid: str) -> Response:
        """Take a sealed bid back, until the no-cancel period begins."""
        return self.perform(request, bid=bid)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        bid = found(find_bid(key_of(ids["bid"], "bid"), request.party))
        return 200, dict(BidOut(withdraw_bid(
            bid=bid, party=request.party, seat=seat_of(request), now=request.now)).data)


class CapacityList(ListMixin, ApiView):
    shape = CapacityOut

    @extend_schema(
        operation_id="list_capacity", tags=["bids"], responses=page_of(CapacityOut), parameters=[LIMIT, CURSOR]
    )
    def get(self, request: Any) -> Response:
        """Your node classes, with their standing: what may bid, and under which id."""
        rows = node_classes_of(request.party).prefetch_related(None)
        return self.page(request, page_by_time(rows, self.query(request), created="enrolled_at"))
