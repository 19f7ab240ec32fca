"""One market turn as code.

Each step takes its work from what the step before left unfinished in the database, does all of it in its own
transaction and may be run again at any time: a crash is cured by running the turn again. Between the steps the chain is
given what was asked of it, and the books learn what became true there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from ledger.epochs import close_epoch, record_anchor, unanchored_epochs
from ledger.errors import LedgerError
from ledger.models import ChainIntent
from ledger.rails import indexer, mirror, sender
from ledger.reconcile import Difference, compare_when_still
from ledger.services import USDC6_LEDGER, expire_holds
from marketplace.catalogue.models import Window
from marketplace.clearing.previews import renew_indicative
from marketplace.clearing.services import attempt_clearing, close_bidding, hand_out_clearing, judge_gate
from marketplace.delivery.backups import start_backups
from marketplace.delivery.cases import reconcile_window
from marketplace.delivery.health import watch_silence
from marketplace.delivery.probing import tend_probe_days
from marketplace.delivery.services import close_delivery
from marketplace.errors import MarketError
from marketplace.escrow.backups import confirm_backups, lock_backups
from marketplace.escrow.services import confirm_locks, lock_window
from marketplace.escrow.standing import enter_windows, fund_waiting
from marketplace.escrow.vouchers import close_vouchers
from marketplace.insights.savings import measure_window
from marketplace.maker.services import watch_limits
from marketplace.notices.services import report_progress
from marketplace.oversight.egress import watch_egress
from marketplace.oversight.endings import warn_of_endings
from marketplace.oversight.packs import complete_packs
from marketplace.oversight.reports import settle_reports
from marketplace.oversight.winddowns import watch_papers
from marketplace.payout.backups import give_back_rests
from marketplace.payout.invoices import dun, issue_invoices
from marketplace.payout.members import confirm_shares
from marketplace.payout.refusals import take_back_refused
from marketplace.payout.services import (
    confirm_credits,
    confirm_payouts,
    confirm_settlements,
    pay_window,
    post_credits,
    release_holdbacks,
    settle_window,
)
from marketplace.sla.burning import watch_burning
from marketplace.sla.egress import credit_egress
from marketplace.sla.evidence import seal_evidence
from marketplace.sla.performance import judge_checks
from marketplace.sla.services import credit_at_once, judge_window
from marketplace.sla.targets import judge_targets
from marketplace.slashing.appeals import confirm_appeals, lapse_overdue
from marketplace.slashing.services import confirm_requests, execute_due, open_cases
from marketplace.supply.admissions import admit_waiting
from marketplace.supply.changes import renew_attestations
from marketplace.supply.entry import tell_undertakings
from marketplace.supply.lapses import lapse_unused
from pricing.errors import PricingError

logger = logging.getLogger(__name__)


TURN_LOCK = 31_338_010  # advisory lock of the one turn, per database


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did: its name and how many rows it moved on."""

    name: str
    rows: int


SETTLING = ("DELIVERING", "SETTLED")  # leases are settled one by one, and what follows goes with each
# demand -> supply -> clearing -> escrow -> delivery -> sla -> payout -> slashing; each line: name, states, step.
WINDOW_STEPS: tuple[tuple[str, tuple[str, ...], Callable[..., object]], ...] = (
    ("indicative prices", ("COLLECTING",), renew_indicative),
    ("gate", ("COLLECTING",), judge_gate),
    ("close bidding", ("BIDDING",), close_bidding),
    ("clear", ("CLEARING",), attempt_clearing),
    ("lock", ("CLEARED",), lock_window),
    ("confirm locks", ("CLEARED",), confirm_locks),
    ("start backups", ("DELIVERING",), start_backups),
    ("give back rests", ("DELIVERING",), give_back_rests),
    ("lock backups", ("DELIVERING",), lock_backups),
    ("confirm backups", ("DELIVERING",), confirm_backups),
    ("reconcile readings", ("DELIVERING",), reconcile_window),
    ("deliver", ("DELIVERING",), close_delivery),
    ("re-checks", ("DELIVERING",), judge_checks),
    ("targets", ("DELIVERING",), judge_targets),
    ("credit at once", ("DELIVERING",), credit_at_once),
    ("credit egress", ("DELIVERING",), credit_egress),
    ("post credits", ("DELIVERING",), post_credits),
    ("judge", ("DELIVERING",), judge_window),
    ("settle", ("DELIVERING",), settle_window),
    ("confirm settlements", ("DELIVERING",), confirm_settlements),
    ("measure differences", ("SETTLED",), measure_window),
    ("complete packs", SETTLING, complete_packs),
    ("pay", SETTLING, pay_window),
    ("invoice", SETTLING, issue_invoices),
    ("slash", SETTLING, open_cases),
)
EARLY_STEPS: tuple[tuple[str, Callable[..., int]], ...] = (
    ("probe days", tend_probe_days),
    ("watch heartbeats", watch_silence),
    ("standing demand", enter_windows),
    ("lapse unused quota", lapse_unused),
    ("fund standing demand", fund_waiting),
    ("admit", admit_waiting),
    ("renew attestations", renew_attestations),
    ("tell undertakings", tell_undertakings),
)
MARKET_STEPS: tuple[tuple[str, Callable[..., int]], ...] = (
    ("watch burn rates", watch_burning),
    ("take back refused", take_back_refused),
    ("confirm credits", confirm_credits),
    ("confirm payouts", confirm_payouts),
    ("confirm shares", confirm_shares),
    ("release holdbacks", release_holdbacks),
    ("confirm slashes", confirm_requests),
    ("confirm appeals", confirm_appeals),
    ("execute slashes", execute_due),
    ("lapse slashes", lapse_overdue),
    ("watch the market-maker", watch_limits),
    ("expire holds", expire_holds),
    ("close vouchers", close_vouchers),
    ("watch papers", watch_papers),
    ("warn of endings", warn_of_endings),
    ("watch egress", watch_egress),
    ("settle reports", settle_reports),
    ("dun", dun),
)


@contextmanager
def only_turn(*, wait: bool = True) -> Iterator[bool]:
    """Be the only process that turns this market; with `wait=False` the value says whether nobody else does.

    Two turns at once do no harm to the market, but each would find the other's half-done work and call it quiet.
    A process that is killed lets go at once. The same process may enter again.
    """
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_lock(%s)", [TURN_LOCK])
            mine = True
        else:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [TURN_LOCK])
            mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [TURN_LOCK])


def advance(*, now: datetime) -> list[StepReport]:
    """Carry every window as far as it can go at `now`; returns what moved, in data-path order."""
    with only_turn():
        return _advance(now)


def _advance(now: datetime) -> list[StepReport]:
    reports = [run_chain(now=now)]
    reports += [StepReport(name, early_step(now=now)) for name, early_step in EARLY_STEPS]
    for name, states, step in WINDOW_STEPS:
        rows = 0
        windows = list(Window.objects.filter(state__in=states).order_by("number"))
        if step is attempt_clearing and len(windows) > 1:
            hand_out_clearing(windows=windows)  # workers clear them side by side; without one this loop clears them all
        for window in windows:
            rows += _take(name, window, step, now)
        if rows:
            reports += [StepReport(name, int(rows)), run_chain(now=now)]
    for name, market_step in MARKET_STEPS:
        if rows := market_step(now=now):
            reports += [StepReport(name, rows), run_chain(now=now)]
    return [report for report in reports if report.rows]


def _take(name: str, window: Window, step: Callable[..., object], now: datetime) -> int:
    """Take one step of one window. A window that is refused stays where it is and holds up no other."""
    before = window.state
    try:
        outcome = step(window=window, now=now)
    except (MarketError, LedgerError, PricingError) as error:
        logger.exception("%s cannot %s", window.name, name)
        report_progress(
            job=f"window:{window.number}", phase=name, done=0, total=1, outcome="failed", now=now,
            sentence=f"{window.name}: {error}"[:300],
        )  # fmt: skip
        return 0
    return outcome if isinstance(outcome, int) else Window.objects.get(pk=window.pk).state != before


def advance_until_quiet(*, now: datetime, rounds_max: int = 20) -> list[StepReport]:
    """Advance until nothing moves any more."""
    reports: list[StepReport] = []
    with only_turn():
        for _ in range(rounds_max):
            moved = _advance(now)
            reports += moved
            if not moved:
                break
    return reports


def run_chain(*, now: datetime) -> StepReport:
    """Send what was asked of the chain and book what became final there."""
    pumped = sender.pump(now=now)
    return StepReport("chain", pumped.sent + pumped.final + pumped.reverted + indexer.index(now=now))


def anchor_books(*, now: datetime) -> int:
    """Seal what was posted since the last epoch and ask the chain to keep its root; returns how many are asked for.

    The days of evidence that are over go the same way.
    """
    _note_anchors(now)
    seal_evidence(now=now)
    with transaction.atomic():
        close_epoch(USDC6_LEDGER, now)
        waiting = unanchored_epochs(USDC6_LEDGER)
        for epoch in waiting:
            sender.submit(
                key=f"anchor:{epoch.no}", role="anchor", contract="anchor", function="post",
                args=[epoch.no, bytes(epoch.root), bytes(epoch.prev_root), epoch.n, bytes(epoch.totals_hash)], now=now,
            )  # fmt: skip
    run_chain(now=now)
    _note_anchors(now)
    return len(waiting)


def reconcile(*, now: datetime) -> list[Difference]:
    """Compare books and chain, word by word; any difference halts payouts."""
    run_chain(now=now)
    return compare_when_still(mirror.read_words, now=now)


def _note_anchors(now: datetime) -> None:
    for epoch in unanchored_epochs(USDC6_LEDGER):
        intent = ChainIntent.objects.filter(key=f"anchor:{epoch.no}", state="final").first()
        if intent is not None:
            record_anchor(
                ledger=USDC6_LEDGER, no=epoch.no, tx_hash=intent.tx_hash, block_number=intent.block_number, now=now
            )
