"""MarketError                      code                   when
+- BadInput                      bad_input              a value has the wrong shape (fact `field` says which)
|   +- UnknownName               unknown_name           no such zone, class, tier, vantage, preset
|   +- PriceOffTick              price_off_tick         a price is not a multiple of 100 micro-USD
|   +- PriceOutOfRange           price_out_of_range     below 100 or above 1e9 micro-USD
|   +- QuantityOutOfRange        quantity_out_of_range  not a whole number from 1 to 2^20
|   +- BadSlots                  bad_slots              slots outside the window or running backwards
|   +- ContradictoryRules        contradictory_rules    rules that no country can satisfy together
|   +- BadLines                  bad_lines              a list with mistakes by line and column; nothing of it was taken
|   +- CyclicOwnership           cyclic_ownership       owners in a circle
|   +- PastDate                  past_date              a date that lies behind
|   +- ExpiredEvidence           expired_evidence       a document that has run out, or runs out before it begins
|   +- Overlapping               overlapping            two spans of one thing that overlap, such as carve-outs
|   +- WrongSignatory            wrong_signatory        somebody who may not sign for that party
|   +- SharesDoNotSum            shares_do_not_sum      parts of a whole that are more or less than the whole
|   +- UnmappedLine              unmapped_line          an invoice line that maps to no award
+- DemandFirst                   demand_first           capacity or a bid before funded demand asks for it
+- GateNotReady                  gate_not_ready         a phase misses a condition, a sign-off, or is frozen
+- LineNotDecided                line_not_decided       a purchase order or grant that is not approved, over or used up
+- RenewalAboveCap               renewal_above_cap      a renewal may not rise that far above the last price
+- InDefault                     in_default             an invoice of the buyer is in default: no new demand
+- WindowClosed                  window_closed          the window no longer (or not yet) takes this
+- StateSkipped                  state_skipped          a window cannot move there from where it is
+- NotEligible                   not_eligible           the node class may not bid this (fact `rule`)
+- PhaseClosed                   phase_closed           the phase flag for this kind of party is off
+- TierNotForKind                tier_not_for_kind      this kind of provider may not hold that tier
+- DataRefused                   data_refused           this class of data is refused, or not on these terms
+- RoleForbidden                 role_forbidden         this seat's role may not do that (fact `roles`)
+- SamePerson                    same_person            a second person has to do this
+- LastOwner                     last_owner             nobody would be left who gives and takes seats
+- LinkOver                      link_over              a link that was used, taken back or has run out
+- PendingApproval               pending_approval       it waits for somebody's approval
+- OverBudget                    over_budget            a budget that blocks is used up
+- CapacityPromised              capacity_promised      bids or leases stand on this capacity
+- CapacityReserved              capacity_reserved      this capacity is carved out, restricted or closed then
+- EnrolmentRefused              enrolment_refused      a machine key or code that is not taken, or not now
+- KeyCapped                     key_capped             more than this API key may do (fact `cap`)
+- DeviceTaken                   device_taken           this hardware is enrolled already
+- Frozen                        frozen                 an incident has frozen this provider or product
+- ReferenceReused               reference_reused       same reference, another body
+- NotYours                      not_found              somebody else's object, or none
+- NotFunded                     not_funded             the party's available money does not cover the hold
+- TooLate                       too_late               withdrawal in the no-cancel period
+- BadKey                        bad_key                unknown, expired or revoked API key
+- IdempotencyMismatch           idempotency_mismatch   same Idempotency-Key, another body
+- InFlight                      in_flight              the twin of this request is being handled
+- ProofRefused                  proof_refused          a benchmark without its quorum, or out of order
|   +- NotAnAttester            not_an_attester        this party holds no verifier's seat, or not any more
|   +- AttestationForged        attestation_forged     not signed by the key of that verifier's seat
|   +- OtherSpec                other_spec             attested or computed on other terms than the challenge's
|   +- ChallengeStale           challenge_stale        the transcript answers another nonce than the challenge's
|   +- ChallengeExpired         challenge_expired      the challenge's time is over
|   +- ResultDiffers            result_differs         other figures than the transcript's, or than the quorum's
|   +- TranscriptAltered        transcript_altered     the transcript does not verify (fact `cause`)
|   +- EvidenceReused           evidence_reused        this transcript was handed in for another challenge
+- SlashHeldBack                 slash_held_back        a lease signed before proof is never slashed
+- WrongStanding                 wrong_standing         a standing or a case cannot move there from where it is
+- CertificateRefused            certificate_refused    the verifier does not confirm a clearing
+- NoCounterfactual              no_counterfactual      a saving without the quote it would be measured against
+- MakerStopped                  maker_stopped          the Foundation has no limits in force, or is stopped
+- MakerLimit                    maker_limit            a quote of the Foundation breaks a limit (fact `rule`)
+- HoldersMissing                holders_missing        bidding cannot open: no three keyholders, two outside
+- TooEarly                      too_early              a share of a window's key before bidding is over
+- ShareRefused                  share_refused          bytes that are not the share that was dealt
+- SealKeyLost                   seal_key_lost          too few shares of a window's key are left to open it
+- SealBroken                    seal_broken            a sealed bid is missing, was changed, or does not open
+- SealUnreadable                seal_unreadable        the key of a party's own copy is not on this server
+- ClockRunsForward              clock_runs_forward     market time cannot be turned back
+- ReportRefused                 report_refused         a signed statement is not taken, nor the rest of its call
|   +- ReportMalformed           report_malformed       not the canonical bytes of such a statement
|   +- ReportForged              report_forged          not signed by the key that is enrolled for it
|   +- ReportReplayed            report_replayed        its number, slot or minute was taken before, with another body
|   +- ReportOutOfSequence       report_out_of_sequence one is missing before it (fact `expected`)
|   +- ReportLate                report_late            its slot is rated, or its time to be heard is over
|   +- ReportFromFuture          report_from_future     about a time that has not come
|   +- ClockSkewed               clock_skewed           the sender's clock is off; ask for the market's time
|   +- WrongInstant              wrong_instant          a probe at another second than the secret one
|   +- NotOnPanel                not_on_panel           this verifier was not drawn for that lease and day
|   +- NoWitnessKey              no_witness_key         this party has not enrolled the key it would sign with
"""

from __future__ import annotations

from collections.abc import Sequence
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


class BadLines(BadInput):
    """A list with mistakes, each as (line from 1, column, sentence); `errors` points into the same list as JSON."""

    code = "bad_lines"

    def __init__(self, mistakes: Sequence[tuple[int, str, str]], *, rows: str) -> None:
        self.mistakes = list(mistakes)
        self.errors = [(f"/{rows}/{line - 1}/{column}", self.code, what) for line, column, what in self.mistakes]
        line, column, sentence = self.mistakes[0]
        count = f"{len(self.mistakes)} mistakes" if len(self.mistakes) > 1 else "A mistake"
        super().__init__(
            f"{count} in the list, and nothing of it was taken. Line {line}, {column}: {sentence}",
            line=line, column=column,
        )


class NoCounterfactual(MarketError):
    code = "no_counterfactual"


class UnmappedLine(BadInput):
    code = "unmapped_line"


class InDefault(MarketError):
    code = "in_default"


class CyclicOwnership(BadInput):
    code = "cyclic_ownership"


class PastDate(BadInput):
    code = "past_date"


class ExpiredEvidence(BadInput):
    code = "expired_evidence"


class Overlapping(BadInput):
    code = "overlapping"


class WrongSignatory(BadInput):
    code = "wrong_signatory"


class SharesDoNotSum(BadInput):
    code = "shares_do_not_sum"


class TierNotForKind(MarketError):
    code = "tier_not_for_kind"


class DataRefused(MarketError):
    code = "data_refused"


class RoleForbidden(MarketError):
    code = "role_forbidden"


class SamePerson(MarketError):
    code = "same_person"


class LastOwner(MarketError):
    code = "last_owner"


class LinkOver(MarketError):
    code = "link_over"


class PendingApproval(MarketError):
    code = "pending_approval"


class OverBudget(MarketError):
    code = "over_budget"


class CapacityPromised(MarketError):
    code = "capacity_promised"


class CapacityReserved(MarketError):
    code = "capacity_reserved"


class EnrolmentRefused(MarketError):
    code = "enrolment_refused"


class KeyCapped(MarketError):
    code = "key_capped"


class DeviceTaken(MarketError):
    code = "device_taken"


class Frozen(MarketError):
    code = "frozen"


class DemandFirst(MarketError):
    code = "demand_first"


class GateNotReady(MarketError):
    code = "gate_not_ready"


class LineNotDecided(MarketError):
    code = "line_not_decided"


class RenewalAboveCap(MarketError):
    code = "renewal_above_cap"


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


class NotAnAttester(ProofRefused):
    code = "not_an_attester"


class AttestationForged(ProofRefused):
    code = "attestation_forged"


class OtherSpec(ProofRefused):
    code = "other_spec"


class ChallengeStale(ProofRefused):
    code = "challenge_stale"


class ChallengeExpired(ProofRefused):
    code = "challenge_expired"


class ResultDiffers(ProofRefused):
    code = "result_differs"


class TranscriptAltered(ProofRefused):
    code = "transcript_altered"


class EvidenceReused(ProofRefused):
    code = "evidence_reused"


class SlashHeldBack(MarketError):
    code = "slash_held_back"


class WrongStanding(MarketError):
    code = "wrong_standing"


class CertificateRefused(MarketError):
    code = "certificate_refused"


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


class ReportRefused(MarketError):
    code = "report_refused"


class ReportMalformed(ReportRefused):
    code = "report_malformed"


class ReportForged(ReportRefused):
    code = "report_forged"


class ReportReplayed(ReportRefused):
    code = "report_replayed"


class ReportOutOfSequence(ReportRefused):
    code = "report_out_of_sequence"


class ReportLate(ReportRefused):
    code = "report_late"


class ReportFromFuture(ReportRefused):
    code = "report_from_future"


class ClockSkewed(ReportRefused):
    code = "clock_skewed"


class WrongInstant(ReportRefused):
    code = "wrong_instant"


class NotOnPanel(ReportRefused):
    code = "not_on_panel"


class NoWitnessKey(ReportRefused):
    code = "no_witness_key"
