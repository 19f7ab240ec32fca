"""The asking party's own rules for spending, limits of its seats, and changes of them that wait for a second person."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import seat_of
from marketplace.api.fields import Body, FlagIn, IdOut, Micros, TextIn, WholeIn
from marketplace.api.paging import page_by_time, parameters
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.v1.seats import SeatOut
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.parties.models import Seat
from marketplace.parties.seats import find_seat_of, require_person_with
from marketplace.spending.models import SpendingChange
from marketplace.spending.services import (
    changes_of,
    decide_change,
    rule_of,
    set_order_limit,
    set_seat_limit,
    set_spending_rule,
)


class SpendingChangeOut(serializers.ModelSerializer):
    """A rule or a seat's limit that asks less than before: who proposed it, and what became of it."""

    id = IdOut("spc", source="pk")
    state = serializers.ChoiceField(choices=["waiting", "let", "refused", "withdrawn"])
    threshold_micros = Micros(allow_null=True)
    seat = IdOut("sea", source="seat_id", allow_null=True)
    order_max_micros = Micros(allow_null=True)
    limit_micros = Micros(allow_null=True)
    proposed_by = serializers.EmailField(source="proposed_by.user.email")
    decided_by = serializers.EmailField(source="decided_by.user.email", allow_null=True, default=None)

    class Meta:
        model = SpendingChange
        fields = (
            "id", "kind", "state", "threshold_micros", "approvals_needed", "needs_purchase_order", "seat",
            "order_max_micros", "limit_micros", "proposed_by", "proposed_at", "decided_by", "decided_at", "reason",
        )  # fmt: skip


class SpendingRuleOut(serializers.Serializer):
    """Above which amount a demand of yours waits for how many approvals; nothing where no rule is set."""

    threshold_micros = Micros(allow_null=True)
    approvals_needed = serializers.IntegerField(allow_null=True)
    needs_purchase_order = serializers.BooleanField(allow_null=True)
    waiting = SpendingChangeOut(allow_null=True, help_text="the change of it that waits for a second person")


class SpendingRuleIn(Body):
    """Another rule."""

    threshold_micros = WholeIn(help_text="what a demand may cost without an approval")
    approvals_needed = WholeIn(help_text="one to five people")
    needs_purchase_order = FlagIn(help_text="whether a demand above the threshold names its purchase order")


class SeatLimitsOut(SeatOut):
    """A seat with its limits of now, and the change of the limit just set where that waits."""

    waiting = SpendingChangeOut(allow_null=True, help_text="null: it is in force")

    class Meta(SeatOut.Meta):
        fields = (*SeatOut.Meta.fields, "waiting")


class ApprovingLimitIn(Body):
    """How much one demand may cost which the seat approves."""

    limit_micros = WholeIn()


class OrderLimitIn(Body):
    """How much one demand may cost which the seat posts without an approval."""

    order_max_micros = WholeIn(allow_null=True, help_text="null takes the seat's own limit away")


class DecisionIn(Body):
    """A second person's word."""

    let = FlagIn(help_text="true to let it, false to refuse it")
    reason = TextIn(300, help_text="kept on the audit trail")


class SpendingRuleDetail(ActView):
    body = SpendingRuleIn

    @extend_schema(operation_id="get_spending_rule", tags=["seats"], responses=SpendingRuleOut)
    def get(self, request: Any) -> Response:
        """Your rule for spending, and the change of it that waits."""
        parameters(request, ())
        return Response(self.told(request))

    @extend_schema(operation_id="set_spending_rule", tags=["seats"], request=SpendingRuleIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, SpendingRuleOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Set the rule. What asks more is in force at once, what asks less waits for a second person (`waiting`)."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        by = require_person_with(seat_of(request), "rules", "set spending rules")
        set_spending_rule(seat=by, now=request.now, **fields)
        return 200, self.told(request)

    def told(self, request: Any) -> dict[str, Any]:
        rule = rule_of(request.party)
        waits = changes_of(request.party).filter(kind="rule", decided_at=None, withdrawn_at=None).first()
        names = ("threshold_micros", "approvals_needed", "needs_purchase_order")
        return dict(SpendingRuleOut({**{name: getattr(rule, name, None) for name in names}, "waiting": waits}).data)


class SpendingChangeList(ListMixin, ActView):
    shape = SpendingChangeOut

    @extend_schema(operation_id="list_spending_changes", tags=["seats"], responses=page_of(SpendingChangeOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Changes of your rules and limits that waited or wait for a second person, oldest first."""
        return self.page(request, page_by_time(changes_of(request.party), self.query(request), created="proposed_at"))


class SpendingChangeDecision(ActView):
    body = DecisionIn

    @extend_schema(operation_id="decide_spending_change", tags=["seats"], request=DecisionIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, SpendingChangeOut))  # fmt: skip
    def post(self, request: Any, change: str) -> Response:
        """Let a change, which is in force then, or refuse it. A person's act: neither who proposed it nor whose limit
        it is, nor, for 30 days, whoever let the other in.
        """
        return self.perform(request, change=change)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        by = require_person_with(seat_of(request), "approve", "let changes of rules")
        row = found(changes_of(request.party).filter(pk=key_of(ids["change"], "spc")).first())
        made = decide_change(change=row, seat=by, is_let=fields["let"], reason=fields["reason"], now=request.now)
        return 200, dict(SpendingChangeOut(made).data)


class _SeatLimit(ActView):
    def told(self, request: Any, of: Seat, waiting: SpendingChange | None) -> dict[str, Any]:
        row = found(find_seat_of(request.party, of.pk))
        row.waiting = waiting
        return dict(SeatLimitsOut(row).data)

    def people(self, request: Any, ids: dict[str, Any]) -> dict[str, Seat]:
        by = require_person_with(seat_of(request), "rules", "set limits of seats")
        return {"seat": by, "of": found(find_seat_of(request.party, key_of(ids["seat"], "sea")))}


class ApprovingLimit(_SeatLimit):
    body = ApprovingLimitIn

    @extend_schema(operation_id="set_approving_limit", tags=["seats"], request=ApprovingLimitIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, SeatLimitsOut))  # fmt: skip
    def post(self, request: Any, seat: str) -> Response:
        """Say up to what a seat approves. More than now waits for a second person (`waiting`), less is at once."""
        return self.perform(request, seat=seat)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        people = self.people(request, ids)
        return 200, self.told(request, people["of"], set_seat_limit(**people, now=request.now, **fields))


class OrderLimit(_SeatLimit):
    body = OrderLimitIn

    @extend_schema(operation_id="set_order_limit", tags=["seats"], request=OrderLimitIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, SeatLimitsOut))  # fmt: skip
    def post(self, request: Any, seat: str) -> Response:
        """Say up to what another seat posts without an approval. More than now, or no limit, waits (`waiting`)."""
        return self.perform(request, seat=seat)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        people = self.people(request, ids)
        return 200, self.told(request, people["of"], set_order_limit(**people, now=request.now, **fields))
