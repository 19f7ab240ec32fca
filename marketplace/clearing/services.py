"""Clearing: the book of a window in, awards with prices, reasons and a certificate out, all or nothing.

A window that cannot be cleared is tried again in the next turns; after `ATTEMPTS_MAX` attempts it fails, and every hold
is released in that same transaction.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connection, transaction

from ledger.faults import point
from ledger.tasks import enqueue
from marketplace.catalogue.models import Window
from marketplace.catalogue.services import move_window
from marketplace.clearing import warm
from marketplace.clearing.books import build_book, names_of
from marketplace.clearing.models import ATTEMPTS_MAX, Clearing, ClearingAttempt
from marketplace.clearing.publication import publish
from marketplace.demand.gates import gate_of
from marketplace.demand.models import Demand
from marketplace.demand.services import freeze_demand, funded_figures, release_holds
from marketplace.errors import CertificateRefused, PhaseClosed, SealBroken, SealKeyLost, WindowClosed
from marketplace.governance.services import flag_is_on, record, require_flag
from marketplace.notices.services import report_progress, tell_parties
from marketplace.supply.holders import (
    can_still_open,
    end_window_key,
    ensure_window_key,
    release_demo_shares,
    released_shares,
)
from marketplace.supply.models import Bid
from marketplace.supply.sealing import open_bids
from marketplace.supply.seals import THRESHOLD
from pricing.bundle import bundle_hash, public_bundle
from pricing.clearing import clear
from pricing.verify import verify_bundle

logger = logging.getLogger(__name__)

WINDOW_LOCK = 31_338  # first half of the advisory lock of one window's clearing; the second is the window's number
JOB = "clear_window"
KEY_WAIT = timedelta(hours=24)  # for shares of the key after bidding is over
PHASES = ("reading the book", "finding prices", "checking the certificate", "publishing")
Tell = Callable[[int], None]  # told the number of phases that are done


@transaction.atomic
def judge_gate(*, window: Window, now: datetime) -> str:
    """Open bidding when funded demand passes the gate, or fail the window when its time is over.

    Returns the state the window is in afterwards. A failed window releases every hold in the same transaction.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "COLLECTING" or now < locked.demand_closes_at:
        return locked.state
    figures = funded_figures(window=locked)
    missing = {figure.name: figure.missing for figure in gate_of(locked) if figure.missing}
    facts = {"gate_unit_hours": locked.gate_unit_hours, "gate_parties": locked.gate_parties, **figures}
    if missing:
        return _fail(
            locked, code="gate_not_met", reason="funded demand missed the gate", now=now, missing=missing, **facts
        )
    if locked.kind == "market" and not flag_is_on("market_bids"):
        return _fail(
            locked, code=PhaseClosed.code, reason="bidding in market windows opens in a later phase", now=now, **facts
        )
    ensure_window_key(window=locked, now=now)
    freeze_demand(window=locked, now=now)
    return move_window(
        window=locked, to_state="BIDDING", reason="funded demand passed the gate", now=now, **facts
    ).state


def close_bidding(*, window: Window, now: datetime) -> str:
    """Open the sealed bids once bidding is over and two keyholders have released the key; returns the state afterwards.

    Without their shares the window waits, with bidding over, for `KEY_WAIT` and at most until delivery would start.
    Then, at once when too many shares are lost, or when a sealed bid is broken, the window fails and its holds are
    released.
    """
    if Window.objects.filter(pk=window.pk, state="BIDDING").exists():  # whoever calls may hold an older row
        release_demo_shares(window=window, now=now)
    try:
        return _open_and_move(window, now)
    except (SealKeyLost, SealBroken) as broken:
        return _fail_sealed(window, broken.code, str(broken), now)


@transaction.atomic
def _open_and_move(window: Window, now: datetime) -> str:
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "BIDDING":
        return locked.state
    if not can_still_open(locked):
        raise SealKeyLost("Too few shares of the window's key are left.", window=locked.name)
    if now < locked.bidding_closes_at:
        return locked.state
    bids = Bid.objects.filter(window=locked, state="sealed").count()
    if bids and released_shares(locked) < THRESHOLD:
        if now >= min(locked.bidding_closes_at + KEY_WAIT, locked.starts_at):
            raise SealKeyLost("The keyholders have not released the window's key in time.", window=locked.name)
        return locked.state
    state = move_window(window=locked, to_state="CLEARING", reason="bidding closed", now=now, bids=bids).state
    point("supply.open_bids.before")
    open_bids(window=locked, now=now)
    return state


@transaction.atomic
def _fail_sealed(window: Window, code: str, sentence: str, now: datetime) -> str:
    """Fail a window that cannot be opened. Its bids stay sealed for ever: what is left of the key is erased."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "BIDDING":
        return locked.state
    end_window_key(window=locked, ended_by="failed", now=now)
    return _fail(locked, code=code, reason="its sealed bids cannot be opened", now=now, refusal=sentence)


def clear_window(*, window: Window, now: datetime, is_cold: bool = False, tell: Tell = lambda done: None) -> Clearing:
    """Clear a window in CLEARING, check the certificate with the independent verifier, publish.

    Clearing again returns the result that stands. What a preview in this process found is a head start, unless
    `is_cold`; it changes nothing in the result. Raises WindowClosed, ClearingError or CertificateRefused, and then
    nothing is written.
    """
    standing = Clearing.objects.filter(window=window).first()
    if standing:
        return standing
    state = Window.objects.get(pk=window.pk).state
    if state != "CLEARING":
        raise WindowClosed("Only a window in CLEARING is cleared.", window=window.name, state=state)
    if window.kind == "market":
        require_flag(name="public_market", what="Publication of market windows")
    tell(0)
    book, lines = build_book(window=window)
    tell(1)
    outcome = clear(book, previous=None if is_cold else warm.last_outcome(window.pk))
    tell(2)
    files = public_bundle(outcome, window=window.name)
    report = verify_bundle(files)
    if not report.ok:
        wrong = [check for check in report.checks if not check.ok]
        raise CertificateRefused(
            f"The verifier does not confirm this clearing: {wrong[0].name}: {wrong[0].detail}.",
            failed=[check.name for check in wrong],
        )
    tell(3)
    point("clearing.publish.before_commit")
    clearing = publish(window=window, outcome=outcome, files=files, lines=lines, now=now)
    warm.forget(window.pk)
    return clearing


# -- attempts: one a turn, three at most -------------------------------------------------------------------------------
def attempt_clearing(*, window: Window, now: datetime, number: int | None = None) -> str:
    """Try once to clear a window in CLEARING and return the state it is in afterwards.

    Nothing is done while another process clears it, a second time at the same `now`, or when `number` is given and the
    next attempt has another one. An attempt that is refused, or whose process died, is kept with its code; with the
    last one the window moves to FAILED, every hold is released, and the parties are told.
    """
    with only_clearer(window) as mine:
        attempt = _begin_attempt(window, now, number) if mine else None
        if attempt is None:
            return Window.objects.get(pk=window.pk).state
        try:
            clear_window(window=window, now=now, is_cold=attempt.number > 1, tell=_teller(window, now))
        except Exception as error:  # whatever it was, it must not keep other windows waiting, nor this one for ever
            logger.exception("%s cannot be cleared, attempt %s", window.name, attempt.number)
            return _end_attempt(attempt, error, now)
        _report(window, len(PHASES), "Cleared: prices, awards, reasons and the certificate are published.", now, "done")
        return Window.objects.get(pk=window.pk).state


@contextmanager
def only_clearer(window: Window) -> Iterator[bool]:
    """Be the only process that clears this window; the value says whether nobody else does. Never waits.

    A process that is killed lets go at once.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [WINDOW_LOCK, window.number])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [WINDOW_LOCK, window.number])


def hand_out_clearing(*, windows: Sequence[Window]) -> int:
    """Ask the workers to clear these windows side by side, one job each; returns how many were asked for.

    A job is for one attempt: once that was made, by whomever, the job does nothing.
    """
    for window in windows:
        number = window.clearing_attempts.count() + 1
        enqueue(
            kind=JOB, payload={"window": str(window.pk), "attempt": number},
            dedupe_key=f"{JOB}:{window.number}:{number}",
        )  # fmt: skip
    return len(windows)


@transaction.atomic
def _begin_attempt(window: Window, now: datetime, number: int | None) -> ClearingAttempt | None:
    locked = Window.objects.select_for_update().get(pk=window.pk)
    earlier = list(locked.clearing_attempts.order_by("number"))
    if locked.state != "CLEARING" or (earlier and earlier[-1].began_at >= now):
        return None
    if number is not None and number != len(earlier) + 1:
        return None
    if earlier and earlier[-1].outcome == "running":  # nobody holds the lock: whoever made it is dead
        _refuse_attempt(earlier[-1], "process_died", "The process that cleared it died.", now)
    if len(earlier) == ATTEMPTS_MAX:
        _fail_clearing(locked, earlier[-1], now)
        return None
    return ClearingAttempt.objects.create(window=locked, number=len(earlier) + 1, began_at=now)


@transaction.atomic
def _end_attempt(attempt: ClearingAttempt, error: Exception, now: datetime) -> str:
    """Keep why an attempt was refused; after the last one the window has failed."""
    window = Window.objects.select_for_update().get(pk=attempt.window_id)
    code = str(getattr(error, "code", "")) or type(error).__name__
    _refuse_attempt(attempt, code[:40], str(error), now)
    _report(window, 0, f"{window.name} could not be cleared, attempt {attempt.number} of {ATTEMPTS_MAX}: {error}", now,
            "failed")  # fmt: skip
    record(
        actor="market", action="refuse_clearing", subject=window.name, reason=str(error)[:300] or code, now=now,
        code=code, attempt=attempt.number,
    )  # fmt: skip
    if attempt.number == ATTEMPTS_MAX and window.state == "CLEARING":
        _fail_clearing(window, attempt, now)
    return window.state


def _refuse_attempt(attempt: ClearingAttempt, code: str, sentence: str, now: datetime) -> None:
    attempt.outcome, attempt.code, attempt.sentence, attempt.ended_at = "refused", code, sentence[:300], now
    attempt.save()


def _fail_clearing(window: Window, last: ClearingAttempt, now: datetime) -> None:
    _fail(window, code=last.code, reason=f"it could not be cleared: {last.code}", now=now, attempts=last.number,
          refusal=last.sentence)  # fmt: skip


def _fail(window: Window, *, code: str, reason: str, now: datetime, **facts: object) -> str:
    """Move a locked window to FAILED: release every hold, close its bids, tell the parties; one transaction."""
    buyers = set(Demand.objects.filter(window=window, state="funded").values_list("party_id", flat=True))
    bids = Bid.objects.filter(window=window, state="opened")
    sellers = set(Bid.objects.filter(window=window, state__in=("sealed", "opened")).values_list("party_id", flat=True))
    released = release_holds(window=window, now=now)
    bids.update(state="lost")
    about = f"window:{window.number}:failed"
    for told, what in ((buyers, "What you had on hold for it is available again"),
                       (sellers, "Your bids in it bind you no more")):  # fmt: skip
        tell_parties(parties=told, about=about, code=code, sentence=f"{window.name} failed: {reason}. {what}.", now=now)
    moved = move_window(window=window, to_state="FAILED", reason=reason, now=now, code=code, released=released, **facts)
    point("clearing.fail.before_commit")
    window.state = moved.state
    return moved.state


def _teller(window: Window, now: datetime) -> Tell:
    return lambda done: _report(window, done, f"{window.name}: {PHASES[done]}.", now)


def _report(window: Window, done: int, sentence: str, now: datetime, outcome: str = "running") -> None:
    report_progress(job=f"clearing:{window.number}", phase=f"Clearing {window.name}", done=done, total=len(PHASES),
                    sentence=sentence[:300], outcome=outcome, now=now)  # fmt: skip


# -- published results -------------------------------------------------------------------------------------------------
def verify_published(*, clearing: Clearing) -> Sequence[str]:
    """What is wrong with a published clearing: the verifier's failed checks, and awards that differ from the bundle."""
    files = {row.name: bytes(row.body) for row in clearing.files.all()}
    report = verify_bundle(files)
    wrong = [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]
    if bundle_hash(files) != bytes(clearing.bundle_hash):
        wrong.append("bundle_hash: the stored bundle is not the one that was published")
    if report.welfare_micros != clearing.welfare_micros:
        wrong.append("welfare: the row differs from the bundle")
    return wrong or _awards_that_differ(clearing, files)  # a damaged bundle is no measure for the awards


def _awards_that_differ(clearing: Clearing, files: dict[str, bytes]) -> list[str]:
    name = names_of(clearing)
    published = {
        (row["demand_id"], row["bid_id"], row["start_slot"], row["end_slot"], row["units"], row["amount_micros"])
        for row in map(json.loads, files["awards.jsonl"].splitlines())
    }
    rows = clearing.awards.select_related("demand__party", "bid__party")
    kept = {
        (
            name.of("demand", row.demand.party.slug, row.demand.reference),
            name.of("bid", row.bid.party.slug, row.bid.reference),
            row.start_slot, row.end_slot, row.units, row.amount_micros,
        )
        for row in rows
    }  # fmt: skip
    wrong = [f"award: {len(published ^ kept)} awards differ from the bundle"] if published ^ kept else []
    priced = [row for row in rows if row.units * sum(row.slot_prices_micros) != row.amount_micros]
    return wrong + ([f"award: {len(priced)} amounts are not units x price"] if priced else [])
