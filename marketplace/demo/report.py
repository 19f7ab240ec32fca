"""What a demo came to, read from the tables: the figures of `demo --json`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db.models import Sum

from ledger.models import ChainEvent, ChainIntent
from ledger.rails.evm import chain
from ledger.selectors import total, trial_balance
from marketplace import clock
from marketplace.catalogue.models import Window
from marketplace.clearing.models import LineReason
from marketplace.delivery.models import Reading
from marketplace.demand.models import Demand
from marketplace.demo.story import Story
from marketplace.escrow.models import Lease
from marketplace.invariants import Finding, check_everything
from marketplace.payout.models import Payout, SettlementLine
from marketplace.sla.models import Credit, Verdict
from marketplace.slashing.models import SlashCase
from marketplace.supply.models import Bid
from pricing.verify import verify_bundle


def report(story: Story, *, seconds: float) -> dict[str, Any]:
    """Every figure of the demo; the same seed gives the same figures, `seconds` aside. Money in micro-USD."""
    window = Window.objects.get(name="Main window")
    findings = check_everything(now=clock.now())
    here = chain()
    escrow = int(here.call("token", "balanceOf", here.address("escrow")))
    paid_on_chain = _paid_on_chain()
    return {
        "seed": story.run.seed,
        "seconds": round(seconds, 1),
        "window": {
            "id": window.name,
            "states": ["COLLECTING", *window.transitions.values_list("to_state", flat=True)],
        },
        "demands": Demand.objects.filter(window=window).count(),
        "funded_demands": Demand.objects.filter(window=window).exclude(hold_id=None).count(),
        "bids": Bid.objects.filter(window=window).count(),
        "bids_refused_demand_first": story.run.facts.get("bids_refused_demand_first", 0),
        "late_funding_refused": story.run.facts.get("late_funding_refused", 0),
        "prosumers_refused_phase_closed": story.run.facts.get("prosumers_refused_phase_closed", 0),
        "clearing": _clearing(window),
        "escrow": {"books_minor": total("chain.escrow").minor, "chain_minor": escrow},
        "delivery": {
            "leases": Lease.objects.exclude(state="refused").count(),
            "slots": Reading.objects.count(),
            "readings": Reading.objects.exclude(report=b"").count() * 60,
        },
        "sla": {
            "verdicts": Verdict.objects.count(),
            "breaches": Verdict.objects.filter(is_breach=True).count(),
            "credits_minor": _sum(Credit, "amount_micros"),
        },
        "payout": {
            "books_minor": _sum(Payout, "amount_micros"),
            "chain_minor": paid_on_chain,
            "fees_minor": _sum(SettlementLine, "fee_micros"),
        },
        "slashing": _slashing(),
        "books": _books(findings),
    }


def _clearing(window: Window) -> dict[str, Any]:
    clearing = window.clearing
    verified = verify_bundle({row.name: bytes(row.body) for row in clearing.files.all()})
    explained = set(LineReason.objects.filter(clearing=clearing).values_list("demand_id", "bid_id"))
    got: dict[UUID, int] = defaultdict(int)  # unit-hours by demand and by bid
    for award in clearing.awards.all():
        for line in (award.demand_id, award.bid_id):
            got[line] += award.units * (award.end_slot - award.start_slot)
    unfilled = [(row.pk, None) for row in Demand.objects.filter(window=window) if got[row.pk] < row.unit_hours]
    unfilled += [(None, row.pk) for row in Bid.objects.filter(window=window) if got[row.pk] < row.unit_hours]
    return {
        "welfare_micros": clearing.welfare_micros,
        "bound_micros": clearing.bound_micros,
        "gap_micros": clearing.gap_micros,
        "awards": clearing.awards.count(),
        "losers": len(unfilled),
        "losers_without_reason": len([line for line in unfilled if line not in explained]),
        "noncompliant_awards": verified.noncompliant_awards,
        "verifier_ok": verified.ok,
    }


def _slashing() -> dict[str, int]:
    executed = SlashCase.objects.filter(outcome="executed")
    return {
        "warned": SlashCase.objects.filter(outcome="warned").count(),
        "refused_unproven": SlashCase.objects.filter(outcome="held_back").count(),
        "executed": executed.count(),
        "chain_reverts": ChainIntent.objects.filter(state="reverted", function="request_slash").count(),
        "to_buyers_minor": _sum(executed, "to_buyer_micros"),
        "to_pool_minor": _sum(executed, "to_pool_micros"),
        "forfeited_minor": _sum(SlashCase, "forfeit_micros"),
    }


def _books(findings: list[Finding]) -> dict[str, Any]:
    equal = next(found for found in findings if found.name.startswith("books equal chain"))
    books = trial_balance()
    return {
        "sum_minor": books.debits_posted - books.credits_posted + books.debits_pending - books.credits_pending,
        "chain_equals_books": equal.ok,
        "invariants_checked": len(findings),
        "invariants_broken": sum(not found.ok for found in findings),
        "broken": [f"{found.name}: {found.detail}" for found in findings if not found.ok],
    }


def _paid_on_chain() -> int:
    return sum(int(event.args["amount"]) for event in ChainEvent.objects.filter(name="PaidOut", final=True))


def _sum(rows: Any, column: str) -> int:
    rows = rows.objects.all() if hasattr(rows, "objects") else rows
    return rows.aggregate(total=Sum(column))["total"] or 0


def is_good(figures: dict[str, Any]) -> list[str]:
    """What a demo must show; the sentences of what it does not."""
    c, s, b = figures["clearing"], figures["slashing"], figures["books"]
    musts = {
        "gap 0": c["gap_micros"] == 0,
        "every loser has its reason": c["losers_without_reason"] == 0,
        "no non-compliant award": c["noncompliant_awards"] == 0,
        "the verifier agrees": c["verifier_ok"],
        "escrow equal in books and on chain": figures["escrow"]["books_minor"] == figures["escrow"]["chain_minor"],
        "payouts equal in books and on chain": figures["payout"]["books_minor"] == figures["payout"]["chain_minor"],
        "a bid came before demand and was refused": figures["bids_refused_demand_first"] >= 1,
        "slashing an unproven provider was refused": s["refused_unproven"] >= 1,
        "a slash was executed": s["executed"] >= 1,
        "the contract reverted a slash": s["chain_reverts"] >= 1,
        "the books sum to zero": b["sum_minor"] == 0,
        "the chain equals the books": b["chain_equals_books"],
        "no invariant is broken": b["invariants_broken"] == 0,
    }
    return [sentence for sentence, holds in musts.items() if not holds]


def as_json(figures: dict[str, Any]) -> str:
    """The figures as indented JSON."""
    return json.dumps(figures, indent=2, sort_keys=False) + "\n"
