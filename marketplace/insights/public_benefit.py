"""Set aside for public benefit (M-094): what of each window went to research, against the share that is meant to.

A rule says which share of awarded unit-hours is meant for research buyers. The report counts settled leases: unit-hours
in all and of research, the fees in all and those on research leases. Every total is the sum of its rows. Windows in
which fewer than three research buyers traded are told together with the others of their kind, so that no buyer's own
trade can be read from a row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Q, Sum

from marketplace.catalogue.limits import require_name, require_whole
from marketplace.errors import BadInput
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.insights.quote_models import SetAsideRule
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act

PARTIES_PER_ROW = 3
TOGETHER = "windows with fewer than three research buyers"
RESEARCH = Q(buyer__kind="research_buyer")


@dataclass(frozen=True)
class Benefit:
    """One window, or several told together. Unit-hours and micro-USD."""

    name: str
    unit_hours: int
    research_unit_hours: int
    fees_micros: int
    research_fees_micros: int
    target_unit_hours: int

    @property
    def missing_unit_hours(self) -> int:
        return max(0, self.target_unit_hours - self.research_unit_hours)


@dataclass(frozen=True)
class BenefitReport:
    """The rows, newest first, and their sum."""

    share_ppm: int
    rows: list[Benefit]
    total: Benefit


@transaction.atomic
def set_aside(*, seat: Seat, share_ppm: int, reason: str, now: datetime) -> SetAsideRule:
    """Change the share of awarded unit-hours that is meant for research, in parts per million. Raises BadInput."""
    require_act(seat, "operate", "set capacity aside")
    if not 0 <= require_whole(share_ppm, field="share_ppm") <= 10**6:
        raise BadInput("A share is 0 to 1,000,000 parts per million.", field="share_ppm")
    require_name(reason, field="reason", longest=300)
    rule = SetAsideRule.objects.create(share_ppm=share_ppm, person=seat.user.email, reason=reason, at=now)
    record(actor=seat.user.email, action="set_aside", subject="public benefit", reason=reason, now=now,
           share_ppm=share_ppm)  # fmt: skip
    return rule


def benefit_report() -> BenefitReport:
    """What went to research, window by window, and in all; two queries."""
    rule = SetAsideRule.objects.order_by("-id").first()
    share = rule.share_ppm if rule else 0
    sums = (
        Lease.objects.filter(state="settled").order_by().values("window__name", "window__number")
        .annotate(
            hours=Sum("unit_hours"), research=Sum("unit_hours", filter=RESEARCH, default=0),
            fees=Sum("settlement_line__fee_micros"),
            research_fees=Sum("settlement_line__fee_micros", filter=RESEARCH, default=0),
            buyers=Count("buyer", filter=RESEARCH, distinct=True),
        ).order_by("-window__number")
    )  # fmt: skip
    rows, thin = [], Counter[str]()
    for row in sums:
        figures = {name: int(row[name] or 0) for name in ("hours", "research", "fees", "research_fees")}
        if 0 < row["buyers"] < PARTIES_PER_ROW:
            thin.update(figures)
        else:
            rows.append(_benefit(row["window__name"], figures, share))
    if thin:
        rows.append(_benefit(TOGETHER, dict(thin), share))
    total = Counter[str]()
    for each in rows:
        total.update({"hours": each.unit_hours, "research": each.research_unit_hours, "fees": each.fees_micros,
                      "research_fees": each.research_fees_micros})  # fmt: skip
    return BenefitReport(share, rows, _benefit("all windows", dict(total), share))


def _benefit(name: str, figures: dict[str, int], share_ppm: int) -> Benefit:
    hours = figures.get("hours", 0)
    return Benefit(name, hours, figures.get("research", 0), figures.get("fees", 0), figures.get("research_fees", 0),
                   hours * share_ppm // 10**6)  # fmt: skip
