r"""Does a machine still do what it was proven to do: re-checks against the baseline, and an exact test over a month.

    a check fails  iff  its score and the score of a second try 10 minutes later both lie under 0.90 x proven
    breach         iff  failures > k(n),  k(n) = binom.isf(5e-5, n, 0.02)          n checks of the period, 10 of 120

An honest host fails at most 2 % of its checks: 313 checks with at most 2 failures admitted it (95 % confidence). So the
rate of false breaches is at most 3.2e-5 over 120 checks, one every 6 hours for 30 days. Credits need no test: each
failed check returns the measured shortfall of its own 6 hours, rounded in the buyer's favour.
"""

from dataclasses import dataclass
from functools import lru_cache

from pricing.errors import SlaError
from pricing.sla import FALSE_BREACH_RATE

CHECK_FLOOR_BPS = 9_000  # of the proven score
HONEST_FAILURE_RATE = 0.02
CHECK_HOURS = 6
RETRY_MINUTES = 10


@dataclass(frozen=True)
class Check:
    """One re-check: operations per second of both tries; `second_ops` is None where the first one passed."""

    first_ops: int
    second_ops: int | None

    def best_ops(self) -> int:
        """The better of the two tries."""
        return self.first_ops if self.second_ops is None else max(self.first_ops, self.second_ops)


def needs_retry(*, ops: int, proven_ops: int) -> bool:
    """Whether a first try under the floor is repeated 10 minutes later. Raises SlaError without a proven score."""
    if proven_ops < 1 or ops < 0:
        raise SlaError("A check is compared with a proven score.", ops=ops, proven_ops=proven_ops)
    return ops * 10_000 < CHECK_FLOOR_BPS * proven_ops


def has_failed(check: Check, *, proven_ops: int) -> bool:
    """Both tries under the floor. Raises SlaError when a first try under it was not repeated."""
    if not needs_retry(ops=check.first_ops, proven_ops=proven_ops):
        return False
    if check.second_ops is None:
        raise SlaError("A check under the floor is repeated before it counts.", ops=check.first_ops)
    return needs_retry(ops=check.second_ops, proven_ops=proven_ops)


@lru_cache(maxsize=4096)
def failures_allowed(checks: int) -> int:
    """k(n): the largest number of failed checks that is no breach. Raises SlaError for a negative count."""
    if checks < 0:
        raise SlaError("Checks are counted from none.", checks=checks)
    from scipy.stats import binom  # a second of every process's start

    return int(binom.isf(FALSE_BREACH_RATE, checks, HONEST_FAILURE_RATE)) if checks else 0


def is_performance_breach(*, failed: int, checks: int) -> bool:
    """More checks of the period failed than an honest host's would. Raises SlaError for impossible counts."""
    if not 0 <= failed <= checks:
        raise SlaError("Failed checks are part of all checks.", failed=failed, checks=checks)
    return failed > failures_allowed(checks)


def shortfall_micros(check: Check, *, proven_ops: int, interval_fee_micros: int) -> int:
    """What a failed check returns of the fee of its 6 hours, micro-USD, rounded up; nothing for one that passed."""
    if not has_failed(check, proven_ops=proven_ops):
        return 0
    missing = proven_ops - min(proven_ops, check.best_ops())
    return -(-interval_fee_micros * missing // proven_ops)
