"""Reports of wrongdoing (M-073): a deposit keeps them serious, two people decide, the public learns no name.

    made       the reporter's deposit is held in its escrow account; the reward is fixed then, by the rule in force
    triaged    one person of the Foundation has looked and finds it worth deciding, or rejects it
    upheld     another person decides: the deposit is free again and a fixed sum follows from the pool of rewards, never
               a share of a slash
    rejected   the reporter gets nothing; its deposit goes to the pool

Undecided for half a year, a report's hold runs out and the deposit is free again. A reward waits while the pool is too
small for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils.crypto import salted_hmac

from ledger.errors import InsufficientFunds, LedgerHalted
from ledger.ids import uuid7, uuid_from
from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from ledger.rewards import lost_deposit_postings, reward_pool_micros
from ledger.services import (
    book_lost_deposit,
    book_reward_failed,
    book_reward_pool,
    book_reward_sent,
    reserve_hold,
    void_hold,
)
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_name, require_whole
from marketplace.demand.funding import free_micros
from marketplace.errors import BadInput, NotFunded, NotYours, SamePerson, WindowClosed
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.oversight.report_models import REPORT_KINDS, Report, ReportRule
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act, require_seat
from marketplace.supply.onchain import ensure_address

UNDECIDED_AFTER, TIME_TO_TAKE = timedelta(days=180), timedelta(days=7)
EVIDENCE_MAX_BYTES = 4 * 2**20
REWARD_KEY, LOST_KEY = "report-reward", "report-deposit"


def report_rule() -> ReportRule:
    """The rule in force; the first one comes with the database."""
    return ReportRule.objects.latest("id")


@transaction.atomic
def set_report_rule(
    *, deposit_micros: int, reward_micros: int, person: str, reason: str, now: datetime
) -> ReportRule:
    """Change deposit and reward for reports made from now on. Micro-USD. Raises BadInput."""
    for field, micros, least in (("deposit_micros", deposit_micros, 1), ("reward_micros", reward_micros, 0)):
        if not least <= require_whole(micros, field=field) < MONEY_MAX_MICROS:
            raise BadInput("A deposit is more than nothing, a reward nothing or more.", field=field)
    require_name(reason, field="reason", longest=300)
    rule = ReportRule.objects.create(
        deposit_micros=deposit_micros, reward_micros=reward_micros, reason=reason, at=now,
        person=require_name(person, field="person", longest=120),
    )  # fmt: skip
    record(actor=person, action="set_report_rule", subject="reports", reason=reason, now=now,
           deposit_micros=deposit_micros, reward_micros=reward_micros)  # fmt: skip
    return rule


@transaction.atomic
def fill_reward_pool(*, seat: Seat, micros: int, reason: str, now: datetime) -> int:
    """Set capital of the Foundation aside for rewards; returns what the pool holds then. Raises NotFunded."""
    require_act(seat, "operate", "fill the pool of rewards")
    require_name(reason, field="reason", longest=300)
    if not 1 <= require_whole(micros, field="micros") < MONEY_MAX_MICROS:
        raise BadInput("Set aside more than nothing.", field="micros")
    try:
        book_reward_pool(id=uuid7(now), micros=micros, now=now)
    except InsufficientFunds as error:
        raise NotFunded("The Foundation's capital does not hold that much.", needed_micros=micros) from error
    record(actor=seat.user.email, action="fill_reward_pool", subject="reports", reason=reason, now=now, micros=micros)
    return reward_pool_micros()


@transaction.atomic
def make_report(
    *, party: Party, about: Party, kind: str, text: str, evidence: bytes = b"", file_name: str = "",
    seat: Seat | None = None, now: datetime,
) -> Report:  # fmt: skip
    """Report somebody; the deposit is held until it is decided.

    Raises NotFunded without free money for the deposit, BadInput for oneself and one's own owners, and for a party
    whose escrow account answers to a key of its own: the market could not take a lost deposit from it.
    """
    require_seat(seat, party, "fund", "leave a deposit")
    if kind not in REPORT_KINDS:
        raise BadInput(f"A report is about one of {', '.join(REPORT_KINDS)}.", field="kind")
    require_name(text, field="text", longest=2000)
    if len(evidence) > EVIDENCE_MAX_BYTES:
        raise BadInput("Evidence is one file of at most 4 MiB.", field="evidence")
    if about.owner_key == party.owner_key:
        raise BadInput("Nobody reports itself or its own owners.", field="about")
    if not party.is_buyer or ensure_address(party=party) != party.chain_address:
        raise BadInput("A deposit is held in an escrow account that the market keeps for you.", field="party")
    rule, report_id = report_rule(), uuid7(now)
    if free_micros(party) < rule.deposit_micros:
        raise NotFunded("Your free money does not cover the deposit.", needed_micros=rule.deposit_micros)
    hold = uuid_from("report", report_id)
    try:
        reserve_hold(id=hold, party=party.pk, window=report_id, amount=rule.deposit_micros,
                     timeout_at=now + UNDECIDED_AFTER, now=now)  # fmt: skip
    except InsufficientFunds as error:
        raise NotFunded("Your free money does not cover the deposit.", needed_micros=rule.deposit_micros) from error
    report = Report.objects.create(
        id=report_id, reporter=party, about=about, kind=kind, text=text, evidence=evidence, file_name=file_name[:120],
        evidence_sha256=hashlib.sha256(evidence).digest() if evidence else None, hold_id=hold, made_at=now,
        deposit_micros=rule.deposit_micros, reward_micros=rule.reward_micros,
    )  # fmt: skip
    record(actor=seat.user.email if seat else party.slug, action="make_report", subject=report.pk, reason=kind, now=now,
           about=about.slug, deposit_micros=rule.deposit_micros,
           evidence=hashlib.sha256(evidence).hexdigest() if evidence else None)  # fmt: skip
    return report


@transaction.atomic
def triage_report(*, seat: Seat, report_id: UUID, reason: str, now: datetime) -> Report:
    """Find a report worth deciding; another person decides it then."""
    require_act(seat, "review", "triage reports")
    report = _locked(report_id, "open")
    require_name(reason, field="reason", longest=300)
    report.state, report.triaged_by, report.triaged_at = "triaged", seat.user.email, now
    report.save(update_fields=["state", "triaged_by", "triaged_at"])
    record(actor=seat.user.email, action="triage_report", subject=report.pk, reason=reason, now=now)
    return report


@transaction.atomic
def decide_report(
    *, seat: Seat, report_id: UUID, is_upheld: bool, reason: str, outcome: str, now: datetime
) -> Report:
    """Uphold or reject. Upholding takes a second person after triage; `outcome` is published and names nobody.

    Raises SamePerson, WindowClosed for a report in another state, BadInput for an outcome that names a party.
    """
    require_act(seat, "judge" if is_upheld else "review", "decide reports")
    report = _locked(report_id, *(("triaged",) if is_upheld else ("open", "triaged")))
    require_name(reason, field="reason", longest=300)
    require_name(outcome, field="outcome", longest=300)
    _require_anonymous(outcome, (report.reporter, report.about))
    if is_upheld and report.triaged_by == seat.user.email:
        raise SamePerson("A report is upheld by another person than found it worth deciding.")
    report.state = "upheld" if is_upheld else "rejected"
    report.decided_by, report.decided_at, report.reason, report.outcome = seat.user.email, now, reason, outcome
    if is_upheld or now > report.made_at + UNDECIDED_AFTER - TIME_TO_TAKE:
        void_hold(id=report.hold_id, now=now)  # a hold that is nearly over could end before the chain has answered
        report.settled_at = None if is_upheld and report.reward_micros else now
    else:
        _take_deposit(report, now)
    report.save(update_fields=["state", "decided_by", "decided_at", "reason", "outcome", "intent_key", "settled_at"])
    record(actor=seat.user.email, action="decide_report", subject=report.pk, reason=reason, now=now,
           is_upheld=is_upheld, outcome=outcome)  # fmt: skip
    for party, words in ((report.reporter_id, "Your report"), (report.about_id, "A report about you")):
        tell_parties(parties=[party], about=f"report:{report.pk}", code="report_decided", now=now,
                     sentence=f"{words} was {report.state}: {reason}")  # fmt: skip
    return report


@transaction.atomic
def settle_reports(*, now: datetime) -> int:
    """Send rewards that the pool can pay, and book what became of money on its way; returns how many moved on."""
    waiting = list(
        Report.objects.select_for_update(of=("self",)).filter(state__in=("upheld", "rejected"), settled_at=None)
        .select_related("reporter").order_by("decided_at", "id")
    )  # fmt: skip
    keys = [row.intent_key for row in waiting if row.intent_key]
    ended = {row.key: row for row in ChainIntent.objects.filter(key__in=keys, state__in=("final", "reverted"))}
    moved = 0
    for report in waiting:
        try:
            with transaction.atomic():
                moved += _settle(report, ended.get(report.intent_key), now)
        except LedgerHalted:  # payouts stand still; the next turn looks again
            continue
    return moved


def _settle(report: Report, ended: ChainIntent | None, now: datetime) -> int:
    if report.state == "upheld" and not report.intent_key:
        if reward_pool_micros() < report.reward_micros:
            return 0
        _send_reward(report, now)
    elif ended is None:
        return 0
    elif ended.state == "final":
        if report.state == "rejected":
            book_lost_deposit(id=uuid_from("lost deposit", report.pk), micros=report.deposit_micros, now=now,
                              reference=bytes.fromhex(str(ended.tx_hash).removeprefix("0x")))  # fmt: skip
        report.settled_at = now
    elif report.state == "upheld":
        book_reward_failed(id=_reward_id(report), micros=report.reward_micros, now=now)
        report.attempt, report.intent_key = report.attempt + 1, ""
    else:
        report.attempt += 1
        _take_deposit(report, now)
    report.save(update_fields=["attempt", "intent_key", "settled_at"])
    return 1


def _send_reward(report: Report, now: datetime) -> None:
    report.intent_key = f"{REWARD_KEY}:{report.pk}:{report.attempt}"
    book_reward_sent(id=_reward_id(report), micros=report.reward_micros, now=now)
    sender.submit(
        key="custody:approve:escrow", role="custody", contract="token", function="approve",
        args=[chain().address("escrow"), 2**256 - 1], now=now,
    )  # fmt: skip
    sender.submit(
        key=report.intent_key, role="custody", contract="escrow", function="deposit",
        args=[ensure_address(party=report.reporter), report.reward_micros], now=now,
    )  # fmt: skip


def _take_deposit(report: Report, now: datetime) -> None:
    """Take a lost deposit out of the reporter's escrow account, by the key that the market keeps for it.

    The hold keeps it until the chain has paid it out; the plan of that call posts the hold.
    """
    out, role = f"{LOST_KEY}-out:{report.pk}", f"buyer:{report.reporter_id}"
    if not ChainIntent.objects.filter(key__startswith=f"{out}:", state="final").exists():
        sender.submit(
            key=f"{out}:{report.attempt}", role=role, contract="escrow", function="withdraw",
            args=[report.deposit_micros], now=now,
            plan=lost_deposit_postings(hold_id=report.hold_id, party=report.reporter_id, scope=report.pk,
                                       micros=report.deposit_micros),
        )  # fmt: skip
    report.intent_key = f"{LOST_KEY}:{report.pk}:{report.attempt}"
    sender.submit(
        key=report.intent_key, role=role, contract="token", function="transfer",
        args=[signer().address("custody"), report.deposit_micros], now=now,
    )  # fmt: skip


def _reward_id(report: Report) -> UUID:
    return uuid_from("reward", report.pk, str(report.attempt))


def _locked(report_id: UUID, *states: str) -> Report:
    rows = Report.objects.select_for_update(of=("self",)).select_related("reporter__parent", "about__parent")
    report = rows.filter(pk=report_id).first()
    if report is None:
        raise NotYours("There is no such report.")
    if report.state not in states:
        raise WindowClosed("This report stands elsewhere on its way.", state=report.state)
    return report


def _require_anonymous(outcome: str, parties: Iterable[Party]) -> None:
    told = outcome.lower()
    for party in parties:
        if party.slug.lower() in told or party.name.lower() in told:
            raise BadInput("The published outcome names nobody.", field="outcome")


# -- reads -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Outcome:
    """One decided report as everybody sees it."""

    month: str
    kind: str
    is_upheld: bool
    sentence: str
    lot: str  # its place in its month: drawn, so that the order says nothing of the day or of the report

    def mark(self) -> tuple[str, str]:
        """Where it stands in the list."""
        return self.month, self.lot


def published_outcomes() -> list[Outcome]:
    """The decided reports without any party, by month of decision, newest first."""
    rows = Report.objects.filter(state__in=("upheld", "rejected"), decided_at__isnull=False)
    told = [
        Outcome(f"{row.decided_at:%Y-%m}", row.get_kind_display(), row.state == "upheld", row.outcome,
                salted_hmac("grove report outcome", str(row.pk), algorithm="sha256").hexdigest()[:32])
        for row in rows.defer("evidence", "text")
    ]  # fmt: skip
    return sorted(told, key=Outcome.mark, reverse=True)
