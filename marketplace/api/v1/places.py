"""Sites and node classes of the asking party: registered, changed with a dry run that says what is voided, retired."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import seat_of
from marketplace.api.fields import Body, IdField, IdOut, TextIn, WholeIn
from marketplace.api.paging import page_by_place, page_by_time
from marketplace.api.schema import CURSOR, DRY_RUN, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.shapes import CapacityOut
from marketplace.api.views import ActView, ListMixin, found, key_of
from marketplace.supply.change_models import CAUSES, VOIDS, SupplyChange
from marketplace.supply.changes import (
    bring_back,
    changes_of,
    edit_node_class,
    edit_site,
    retire,
    undo_change,
)
from marketplace.supply.models import Site
from marketplace.supply.selectors import find_node_class, sites_of
from marketplace.supply.services import enrol_node_class, register_site

DEGREES = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,8})?")


@extend_schema_field({"type": "string", "pattern": DEGREES.pattern, "example": "48.3984"})
class Degrees(serializers.Field):
    """An angle in degrees, as a string of digits: no figure of the API is a float."""

    default_error_messages = {"number_format": "Write degrees as a string such as 48.3984."}

    def to_internal_value(self, data: Any) -> float:
        if not isinstance(data, str) or not DEGREES.fullmatch(data):
            self.fail("number_format")
        return float(data)

    def to_representation(self, value: Any) -> str:
        return f"{value:.8f}".rstrip("0").rstrip(".")


class SiteOut(serializers.ModelSerializer):
    """Where machines stand, and under whose law."""

    id = IdOut("sit", source="pk")
    lat = Degrees()
    lon = Degrees()

    class Meta:
        model = Site
        fields = (
            "id", "code", "city", "country", "lat", "lon", "operator_country", "keys_country", "moved_at",
            "control_changed_at", "retired_at",
        )  # fmt: skip


class ChangeOut(serializers.ModelSerializer):
    """One change: the columns before and after, and what no longer counts."""

    id = IdOut("chg", source="pk")
    site = IdOut("sit", source="site_id", allow_null=True)
    node_class = IdOut("cls", source="node_class_id", allow_null=True)
    undoes = IdOut("chg", source="undoes_id", allow_null=True)
    before = serializers.DictField(help_text="the changed columns as they were")
    after = serializers.DictField(help_text="the same columns from now on")
    voids = serializers.ListField(child=serializers.ChoiceField(choices=VOIDS))
    cause = serializers.ChoiceField(choices=CAUSES)

    class Meta:
        model = SupplyChange
        fields = ("id", "site", "node_class", "before", "after", "voids", "cause", "undoes", "actor", "reason", "at")


class ChangeAnswer(serializers.Serializer):
    """The change, or null where nothing differs."""

    id = IdOut("chg", allow_null=True)
    change = ChangeOut(allow_null=True)


class SiteIn(Body):
    """A site of yours."""

    code = TextIn(60, help_text="your short name for it; it stays")
    city = TextIn(80)
    country = TextIn(2, help_text="ISO 3166, two capitals")
    lat = Degrees()
    lon = Degrees()
    operator_country = TextIn(2, help_text="where the staff sits")
    keys_country = TextIn(2, help_text="where encryption keys are held")


class SiteChangeIn(Body):
    """What changes of a site; leave out what stays."""

    reason = TextIn(300)
    city = TextIn(80, required=False)
    country = TextIn(2, required=False)
    lat = Degrees(required=False)
    lon = Degrees(required=False)
    operator_country = TextIn(2, required=False)
    keys_country = TextIn(2, required=False)


class NodeClassIn(Body):
    """Machines of one site and kind that will be proven together."""

    site = IdField("sit", help_text="one of your own")
    resource_class_code = TextIn(40)
    units = WholeIn()
    tier = WholeIn(help_text="asked for, 0 to 3; counts as far as evidence shows it")
    claimed_name = TextIn(80)


class NodeClassChangeIn(Body):
    """What changes of a node class; leave out what stays."""

    reason = TextIn(300)
    claimed_name = TextIn(80, required=False)
    units = WholeIn(required=False)
    tier = WholeIn(required=False)
    resource_class = TextIn(40, required=False)


class WhyIn(Body):
    """Why, for the record."""

    reason = TextIn(300)


CHANGED = act_answers(200, ChangeAnswer, draft=ChangeAnswer)


class SiteList(ListMixin, ActView):
    shape = SiteOut
    body = SiteIn

    @extend_schema(operation_id="list_sites", tags=["places"], responses=page_of(SiteOut), parameters=[LIMIT, CURSOR])
    def get(self, request: Any) -> Response:
        """Your sites, the newest first."""
        rows = list(sites_of(request.party).order_by("id"))
        return self.page(request, page_by_place(rows, self.query(request)))

    @extend_schema(operation_id="register_site", tags=["places"], request=SiteIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, SiteOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Register a site; the same code again is the same site."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        site = register_site(party=request.party, rtt_ms_p95={}, seat=seat_of(request), now=request.now, **fields)
        return 201, dict(SiteOut(site).data)


class NodeClassList(ActView):
    body = NodeClassIn

    @extend_schema(operation_id="enrol_node_class", tags=["places"], request=NodeClassIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, CapacityOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Enrol machines at a site of yours; they have proven nothing yet."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        site = found(sites_of(request.party).filter(pk=fields.pop("site")).first())
        row = enrol_node_class(party=request.party, site=site, seat=seat_of(request), now=request.now, **fields)
        return 201, dict(CapacityOut(found(find_node_class(row.pk, request.party))).data)


class SiteChanges(ActView):
    body = SiteChangeIn
    may_rehearse = True

    @extend_schema(operation_id="change_site", tags=["places"], request=SiteChangeIn,
                   parameters=[IDEMPOTENCY_KEY, DRY_RUN],
                   responses=CHANGED)  # fmt: skip
    def post(self, request: Any, site: str) -> Response:
        """Change a site. A dry run says what would no longer count; `capacity_promised` while bids stand on it."""
        return self.perform(request, site=site)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = found(sites_of(request.party).filter(pk=key_of(ids["site"], "sit")).first())
        return 200, _answer(edit_site(party=request.party, site=own, seat=seat_of(request), now=request.now, **fields))


class NodeClassChanges(ActView):
    body = NodeClassChangeIn
    may_rehearse = True

    @extend_schema(operation_id="change_node_class", tags=["places"], request=NodeClassChangeIn,
                   parameters=[IDEMPOTENCY_KEY, DRY_RUN],
                   responses=CHANGED)  # fmt: skip
    def post(self, request: Any, node_class: str) -> Response:
        """Change a node class. More units or another kind end its proof at once; a dry run says so."""
        return self.perform(request, node_class=node_class)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = found(find_node_class(key_of(ids["node_class"], "cls"), request.party))
        return 200, _answer(edit_node_class(
            party=request.party, node_class=own, seat=seat_of(request), now=request.now, **fields))  # fmt: skip


class _Service(ActView):
    """In or out of service; the address says of what."""

    body = WhyIn
    verb: Any = None

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        own = (sites_of(request.party).filter(pk=key_of(ids["site"], "sit")).first() if "site" in ids
               else find_node_class(key_of(ids["node_class"], "cls"), request.party))  # fmt: skip
        done = type(self).verb(party=request.party, thing=found(own), seat=seat_of(request), now=request.now, **fields)
        return 200, _answer(done)


class SiteRetirement(_Service):
    verb = retire

    @extend_schema(operation_id="retire_site", tags=["places"], request=WhyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ChangeAnswer))  # fmt: skip
    def post(self, request: Any, site: str) -> Response:
        """Take a site out of service, after all its node classes."""
        return self.perform(request, site=site)


class SiteReturn(_Service):
    verb = bring_back

    @extend_schema(operation_id="bring_site_back", tags=["places"], request=WhyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ChangeAnswer))  # fmt: skip
    def post(self, request: Any, site: str) -> Response:
        """Put a retired site into service again."""
        return self.perform(request, site=site)


class NodeClassRetirement(_Service):
    verb = retire

    @extend_schema(operation_id="retire_node_class", tags=["places"], request=WhyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ChangeAnswer))  # fmt: skip
    def post(self, request: Any, node_class: str) -> Response:
        """Take a node class out of service: its proof ends and its places on the waitlist are given back."""
        return self.perform(request, node_class=node_class)


class NodeClassReturn(_Service):
    verb = bring_back

    @extend_schema(operation_id="bring_node_class_back", tags=["places"], request=WhyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ChangeAnswer))  # fmt: skip
    def post(self, request: Any, node_class: str) -> Response:
        """Put a retired node class into service again; its machines prove themselves anew."""
        return self.perform(request, node_class=node_class)


class ChangeList(ListMixin, ActView):
    shape = ChangeOut

    @extend_schema(operation_id="list_supply_changes", tags=["places"], responses=page_of(ChangeOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Every change of your sites and node classes, oldest first."""
        return self.page(request, page_by_time(changes_of(request.party), self.query(request), created="at"))


class ChangeUndo(ActView):
    body = WhyIn

    @extend_schema(operation_id="undo_supply_change", tags=["places"], request=WhyIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ChangeAnswer))  # fmt: skip
    def post(self, request: Any, change: str) -> Response:
        """Take a change back within a week; a proof that it ended stays ended."""
        return self.perform(request, change=change)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(changes_of(request.party).filter(pk=key_of(ids["change"], "chg")).first())
        return 200, _answer(undo_change(
            party=request.party, change=row, seat=seat_of(request), now=request.now, **fields))  # fmt: skip


def _answer(change: SupplyChange | None) -> dict[str, Any]:
    return dict(ChangeAnswer({"id": change.pk if change else None, "change": change}).data)
