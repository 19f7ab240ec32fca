"""What the console's own pages show. A bid is read here only when its window is past bidding and it was opened."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import CharField, Count, F, Q, QuerySet, Sum
from django.db.models.functions import Cast

from ledger.models import (
    TOUCHED,
    Account,
    CardReconciliation,
    ChainIntent,
    Epoch,
    EpochAnchor,
    KeyCoin,
    Outbox,
    Reconciliation,
    Transfer,
)
from ledger.selectors import (
    TrialBalance,
    epoch_of,
    halt_reason,
    last_seq,
    require_written,
    seq_at,
    trial_balance,
)
from ledger.services import USD2_LEDGER, USDC6_LEDGER
from ledger.tasks import dead_jobs
from marketplace.catalogue.models import Window
from marketplace.catalogue.selectors import PAST_BIDDING, StripState, list_windows, strip_of, windows_in
from marketplace.clearing.models import Clearing, ClearingAttempt
from marketplace.clearing.previews import PREVIEWED
from marketplace.clearing.selectors import ReasonCount, count_reasons, last_clearing, totals_of
from marketplace.clearing.shares import Churn
from marketplace.console.underway import Wait, keys_for_gas, waits_for_time
from marketplace.demand.selectors import GateProgress, gates_of
from marketplace.downloads import SEQ_SHAPE
from marketplace.errors import BadInput
from marketplace.governance.models import AuditLine
from marketplace.insights.anchors import anchored_hashes
from marketplace.insights.drawing import Chart
from marketplace.insights.market import concentration_of, public_market
from marketplace.insights.words import next_time
from marketplace.notices.models import Progress
from marketplace.parties.models import Party
from marketplace.payout.models import SettlementLine
from marketplace.payout.refusals import RefusedCall, blocking_calls
from marketplace.slashing.models import SlashCase
from marketplace.supply.models import Bid
from marketplace.supply.rolls import failed_roll_job

OPENED = ("opened", "awarded", "lost")
ENDED = ("SETTLED", "FAILED")
IN_QUEUE = ("requested", "disputed", "upheld")


@dataclass(frozen=True)
class WindowRow:
    """One window as the control room sees it."""

    window: Window
    gate: GateProgress
    strip: list[StripState]
    next_event: tuple[str, datetime] | None
    refused: list[ClearingAttempt]  # attempts at clearing it that came to nothing


@dataclass(frozen=True)
class Certificate:
    """The last clearing: its figures, what the anchor keeps, and what was not filled."""

    clearing: Clearing
    totals: dict[str, int]
    bundle_hash: str
    anchored_hash: str
    reasons: list[ReasonCount]
    concentration: list[tuple[dict[str, Any], Churn | None]]
    curves: Chart | None

    @property
    def is_anchored(self) -> bool:
        return self.bundle_hash == self.anchored_hash


@dataclass(frozen=True)
class Health:
    """Books against chain, the jobs and transactions on their way, and settlements that wait for people. Micro-USD."""

    reconciliation: Reconciliation | None
    halted_because: str
    jobs_open: int
    jobs_overdue: int
    dead: int
    oldest_dead: Outbox | None
    transactions_open: int
    transactions_reverted: int
    blocking: list[RefusedCall]
    waits: list[Wait]
    short: list[KeyCoin]
    rolls: Progress | None  # the last run of the roll calls, where it failed


@dataclass(frozen=True)
class Revenue:
    """Fees by where the money came from; the headline counts organic money only. Micro-USD.

    `late_suspects_micros` was posted as organic, found to be trade with oneself later, and left out of the headline.
    """

    organic_micros: int
    other: list[tuple[str, int]]
    late_suspects_micros: int


def control_room() -> list[WindowRow]:
    """Return the windows that still run, newest first, then the last three that ended."""
    running = list(list_windows().exclude(state__in=ENDED))
    windows = running + list(list_windows().filter(state__in=ENDED)[:3])
    gates, refused = gates_of(windows), defaultdict(list)
    for attempt in ClearingAttempt.objects.filter(window__in=windows, outcome="refused"):
        refused[attempt.window_id].append(attempt)
    return [WindowRow(w, gates[w.pk], strip_of(w), next_time(w), refused[w.pk]) for w in windows]


def certificate_of_last_clearing() -> Certificate | None:
    """Return the figures of the newest clearing that made an award, or None before it."""
    clearing = last_clearing()
    if clearing is None:
        return None
    market = public_market("")
    return Certificate(
        clearing=clearing, totals=totals_of(clearing), bundle_hash=bytes(clearing.bundle_hash).hex(),
        anchored_hash=anchored_hashes([clearing.window.number]).get(clearing.window.number, ""),
        reasons=count_reasons(clearing), concentration=concentration_of(clearing, is_public=False),
        curves=_for_unfold(market.curves) if market and market.curves else None,
    )  # fmt: skip


def _for_unfold(chart: Chart) -> Chart:
    """Rename the class of the drawings: Unfold's script takes every `.chart` for a canvas of its own and fails."""
    wide, narrow = (svg.replace('<svg class="chart"', '<svg class="gx-chart"', 1) for svg in (chart.wide, chart.narrow))
    return replace(chart, wide=wide, narrow=narrow)


def health(now: datetime) -> Health:
    """Return how books, jobs and transactions stand at `now`."""
    jobs = Outbox.objects.filter(done_at=None)
    intents = ChainIntent.objects.aggregate(
        open=Count("pk", filter=Q(state__in=("queued", "signed", "sent"))),
        reverted=Count("pk", filter=Q(state="reverted")),
    )
    return Health(
        reconciliation=Reconciliation.objects.order_by("-checked_at", "-pk").first(),
        halted_because=halt_reason() or halt_reason(ledger=USD2_LEDGER),
        jobs_open=jobs.count(), jobs_overdue=jobs.filter(run_at__lt=now).count(),
        dead=dead_jobs().count(), oldest_dead=dead_jobs().first(),
        transactions_open=intents["open"], transactions_reverted=intents["reverted"],
        blocking=blocking_calls(), waits=waits_for_time(),
        short=[row for row in keys_for_gas() if row.is_short], rolls=failed_roll_job(),
    )  # fmt: skip


def slash_queue() -> list[SlashCase]:
    """Return the cases that wait for something, the next to be executable first, then the newest others; ten in all."""
    cases = SlashCase.objects.select_related(
        "node_class__party", "verdict__lease__buyer", "verdict__lease__window", "appeal"
    )
    waiting = list(cases.filter(outcome__in=IN_QUEUE).order_by(F("executable_at").asc(nulls_last=True), "pk")[:10])
    return waiting + list(cases.exclude(outcome__in=IN_QUEUE).order_by("-opened_at", "pk")[: 10 - len(waiting)])


def revenue() -> Revenue:
    """Return the platform's fees by origin, from the transfers themselves."""
    fees = list(Account.objects.filter(ledger_id=USDC6_LEDGER, code="foundation.fees").values_list("pk", flat=True))
    touching = Transfer.objects.alias(touched=TOUCHED).filter(touched__overlap=fees)  # the index knows both sides
    moved = touching.filter(ledger=USDC6_LEDGER, credit__in=fees, kind__in=("posted", "post"))
    sums = {row["origin"]: int(row["total"]) for row in moved.order_by().values("origin").annotate(total=Sum("amount"))}
    late = SettlementLine.objects.filter(lease__suspicion__is_tagged_in_books=False, settlement__final_at__isnull=False)
    late_micros = int(late.aggregate(total=Sum("fee_micros"))["total"] or 0)
    return Revenue(sums.pop("organic", 0) - late_micros, sorted(sums.items()), late_micros)


def opened_bids(window: Window) -> QuerySet[Bid]:
    """Return the bids of a window that were opened; none while the window can still take or hold sealed ones."""
    bids = Bid.objects.filter(window=window, window__state__in=PAST_BIDDING, state__in=OPENED)
    return bids.select_related("party", "node_class__site", "sla").order_by("accepted_rank")


def opened_windows() -> QuerySet[Window]:
    """Return the windows whose bids were opened, newest first."""
    return list_windows().filter(state__in=PAST_BIDDING)


def previewed_windows() -> QuerySet[Window]:
    """Return the windows that a copy can be made of, the next to close first."""
    return windows_in(PREVIEWED)


def told_audit_lines(lines: QuerySet[AuditLine]) -> QuerySet[AuditLine]:
    """Return the audit lines that may be read now: none about a bid that is still sealed."""
    sealed = Bid.objects.exclude(window__state__in=PAST_BIDDING)
    return lines.exclude(subject__in=sealed.annotate(name=Cast("pk", CharField())).values("name"))


@dataclass(frozen=True)
class DifferenceLine:
    """One figure that both sides know and tell differently, in micro-USD; `subject` in people's words."""

    figure: str
    subject: str
    books_micros: int
    chain_micros: int

    @property
    def apart_micros(self) -> int:
        return self.books_micros - self.chain_micros


def difference_lines(last: Reconciliation | None) -> list[DifferenceLine]:
    """Return the differences of one comparison with the chain line by line, with the parties' names."""
    found = [d for d in last.differences if d] if last else []
    parties = Party.objects.filter(pk__in=[d["subject"] for d in found if len(d["subject"]) == 36])
    names = {str(party.pk): party.name for party in parties} if found else {}
    return [
        DifferenceLine(d["figure"], names.get(d["subject"]) or _class_words(d["subject"]), d["books"], d["chain"])
        for d in found
    ]


def _class_words(subject: str) -> str:
    return f"node class {subject}" if subject.isdigit() else subject or "whole contract"


def seq_asked_for(text: str) -> int | None:
    """Return the transfer's number that a text names: itself, or the last one booked by a time; None for no text.

    A time without a zone is UTC. Raises BadInput, SeqNotWritten.
    """
    text = text.strip()
    if not text:
        return None
    if SEQ_SHAPE.fullmatch(text):
        require_written(int(text))
        return int(text)
    try:
        at = datetime.fromisoformat(text)
        return seq_at(at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise BadInput("Write a transfer's number, or a time such as 2027-01-04 09:00.", field="at") from None


def books_page(at_seq: int | None = None) -> dict[str, Any]:
    """Return the trial balance now or as it stood at a number, the last epochs with their anchors, and differences."""
    epochs = list(Epoch.objects.filter(ledger=USDC6_LEDGER).order_by("-no")[:12])
    anchors = {a.no: a for a in EpochAnchor.objects.filter(ledger=USDC6_LEDGER, no__in=[e.no for e in epochs])}
    trial: TrialBalance = trial_balance(at_seq=at_seq)
    last, newest = Reconciliation.objects.order_by("-checked_at", "-pk").first(), last_seq()
    card = CardReconciliation.objects.order_by("-checked_at", "-pk").first()
    return {
        "trial": trial, "epochs": [(epoch, anchors.get(epoch.no)) for epoch in epochs], "last": last,
        "at_seq": at_seq, "seq": at_seq or newest, "newest": newest, "epoch": epoch_of(at_seq or newest),
        "differences": difference_lines(last), "card": card,
    }  # fmt: skip
