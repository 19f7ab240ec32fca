"""Quality, stake, slash, forfeit, and the proof by trial that staying unproven is never cheaper."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pricing.errors import PenaltyError
from pricing.penalties import (
    PROOF_FRAUD,
    SECOND_BREACH,
    SEVERE_BREACH,
    THIRD_BREACH,
    WARNING,
    Day,
    ServedLease,
    Trajectory,
    entry_stake_micros,
    entry_stake_of_provider_micros,
    exposure_cap_micros,
    forfeit_micros,
    is_good_hour,
    lease_loss,
    loss_proven,
    loss_unproven,
    owed_unproven,
    quality_bps,
    slash_kind,
    slash_micros,
    stake_micros,
    starts_to_judge,
)

DOLLAR = 1_000_000


@pytest.mark.parametrize(("good", "score"), [(0, 0.813), (24, 0.944), (168, 0.989), (720, 0.997)])
def test_the_quality_score_follows_the_delivered_hours(good, score):
    assert quality_bps(good, 0) / 10_000 == pytest.approx(score, abs=6e-4)


@pytest.mark.parametrize(("billable", "excused", "is_good"), [
    (60, 0, True), (59, 0, True), (59, 1, True), (58, 0, False), (58, 1, None), (0, 60, None), (57, 1, False),
    (0, 0, False), (0, 58, False), (0, 59, None),
])  # fmt: skip
def test_an_hour_is_bad_by_what_its_provider_lost_and_says_nothing_where_only_others_lost_it(
    billable, excused, is_good
):
    assert is_good_hour(billable_minutes=billable, excused_minutes=excused) is is_good


def test_a_minute_is_not_billed_and_excused_at_once():
    with pytest.raises(PenaltyError, match="billed or excused"):
        is_good_hour(billable_minutes=59, excused_minutes=2)


def test_a_bad_hour_lowers_the_quality_score_and_never_below_one_point():
    assert quality_bps(100, 1) < quality_bps(100, 0)
    assert quality_bps(0, 100_000) == 1
    with pytest.raises(PenaltyError, match="never negative"):
        quality_bps(-1, 0)


@pytest.mark.parametrize(
    ("good", "bad", "share"), [(0, 0, 0.91), (24, 0, 0.29), (168, 0, 0.10), (311, 2, 0.10)]
)  # shares of the fee
def test_the_stake_of_a_long_lease_shrinks_with_good_history_down_to_a_tenth(good, bad, share):
    stake = stake_micros(price_micros=2 * DOLLAR, units=8, hours=720, good_hours=good, bad_hours=bad)

    assert stake / (2 * DOLLAR * 8 * 720) == pytest.approx(share, abs=0.005)


def test_the_stake_rises_with_price_units_and_hours_and_stops_at_thirty_days():
    def stake(**changes):
        return stake_micros(
            **{"price_micros": 1_000_100, "units": 3, "hours": 24, "good_hours": 9, "bad_hours": 1} | changes
        )

    by_hours = [stake(hours=hours) for hours in range(1, 721)]
    assert by_hours == sorted(by_hours)
    assert stake(hours=1440) == by_hours[719]
    assert stake(units=4) > stake(units=3)
    assert stake(price_micros=1_000_200) > stake()
    with pytest.raises(PenaltyError):
        stake(units=-1)


def test_the_entry_stake_is_three_days_of_price_and_a_floor_per_provider():
    machine = entry_stake_micros(reference_price_micros=250_000, units=8)

    assert machine == 72 * 8 * 250_000
    assert entry_stake_of_provider_micros([]) == 115 * DOLLAR
    assert entry_stake_of_provider_micros([machine]) == 144 * DOLLAR


def test_a_proven_class_may_carry_what_its_stake_carries():
    known = {"price_micros": 2 * DOLLAR, "good_hours": 720, "bad_hours": 0}
    cap = exposure_cap_micros(standing="PROVEN", capacity_units=8, bonded_micros=1000 * DOLLAR, **known)

    assert cap == 10_000 * DOLLAR  # a mature class stakes a tenth
    assert exposure_cap_micros(standing="DEGRADED", capacity_units=8, bonded_micros=1000 * DOLLAR, **known) == 0


def test_a_class_in_probation_carries_a_tenth_of_its_capacity_for_a_day():
    known = {
        "standing": "PROBATION",
        "price_micros": DOLLAR,
        "capacity_units": 40,
        "bonded_micros": 0,
        "good_hours": 0,
        "bad_hours": 0,
    }
    fresh = exposure_cap_micros(**known)
    broke = exposure_cap_micros(**known, breached_within_90_days=True)
    forfeit_of_unit = stake_micros(price_micros=DOLLAR, units=1, hours=720, good_hours=0, bad_hours=0) // 4
    carried = exposure_cap_micros(**known, breached_within_90_days=True, holdback_micros=2 * forfeit_of_unit + 7)

    assert fresh == 4 * 24 * DOLLAR
    assert broke == 0
    assert carried == 2 * 24 * DOLLAR


@pytest.mark.parametrize(
    ("earlier", "availability_ppm", "fraud", "kind"),
    [
        (0, 100_000, False, WARNING),
        (1, 950_000, False, SECOND_BREACH),
        (2, 950_000, False, THIRD_BREACH),
        (7, 980_000, False, THIRD_BREACH),
        (1, 949_999, False, SEVERE_BREACH),
        (2, 0, False, SEVERE_BREACH),
        (0, 1_000_000, True, PROOF_FRAUD),
    ],
)
def test_the_first_breach_warns_and_later_ones_cost_more(earlier, availability_ppm, fraud, kind):
    assert slash_kind(earlier_breaches=earlier, availability_ppm=availability_ppm, fraud=fraud) == kind


@pytest.mark.parametrize(
    ("kind", "taken"),
    [(WARNING, 0), (SECOND_BREACH, 50), (THIRD_BREACH, 150), (SEVERE_BREACH, 200), (PROOF_FRAUD, 9000)],
)
def test_each_reason_takes_its_share_of_the_leases_stake(kind, taken):
    assert slash_micros(kind=kind, lease_stake_micros=1000, class_stake_micros=9000) == taken


def test_a_slash_stays_within_a_quarter_per_period_and_half_per_quarter_year():
    whole = {"kind": SEVERE_BREACH, "lease_stake_micros": 1000}

    assert slash_micros(**whole, class_stake_micros=1000) == 200
    assert slash_micros(**whole, class_stake_micros=800, slashed_this_period_micros=200) == 50
    assert slash_micros(**whole, class_stake_micros=550, slashed_90_days_micros=450) == 50
    assert slash_micros(**whole, class_stake_micros=500, slashed_90_days_micros=500) == 0
    with pytest.raises(PenaltyError, match="No such reason"):
        slash_micros(kind=4, lease_stake_micros=1, class_stake_micros=1)


def test_an_unproven_class_forfeits_its_credit_and_a_quarter_of_the_stake_but_never_more_than_is_held():
    def forfeit(**changes):
        known = {"credit_micros": 30, "lease_stake_micros": 401, "breach": True, "holdback_micros": 1000}
        return forfeit_micros(**known | changes)

    assert forfeit() == 30 + 101
    assert forfeit(breach=False) == 30
    assert forfeit(holdback_micros=99) == 99


# --- M-058 ---------------------------------------------------------------------------------------------------------


def drawn_trajectory(rng: np.random.Generator) -> Trajectory:
    """A span of 1 to 30 days: quiet, flapping, one outage, or rare deep ones; any preset, price and history."""
    count = int(rng.integers(1, 31))
    shape, depth = rng.integers(4), rng.choice([0.001, 0.004, 0.01, 0.03, 0.2, 0.6, 1.0])
    share = np.zeros(count)
    if shape == 1:
        share = rng.random(count) * 2 * depth
    elif shape == 2:
        share[rng.integers(count)] = rng.random() * 0.9
    elif shape == 3:
        share = np.where(rng.random(count) < 0.15, rng.random(count) * depth * 8, 0)
    days = []
    for down_share in np.minimum(1, share):
        known = 1440 - int(rng.integers(0, 200)) * int(rng.random() < 0.2)
        down = min(known, round(1440 * float(down_share)))
        days.append(Day(down, known, unpaid_minutes=min(1440, down + int(rng.integers(0, 30)))))
    return Trajectory(
        days=tuple(days),
        price_micros=int(rng.integers(1, 60_000)) * 100,
        units=int(rng.integers(1, 65)),
        sla_bps=int(rng.choice([9900, 9950, 9990])),
        good_hours=int(rng.integers(0, 2000)),
        bad_hours=int(rng.integers(0, 6)),
        earlier_breaches=int(rng.integers(0, 4)),
    )


def loss_judged_day_by_day(trajectory: Trajectory) -> int:
    """The negative control: an unproven class without rule (a), each lease judged by itself alone."""
    leases = [lease_loss(trajectory, day, day + 1) for day in range(len(trajectory.days))]
    one_day = replace(trajectory, days=trajectory.days[:1]).stake_micros
    return sum(
        lease.refund_micros
        + forfeit_micros(
            credit_micros=lease.credit_micros, lease_stake_micros=one_day, breach=lease.breach, holdback_micros=10**15
        )
        for lease in leases
    )


def test_staying_unproven_is_never_cheaper_over_random_trajectories():
    rng = np.random.default_rng(58)
    slashed = 0
    for _ in range(3000):
        trajectory = drawn_trajectory(rng)
        proven, unproven = loss_proven(trajectory), loss_unproven(trajectory)
        whole = lease_loss(trajectory, 0, len(trajectory.days))

        assert unproven >= proven, trajectory
        assert proven >= whole.refund_micros + whole.credit_micros
        slashed += proven > whole.refund_micros + whole.credit_micros

    assert slashed > 200  # or the trial would have compared credits only


def term(trajectory: Trajectory, first: int, last: int, *, earlier_breaches: int) -> Trajectory:
    """Days first..last-1 as one lease of a proven class, with what the days before have made of its history."""
    before = trajectory.days[:first]
    bad = sum(math.ceil(day.down_minutes / 60) for day in before) * trajectory.units
    good = 24 * len(before) * trajectory.units - bad
    return replace(
        trajectory, days=trajectory.days[first:last], good_hours=trajectory.good_hours + good,
        bad_hours=trajectory.bad_hours + bad, earlier_breaches=earlier_breaches,
    )  # fmt: skip


def served_in(leases: Trajectory) -> list[ServedLease]:
    """Its days as leases of a day each, judged one by one."""
    losses = [lease_loss(leases, day, day + 1) for day in range(len(leases.days))]
    return [
        ServedLease(
            fee_micros=leases.fee_of_day_micros, refund_micros=loss.refund_micros, credit_micros=loss.credit_micros,
            down_minutes=day.down_minutes, known_minutes=day.known_minutes, unknown_minutes=1440 - day.known_minutes,
            breach=loss.breach,
        )
        for loss, day in zip(losses, leases.days, strict=True)
    ]  # fmt: skip


def taken_day_by_day(trajectory: Trajectory, *, starts=starts_to_judge) -> list[int]:
    """What the case of each day takes from an unproven class that sells day by day, its holdback being enough."""
    taken: list[int] = []
    for day in range(len(trajectory.days)):
        first, due = max(0, day - 29), 0
        for start in starts([*taken[first:], 0]):
            part = term(trajectory, first + start, day + 1, earlier_breaches=0)
            owed = owed_unproven(
                served_in(part), sla_bps=part.sla_bps, hours=24 * len(part.days), good_hours=part.good_hours,
                bad_hours=part.bad_hours, holdback_micros=10**18,
            )  # fmt: skip
            due = max(due, owed.micros - sum(taken[first + start :]))
        taken.append(due)
    return taken


def taken_by_terms(trajectory: Trajectory, cut: int) -> int:
    """Credit and slash of a proven class that was warned before and sells the same days in two leases, within caps."""
    total = slashed = breaches = 0
    stake_of_class = 3 * trajectory.fee_of_day_micros * 30
    for first, last in ((0, cut), (cut, len(trajectory.days))):
        lease = term(trajectory, first, last, earlier_breaches=1 + breaches)
        loss = lease_loss(lease, 0, last - first)
        slash = 0
        if loss.breach:
            kind = slash_kind(earlier_breaches=lease.earlier_breaches, availability_ppm=loss.availability_ppm)
            slash = slash_micros(
                kind=kind, lease_stake_micros=lease.stake_micros, class_stake_micros=stake_of_class - slashed,
                slashed_90_days_micros=slashed,
            )  # fmt: skip
        total, slashed, breaches = total + loss.credit_micros + slash, slashed + slash, breaches + loss.breach
    return total


def drawn_terms(rng: np.random.Generator) -> tuple[Trajectory, list[int], int] | None:
    """Two terms of 30 days at most of which the first ends with a lease whose case took something, and what was taken.

    None where no case took anything in the first thirty days.
    """
    span = drawn_trajectory(rng)
    more = drawn_trajectory(rng)
    span = replace(span, days=(*span.days, *more.days)[:30], earlier_breaches=0)
    days = list(span.days)
    days[rng.integers(len(days))] = Day(int(rng.integers(300, 1441)), 1440, 1440)
    span = replace(span, days=tuple(days))
    taken = taken_day_by_day(span)
    cuts = [day + 1 for day, micros in enumerate(taken[:-1]) if micros]
    return (span, taken, int(rng.choice(cuts))) if cuts else None


def test_two_broken_terms_within_thirty_days_never_cost_the_unproven_less():
    """Several cases and several terms: what the first case took does not pay for the second."""
    rng = np.random.default_rng(60)
    second_paid = cheaper_before = tried = 0
    while tried < 60:
        drawn = drawn_terms(rng)
        if drawn is None:
            continue
        span, taken, cut = drawn
        tried += 1
        proven = taken_by_terms(span, cut)

        assert sum(taken) >= proven, (span, cut)
        second_paid += sum(taken[cut:]) > 0
        cheaper_before += sum(taken_day_by_day(span, starts=lambda taken: [0])) < proven

    assert second_paid > 20
    assert cheaper_before > 0  # the negative control: judged as one span alone, a second term could be had for nothing


def test_judging_day_by_day_would_make_it_cheaper():
    rng = np.random.default_rng(59)
    cheaper = 0
    for _ in range(500):
        down = [0] * 30
        down[rng.integers(30)] = int(rng.integers(440, 1296))
        trajectory = Trajectory(
            days=tuple(Day(minutes, 1440, minutes) for minutes in down), price_micros=2 * DOLLAR, units=8, sla_bps=9950,
            good_hours=400, bad_hours=0, earlier_breaches=1,
        )  # fmt: skip

        assert loss_unproven(trajectory) >= loss_proven(trajectory)
        cheaper += loss_judged_day_by_day(trajectory) < loss_proven(trajectory)

    assert cheaper > 400


def test_a_trajectory_has_at_most_thirty_days():
    day = Day(0, 1440, 0)
    known = {"price_micros": 100, "units": 1, "sla_bps": 9900, "good_hours": 0, "bad_hours": 0, "earlier_breaches": 0}

    assert loss_proven(Trajectory(days=(day,) * 30, **known)) == 0
    with pytest.raises(PenaltyError, match="1 to 30 days"):
        Trajectory(days=(day,) * 31, **known)


@pytest.mark.parametrize(("hours", "breach"), [(12, False), (24, True)])
def test_two_half_days_side_by_side_are_no_day_that_could_be_in_breach(hours, breach):
    half = ServedLease(
        fee_micros=12 * DOLLAR, refund_micros=0, credit_micros=0, down_minutes=400, known_minutes=720,
        unknown_minutes=0, breach=False,
    )  # fmt: skip
    owed = owed_unproven(
        [half, half], sla_bps=9_900, hours=hours, good_hours=100, bad_hours=0, holdback_micros=100 * DOLLAR
    )

    assert owed.breach is breach
