r"""Is a lease period broken, what is credited, what is refunded.

Let n be the known minutes of a period, D those that were DOWN by the provider's doing, SLA the promised share.

    breach  iff  D > k(n),   k(n) = binom.isf(5e-5, n, 1 - SLA + 2e-5)

Given what really happened, D is a sum of independent Bernoulli variables with mean at most n p0, so for k >= mean + 1
the binomial bounds its tail however bursty the outages were [Hoeffding 1956]. 2e-5 is the share of minutes that probes
call down by mistake. Between budget and k there is a credit and no slash: that dead band is wanted.

Credits need no test: they follow the measured value, in integers, rounded in the buyer's favour.
"""

from dataclasses import dataclass
from functools import lru_cache

from pricing.errors import SlaError

FALSE_BREACH_RATE = 5e-5
FALSE_DOWN_RATE = 2e-5
SLASHABLE_MINUTES_MIN = 24 * 60  # a shorter lease earns credits only
UNKNOWN_SHARE_MAX_BPS = 500  # above it nobody knows enough to slash
# (availability below, credit in basis points of the period's fee); the first step stands for the SLA itself.
CREDIT_BELOW_SLA_BPS = 1000
CREDIT_STEPS_BPS = ((9500, 10_000), (9900, 2_500))


@dataclass(frozen=True)
class Judgement:
    """The outcome of one lease period."""

    breach: bool  # the test failed, and the period is long and known enough for it to count
    threshold_minutes: int  # k(n)
    availability_ppm: int  # of the known minutes, rounded down
    credit_step_bps: int  # 0, 1000, 2500 or 10000 of the period's fee
    exceeds_threshold: bool  # D > k(n), whatever the period's length
    down_minutes: int
    known_minutes: int


def burn_tenths(*, down_minutes: int, known_minutes: int, sla_bps: int) -> int:
    """How fast the error budget burns, in tenths of an even burn, rounded down: 10 uses it up exactly at the end.

    0 of no known minute. An alert and never a breach: bad minutes cluster. Raises SlaError for impossible counts.
    """
    if not 0 <= down_minutes <= known_minutes or not 0 < sla_bps < 10_000:
        raise SlaError("Down minutes are part of the known ones.", down=down_minutes, known=known_minutes)
    return 100_000 * down_minutes // ((10_000 - sla_bps) * known_minutes) if known_minutes else 0


@lru_cache(maxsize=65536)
def threshold_minutes(known_minutes: int, sla_bps: int) -> int:
    """k(n): the largest number of down minutes that is no breach. Raises SlaError for an SLA outside (0, 100 %]."""
    if not 0 < sla_bps <= 10_000 or known_minutes < 0:
        raise SlaError("An SLA is a share of known minutes.", sla_bps=sla_bps, known_minutes=known_minutes)
    if known_minutes == 0:
        return 0
    from scipy.stats import binom  # a second of every process's start

    return int(binom.isf(FALSE_BREACH_RATE, known_minutes, (10_000 - sla_bps) / 10_000 + FALSE_DOWN_RATE))


def judge(*, down_minutes: int, known_minutes: int, sla_bps: int, unknown_minutes: int = 0) -> Judgement:
    """Judge one lease period (30 days, or the term if shorter) from its minutes.

    `down_minutes` counts only what the provider caused and is part of `known_minutes`. Periods under 24 h and periods
    with more than 5 % unknown minutes are never a breach; their credit stands. Raises SlaError for impossible counts.
    """
    if not 0 <= down_minutes <= known_minutes or unknown_minutes < 0:
        raise SlaError("Down minutes are part of the known ones.", down=down_minutes, known=known_minutes)
    threshold = threshold_minutes(known_minutes, sla_bps)
    period = known_minutes + unknown_minutes
    counts = period >= SLASHABLE_MINUTES_MIN and unknown_minutes * 10_000 <= UNKNOWN_SHARE_MAX_BPS * period
    up = known_minutes - down_minutes
    return Judgement(
        breach=counts and down_minutes > threshold,
        threshold_minutes=threshold,
        availability_ppm=up * 1_000_000 // known_minutes if known_minutes else 1_000_000,
        credit_step_bps=credit_step_bps(up_minutes=up, known_minutes=known_minutes, sla_bps=sla_bps),
        exceeds_threshold=down_minutes > threshold,
        down_minutes=down_minutes,
        known_minutes=known_minutes,
    )


def credit_step_bps(*, up_minutes: int, known_minutes: int, sla_bps: int) -> int:
    """The credit step of an availability, in basis points of the period's fee; exactly on the SLA earns none.

    Below the SLA 10 %, also below 99.0 % 25 %, also below 95.0 % 100 %. Compared in integers, without division.
    """
    if up_minutes * 10_000 >= sla_bps * known_minutes:
        return 0
    for below_bps, step_bps in CREDIT_STEPS_BPS:
        if up_minutes * 10_000 < below_bps * known_minutes:
            return step_bps
    return CREDIT_BELOW_SLA_BPS


def certain_step_bps(*, down_minutes: int, period_minutes: int, sla_bps: int) -> int:
    """The credit step that a running period has earned whatever comes: its down minutes pass the whole period's budget.

    It never falls while the period goes on, and the step at the close is never less: minutes nobody saw only make the
    known ones fewer. Raises SlaError for impossible counts.
    """
    if not 0 <= down_minutes <= period_minutes or period_minutes == 0:
        raise SlaError("Down minutes are part of the period.", down=down_minutes, period=period_minutes)
    return credit_step_bps(up_minutes=period_minutes - down_minutes, known_minutes=period_minutes, sla_bps=sla_bps)


def credit_micros(fee_micros: int, step_bps: int, *, refunded_micros: int = 0) -> int:
    """A credit in micro-USD, rounded up, and never more than what is left of the fee after its refund.

    Raises SlaError unless 0 <= refunded <= fee.
    """
    if not 0 <= refunded_micros <= fee_micros:
        raise SlaError("A refund is part of the fee.", fee_micros=fee_micros, refunded_micros=refunded_micros)
    return min(-(-fee_micros * step_bps // 10_000), fee_micros - refunded_micros)


def refund_micros(*, fee_micros: int, unpaid_minutes: int, period_minutes: int) -> int:
    """What goes back for minutes that are not paid, micro-USD, rounded up. Raises SlaError for impossible counts."""
    if not 0 <= unpaid_minutes <= period_minutes or fee_micros < 0 or period_minutes == 0:
        raise SlaError("Unpaid minutes are part of the period.", unpaid=unpaid_minutes, period=period_minutes)
    return -(-fee_micros * unpaid_minutes // period_minutes)
