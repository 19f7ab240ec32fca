"""Seats of the asking party: who holds them, invitations, roles, switching off and on. People change them, not keys."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import seat_of
from marketplace.api.fields import Body, IdOut, Micros, TextIn
from marketplace.api.paging import page_by_time
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.parties import seats
from marketplace.parties.letters import are_mailed
from marketplace.parties.models import ROLES, Invitation, Seat
from marketplace.parties.seats import require_person_with


class SeatOut(serializers.ModelSerializer):
    """A person's login in your party."""

    id = IdOut("sea", source="pk")
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.first_name", help_text="empty where none was said")
    is_on = serializers.BooleanField(source="user.is_active")
    since = serializers.DateTimeField(source="user.date_joined")
    last_sign_in_at = serializers.DateTimeField(source="user.last_login", allow_null=True)
    order_max_micros = serializers.SerializerMethodField()
    limit_micros = serializers.SerializerMethodField()

    class Meta:
        model = Seat
        fields = ("id", "email", "name", "role", "is_on", "since", "last_sign_in_at", "order_max_micros",
                  "limit_micros")  # fmt: skip

    @extend_schema_field(Micros(allow_null=True, help_text="one demand of it costs so much without an approval"))
    def get_order_max_micros(self, row: Seat) -> str | None:
        limit = getattr(row, "limit", None)
        return None if limit is None or limit.order_max_micros is None else str(limit.order_max_micros)

    @extend_schema_field(Micros(help_text="one demand may cost so much that it approves"))
    def get_limit_micros(self, row: Seat) -> str:
        limit = getattr(row, "limit", None)
        return str(limit.limit_micros if limit else 0)


class InvitationOut(serializers.ModelSerializer):
    """A seat that is offered. The link is in the answer to its invitation alone."""

    id = IdOut("ivt", source="pk")
    invited_by = serializers.CharField(source="invited_by.user.email", allow_null=True, default=None)

    class Meta:
        model = Invitation
        fields = ("id", "email", "role", "invited_by", "invited_at", "expires_at", "withdrawn_at")


class InvitationMade(InvitationOut):
    """An invitation with its link: not shown again, works once."""

    link = serializers.CharField(read_only=True)
    is_mailed = serializers.BooleanField(
        read_only=True, help_text="whether it goes to a mail server once the act is done; else hand it over"
    )

    class Meta(InvitationOut.Meta):
        fields = (*InvitationOut.Meta.fields, "link", "is_mailed")


class InvitationIn(Body):
    """Whom to invite, and as what."""

    email = TextIn(120)
    role = TextIn(20, help_text=f"one of those of your kind of party, of {', '.join(ROLES)}")


class RoleIn(Body):
    """Another role."""

    role = TextIn(20)


class SeatList(ListMixin, ActView):
    shape = SeatOut

    @extend_schema(operation_id="list_seats", tags=["seats"], responses=page_of(SeatOut), parameters=[LIMIT, CURSOR])
    def get(self, request: Any) -> Response:
        """Every seat of your party, those that are switched off too, oldest first."""
        rows = seats.seats_of(request.party)
        return self.page(request, page_by_time(rows, self.query(request), created="user__date_joined"))


class InvitationList(ListMixin, ActView):
    shape = InvitationOut
    body = InvitationIn
    is_idempotent = True  # a remembered reply would keep the link; sent again, the newest link is the only one

    @extend_schema(operation_id="list_invitations", tags=["seats"], responses=page_of(InvitationOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Invitations whose links still lead in, oldest first."""
        rows = seats.open_invitations(request.party, request.now)
        return self.page(request, page_by_time(rows, self.query(request), created="invited_at"))

    @extend_schema(operation_id="invite", tags=["seats"], request=InvitationIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, InvitationMade))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Invite a colleague: a link that works once, within seven days. Sent again, the link of before ends."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        by = require_person_with(seat_of(request), "seats", "invite colleagues")
        root = request.build_absolute_uri("/")
        row, secret = seats.invite(party=request.party, by=by, now=request.now, root=root, **fields)
        row.link = request.build_absolute_uri(reverse("invitation", args=[secret]))
        row.is_mailed = are_mailed()
        return 201, dict(InvitationMade(row).data)


class InvitationWithdrawal(ActView):
    @extend_schema(operation_id="withdraw_invitation", tags=["seats"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, InvitationOut))  # fmt: skip
    def post(self, request: Any, invitation: str) -> Response:
        """Take an invitation back: its link leads nowhere from now on."""
        return self.perform(request, invitation=invitation)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        by = require_person_with(seat_of(request), "seats", "take invitations back")
        rows = seats.open_invitations(request.party, request.now)
        row = found(rows.filter(pk=key_of(ids["invitation"], "ivt")).first())
        return 200, dict(InvitationOut(seats.withdraw_invitation(invitation=row, by=by, now=request.now)).data)


class _SeatAct(ActView):
    def on_seat(self, request: Any, ids: dict[str, Any], what: str) -> dict[str, Any]:
        by = require_person_with(seat_of(request), "seats", what)
        return {"seat": found(seats.find_seat_of(request.party, key_of(ids["seat"], "sea"))), "by": by,
                "now": request.now}  # fmt: skip


class SeatRole(_SeatAct):
    body = RoleIn

    @extend_schema(operation_id="change_role", tags=["seats"], request=RoleIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, SeatOut))  # fmt: skip
    def post(self, request: Any, seat: str) -> Response:
        """Give a seat another role: never your own, and never the last owner's (`last_owner`)."""
        return self.perform(request, seat=seat)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        return 200, dict(SeatOut(seats.change_role(**self.on_seat(request, ids, "change roles"), **fields)).data)


class SeatDeactivation(_SeatAct):
    @extend_schema(operation_id="deactivate_seat", tags=["seats"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, SeatOut))  # fmt: skip
    def post(self, request: Any, seat: str) -> Response:
        """Switch a seat off: the person is signed out at once, keys that it issued end, what it did stays."""
        return self.perform(request, seat=seat)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        return 200, dict(SeatOut(seats.switch_off(**self.on_seat(request, ids, "switch seats off"))).data)


class SeatActivation(_SeatAct):
    @extend_schema(operation_id="activate_seat", tags=["seats"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, SeatOut))  # fmt: skip
    def post(self, request: Any, seat: str) -> Response:
        """Switch a seat on again: the person signs in as before. Sessions and keys that ended stay ended."""
        return self.perform(request, seat=seat)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        return 200, dict(SeatOut(seats.switch_on(**self.on_seat(request, ids, "switch seats on"))).data)
