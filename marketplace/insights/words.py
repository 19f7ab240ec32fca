"""What pages say about states and reasons: one sentence each, in the glossary's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marketplace.catalogue.models import Window
from marketplace.insights.drawing import usd_text

# state -> (tone of its badge, what it means)
WINDOW_STATES = {
    "COLLECTING": ("info", "collecting demand"),
    "BIDDING": ("info", "taking sealed bids"),
    "CLEARING": ("warn", "being cleared"),
    "CLEARED": ("ok", "cleared"),
    "DELIVERING": ("ok", "delivering"),
    "SETTLED": ("mute", "settled"),
    "FAILED": ("bad", "failed"),
}
DEMAND_STATES = {
    "pending": ("warn", "waits for approval"),
    "refused": ("bad", "not approved"),
    "posted": ("warn", "not funded"),
    "funded": ("info", "funded"),
    "awarded": ("ok", "awarded"),
    "lost": ("mute", "not filled"),
    "unfunded": ("mute", "never funded"),
    "withdrawn": ("mute", "withdrawn"),
    "released": ("mute", "hold released"),
}
BID_STATES = {
    "sealed": ("info", "sealed"),
    "opened": ("warn", "opened"),
    "awarded": ("ok", "awarded"),
    "lost": ("mute", "not filled"),
    "withdrawn": ("mute", "withdrawn"),
}
LEASE_STATES = {
    "locking": ("warn", "being locked"),
    "locked": ("info", "locked on chain"),
    "delivering": ("info", "delivering"),
    "delivered": ("info", "delivered"),
    "judged": ("info", "judged"),
    "settled": ("ok", "settled"),
}
STANDINGS = {
    "REGISTERED": ("warn", "registered"),
    "PROBATION": ("warn", "in probation"),
    "PROVEN": ("ok", "proven"),
    "DEGRADED": ("bad", "degraded"),
    "SUSPENDED": ("bad", "suspended"),
    "UNBONDING": ("mute", "unbonding"),
}
SLASH_OUTCOMES = {
    "credited": ("info", "credited"),
    "upheld": ("bad", "upheld"),
    "warned": ("warn", "warned"),
    "held_back": ("info", "held back: not proven"),
    "requested": ("warn", "requested"),
    "disputed": ("warn", "disputed"),
    "vetoed": ("mute", "vetoed"),
    "executed": ("bad", "executed"),
    "lapsed": ("mute", "lapsed"),
}
HEALTH_STATES = {
    "HEALTHY": ("ok", "healthy, billed"),
    "SUSPECT": ("warn", "suspect, billing paused"),
    "FAILED": ("bad", "failed, not billed"),
}
TARGET_OUTCOMES = {
    "kept": ("ok", "kept"), "broken": ("bad", "broken"), "unknown": ("mute", "not enough known"),
    "running": ("info", "so far"),
}  # fmt: skip
CASE_STATES = {"OPEN": ("warn", "open, fee held"), "DECIDED": ("ok", "decided")}
STATES: dict[str, Mapping[str, tuple[str, str]]] = {
    "window": WINDOW_STATES, "demand": DEMAND_STATES, "bid": BID_STATES, "lease": LEASE_STATES,
    "standing": STANDINGS, "slash": SLASH_OUTCOMES, "health": HEALTH_STATES, "delivery_case": CASE_STATES,
    "target": TARGET_OUTCOMES,
}

REASONS = {
    "withdrawn": "It was withdrawn before the window was cleared.",
    "not_funded": "It was not funded when bidding opened; only funded demand counts.",
    "not_eligible": "It was not eligible in this window.",
    "gate_not_met": "The window's gate was not met, so nothing was cleared.",
    "no_compliant_capacity": "No bid met every rule of this demand.",
    "no_capacity_in_slots": "No compliant capacity was offered in some of its slots.",
    "no_matching_demand": "No demand accepted this capacity in its slots.",
    "budget_bound": "The Foundation's quoting budget was used up.",
    "cap_bound": "Its parent already sold all that the cap on one parent's share of the product allows.",
    "priced_out": "Its price lay on the wrong side of the clearing price.",
    "marginal": "It stood exactly at the clearing price, where there was not enough for all.",
    "block_rejected": "Its price would have done, but it takes all, a minimum or one site, and no result that holds it "
    "whole has one price for all.",
    "alternative_won": "Another of your alternatives was awarded.",
    "minimum_not_met": "Its price would have done, but its minimum could not be sold in all its hours.",
}
PARTS = {
    "base_micros": "Capacity of this class, anywhere",
    "scarcity_micros": "Scarcity: demand above supply",
    "locality_micros": "Zone and site",
    "tier_micros": "Tier",
    "sla_micros": "SLA",
}
SUPPLY = {  # columns of sites and node classes, and what a change of them voids
    "city": "city", "country": "country", "lat": "latitude", "lon": "longitude", "operator_country": "operated from",
    "keys_country": "keys kept in", "claimed_name": "declared name", "units": "units", "tier": "tier asked for",
    "resource_class": "kind", "retired_at": "out of service since", "evidence": "evidence of the site",
    "legal_control": "evidence of legal control", "round_trips": "round trips", "proof": "proof of the machines",
}
RULES = {
    "class": "the resource class", "resource_class": "the resource class", "zone": "the zone",
    "country": "the zone", "control": "the legal-control zone", "control_zone": "the legal-control zone",
    "tier": "the tier", "papers": "a control, an agreement or a grant of use", "latency": "the latency bound",
    "sla": "the SLA", "targets": "an SLA target", "standing": "the provider's standing",
    "frozen": "an incident that froze the provider or product",
}

TRANSFERS = {
    "deposit": "Deposit", "withdrawal": "Withdrawal", "hold": "Hold for a demand", "hold_released": "Hold released",
    "earned": "Paid to the provider", "held_back": "Held back until proven", "fee": "Platform fee",
    "returned": "Returned: not delivered, or above cost recovery", "sla_credit": "Credit for a broken SLA",
    "holdback_released": "Holdback released", "holdback_forfeited": "From the provider's holdback",
    "stake": "Stake", "unstake": "Stake taken back", "slash_to_buyer": "Slash, paid to you first",
    "slash_to_pool": "Slash, to the insurance pool", "paid_out": "Paid out", "correction": "Correction",
    "exchanged": "Paid by card",
}
ACCOUNTS = {
    "buyer.available": "available", "buyer.held": "locked on chain", "buyer.receivable": "owed",
    "provider.payable": "payable", "provider.holdback": "held back", "stake.mirror": "stake",
}


def badge(kind: str, state: str) -> tuple[str, str]:
    """Return (tone, words) of a state; an unknown one is shown as it is."""
    return STATES[kind].get(state, ("mute", state.replace("_", " ").lower()))


def reason_sentence(code: str, detail: Mapping[str, Any] | None = None) -> str:
    """Return why a line was not filled, with the figure that would have filled it where there is one."""
    detail = detail or {}
    sentence = REASONS.get(code, "It was not filled.")
    rule = RULES.get(str(detail.get("rule", "")))
    if rule and code in ("no_compliant_capacity", "not_eligible"):
        return f"{sentence} The first rule that left none: {rule}."
    return " ".join([sentence, *_figure(code, detail)])


def _figure(code: str, detail: Mapping[str, Any]) -> list[str]:
    """The figure that belongs to a reason, as a sentence; none for a reason without one."""
    gap = next((int(v) for k, v in detail.items() if k.endswith("micros") and _is_whole(v)), None)
    if code == "priced_out" and gap:
        return [f"It was off by {usd_text(abs(gap), 4)} per unit-hour."]
    if code in ("no_capacity_in_slots", "no_matching_demand") and _is_whole(detail.get("slot")):
        return [f"The first such slot: hour {int(detail['slot'])} of the window."]
    if code in ("block_rejected", "minimum_not_met") and gap is not None:
        return [f"Leaving it out cost it {usd_text(gap)} at the published prices."]
    if code == "alternative_won" and detail.get("winner"):
        return [f"It was {detail['winner']}; the hold of this one is released."]
    if code == "cap_bound" and gap is not None:
        return [f"The cap kept {usd_text(gap, 4)} per unit-hour from it."]
    if code == "budget_bound" and _is_whole(detail.get("sigma_ppm")):
        return [f"The budget counted its limit {int(detail['sigma_ppm']) / 10_000:.4f} % lower."]
    if code == "marginal" and detail.get("cause") == "rounding":
        return ["A whole number of units could not be shared out further."]
    return []


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def what_happens_next(window: Window) -> str:
    """Return what happens next in a window, and what a buyer can still do. Times stand beside it on the page."""
    return {
        "COLLECTING": "Demand can be posted, changed, funded and withdrawn until demand closes. Providers may bid only "
        "once funded demand passes the gate; if it does not, the window fails and every hold is released.",
        "BIDDING": "Demand is frozen. Providers place sealed bids that nobody can read, the Foundation included, "
        "until bidding closes. In the no-cancel period bids stay.",
        "CLEARING": "Bidding has closed and the sealed bids are open. The book is being cleared and the certificate "
        "checked; awards, prices and one reason per unfilled line follow.",
        "CLEARED": "Awards are made and the certificate is published. Escrow is being locked on chain for each lease; "
        "holds that won nothing are released.",
        "DELIVERING": "Leases are running. Every minute is metered by the provider and by independent probes; a broken "
        "SLA is credited without a claim.",
        "SETTLED": "All leases are judged and paid out. Credits were posted before any payout.",
        "FAILED": why_it_failed(window) if window.state == "FAILED" else "",
    }[window.state]


def why_it_failed(window: Window) -> str:
    """Return why a window failed and what became of the money."""
    step = window.transitions.filter(to_state="FAILED").first()
    if step is None or step.facts.get("code", "gate_not_met") == "gate_not_met":
        return "Funded demand missed the gate. No bid was asked for and every hold was released."
    if step.facts["code"] == "phase_closed":
        return "Bidding in market windows opens in a later phase. No bid was asked for and every hold was released."
    return (
        f"It could not be cleared with a certificate after {step.facts.get('attempts', 1)} attempts "
        f"({step.facts['code']}). Nothing was awarded and every hold was released."
    )


def next_time(window: Window) -> tuple[str, Any] | None:
    """Return the next event of a window and when it falls, or None when nothing is left to come."""
    return {
        "COLLECTING": ("Demand closes", window.demand_closes_at),
        "BIDDING": ("Bidding closes", window.bidding_closes_at),
        "CLEARING": ("Delivery starts", window.starts_at),
        "CLEARED": ("Delivery starts", window.starts_at),
        "DELIVERING": ("Delivery ends", window.ends_at),
    }.get(window.state)
