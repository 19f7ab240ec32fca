"""Reports of wrongdoing with a deposit, and the outcomes without a name."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.api.auth import seat_of
from marketplace.api.fields import Body, IdOut, Micros, TextIn
from marketplace.api.paging import page_by_mark, page_by_time
from marketplace.api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, act_answers, page_of
from marketplace.api.views import ActView, ListMixin, PublicView, found
from marketplace.oversight.report_models import REPORT_KINDS, Report
from marketplace.oversight.reports import Outcome, make_report, published_outcomes
from marketplace.parties.services import find_provider


class ReportOut(serializers.ModelSerializer):
    """One of your reports. Its text and evidence stay with the two people who decide."""

    id = IdOut("rep", source="pk")
    about = serializers.CharField(source="about.slug")
    deposit_micros = Micros()
    reward_micros = Micros(help_text="fixed when the report was made; paid once it is upheld")

    class Meta:
        model = Report
        fields = ("id", "about", "kind", "state", "deposit_micros", "reward_micros", "made_at", "decided_at", "reason",
                  "settled_at")  # fmt: skip


class ReportIn(Body):
    """Whom you report, and for what; the deposit is held from your free money. Evidence is handed in on the page."""

    about = TextIn(60, help_text="the provider's short name")
    kind = TextIn(16, help_text=f"one of {', '.join(REPORT_KINDS)}")
    text = TextIn(2000)


class ReportList(ListMixin, ActView):
    shape = ReportOut
    body = ReportIn

    @extend_schema(operation_id="list_reports", tags=["reports"], responses=page_of(ReportOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """Your own reports, oldest first."""
        rows = Report.objects.filter(reporter=request.party).select_related("about").defer("evidence", "text")
        return self.page(request, page_by_time(rows, self.query(request), created="made_at"))

    @extend_schema(operation_id="make_report", tags=["reports"], request=ReportIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(201, ReportOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Report a provider. The deposit comes back when the report is upheld, and is lost when it is rejected."""
        return self.perform(request)

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        about = found(find_provider(fields.pop("about")))
        made = make_report(party=request.party, about=about, seat=seat_of(request), now=request.now, **fields)
        return 201, dict(ReportOut(made).data)


class OutcomeOut(serializers.Serializer):
    """One decided report; it names nobody."""

    month = serializers.CharField()
    kind = serializers.CharField()
    is_upheld = serializers.BooleanField()
    sentence = serializers.CharField()


class Outcomes(ListMixin, PublicView):
    shape = OutcomeOut

    @extend_schema(operation_id="list_report_outcomes", tags=["reports"], responses=page_of(OutcomeOut),
                   parameters=[LIMIT, CURSOR])  # fmt: skip
    def get(self, request: Any) -> Response:
        """What was reported and decided, newest month first, without a name."""
        query = self.query(request)
        return self.page(request, page_by_mark(published_outcomes(), query, Outcome.mark, is_falling=True))
