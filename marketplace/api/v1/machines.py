"""Machine keys: what an agent posts for itself. Its signatures and the one-time code stand for it; no API key."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.agent.keys import fingerprint_of
from marketplace.api.fields import Body, IdOut, PageFrame, TextIn
from marketplace.api.idempotency import require_key
from marketplace.api.paging import page_by_mark
from marketplace.api.parsing import parse_object, read_raw
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers
from marketplace.api.views import ApiView, ListMixin, PublicView, found, key_of
from marketplace.delivery.duties import duties_of
from marketplace.delivery.probing import verifier_keys
from marketplace.supply.machine_keys import claim_enrolment, rotate_machine_key
from marketplace.supply.selectors import find_node_class

ENROLMENT_STATES = ("waiting", "accepted", "refused")


class EnrolmentIn(Body):
    """The public half of a machine key, signed together with the one-time code of the onboarding page."""

    public_key = TextIn(64, help_text="Ed25519, 32 bytes in hex")
    token = TextIn(100, help_text="the one-time code")
    signature = TextIn(128, help_text="64 bytes in hex, by that key")


class EnrolmentOut(serializers.Serializer):
    """A machine that waits for a person of its organisation, or what that person said."""

    machine = serializers.SerializerMethodField(help_text="its node class, or itself as one more unit's prover")
    state = serializers.ChoiceField(choices=ENROLMENT_STATES, read_only=True)
    fingerprint = serializers.SerializerMethodField(help_text="what the person compares")

    def get_machine(self, row: Any) -> str:
        return f"unt_{row.pk.hex}" if row.is_for_a_unit else f"cls_{row.node_class_id.hex}"

    def get_fingerprint(self, row: Any) -> str:
        return fingerprint_of(bytes(row.public_key))


class RotationIn(Body):
    """A change of keys, signed by the key in use and by the new one."""

    old_key = TextIn(64, help_text="Ed25519, 32 bytes in hex; the key in use")
    new_key = TextIn(64)
    old_signature = TextIn(128)
    new_signature = TextIn(128)


class RotationOut(serializers.Serializer):
    """The node class with its new key; its standing is as before."""

    machine = IdOut("cls", source="pk")
    fingerprint = serializers.SerializerMethodField()
    standing = serializers.CharField(source="standing.state", read_only=True)

    def get_fingerprint(self, row: Any) -> str:
        return fingerprint_of(bytes(row.machine_key))


class EnrolmentList(PublicView):
    @extend_schema(
        operation_id="claim_enrolment", tags=["machines"], auth=[], request=EnrolmentIn, parameters=[IDEMPOTENCY_KEY],
        responses=act_answers(200, EnrolmentOut),
    )  # fmt: skip
    def post(self, request: Any) -> Response:
        """Claim a one-time code for a machine key; the same statement again tells how it stands."""
        row = claim_enrolment(statement=_statement(request, EnrolmentIn), now=request.now)
        return Response(EnrolmentOut(row).data)


class RotationList(PublicView):
    @extend_schema(
        operation_id="rotate_machine_key", tags=["machines"], auth=[], request=RotationIn,
        parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, RotationOut),
    )  # fmt: skip
    def post(self, request: Any) -> Response:
        """Let a new machine key follow the one in use; standing and proofs stay."""
        row = rotate_machine_key(statement=_statement(request, RotationIn), now=request.now)
        return Response(RotationOut(row).data)


class DutyOut(serializers.Serializer):
    """A running lease of these machines, as readings name it, and the units it is owed in each hour."""

    id = IdOut("lea", source="lease_id")
    lease = serializers.CharField(source="lease_id", help_text="as statements write it: a UUID with dashes")
    from_at = serializers.SerializerMethodField()
    units = serializers.ListField(child=serializers.IntegerField(min_value=0), help_text="one per hour from then on")
    egress_limit_bytes = serializers.IntegerField(
        allow_null=True, help_text="of pinned data: what may leave in an hour; report each hour of it"
    )

    @extend_schema_field({"type": "integer", "description": "unix seconds, on the hour"})
    def get_from_at(self, row: Any) -> int:
        return int(row.from_at.timestamp())


class DutiesOut(PageFrame):
    """The running leases of a node class, and the keys of all verifiers: who may ask its machines for a re-check."""

    data = DutyOut(many=True)
    witnesses = serializers.ListField(child=serializers.CharField(), help_text="Ed25519 keys, 32 bytes in hex each")


class MachineLeases(ListMixin, ApiView):
    frame = DutiesOut

    @extend_schema(operation_id="list_machine_leases", tags=["machines"], responses=DutiesOut,
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any, node_class: str) -> Response:
        """What your machines owe now, for the meter that runs there; oldest lease first."""
        query = self.query(request)
        own = found(find_node_class(key_of(node_class, "cls"), request.party))
        page = page_by_mark(duties_of(own), query, lambda duty: (duty.lease_id.hex,))
        return self.framed(request, page, witnesses=verifier_keys())


def _statement(request: Any, body: type[Body]) -> dict[str, Any]:
    """The signed statement of a request. What it says is done once whatever the key of the request is."""
    require_key(request.META.get("HTTP_IDEMPOTENCY_KEY"))
    return body(data=parse_object(read_raw(request))).read()
