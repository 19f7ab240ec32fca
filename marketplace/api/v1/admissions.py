"""Demand first: a provider asks to be let in with capacity, waits, and is let in when funded demand covers it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import seat_of
from marketplace.api.fields import Body, IdField, IdOut, MonthIn, WholeIn
from marketplace.api.paging import page_by_time
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.supply.admission_models import Admission
from marketplace.supply.admissions import (
    admissions_of,
    admit,
    ask_admission,
    find_admission,
    leave_waitlist,
    place_of,
    places_for,
)
from marketplace.supply.selectors import find_node_class


class CoverOut(serializers.Serializer):
    """The product's funded demand and capacity in the month, in unit-hours; nobody's name is in it."""

    place = serializers.IntegerField(help_text="in the waitlist; 0 once let in")
    waiting = serializers.IntegerField(help_text="requests that wait for this product and month")
    funded_unit_hours = serializers.IntegerField()
    covered_unit_hours = serializers.IntegerField(help_text="what the funded demand lets in")
    admitted_unit_hours = serializers.IntegerField()
    room_unit_hours = serializers.IntegerField()


class AdmissionOut(serializers.ModelSerializer):
    """A request to offer unit-hours of one node class in one month."""

    id = IdOut("adm", source="pk")
    node_class = IdOut("cls", source="node_class_id")
    month = serializers.SerializerMethodField()
    cover = serializers.SerializerMethodField()

    class Meta:
        model = Admission
        fields = ("id", "node_class", "month", "zone", "unit_hours", "state", "asked_at", "decided_at", "cover")

    @extend_schema_field({"type": "string"})
    def get_month(self, row: Admission) -> str:
        return f"{row.month:%Y-%m}"

    @extend_schema_field(CoverOut)
    def get_cover(self, row: Admission) -> Any:
        place = self.context.get("places", {}).get(row.pk) or place_of(row)
        return {
            "place": place.place, "waiting": place.waiting, "funded_unit_hours": place.funded_unit_hours,
            "covered_unit_hours": place.cover.covered_unit_hours,
            "admitted_unit_hours": place.cover.admitted_unit_hours, "room_unit_hours": place.cover.room_unit_hours,
        }  # fmt: skip


class AdmissionIn(Body):
    """So many unit-hours of one of your node classes in one month."""

    node_class = IdField("cls", help_text="one of your own, see /capacity")
    month = MonthIn(help_text="the month in which the windows begin to deliver")
    unit_hours = WholeIn()


class AdmissionList(ListMixin, ActView):
    shape = AdmissionOut
    body = AdmissionIn

    @extend_schema(operation_id="list_admissions", tags=["admissions"], responses=page_of(AdmissionOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your requests, oldest first, with your place and the funded demand that waits."""
        page = page_by_time(admissions_of(request.party), self.query(request), created="asked_at")
        return self.page(request, page, places={each.admission.pk: each for each in places_for(page.rows)})

    @extend_schema(operation_id="ask_admission", tags=["admissions"], request=AdmissionIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(201, AdmissionOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Join the waitlist; it costs nothing. Whoever is covered is let in at the market's next turn."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        node_class = found(find_node_class(fields.pop("node_class"), request.party))
        asked = ask_admission(
            party=request.party, node_class=node_class, seat=seat_of(request), now=request.now, **fields
        )
        return 201, dict(AdmissionOut(asked).data)


class AdmissionEntry(ActView):
    @extend_schema(operation_id="admit", tags=["admissions"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, AdmissionOut))  # fmt: skip
    def post(self, request: Any, admission: str) -> Response:
        """Go in now. Refused with `demand_first` and the figures while funded demand does not cover it."""
        return self.perform(request, admission=admission)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(find_admission(key_of(ids["admission"], "adm"), request.party))
        return 200, dict(AdmissionOut(admit(admission=row, seat=seat_of(request), now=request.now)).data)


class AdmissionWithdrawal(ActView):
    @extend_schema(operation_id="leave_waitlist", tags=["admissions"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, AdmissionOut))  # fmt: skip
    def post(self, request: Any, admission: str) -> Response:
        """Leave the waitlist."""
        return self.perform(request, admission=admission)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(find_admission(key_of(ids["admission"], "adm"), request.party))
        left = leave_waitlist(admission=row, party=request.party, seat=seat_of(request), now=request.now)
        return 200, dict(AdmissionOut(left).data)
