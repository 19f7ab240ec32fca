"""What a clearing came to: own awards; for everybody certificates, bundle files and prices."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.errors import BadParameter
from marketplace.api.fields import HexOut, IdOut, Micros, MicrosList, PageFrame
from marketplace.api.paging import page_by_mark, page_by_time
from marketplace.api.reads import (
    awards_of,
    bundle_file,
    clearing_of,
    clearings,
    price_rows,
)
from marketplace.api.schema import CURSOR, LIMIT, WINDOW, page_of, parameter
from marketplace.api.shapes import AwardOut
from marketplace.api.views import ApiView, ListMixin, PublicView, found, key_of, window_filter
from marketplace.clearing.models import Clearing
from marketplace.clearing.selectors import last_clearing, product_use
from marketplace.insights.anchors import anchored_hashes
from marketplace.insights.market import PARTIES_PER_SIDE, concentration_of

FILE_NAME = re.compile(r"[a-z_]{1,30}\.jsonl?")
CLASS_SHAPE = re.compile(r"[A-Za-z0-9._-]{1,20}")
COUNTRY_SHAPE = re.compile(r"[A-Z]{2}")


class BundleFileOut(serializers.Serializer):
    """One file of a public bundle."""

    name = serializers.CharField()
    bytes = serializers.IntegerField(source="size")
    sha256 = HexOut()
    url = serializers.SerializerMethodField()

    def get_url(self, file: Any) -> str:
        return f"/api/v1/certificates/win_{self.context['window'].hex}/files/{file.name}"


class CapOut(serializers.Serializer):
    """The most that one parent may sell of a product. Parents bear the pseudonyms of the public bundle."""

    product = serializers.ListField(child=serializers.JSONField(), help_text="resource class, home zone, tier")
    parent = serializers.CharField()
    units_max = serializers.IntegerField(help_text="unit-hours")
    rho_micros = Micros(help_text="what the cap takes from the parent's price per unit-hour; 0 where it does not bind")
    is_held = serializers.BooleanField(help_text="true: bids are held at whole units, and prices do not know the cap")


class ConcentrationOut(serializers.Serializer):
    """How concentrated a traded product came out."""

    product = serializers.ListField(child=serializers.JSONField(), help_text="resource class, home zone, tier")
    unit_hours = serializers.IntegerField()
    parents = serializers.IntegerField(help_text="distinct sellers; siblings of one parent count once")
    hhi = serializers.IntegerField(help_text="sum of squared shares; 10,000 is one seller")
    top_share_ppm = serializers.IntegerField()
    top_shares_ppm = serializers.ListField(
        required=False, child=serializers.IntegerField(), help_text="of the largest one, two and three sellers"
    )
    cap_unit_hours = serializers.IntegerField(allow_null=True)
    capped_parents = serializers.IntegerField()
    is_cap_applicable = serializers.BooleanField(help_text="false: too few parents bid for a cap")


class PremiumOut(serializers.Serializer):
    """What compliance adds to the price, by volume, with a 95 % interval over slots; parts per million."""

    premium_ppm = serializers.IntegerField()
    low_ppm = serializers.IntegerField(source="premium_low_ppm")
    high_ppm = serializers.IntegerField(source="premium_high_ppm")
    unit_hours = serializers.IntegerField(source="premium_unit_hours")


class CertificateOut(serializers.ModelSerializer):
    """The proof of a clearing: welfare, the bound nobody can beat, the gap between them, and the files to check it."""

    window = IdOut("win", source="window_id")
    number = serializers.IntegerField(source="window.number")
    name = serializers.CharField(source="window.name")
    welfare_micros = Micros()
    bound_micros = Micros()
    gap_micros = Micros()
    bundle_hash = HexOut()
    anchored_hash = serializers.SerializerMethodField()
    caps = CapOut(many=True, read_only=True)
    caps_not_applicable = serializers.ListField(
        read_only=True, child=serializers.ListField(child=serializers.JSONField()),
        help_text="products with too few parents for a cap",
    )
    concentration = ConcentrationOut(many=True, read_only=True)
    sigma_ppm = serializers.SerializerMethodField()
    compliance_premium = serializers.SerializerMethodField()
    files = serializers.SerializerMethodField()

    class Meta:
        model = Clearing
        fields = (
            "window", "number", "name", "rule_version", "welfare_micros", "bound_micros", "gap_micros",
            "demand_lines", "bid_lines", "caps", "caps_not_applicable", "concentration", "sigma_ppm",
            "compliance_premium", "bundle_hash", "anchored_hash", "cleared_at", "files",
        )  # fmt: skip

    @extend_schema_field({"type": ["string", "null"], "description": "what the anchor contract keeps"})
    def get_anchored_hash(self, clearing: Clearing) -> str | None:
        return self.context["anchored"].get(clearing.window.number)

    @extend_schema_field({"type": "integer", "description": "what the budget takes from the Foundation's limits"})
    def get_sigma_ppm(self, clearing: Clearing) -> int:
        return clearing.sigma_ppm

    @extend_schema_field(PremiumOut(allow_null=True))
    def get_compliance_premium(self, clearing: Clearing) -> Any:
        return None if clearing.premium_ppm is None else PremiumOut(clearing).data

    @extend_schema_field(BundleFileOut(many=True))
    def get_files(self, clearing: Clearing) -> Any:
        return BundleFileOut(clearing.files.all(), many=True, context={"window": clearing.window_id}).data


class PricePartsOut(serializers.Serializer):
    """What each price is made of, slot by slot; the parts add up to the price to the micro-USD."""

    base_micros = MicrosList()
    scarcity_micros = MicrosList()
    locality_micros = MicrosList()
    tier_micros = MicrosList()
    sla_micros = MicrosList()


class PriceOut(serializers.Serializer):
    """The price of one product signature in each slot of a window."""

    signature = serializers.CharField()
    resource_class = serializers.CharField()
    country = serializers.CharField()
    tier = serializers.IntegerField()
    home_zone = serializers.CharField(help_text="the smallest listed zone that holds its country")
    slot_prices_micros = MicrosList()
    slot_parts_micros = serializers.SerializerMethodField()

    @extend_schema_field(PricePartsOut(allow_null=True))
    def get_slot_parts_micros(self, row: Any) -> Any:
        return PricePartsOut(row.slot_parts_micros).data if row.slot_parts_micros else None


class PricePage(PageFrame):
    """Prices of one cleared window."""

    window = IdOut("win", allow_null=True)
    starts_at = serializers.DateTimeField(allow_null=True)
    data = PriceOut(many=True)


class AwardList(ListMixin, ApiView):
    shape = AwardOut
    filters = ("window",)

    @extend_schema(
        operation_id="list_awards", tags=["awards"], responses=page_of(AwardOut), parameters=[WINDOW, LIMIT, CURSOR]
    )
    def get(self, request: Any) -> Response:
        """Awards of your demands and bids, oldest first."""
        query = self.query(request)
        rows = awards_of(request.party, window=window_filter(query))
        return self.page(request, page_by_time(rows, query, created="clearing__cleared_at"))


class AwardDetail(ApiView):
    @extend_schema(operation_id="get_award", tags=["awards"], responses=AwardOut)
    def get(self, request: Any, award: str) -> Response:
        """One award of yours."""
        row = found(awards_of(request.party).filter(pk=key_of(award, "awd")).first())
        return Response(AwardOut(row, context={"party": request.party}).data)


class CertificateList(ListMixin, PublicView):
    shape = CertificateOut

    @extend_schema(
        operation_id="list_certificates", tags=["market"], auth=[], responses=page_of(CertificateOut),
        parameters=[LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Certificates of every cleared window, oldest first."""
        page = page_by_time(clearings(), self.query(request), created="cleared_at")
        return self.page(request, page, anchored=anchored_hashes([row.window.number for row in page.rows]))


class CertificateDetail(PublicView):
    @extend_schema(operation_id="get_certificate", tags=["market"], auth=[], responses=CertificateOut)
    def get(self, request: Any, window: str) -> Response:
        """The certificate of one window, with the files of its public bundle."""
        row = found(clearings().filter(window_id=key_of(window, "win")).first())
        anchored = anchored_hashes([row.window.number])
        return Response(CertificateOut(row, context={"anchored": anchored}).data)


class CertificateFile(PublicView):
    @extend_schema(
        operation_id="get_bundle_file", tags=["market"], auth=[],
        responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)},
    )  # fmt: skip
    def get(self, request: Any, window: str, name: str) -> HttpResponse:
        """One file of the public bundle, the very bytes that were hashed."""
        body = found(bundle_file(key_of(window, "win"), name) if FILE_NAME.fullmatch(name) else None)
        kind = "application/json" if name.endswith(".json") else "application/x-ndjson"
        disposition = f'attachment; filename="{name}"'
        return HttpResponse(body, content_type=kind, headers={"Content-Disposition": disposition})


class MarketPrices(ListMixin, PublicView):
    frame = PricePage
    filters = ("window", "resource_class", "country")

    @extend_schema(
        operation_id="list_prices", tags=["market"], auth=[], responses=PricePage,
        parameters=[WINDOW, parameter("resource_class", "only this class"), parameter("country", "two capitals"),
                    LIMIT, CURSOR],
    )  # fmt: skip
    def get(self, request: Any) -> Response:
        """Prices of a cleared window, of the last one when none is named; null in slots where nothing traded.

        Name the window when you read on: the last one may be another by then.
        """
        query = self.query(request)
        window = window_filter(query)
        clearing = found(clearing_of(window)) if window else last_clearing()
        resource_class = _shaped(query, "resource_class", CLASS_SHAPE)
        country = _shaped(query, "country", COUNTRY_SHAPE)
        if clearing is None:
            return self.framed(request, page_by_mark([], query, str), window=None, starts_at=None)
        rows = price_rows(clearing, resource_class=resource_class, country=country)
        page = page_by_time(rows, query, created="clearing__cleared_at")
        return self.framed(request, page, window=clearing.window_id, starts_at=clearing.window.starts_at)


class ChurnOut(serializers.Serializer):
    """How a product's sellers changed since the window before; owners count once, with all below them."""

    since = serializers.CharField(help_text="the window before")
    entered = serializers.IntegerField()
    left = serializers.IntegerField()
    stayed = serializers.IntegerField()
    moved_ppm = serializers.IntegerField(help_text="share of the trade that is with another owner than before")


class ProductUseOut(serializers.Serializer):
    """What of one product (class, zone, tier) was sold; null where fewer than three owners or buyers stand behind it.
    """

    resource_class = serializers.CharField()
    zone = serializers.CharField()
    tier = serializers.IntegerField()
    sold = serializers.IntegerField(allow_null=True, help_text="unit-hours")
    proven = serializers.IntegerField(allow_null=True, help_text="unit-hours, proven and available")
    share_ppm = serializers.IntegerField(allow_null=True)
    churn = ChurnOut(allow_null=True)


class ProductUsePage(PageFrame):
    """Use of each product in the last cleared window. There is no figure for all of them together."""

    window = IdOut("win", allow_null=True)
    data = ProductUseOut(many=True)


class MarketProducts(ListMixin, PublicView):
    frame = ProductUsePage

    @extend_schema(operation_id="list_product_use", tags=["market"], auth=[], responses=ProductUsePage,
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Sold, proven and available per class, zone and tier, and how its sellers changed; the largest first."""
        query = self.query(request)
        clearing = last_clearing()
        if clearing is None:
            return self.framed(request, page_by_mark([], query, _place_of_product), window=None)
        churn = {tuple(row["product"]): moved for row, moved in concentration_of(clearing)}
        rows = [
            {"resource_class": p.resource_class, "zone": p.zone, "tier": p.tier, "sold": p.sold, "proven": p.proven,
             "share_ppm": p.share_ppm, "churn": churn.get((p.resource_class, p.zone, p.tier))}
            for p in product_use(clearing, PARTIES_PER_SIDE)
        ]  # fmt: skip
        return self.framed(request, page_by_mark(rows, query, _place_of_product), window=clearing.window_id)


def _place_of_product(row: dict[str, Any]) -> tuple[int, str, str, int]:
    return -(row["proven"] or 0), row["resource_class"], row["zone"], row["tier"]


def _shaped(query: dict[str, str], name: str, shape: re.Pattern[str]) -> str:
    value = query.get(name, "")
    if value and not shape.fullmatch(value):
        raise BadParameter(f"The parameter {name} cannot be read.", parameter=name)
    return value
