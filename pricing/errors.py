"""Every refusal of `pricing`, drawn as one tree: a sentence for people, `code` and `facts` for programs.

PricingError                  code                      when
 +- ClearingError             clearing_error            one window could not be cleared; nothing is published
 |   +- NotInteger            not_integer               a float, NaN, boolean or text where a whole number belongs
 |   +- BadText               bad_text                  an id, party, site or vantage is empty, too long or not text
 |   +- PriceOffTick          price_off_tick            a price is no multiple of the tick
 |   +- PriceOutOfRange       price_out_of_range        a price below or above what the engine holds
 |   +- BadQuantity           bad_quantity              units outside 1 .. 2^20
 |   +- BadSlotRange          bad_slot_range            slots empty, reversed or outside the window
 |   +- BadQuality            bad_quality               a quality score or SLA outside its basis points
 |   +- BadRank               bad_rank                  a negative rank of acceptance
 |   +- UnknownClass          unknown_class             no resource class, or a demand that accepts none
 |   +- UnknownCountry        unknown_country           not an ISO 3166 alpha-2 code in capitals
 |   +- UnknownTier           unknown_tier              a tier outside T0 .. T3
 |   +- UnknownStanding       unknown_standing          a standing that the rules do not name
 |   +- BadLatency            bad_latency               a negative round trip, or a bound without a vantage
 |   +- KindNotSupported      kind_not_supported        a kind that this version cannot clear
 |   +- CurveNotMonotone      curve_not_monotone        price steps of one order that run both ways or differ otherwise
 |   +- CapInvalid            cap_invalid               a concentration cap or budget outside its range
 |   +- DuplicateId           duplicate_id              two lines of one side share an id
 |   +- BookOverflow          book_overflow             the book's money does not fit the engine or the bundle
 |   +- SolverFailed          solver_failed             the solver did not report an optimum
 |   +- CertificateFailed     certificate_failed        the result is not proven optimal to the stated gap
 |   +- BundleMismatch        bundle_mismatch           an outcome that does not belong to this book
 +- ProofRefused              proof_refused             a benchmark proof does not hold
 |   +- MalformedProof        proof_malformed           a part is missing, or of the wrong shape, kind or range
 |   +- PathRefused           proof_path                a row does not lead to the committed root
 |   +- FreivaldsRefused      proof_freivalds           a product is not what it claims to be
 |   +- TranspositionRefused  proof_transposition       a block does not start from the transpose of the one before
 |   +- NonceRefused          proof_nonce               a stale, repeated or foreign nonce or seed share
 |   +- LateRoot              proof_late_root           a root came after its deadline
 |   +- ReadTooLate           proof_read_too_late       a row came too late to have been in memory
 |   +- RadiusRefused         proof_radius              a smaller radius is claimed than the echoes prove
 |   +- EchoRefused           proof_echo                an echo is not signed by the machine that is measured
 |   +- SweepRefused          proof_sweep               sums of a memory sweep are not those of the resident rows
 +- MeteringError             metering_error            reports or words of minutes that cannot be
 +- SlaError                  sla_error                 minutes, fees or an SLA that cannot be
 +- PenaltyError              penalty_error             a stake, history or standing that cannot be
 +- EstimateError             estimate_error            a workload, cost, curve or sample that cannot be (`field`)
"""


class PricingError(Exception):
    """A refusal of `pricing`; `str(error)` is one sentence, `error.facts` holds what a caller needs to act."""

    code: str = "pricing_error"

    def __init__(self, sentence: str, **facts: object) -> None:
        super().__init__(sentence)
        self.facts: dict[str, object] = facts


class ClearingError(PricingError):
    code = "clearing_error"


class NotInteger(ClearingError):
    code = "not_integer"


class BadText(ClearingError):
    code = "bad_text"


class PriceOffTick(ClearingError):
    code = "price_off_tick"


class PriceOutOfRange(ClearingError):
    code = "price_out_of_range"


class BadQuantity(ClearingError):
    code = "bad_quantity"


class BadSlotRange(ClearingError):
    code = "bad_slot_range"


class BadQuality(ClearingError):
    code = "bad_quality"


class BadRank(ClearingError):
    code = "bad_rank"


class UnknownClass(ClearingError):
    code = "unknown_class"


class UnknownCountry(ClearingError):
    code = "unknown_country"


class UnknownTier(ClearingError):
    code = "unknown_tier"


class UnknownStanding(ClearingError):
    code = "unknown_standing"


class BadLatency(ClearingError):
    code = "bad_latency"


class KindNotSupported(ClearingError):
    code = "kind_not_supported"


class CurveNotMonotone(ClearingError):
    code = "curve_not_monotone"


class CapInvalid(ClearingError):
    code = "cap_invalid"


class DuplicateId(ClearingError):
    code = "duplicate_id"


class BookOverflow(ClearingError):
    code = "book_overflow"


class SolverFailed(ClearingError):
    code = "solver_failed"


class CertificateFailed(ClearingError):
    code = "certificate_failed"


class BundleMismatch(ClearingError):
    code = "bundle_mismatch"


class ProofRefused(PricingError):
    code = "proof_refused"


class MalformedProof(ProofRefused):
    code = "proof_malformed"


class PathRefused(ProofRefused):
    code = "proof_path"


class FreivaldsRefused(ProofRefused):
    code = "proof_freivalds"


class TranspositionRefused(ProofRefused):
    code = "proof_transposition"


class NonceRefused(ProofRefused):
    code = "proof_nonce"


class LateRoot(ProofRefused):
    code = "proof_late_root"


class ReadTooLate(ProofRefused):
    code = "proof_read_too_late"


class RadiusRefused(ProofRefused):
    code = "proof_radius"


class EchoRefused(ProofRefused):
    code = "proof_echo"


class SweepRefused(ProofRefused):
    code = "proof_sweep"


class MeteringError(PricingError):
    code = "metering_error"


class SlaError(PricingError):
    code = "sla_error"


class PenaltyError(PricingError):
    code = "penalty_error"


class EstimateError(PricingError):
    code = "estimate_error"
