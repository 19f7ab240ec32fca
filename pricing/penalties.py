r"""What a breach costs: quality score, stake, slash, forfeit, and why staying unproven is never cheaper.

    quality    = 5 % quantile of Beta(9.5 + good, 0.5 + bad)          good, bad: unit-hours of the last 90 days
    stake      = price x units x max(0.10 H, 3 BetaBinomial.ppf(0.99; H, 0.5 + bad, 9.5 + good)),  H = min(720, slots)
    slash      = 0 for a first breach in 90 days, then 5 %, 15 %; 20 % below 95.0 % availability; 100 % for fraud
    forfeit    = credit + 25 % of the stake that such a lease would carry, from the holdback of an unproven class

Money is micro-USD. Slashes are rounded down, forfeits and credits up. The quality score never decides a breach: hours
cluster in outages, so it errs on price and stake only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pricing.errors import PenaltyError
from pricing.sla import SLASHABLE_MINUTES_MIN, credit_micros, judge, refund_micros

PRIOR_GOOD, PRIOR_BAD = 9.5, 0.5
MINUTES_LOST_MAX = 1  # an hour with at most one minute lost counts as good
STAKE_HOURS_MAX = 720
STAKE_FLOOR_DIVISOR = 10  # without the 10 % floor a mature class would stake 0.8 % and every slash were toothless
ENTRY_STAKE_HOURS = 72  # re-checks find a false class within a day
ENTRY_STAKE_MIN_MICROS = 115_000_000

WARNING, SECOND_BREACH, THIRD_BREACH, SEVERE_BREACH, PROOF_FRAUD = 0, 1, 2, 3, 9  # the contract's reason codes
SLASH_BPS = {WARNING: 0, SECOND_BREACH: 500, THIRD_BREACH: 1500, SEVERE_BREACH: 2000, PROOF_FRAUD: 10_000}
SEVERE_AVAILABILITY_PPM = 950_000
PERIOD_CAP_BPS, QUARTER_CAP_BPS = 2500, 5000  # of the node class's stake, per lease period and per 90 days
FORFEIT_BPS = 2500
PROBATION_CAPACITY_BPS, PROBATION_LEASE_HOURS, PROBATION_TIER_MAX = 1000, 24, 1


# --- quality and stake ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def quality_bps(good_hours: int, bad_hours: int) -> int:
    """The quality score in basis points, 1 to 10000, rounded down: 8126 for a class without history."""
    _refuse_negative(good_hours=good_hours, bad_hours=bad_hours)
    from scipy.stats import beta  # a second of every process's start

    quantile = float(beta.ppf(0.05, PRIOR_GOOD + good_hours, PRIOR_BAD + bad_hours))
    return max(1, int(quantile * 10_000))


def is_good_hour(*, billable_minutes: int, excused_minutes: int) -> bool | None:
    """Whether a delivered hour counts as good (True) or bad (False) in the quality score, or not at all (None).

    Bad is an hour of which the provider lost more than one minute; good is one with at most one minute missing whoever
    lost it. `excused_minutes` are unpaid and not its doing: an hour that misses only those tells nothing about it.
    Raises PenaltyError for a negative count or more than 60 minutes.
    """
    _refuse_negative(billable=billable_minutes, excused=excused_minutes)
    missing = 60 - billable_minutes
    if excused_minutes > missing:
        raise PenaltyError("A minute is billed or excused.", billable=billable_minutes, excused=excused_minutes)
    if missing - excused_minutes > MINUTES_LOST_MAX:
        return False
    return True if missing <= MINUTES_LOST_MAX else None


@lru_cache(maxsize=65536)
def bad_hours_ppf(hours: int, good_hours: int, bad_hours: int) -> int:
    """The bad hours that `hours` delivered hours exceed with a chance of 1 % at most, given the history."""
    from scipy.stats import betabinom

    return int(betabinom.ppf(0.99, hours, PRIOR_BAD + bad_hours, PRIOR_GOOD + good_hours))


def stake_micros(*, price_micros: int, units: int, hours: int, good_hours: int, bad_hours: int) -> int:
    """The stake that a lease locks, micro-USD: price per unit-hour, units, its slots, the class's history.

    Monotone in price, units and hours. Raises PenaltyError for a negative argument.
    """
    _refuse_negative(price=price_micros, units=units, hours=hours, good_hours=good_hours, bad_hours=bad_hours)
    counted = min(STAKE_HOURS_MAX, hours)
    value = price_micros * units
    floor = -(-value * counted // STAKE_FLOOR_DIVISOR)
    return max(floor, 3 * value * bad_hours_ppf(counted, good_hours, bad_hours))


def entry_stake_micros(*, reference_price_micros: int, units: int) -> int:
    """The stake of a machine before its first lease: 72 hours of its units at the class's reference price."""
    _refuse_negative(price=reference_price_micros, units=units)
    return ENTRY_STAKE_HOURS * reference_price_micros * units


def entry_stake_of_provider_micros(machines_micros: Sequence[int]) -> int:
    """The entry stakes of all its machines, at least USD 115 per provider."""
    return max(ENTRY_STAKE_MIN_MICROS, sum(machines_micros))


def probation_units(capacity_units: int) -> int:
    """The units a class in PROBATION may sell: 10 % of the measured ones, and one of a class too small for that.

    Without the one unit a small class could never earn the history that ends its probation.
    """
    return min(capacity_units, max(1, capacity_units * PROBATION_CAPACITY_BPS // 10_000))


def exposed_units(
    *, price_micros: int, capacity_units: int, good_hours: int, bad_hours: int, breached_within_90_days: bool,
    holdback_micros: int,
) -> int:  # fmt: skip
    """The units a class in PROBATION may offer at a price; after a breach only those whose further forfeit over 30
    days the holdback carried over from before covers.
    """
    units = probation_units(capacity_units)
    if breached_within_90_days:
        stake = max(1, stake_micros(
            price_micros=price_micros, units=1, hours=STAKE_HOURS_MAX, good_hours=good_hours, bad_hours=bad_hours
        ))  # fmt: skip
        units = min(units, holdback_micros * 10_000 // (stake * FORFEIT_BPS))
    return units


def exposure_cap_micros(
    *,
    standing: str,
    price_micros: int,
    capacity_units: int,
    bonded_micros: int,
    good_hours: int,
    bad_hours: int,
    hours: int = STAKE_HOURS_MAX,
    breached_within_90_days: bool = False,
    holdback_micros: int = 0,
) -> int:
    """The fees that may be committed to a node class at once, micro-USD, rounded down.

    PROVEN: what the bonded stake carries in leases of `hours`. PROBATION: 10 % of the measured capacity in leases of
    24 h; after a breach within 90 days no more units than the holdback carried over could forfeit for, if the next 30
    days were a breach. Any other standing: nothing. Raises PenaltyError for a negative argument.
    """
    _refuse_negative(price=price_micros, units=capacity_units, bonded=bonded_micros, holdback=holdback_micros)

    def stake_of_unit(lease_hours: int) -> int:
        stake = stake_micros(
            price_micros=price_micros, units=1, hours=lease_hours, good_hours=good_hours, bad_hours=bad_hours
        )
        return max(1, stake)

    if standing == "PROVEN":
        return bonded_micros * price_micros * hours // stake_of_unit(hours)
    if standing != "PROBATION":
        return 0
    units = exposed_units(
        price_micros=price_micros, capacity_units=capacity_units, good_hours=good_hours, bad_hours=bad_hours,
        breached_within_90_days=breached_within_90_days, holdback_micros=holdback_micros,
    )  # fmt: skip
    return units * price_micros * PROBATION_LEASE_HOURS


# --- slash and forfeit ---------------------------------------------------------------------------------------------


def slash_kind(*, earlier_breaches: int, availability_ppm: int, fraud: bool = False) -> int:
    """The reason code of a confirmed breach; `earlier_breaches` were confirmed in the 90 days before it.

    0 warns and takes nothing: punishing a first fault hits honest operators.
    """
    _refuse_negative(earlier_breaches=earlier_breaches, availability_ppm=availability_ppm)
    if fraud:
        return PROOF_FRAUD
    if earlier_breaches == 0:
        return WARNING
    if availability_ppm < SEVERE_AVAILABILITY_PPM:
        return SEVERE_BREACH
    return SECOND_BREACH if earlier_breaches == 1 else THIRD_BREACH


def slash_micros(
    *,
    kind: int,
    lease_stake_micros: int,
    class_stake_micros: int,
    slashed_this_period_micros: int = 0,
    slashed_90_days_micros: int = 0,
) -> int:
    """What is taken, micro-USD, rounded down: the kind's share of the lease's stake, within the caps of its class.

    Caps are 25 % of the class's stake per lease period and 50 % per 90 days, both of the stake before they were
    touched; `class_stake_micros` is what stands now. Fraud takes all of it. Raises PenaltyError for an unknown kind.
    """
    _refuse_negative(stake=lease_stake_micros, class_stake=class_stake_micros)
    _refuse_negative(period=slashed_this_period_micros, quarter=slashed_90_days_micros)
    if kind not in SLASH_BPS:
        raise PenaltyError("No such reason for a slash.", kind=kind)
    if kind == PROOF_FRAUD:
        return class_stake_micros
    period_cap = (class_stake_micros + slashed_this_period_micros) * PERIOD_CAP_BPS // 10_000
    quarter_cap = (class_stake_micros + slashed_90_days_micros) * QUARTER_CAP_BPS // 10_000
    wanted = lease_stake_micros * SLASH_BPS[kind] // 10_000
    left = min(period_cap - slashed_this_period_micros, quarter_cap - slashed_90_days_micros, class_stake_micros)
    return max(0, min(wanted, left))


def forfeit_micros(*, credit_micros: int, lease_stake_micros: int, breach: bool, holdback_micros: int) -> int:
    """What an unproven class loses from its holdback, micro-USD: the credit, and on a breach 25 % of the stake that
    such a lease would carry (rounded up), never more than the holdback. There is no free first breach.
    """
    _refuse_negative(credit=credit_micros, stake=lease_stake_micros, holdback=holdback_micros)
    further = -(-lease_stake_micros * FORFEIT_BPS // 10_000) if breach else 0
    return min(credit_micros + further, holdback_micros)


# --- unproven is never cheaper -------------------------------------------------------------------------------------


def starts_to_judge(taken_micros: Sequence[int]) -> list[int]:
    """From which of the trailing leases on they are judged together, by what the case of each has taken before.

    All of them, and those after each lease whose case took something: what it took answered for the term that ended
    with it, and answers for no later one. Else a second term that is broken within the same 30 days costs nothing.
    """
    return [0, *(place for place, micros in enumerate(taken_micros[:-1], start=1) if micros)]


@dataclass(frozen=True)
class ServedLease:
    """One judged lease of an unproven class: money in micro-USD, minutes by verdict."""

    fee_micros: int
    refund_micros: int
    credit_micros: int
    down_minutes: int
    known_minutes: int
    unknown_minutes: int
    breach: bool


@dataclass(frozen=True)
class Owed:
    """What the trailing leases of an unproven class cost its holdback in all."""

    micros: int
    credit_micros: int  # the part that is credit: the leases' own or the span's, whichever is more
    breach: bool  # one lease is in breach, or all of them together
    stake_micros: int  # that one lease over the whole span would carry


def owed_unproven(
    leases: Sequence[ServedLease], *, sla_bps: int, hours: int, good_hours: int, bad_hours: int, holdback_micros: int
) -> Owed:
    """Judge the leases of the trailing 30 days by themselves and as one; the larger counts, and the holdback pays.

    `hours` are the distinct hours that the leases cover, good and bad hours the history before them. A span of less
    than a day is no breach, as a lease of less than a day is none. Leases have one SLA: a promise of 99.0 % is never
    judged by another of 99.9 %. Raises PenaltyError when there are none.
    """
    if not leases or hours < 1:
        raise PenaltyError("A span has at least one lease of an hour.", leases=len(leases), hours=hours)
    fee, refund = sum(lease.fee_micros for lease in leases), sum(lease.refund_micros for lease in leases)
    whole = judge(
        down_minutes=sum(lease.down_minutes for lease in leases),
        known_minutes=sum(lease.known_minutes for lease in leases),
        unknown_minutes=sum(lease.unknown_minutes for lease in leases),
        sla_bps=sla_bps,
    )
    credit = max(
        sum(lease.credit_micros for lease in leases),
        credit_micros(fee, whole.credit_step_bps, refunded_micros=refund),
    )
    breach = any(lease.breach for lease in leases) or (whole.breach and hours * 60 >= SLASHABLE_MINUTES_MIN)
    stake = stake_micros(
        price_micros=-(-fee // hours), units=1, hours=hours, good_hours=good_hours, bad_hours=bad_hours
    )
    micros = forfeit_micros(
        credit_micros=credit, lease_stake_micros=stake, breach=breach, holdback_micros=holdback_micros
    )
    return Owed(micros, credit, breach, stake)


@dataclass(frozen=True)
class Day:
    """One day of a machine under lease, as the probes saw it."""

    down_minutes: int  # by the provider's doing, part of the known ones
    known_minutes: int
    unpaid_minutes: int  # of 1440


@dataclass(frozen=True)
class Trajectory:
    """At most 30 days of one machine, sold without a gap at one price; the span that M-058 compares."""

    days: tuple[Day, ...]
    price_micros: int  # per unit-hour
    units: int
    sla_bps: int
    good_hours: int  # history before the span
    bad_hours: int
    earlier_breaches: int  # confirmed in the 90 days before the span

    def __post_init__(self) -> None:
        if not 1 <= len(self.days) <= 30:
            raise PenaltyError("A trajectory has 1 to 30 days.", days=len(self.days))

    @property
    def fee_of_day_micros(self) -> int:
        return self.price_micros * self.units * 24

    @property
    def stake_micros(self) -> int:
        """The stake that one lease over the whole span carries."""
        return stake_micros(
            price_micros=self.price_micros, units=self.units, hours=24 * len(self.days),
            good_hours=self.good_hours, bad_hours=self.bad_hours,
        )  # fmt: skip


@dataclass(frozen=True)
class LeaseLoss:
    """What one lease over some days loses its provider, whatever the standing."""

    refund_micros: int
    credit_micros: int
    breach: bool
    availability_ppm: int


def lease_loss(trajectory: Trajectory, first: int, last: int) -> LeaseLoss:
    """Refund, credit and test of one lease over days first..last-1."""
    days = trajectory.days[first:last]
    fee = trajectory.fee_of_day_micros * len(days)
    refund = refund_micros(
        fee_micros=fee, unpaid_minutes=sum(day.unpaid_minutes for day in days), period_minutes=1440 * len(days)
    )
    known = sum(day.known_minutes for day in days)
    found = judge(
        down_minutes=sum(day.down_minutes for day in days),
        known_minutes=known,
        unknown_minutes=1440 * len(days) - known,
        sla_bps=trajectory.sla_bps,
    )
    credit = credit_micros(fee, found.credit_step_bps, refunded_micros=refund)
    return LeaseLoss(refund, credit, found.breach, found.availability_ppm)


def loss_proven(trajectory: Trajectory) -> int:
    """What a PROVEN class loses on the span as one lease, micro-USD: refund, credit and slash."""
    whole = lease_loss(trajectory, 0, len(trajectory.days))
    slash = 0
    if whole.breach:
        kind = slash_kind(earlier_breaches=trajectory.earlier_breaches, availability_ppm=whole.availability_ppm)
        stake = trajectory.stake_micros
        slash = slash_micros(kind=kind, lease_stake_micros=stake, class_stake_micros=stake)
    return whole.refund_micros + whole.credit_micros + slash


def loss_unproven(trajectory: Trajectory) -> int:
    """What a class in PROBATION loses on the same span in leases of a day, micro-USD.

    Credits are computed on each lease and on the trailing days, the larger counts; on a breach of either, 25 % of the
    stake of the whole span is forfeited. All of it comes out of the holdback: the whole payout, and, after an earlier
    breach, what `exposure_cap_micros` made the class carry over.
    """
    leases = [_served(trajectory, day) for day in range(len(trajectory.days))]
    refund = sum(lease.refund_micros for lease in leases)
    payout = sum(lease.fee_micros for lease in leases) - refund
    carried = -(-trajectory.stake_micros * FORFEIT_BPS // 10_000) if trajectory.earlier_breaches else 0
    owed = owed_unproven(
        leases, sla_bps=trajectory.sla_bps, hours=24 * len(leases), good_hours=trajectory.good_hours,
        bad_hours=trajectory.bad_hours, holdback_micros=payout + carried,
    )  # fmt: skip
    return refund + owed.micros


def _served(trajectory: Trajectory, day: int) -> ServedLease:
    loss, seen = lease_loss(trajectory, day, day + 1), trajectory.days[day]
    return ServedLease(
        fee_micros=trajectory.fee_of_day_micros, refund_micros=loss.refund_micros, credit_micros=loss.credit_micros,
        down_minutes=seen.down_minutes, known_minutes=seen.known_minutes, unknown_minutes=1440 - seen.known_minutes,
        breach=loss.breach,
    )  # fmt: skip


def _refuse_negative(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise PenaltyError("A count or an amount is never negative.", name=name, value=count)
