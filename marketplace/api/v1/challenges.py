"""Benchmarks by the market's verifiers: a machine asks, its panel is told, and each verifier hands in its word."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from contracts.eip712 import Signature
from marketplace.agent.readings import SignedReport
from marketplace.agent.sitting import seat_token
from marketplace.api.errors import InvalidBody
from marketplace.api.fields import Body, IdOut, TextIn, WholeIn
from marketplace.api.paging import page_by_mark, parameters
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.v1.signed import SignedIn, hex_bytes
from marketplace.api.views import ActView, ApiView, ListMixin, found, key_of
from marketplace.supply.challenge_models import Challenge, ChallengeSeat
from marketplace.supply.challenges import find_challenge, open_challenge, orders_for, take_attestation

TAG = ["benchmarks"]
PACKED_BYTES_MAX, PLAIN_BYTES_MAX = 8 << 20, 32 << 20
STATES = ("open", "attested", "expired")


class ChallengeOut(serializers.Serializer):
    """A benchmark that was asked for, and how far it came."""

    id = IdOut("chl", source="pk")
    machine = IdOut("cls", source="node_class_id")
    epoch = serializers.IntegerField()
    terms = serializers.JSONField(help_text="what verifiers attest")
    preset = serializers.JSONField(help_text="the chain that is asked for")
    panel = serializers.SerializerMethodField()
    reports = serializers.SerializerMethodField(help_text="verifiers that handed in an attestation")
    state = serializers.SerializerMethodField()
    resource_class = serializers.SerializerMethodField()
    standing = serializers.CharField(source="node_class.standing.state")
    closes_at = serializers.DateTimeField()

    @extend_schema_field({"type": "array", "items": {"type": "string"}, "description": "addresses, rising"})
    def get_panel(self, row: Challenge) -> list[str]:
        return [each.seat_id for each in row.seats.all()]

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_reports(self, row: Challenge) -> list[str]:
        return sorted(each.seat_id for each in row.reports.all())

    @extend_schema_field({"type": "string", "enum": list(STATES)})
    def get_state(self, row: Challenge) -> str:
        if hasattr(row, "result"):
            return "attested"
        return "open" if self.context["now"] < row.closes_at else "expired"

    @extend_schema_field({"type": "string", "nullable": True, "description": "the class that the score reaches"})
    def get_resource_class(self, row: Challenge) -> str | None:
        return row.result.benchmark.measured_class if hasattr(row, "result") else None


class ChallengeList(ActView):
    body = SignedIn
    is_idempotent = True
    is_under_caps = True

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        signed = SignedReport(fields["body"].encode(), hex_bytes(fields["signature"]))
        row = open_challenge(party=request.party, signed=signed, now=request.now)
        return 201, dict(ChallengeOut(row, context={"now": request.now}).data)

    @extend_schema(operation_id="open_challenge", tags=TAG, request=SignedIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, ChallengeOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Let a panel of the market's verifiers measure one of your machines; its own key signs the wish."""
        return self.perform(request)


class ChallengeDetail(ApiView):
    @extend_schema(operation_id="get_challenge", tags=TAG, responses=ChallengeOut)
    def get(self, request: Any, challenge: str) -> Response:
        """A challenge of your machines, or one on whose panel you sit."""
        parameters(request, ())
        row = found(find_challenge(key_of(challenge, "chl"), request.party))
        return Response(ChallengeOut(row, context={"now": request.now}).data)


class ChallengeOrderOut(serializers.Serializer):
    """A challenge that you are to measure now, and how its machine lets you in."""

    challenge = IdOut("chl", source="challenge_id")
    machine_key = serializers.SerializerMethodField()
    terms = serializers.JSONField(source="challenge.terms")
    preset = serializers.JSONField(source="challenge.preset")
    panel = serializers.SerializerMethodField()
    prover_url = serializers.CharField(source="challenge.prover_url")
    certificate = serializers.CharField(source="challenge.certificate")
    token = serializers.SerializerMethodField(help_text="of your seat alone")

    @extend_schema_field({"type": "string", "description": "Ed25519, 32 bytes in hex"})
    def get_machine_key(self, row: ChallengeSeat) -> str:
        return bytes(row.challenge.node_class.machine_key or b"").hex()

    @extend_schema_field({"type": "array", "items": {"type": "string"}, "description": "addresses, rising"})
    def get_panel(self, row: ChallengeSeat) -> list[str]:
        return [each.seat_id for each in row.challenge.seats.all()]

    @extend_schema_field({"type": "string"})
    def get_token(self, row: ChallengeSeat) -> str:
        return seat_token(row.challenge.token, row.seat_id)


class ChallengeOrders(ListMixin, ApiView):
    shape = ChallengeOrderOut

    @extend_schema(operation_id="list_challenge_orders", tags=TAG, responses=page_of(ChallengeOrderOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Which machines you are to measure now, together with the rest of their panel; by challenge."""
        query = self.query(request)
        orders = orders_for(verifier=request.party, now=request.now)
        return self.page(request, page_by_mark(orders, query, lambda each: (each.challenge_id.hex,)))


class SignatureIn(Body):
    """An EIP-712 signature."""

    v = WholeIn()
    r = TextIn(64, help_text="32 bytes in hex")
    s = TextIn(64, help_text="32 bytes in hex, in the lower half")


class AttestationIn(Body):
    """What a verifier attests, its signature, and the transcript that proves it."""

    attestation = serializers.DictField(help_text="the BenchmarkAttestation; bytes as 0x hex")
    signature = SignatureIn()
    transcript = TextIn(PACKED_BYTES_MAX, help_text="base64 of the zlib-packed canonical bytes, in the light form")


class AttestationOut(serializers.Serializer):
    """What was taken, and whether the quorum stands."""

    challenge = IdOut("chl", source="challenge_id")
    seat = serializers.CharField(source="seat_id")
    is_settled = serializers.SerializerMethodField(help_text="a quorum made it a benchmark")

    @extend_schema_field({"type": "boolean"})
    def get_is_settled(self, row: Any) -> bool:
        return Challenge.objects.filter(pk=row.challenge_id, result__isnull=False).exists()


class AttestationList(ActView):
    body = AttestationIn
    bytes_max = PACKED_BYTES_MAX
    is_idempotent = True
    is_under_caps = True

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        given = fields["signature"]
        row = found(find_challenge(key_of(ids["challenge"], "chl"), request.party))
        report = take_attestation(
            party=request.party, challenge=row, transcript=_unpacked(fields["transcript"]),
            message=fields["attestation"], now=request.now,
            signature=Signature(int(given["v"]), hex_bytes(given["r"]), hex_bytes(given["s"])),
        )  # fmt: skip
        return 200, dict(AttestationOut(report).data)

    @extend_schema(operation_id="post_attestation", tags=TAG, request=AttestationIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, AttestationOut))  # fmt: skip
    def post(self, request: Any, challenge: str) -> Response:
        """Hand in your attestation as a verifier of the panel, with the transcript; the market checks it again."""
        return self.perform(request, challenge=challenge)


def _unpacked(text: str) -> bytes:
    """The transcript's bytes. What unpacks to more than a transcript can be is not unpacked."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(base64.b64decode(text, validate=True), PLAIN_BYTES_MAX)
        if unpacker.eof and not unpacker.unused_data:
            return plain
    except (binascii.Error, ValueError, zlib.error):
        pass
    raise InvalidBody([("/transcript", "bad_text", "Send base64 of the zlib-packed transcript.")])
