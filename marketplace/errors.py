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
+- CertificateRefused            certificate_refused    the verifier does not confirm a clearing
+- SamePerson                    same_person            the second of two people is the first
+- MakerStopped                  maker_stopped          the Foundation has no limits in force, or is stopped
+- MakerLimit                    maker_limit            a quote of the Foundation breaks a limit (fact `rule`)
+- HoldersMissing                holders_missing        bidding cannot open: no three keyholders, two outside
+- TooEarly                      too_early              a share of a window's key before bidding is over
+- ShareRefused                  share_refused          bytes that are not the share that was dealt
+- SealKeyLost                   seal_key_lost          too few shares of a window's key are left to open it
+- SealBroken                    seal_broken            a sealed bid is missing, was changed, or does not open
+- SealUnreadable                seal_unreadable        the key of a party's own copy is not on this server
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


class CertificateRefused(MarketError):
    code = "certificate_refused"


class SamePerson(MarketError):
    code = "same_person"


class MakerStopped(MarketError):
    code = "maker_stopped"


class MakerLimit(MarketError):
    code = "maker_limit"


class HoldersMissing(MarketError):
    code = "holders_missing"


class TooEarly(MarketError):
    code = "too_early"


class ShareRefused(MarketError):
    code = "share_refused"


class SealKeyLost(MarketError):
    code = "seal_key_lost"


class SealBroken(MarketError):
    code = "seal_broken"


class SealUnreadable(MarketError):
    code = "seal_unreadable"


class ClockRunsForward(MarketError):
    code = "clock_runs_forward"
