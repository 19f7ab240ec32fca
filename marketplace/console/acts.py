"""The acts of the console: what each does in words, and the one service behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ledger.errors import LedgerError
from marketplace import cycle
from marketplace.errors import MarketError
from marketplace.governance.services import record
from marketplace.insights.drawing import usd_text
from marketplace.parties.roles import require_person
from pricing.errors import PricingError

REFUSALS = (MarketError, LedgerError, PricingError)


@dataclass(frozen=True)
class Act:
    """A button of the console: its name, what will happen, and what happens to money."""

    name: str
    title: str
    button: str
    effects: tuple[str, ...]
    money: str
    run: Callable[[datetime], str]


def _reconcile(now: datetime) -> str:
    differences = cycle.reconcile(now=now)
    if not differences:
        return "Books and chain agree in every figure."
    first = differences[0]
    return (
        f"{len(differences)} figures differ, first {first.figure} {first.subject}: {usd_text(first.books, 6)} in the "
        f"books, {usd_text(first.chain, 6)} on chain. Payouts are halted."
    )


def _advance(now: datetime) -> str:
    reports = cycle.advance(now=now)
    return "; ".join(f"{r.name}: {r.rows}" for r in reports) or "Nothing was due: every window is where it should be."


ACTS = {
    act.name: act
    for act in (
        Act(
            "reconcile", "Run reconciliation now", "Compare books and chain",
            ("Sends the transactions that wait and books what became final on chain.",
             "Compares every party, class and contract balance with the chain, at one block, and keeps the figures.",
             "Any difference halts payouts until somebody has explained it."),
            "No money moves that was not already on its way. Payouts stop if anything differs.", _reconcile,
        ),
        Act(
            "advance", "Advance the market now", "Advance every window",
            ("Carries each window as far as its clock allows: gate, close of bidding, clearing, lock, delivery, "
             "verdicts, settlement, payout, slashes.",
             "Opens the sealed bids of windows whose bidding time is over, and of no others.",
             "Does what the worker does by itself every few seconds; running it twice does nothing twice."),
            "Money moves where it is due: holds are locked or released, credits and payouts are made.", _advance,
        ),
    )
}  # fmt: skip


def run_act(*, act: Act, person: str, now: datetime) -> tuple[bool, str]:
    """Run an act for a person and return whether it went well and what it came to. A refusal is told with its code."""
    try:
        require_person(person, "operate", "move the market by hand")
        outcome, went_well = act.run(now), True
    except REFUSALS as refusal:
        outcome, went_well = f"{refusal} ({refusal.code})", False
    record(actor=person, action=f"console_{act.name}", subject="market", reason=outcome[:300] or act.title, now=now)
    return went_well, outcome
