"""Four owner screens with one metric each: quality of service, availability, security, billing.

Each says who answers for it, what the figure is of one's own leases, what it rests on, and what one can do about it
without asking anybody. The same four for buyers and providers: a party sees the leases it bought or sold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.payout.models import SettlementLine
from marketplace.sla.models import Credit, Verdict
from marketplace.supply.models import Benchmark, NodeClass

DAYS = 90
PPM = 1_000_000


@dataclass(frozen=True)
class Row:
    """One figure under the metric. `kind` says how it is written: count, usd, ppm or day."""

    name: str
    value: Any
    kind: str = "count"


@dataclass(frozen=True)
class Step:
    """Something one can do oneself, and the page that does it."""

    text: str
    link: str


@dataclass(frozen=True)
class Screen:
    """One topic. The metric is in parts per million; None while there is nothing to measure."""

    topic: str
    title: str
    owner: str
    promise: str
    metric_name: str
    metric_ppm: int | None
    rows: list[Row]
    steps: list[Step]


def screen_of(topic: str, party: Party, now: datetime) -> Screen | None:
    """Return one of the four screens of a party over the last 90 days, or None for another topic."""
    make = SCREENS.get(topic)
    return make(party, now - timedelta(days=DAYS), now) if make else None


def leases_of(party: Party) -> QuerySet[Lease]:
    """The leases that a party bought or sold."""
    return Lease.objects.filter(Q(buyer=party) | Q(provider=party)).exclude(state="refused")


def _verdicts(party: Party, since: datetime) -> QuerySet[Verdict]:
    return Verdict.objects.filter(lease__in=leases_of(party), judged_at__gte=since)


def _share(part: int, whole: int) -> int | None:
    return part * PPM // whole if whole else None


def _leases_page(party: Party) -> str:
    return "portal:leases" if party.is_buyer else "onboarding:leases"


def _statement_page(party: Party) -> str:
    return "portal:escrow" if party.is_buyer else "onboarding:statement"


def _quality(party: Party, since: datetime, now: datetime) -> Screen:
    judged = _verdicts(party, since).aggregate(
        all=Count("pk"), kept=Count("pk", filter=Q(is_below_sla=False)), broken=Count("pk", filter=Q(is_breach=True))
    )
    credits = Credit.objects.filter(verdict__in=_verdicts(party, since))
    sums = credits.aggregate(total=Sum("amount_micros"), waiting=Count("pk", filter=Q(posted_at=None)))
    return Screen(
        "quality", "Quality of service", "The market's verdicts, by a published rule",
        "A lease below its SLA is credited on the measured value, without a claim; a breach is shown by an exact test.",
        "Leases that kept their SLA", _share(judged["kept"], judged["all"]),
        [Row("Leases judged", judged["all"]), Row("Below their SLA", judged["all"] - judged["kept"]),
         Row("Breaches confirmed", judged["broken"]), Row("Credited", sums["total"] or 0, "usd"),
         Row("Credits on their way", sums["waiting"])],
        [Step("Read each verdict with its readings", _leases_page(party)),
         *([] if party.is_buyer else [Step("Dispute a request to slash within 72 hours", "onboarding:arming")])],
    )  # fmt: skip


def _availability(party: Party, since: datetime, now: datetime) -> Screen:
    sums = _verdicts(party, since).aggregate(
        known=Sum("known_minutes"), down=Sum("down_minutes"), unknown=Sum("unknown_minutes"),
        unpaid=Sum("unpaid_micros"),
    )  # fmt: skip
    known, down = sums["known"] or 0, sums["down"] or 0
    running = leases_of(party).filter(state__in=("locked", "delivering")).count()
    return Screen(
        "availability", "Availability", "The verifiers, by probes at secret seconds from several vantages",
        "A minute counts as down when two thirds of the valid probes fail; it is not paid, whoever is at fault.",
        "Known minutes that were up", _share(known - down, known),
        [Row("Known minutes", known), Row("Down", down), Row("Unknown, neither for nor against", sums["unknown"] or 0),
         Row("Not paid for", sums["unpaid"] or 0, "usd"), Row("Leases running now", running)],
        [Step("See the minutes of each lease", _leases_page(party)),
         Step("Public coverage by zone and place", "coverage")],
    )  # fmt: skip


def _security(party: Party, since: datetime, now: datetime) -> Screen:
    classes = NodeClass.objects.filter(Q(party=party) | Q(leases__buyer=party)).distinct()
    live = Benchmark.objects.filter(node_class__in=classes, valid_until__gt=now)
    proven = classes.filter(standing__state__in=("PROVEN", "DEGRADED"), standing__proven_until__gt=now).count()
    attested = live.exclude(hw_key_hash=None).values("node_class").distinct().count()
    placed = live.filter(vantages__isnull=False).values("node_class").distinct().count()
    return Screen(
        "security", "Security", "The panel of verifiers; nobody of a provider's own owner sits on it",
        "What runs a lease was measured under the verifiers' clocks; what is not attested is said, not assumed.",
        "Node classes with a live proof", _share(proven, classes.count()),
        [Row("Node classes", classes.count()), Row("Hardware identity attested by its maker", attested),
         Row("Placed within a radius of a vantage", placed),
         Row("Suspended", classes.filter(standing__state="SUSPENDED").count())],
        [Step("Read who attests what, and what is not claimed", "claims"),
         *([] if party.is_buyer else [Step("Show evidence for a tier", "onboarding:evidence"),
                                      Step("See each proof", "onboarding:classes")])],
    )  # fmt: skip


def _billing(party: Party, since: datetime, now: datetime) -> Screen:
    lines = SettlementLine.objects.filter(lease__in=leases_of(party), settlement__made_at__gte=since)
    sums = lines.aggregate(
        leases=Count("pk"), fee=Sum("lease__fee_micros"), earned=Sum("earned_micros"),
        returned=Sum("returned_micros"), credit=Sum("credit_micros"), final=Count("pk", filter=Q(
            settlement__final_at__isnull=False)),
    )  # fmt: skip
    fee = sums["fee"] or 0
    split = sum(sums[name] or 0 for name in ("earned", "returned", "credit"))
    return Screen(
        "billing", "Billing", "The books, compared with the chain in every epoch",
        "Only what machine and probes agree on is billed; earned, returned and credited make up the fee, to the micro.",
        "Settlements final on chain", _share(sums["final"], sums["leases"]),
        [Row("Leases settled", sums["leases"]), Row("Their fees", fee, "usd"),
         Row("Earned", sums["earned"] or 0, "usd"),
         Row("Returned", sums["returned"] or 0, "usd"), Row("Credited", sums["credit"] or 0, "usd"),
         Row("Difference between fees and their parts", fee - split, "usd")],
        [Step("Statement with every transfer, as a file too", _statement_page(party)),
         Step("Check a clearing yourself", "market")],
    )  # fmt: skip


SCREENS = {"quality": _quality, "availability": _availability, "security": _security, "billing": _billing}
