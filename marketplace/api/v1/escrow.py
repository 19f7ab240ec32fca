"""Leases and money of the asking party."""

from __future__ import annotations

import hashlib
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from ledger.export_files import MEDIA_TYPES
from ledger.exports import StatementExport
from ledger.selectors import StatementLine, statement
from marketplace.agent.readings import SignedReport
from marketplace.api.fields import Body, HexOut, Micros, PageFrame, TextIn, id_text
from marketplace.api.paging import choice, page_by_mark, page_by_place, page_by_time, parameters
from marketplace.api.reads import AccountBalance, balances_of, leases_of
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, WINDOW, act_answers, page_of, parameter
from marketplace.api.shapes import LeaseOut
from marketplace.api.views import ActView, ApiView, ListMixin, found, key_of, window_filter
from marketplace.delivery.egress import take_egress
from marketplace.delivery.egress_models import EgressReading
from marketplace.downloads import asked_file, send_export
from marketplace.errors import BadInput
from marketplace.escrow.models import LEASE_STATES
from marketplace.escrow.pack_models import LeasePack
from marketplace.escrow.packs import packs_of
from marketplace.insights.residency import export_residency

# An account is kept for a window or for a node class; which of the two its code says.
SCOPE_PREFIX = {"buyer.held": "win", "provider.payable": "cls", "provider.holdback": "cls", "stake.mirror": "cls"}
SCOPE = {"type": ["string", "null"], "description": "win_... or cls_...: what the account is kept for"}


class LeaseList(ListMixin, ApiView):
    shape = LeaseOut
    filters = ("state", "window")

    @extend_schema(
        operation_id="list_leases", tags=["leases"], responses=page_of(LeaseOut),
        parameters=[parameter("state", "only leases in this state", LEASE_STATES), WINDOW, LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Leases you buy or provide, oldest first, with verdict, credit and slash case."""
        query = self.query(request)
        rows = leases_of(request.party, state=choice(query, "state", LEASE_STATES), window=window_filter(query))
        return self.page(request, page_by_time(rows, query, created="made_at"))


class LeaseDetail(ApiView):
    @extend_schema(operation_id="get_lease", tags=["leases"], responses=LeaseOut)
    def get(self, request: Any, lease: str) -> Response:
        """One lease of yours."""
        row = found(leases_of(request.party).filter(pk=key_of(lease, "lea")).first())
        return Response(LeaseOut(row, context={"party": request.party}).data)


class PackOut(serializers.Serializer):
    """The newest documentation pack of a lease. `body` is its canonical JSON: its SHA-256 stands on the audit trail."""

    version = serializers.IntegerField()
    stage = serializers.CharField(help_text="start, or end: with the logs")
    made_at = serializers.DateTimeField()
    sha256 = HexOut()
    body = serializers.SerializerMethodField()

    def get_body(self, pack: LeasePack) -> str:
        return bytes(pack.body).decode()


class LeasePackDetail(ApiView):
    @extend_schema(operation_id="get_lease_pack", tags=["leases"], responses=PackOut)
    def get(self, request: Any, lease: str) -> Response:
        """The documentation pack of one of your leases, with its record of processing."""
        row = found(leases_of(request.party).filter(pk=key_of(lease, "lea")).first())
        return Response(PackOut(found(next(iter(packs_of(row)), None))).data)


class EgressIn(Body):
    """One hour of the egress meter as the machine signed it."""

    report = TextIn(500, help_text="the canonical JSON of the report, as text")
    signature = TextIn(128, help_text="Ed25519 by the machine's key, in hex")


class EgressOut(serializers.Serializer):
    """What is kept of one hour."""

    id = serializers.SerializerMethodField()
    slot = serializers.IntegerField()
    egress_bytes = serializers.IntegerField()

    def get_id(self, row: EgressReading) -> str:
        return str(row.pk)


class LeaseEgress(ActView):
    body = EgressIn
    is_under_caps = True  # no statement is an order: the agent's capped key hands it in

    @extend_schema(operation_id="report_egress", tags=["leases"], request=EgressIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, EgressOut))  # fmt: skip
    def post(self, request: Any, lease: str) -> Response:
        """Hand in one hour of the egress meter of a lease that you serve. Of pinned data any byte is a breach."""
        return self.perform(request, lease=lease)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(leases_of(request.party).filter(pk=key_of(ids["lease"], "lea")).first())
        signed = SignedReport(fields["report"].encode(), signature_bytes(fields["signature"]))
        return 201, dict(EgressOut(take_egress(party=request.party, lease=row, signed=signed, now=request.now)).data)


def signature_bytes(text: str) -> bytes:
    """A signature from hex. Raises BadInput."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadInput("A signature is hex.", field="signature") from error


class ResidencyOut(serializers.Serializer):
    """Evidence of where a lease ran: a document as text, so that its hash is that on the audit trail."""

    document = serializers.CharField(help_text="canonical JSON")
    sha256 = serializers.CharField()


class LeaseResidency(ActView):
    @extend_schema(operation_id="export_residency", tags=["leases"], request=None, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, ResidencyOut))  # fmt: skip
    def post(self, request: Any, lease: str) -> Response:
        """Take evidence of where a delivered lease of yours ran; that it was taken goes on the audit trail."""
        return self.perform(request, lease=lease)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        row = found(leases_of(request.party).filter(pk=key_of(ids["lease"], "lea")).first())
        person = request.user.get_username()
        body = export_residency(lease=row, party=request.party, person=person, now=request.now)
        return 200, {"document": body.decode(), "sha256": hashlib.sha256(body).hexdigest()}


class BalanceOut(serializers.Serializer):
    """One account: what is posted, and what of it is reserved, kept and free. These three add up to it."""

    account = serializers.CharField(source="code")
    scope = serializers.SerializerMethodField()
    balance_micros = Micros()
    reserved_micros = Micros(help_text="by open holds, such as those of funded demand")
    kept_micros = Micros(help_text="for orders, grants and vouchers: only a demand that names one uses it")
    free_micros = Micros(help_text="what any demand may be funded with")

    @extend_schema_field(SCOPE)
    def get_scope(self, row: AccountBalance) -> str | None:
        return id_text(SCOPE_PREFIX.get(row.code, "scp"), row.scope)


class BalancesOut(PageFrame):
    """The accounts of a party."""

    asset = serializers.CharField()
    at = serializers.DateTimeField()
    data = BalanceOut(many=True)


class Balances(ListMixin, ApiView):
    frame = BalancesOut

    @extend_schema(operation_id="get_balances", tags=["money"], responses=BalancesOut, parameters=[LIMIT, CURSOR])
    def get(self, request: Any) -> Response:
        """Your accounts in the books: available, held, payable, held back, stake. They equal the chain's."""
        query = self.query(request)
        page = page_by_mark(balances_of(request.party), query, AccountBalance.mark)
        return self.framed(request, page, asset="USDC6", at=request.now)


class StatementLineOut(serializers.Serializer):
    """One movement as one of your accounts sees it."""

    seq = serializers.IntegerField()
    account = serializers.CharField(source="account_code")
    scope = serializers.SerializerMethodField()
    other_account = serializers.CharField(source="other_code")
    kind = serializers.CharField()
    reason = serializers.CharField()
    origin = serializers.CharField()
    change_micros = Micros(source="change")
    balance_after_micros = Micros(source="balance_after")
    reserved_change_micros = Micros(source="reserved_change")
    chain_reference = serializers.SerializerMethodField()
    effective_at = serializers.DateTimeField()
    posted_at = serializers.DateTimeField()

    @extend_schema_field(SCOPE)
    def get_scope(self, line: StatementLine) -> str | None:
        return id_text(SCOPE_PREFIX.get(line.account_code, "scp"), line.scope)

    @extend_schema_field({"type": ["string", "null"], "description": "block hash and log index in hex"})
    def get_chain_reference(self, line: StatementLine) -> str | None:
        return bytes(line.reference).hex() if line.reference is not None else None


class StatementList(ListMixin, ApiView):
    shape = StatementLineOut

    @extend_schema(
        operation_id="list_statement", tags=["money"], responses=page_of(StatementLineOut), parameters=[LIMIT, CURSOR]
    )
    def get(self, request: Any) -> Response:
        """Every movement on your accounts, newest first, with running balances."""
        return self.page(request, page_by_place(statement(request.party.pk), self.query(request)))


FORMAT = parameter("format", "`csv` when left out, or `parquet`", MEDIA_TYPES)
FROM_SEQ = OpenApiParameter("from_seq", OpenApiTypes.INT64, description="the first transfer's number; 1 when left out")
TO_SEQ = OpenApiParameter("to_seq", OpenApiTypes.INT64, description="the last one's; the newest when left out")
FILE_WORDS = (
    "Whole micro-USD. In the manifest, per account code, `opening_micros + change_micros = closing_micros`, which is "
    "your balance at `to_seq`. The books are append-only: the same range is the same rows at any later time."
)
MANIFEST = OpenApiParameter(
    "Export-Manifest", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200],
    description="JSON: range of numbers, rows, and sums by account; it stands inside the file too",
)  # fmt: skip


class StatementFile(ApiView):
    @extend_schema(
        operation_id="export_statement", tags=["money"], description=FILE_WORDS,
        parameters=[FORMAT, FROM_SEQ, TO_SEQ, MANIFEST],
        responses={(200, media): OpenApiResponse(OpenApiTypes.BINARY, "the file") for media in
                   (text.partition(";")[0] for text in MEDIA_TYPES.values())},
    )  # fmt: skip
    def get(self, request: Any) -> Any:
        """Your statement as a file, oldest line first, with a manifest to check it by."""
        format, span = asked_file(parameters(request, ("format", "from_seq", "to_seq")))
        export = StatementExport(request.party.pk, span)
        return send_export(request._request, export, format, owner=request.party.slug)
