"""MarketError                      code                   when
+- BadInput                      bad_input              a value has the wrong shape (fact `field` says which)
|   +- UnknownName               unknown_name           no such zone, class, tier, vantage, preset
|   +- PriceOffTick              price_off_tick         a price is not a multiple of 100 micro-USD
|   +- PriceOutOfRange           price_out_of_range     below 100 or above 1e9 micro-USD
|   +- QuantityOutOfRange        quantity_out_of_range  not a whole number from 1 to 2^20
|   +- BadSlots                  bad_slots              slots outside the window or running backwards
|   +- ContradictoryRules        contradictory_rules    rules that no country can satisfy together
+- DemandFirst                   demand_first           a bid before funded demand opened the window
+- WindowClosed                  window_closed          the window no longer (or not yet) takes this
+- StateSkipped                  state_skipped          a window cannot move there from where it is
+- NotEligible                   not_eligible           the node class may not bid this (fact `rule`)
+- PhaseClosed                   phase_closed           the phase flag for this kind of party is off
+- ReferenceReused               reference_reused       same reference, another body
+- NotYours                      not_found              somebody else's object, or none
+- NotFunded                     not_funded             the party's available money does not cover the hold
+- TooLate                       too_late               withdrawal in the no-cancel period
+- BadKey                        bad_key                unknown, expired or revoked API key
+- IdempotencyMismatch           idempotency_mismatch   same Idempotency-Key, another body
+- InFlight                      in_flight              the twin of this request is being handled
+- ProofRefused                  proof_refused          a benchmark without its quorum, or out of order
+- SlashHeldBack                 slash_held_back        a lease signed before proof is never slashed
+- WrongStanding                 wrong_standing         a standing or a case cannot move there from where it is
+- CertificateRefused            certificate_refused    the verifier does not confirm a clearing
+- ClockRunsForward              clock_runs_forward     market time cannot be turned back
"""

from __future__ import annotations

from typing import Any


class MarketError(Exception):
    """A refusal with a stable code and the facts to act on. Nothing was written."""

    code = "market_error"

    def __init__(self, sentence: str, **facts: Any) -> None:
        super().__init__(sentence)
        self.facts = facts


class BadInput(MarketError):
    code = "bad_input"


class UnknownName(BadInput):
    code = "unknown_name"


class PriceOffTick(BadInput):
    code = "price_off_tick"


class PriceOutOfRange(BadInput):
    code = "price_out_of_range"


class QuantityOutOfRange(BadInput):
    code = "quantity_out_of_range"


class BadSlots(BadInput):
    code = "bad_slots"


class ContradictoryRules(BadInput):
    code = "contradictory_rules"


class DemandFirst(MarketError):
    code = "demand_first"


class WindowClosed(MarketError):
    code = "window_closed"


class StateSkipped(MarketError):
    code = "state_skipped"


class NotEligible(MarketError):
    code = "not_eligible"


class PhaseClosed(MarketError):
    code = "phase_closed"


class ReferenceReused(MarketError):
    code = "reference_reused"


class NotYours(MarketError):
    code = "not_found"


class NotFunded(MarketError):
    code = "not_funded"


class TooLate(MarketError):
    code = "too_late"


class BadKey(MarketError):
    code = "bad_key"


class IdempotencyMismatch(MarketError):
    code = "idempotency_mismatch"


class InFlight(MarketError):
    code = "in_flight"


class ProofRefused(MarketError):
    code = "proof_refused"


class SlashHeldBack(MarketError):
    code = "slash_held_back"


class WrongStanding(MarketError):
    code = "wrong_standing"


class CertificateRefused(MarketError):
    code = "certificate_refused"


class ClockRunsForward(MarketError):
    code = "clock_runs_forward"
