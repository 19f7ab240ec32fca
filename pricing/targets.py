r"""Typed SLA targets: what may be promised beside availability, when a promise is broken, and what that credits.

    latency     the echo of at least 50 / 95 / 99 % of the minutes came within so many milliseconds
    throughput  at least 95 % of the re-checks lay within so much of the proven score, above or below
    start-by    the first good minute came at most so many bad minutes after the start
    notice      whatever minutes a maintenance cost, it was announced so many hours ahead
    repair      no failure lasted more bad minutes than so many

A minute's latency is the median of its panel's echo times, a check's throughput the median of its panel's first
tries; one verifier decides neither. Shares are tested as downtime is: broken iff missed > k(n), k = binom.isf(5e-5,
n, p0), with p0 the share that the promise allows. Given what really happened the missed ones are a sum of independent
Bernoulli variables of mean at most n p0, so the bound holds however bursty the slow minutes were [Hoeffding 1956].
The other three are counts of minutes that the probes saw, one of which may have been seen wrongly. A minute that
nobody knows, and one that was not the provider's doing, is never missed, never ends a failure and never begins one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from pricing.errors import SlaError
from pricing.sla import FALSE_BREACH_RATE, FALSE_DOWN_RATE

Outcome = Literal["kept", "broken", "unknown"]
GOOD, DOWN, MAINTAINED, UNSEEN = "u", "d", "m", "?"  # a minute: good, the provider's failure, its maintenance, neither
GOOD_MINUTES_TO_REPAIR = 3  # in a row, as health asks for; one good minute between two bad ones is no repair
# A good minute is called down once in 50,000 (FALSE_DOWN_RATE). So a failure of exactly the promised length would be
# called too long once in some 7,000 times, for the seven good minutes at its edges and before its repair; two false
# ones beside it come once in 1e8.
MISSEEN_MINUTES = 1
NO_ECHO_MS = 3_000  # what a probe that waited in vain counts for, when its retry was answered
ONE_BPS = 10_000
CHECK_HOURS = 6


@dataclass(frozen=True)
class Target:
    """One line of the closed menu."""

    name: str  # what, in which unit, and whether the bound is a most or a least
    words: str
    unit: str
    menu: tuple[int, ...]  # the bounds that can be promised, the strictest first
    credit_bps: int  # of the period's fee: once for a share, for each event of the others
    missed_bps_max: int = 0  # of a share: how much of it a kept promise may miss

    @property
    def is_share(self) -> bool:
        """Whether it is tested over a period rather than event by event."""
        return self.missed_bps_max > 0


MENU: tuple[Target, ...] = (
    Target("latency_p50_ms_max", "Latency, half of the minutes", "ms", (5, 10, 20, 50, 100, 250), 1000, 5000),
    Target("latency_p95_ms_max", "Latency, 95 % of the minutes", "ms", (5, 10, 20, 50, 100, 250), 1000, 500),
    Target("latency_p99_ms_max", "Latency, 99 % of the minutes", "ms", (10, 20, 50, 100, 250, 500), 1000, 100),
    Target("throughput_spread_bps_max", "Throughput, 95 % of the checks", "bps", (1000, 2000, 3000), 1000, 500),
    Target("start_by_minutes_max", "First good minute", "minutes", (5, 15, 30, 60), 1000),
    Target("notice_hours_min", "Notice of a maintenance", "hours", (168, 120, 96, 72), 500),
    Target("repair_minutes_max", "Repair of one failure", "minutes", (15, 30, 60, 240), 500),
)
TARGETS: Mapping[str, Target] = {target.name: target for target in MENU}
PERCENTILES = ("latency_p50_ms_max", "latency_p95_ms_max", "latency_p99_ms_max")


def bound_words(target: Target, bound: int) -> str:
    """A bound as people read it: `at most 20 ms`, `within 10 % of the proven score`."""
    if target.unit == "bps":
        return f"within {bound / 100:g} % of the proven score"
    return f"{'at least' if target.name.endswith('_min') else 'at most'} {bound} {target.unit}"


# --- what is promised ----------------------------------------------------------------------------------------------


def check_menu(targets: Mapping[str, int]) -> None:
    """Refuse what is not on the menu. Raises SlaError naming the target, and the bounds it can have."""
    for name, bound in targets.items():
        if name not in TARGETS:
            raise SlaError("There is no such target.", rule="no_such_target", target=str(name)[:60],
                           known=list(TARGETS))  # fmt: skip
        if type(bound) is not int or bound not in TARGETS[name].menu:
            raise SlaError(f"{TARGETS[name].words} is one of {_menu_of(name)}.", rule="off_the_menu", target=name,
                           menu=list(TARGETS[name].menu))  # fmt: skip


def check_targets(targets: Mapping[str, int], *, hours: int) -> None:
    """Refuse targets that contradict one another, or that nothing in so many hours could ever show to be broken.

    Raises SlaError with the `rule`: `no_such_target`, `off_the_menu`, `percentiles_rise`, `start_within_the_lease`,
    `repair_within_the_lease`, `too_short_to_judge`.
    """
    check_menu(targets)
    bounds = [(name, targets[name]) for name in PERCENTILES if name in targets]
    for (lower, least), (higher, most) in pairwise(bounds):
        if least > most:
            raise SlaError(f"{TARGETS[lower].words} cannot be promised within {least} ms while more of the minutes come"
                           f" within {most} ms.", rule="percentiles_rise", target=higher)  # fmt: skip
    for name, rule in (("start_by_minutes_max", "start_within_the_lease"),
                       ("repair_minutes_max", "repair_within_the_lease")):  # fmt: skip
        if targets.get(name, 0) >= 60 * hours:
            raise SlaError(f"{TARGETS[name].words} {targets[name]} minutes says nothing of a lease of {hours} h.",
                           rule=rule, target=name)  # fmt: skip
    for name in targets:
        samples = _samples(name, hours)
        if TARGETS[name].is_share and allowed(name, samples) >= samples:
            raise SlaError(f"{TARGETS[name].words}: in {hours} h there is too little to judge it by.",
                           rule="too_short_to_judge", target=name)  # fmt: skip


def _menu_of(name: str) -> str:
    return f"{', '.join(map(str, TARGETS[name].menu))} {TARGETS[name].unit}"


def _samples(name: str, hours: int) -> int:
    return hours // CHECK_HOURS if name.startswith("throughput") else 60 * hours


def meets(offered: Mapping[str, int], asked: Mapping[str, int]) -> bool:
    """Whether an offer promises at least what is asked: every target asked for, with a bound as strict or stricter."""
    return all(
        name in offered and (offered[name] <= bound if name.endswith("_max") else offered[name] >= bound)
        for name, bound in asked.items()
    )


# --- shares: latency and throughput --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShareJudgement:
    """What came of a share over one period."""

    outcome: Outcome
    missed: int
    known: int
    allowed: int  # k(n): the most that is no breach


@lru_cache(maxsize=65536)
def allowed(name: str, known: int) -> int:
    """k(n): how many of `known` minutes or checks a kept promise may miss. Raises SlaError for no share or count."""
    target = TARGETS.get(name)
    if target is None or not target.is_share or known < 0:
        raise SlaError("Only a share has a number that it may miss.", target=name, known=known)
    if known == 0:
        return 0
    from scipy.stats import binom  # a second of every process's start

    return int(binom.isf(FALSE_BREACH_RATE, known, target.missed_bps_max / ONE_BPS + FALSE_DOWN_RATE))


def judge_share(name: str, *, missed: int, known: int) -> ShareJudgement:
    """Judge a share: broken beyond k(n), unknown where even missing all of what is known would prove nothing.

    Raises SlaError for impossible counts.
    """
    if not 0 <= missed <= known:
        raise SlaError("What was missed is part of what is known.", missed=missed, known=known)
    most = allowed(name, known)
    outcome: Outcome = "unknown" if most >= known else "broken" if missed > most else "kept"
    return ShareJudgement(outcome, missed, known, most)


def is_certainly_broken(name: str, *, missed: int, period: int) -> bool:
    """Whether a running period has missed more than its whole could excuse: then nothing that comes can mend it."""
    return missed > allowed(name, period)


def median_ms(echoes: Iterable[int]) -> int | None:
    """The latency of a minute: the median of its echo times, the lower one of two; None of fewer than two."""
    heard = sorted(echoes)
    return heard[(len(heard) - 1) // 2] if len(heard) >= 2 else None


def percentile(samples: Sequence[int], *, share_bps: int) -> int | None:
    """The least sample that so much of all samples do not exceed; None of none. Raises SlaError for no share."""
    if not 0 < share_bps <= ONE_BPS:
        raise SlaError("A percentile is a share of the samples.", share_bps=share_bps)
    return sorted(samples)[-(-len(samples) * share_bps // ONE_BPS) - 1] if samples else None


def strays(*, ops: int, proven_ops: int, spread_bps: int) -> bool:
    """Whether a check lies further from the proven score than promised. Whoever has become faster proves it anew."""
    if proven_ops < 1 or ops < 0:
        raise SlaError("A check is compared with a proven score.", ops=ops, proven_ops=proven_ops)
    return abs(ops - proven_ops) * ONE_BPS > spread_bps * proven_ops


# --- events: start, repair, notice ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Late:
    """One event that broke a promise. Minutes are counted from the start of the lease."""

    first_minute: int
    last_minute: int  # of what was seen of it so far
    certain_minute: int  # with which it had lasted longer than promised
    bad_minutes: int


def late_start(minutes: str, *, bound: int) -> tuple[Outcome, Late | None]:
    """Whether the first good minute came too late; `minutes` has one letter for each since the start.

    Unknown while none was good and the bad ones are not too many yet: what nobody saw does not count.
    """
    begun = minutes.find(GOOD)
    before = minutes if begun < 0 else minutes[:begun]
    bad = [place for place, letter in enumerate(before) if letter == DOWN]
    most = bound + MISSEEN_MINUTES
    if len(bad) > most:
        return "broken", Late(0, bad[-1], bad[most], len(bad))
    return ("unknown" if begun < 0 else "kept"), None


def failures(minutes: str) -> list[list[int]]:
    """The bad minutes of each failure, in order of time.

    A failure begins after the first good minute (before it the lease has not started) and ends with the third good one
    in a row. Minutes nobody knows are passed over.
    """
    found: list[list[int]] = []
    bad: list[int] = []
    good = 0
    for place in range(minutes.find(GOOD) if GOOD in minutes else len(minutes), len(minutes)):
        letter = minutes[place]
        if letter == DOWN:
            good = 0
            bad.append(place)
        elif letter == GOOD:
            good += 1
            if good == GOOD_MINUTES_TO_REPAIR:
                found.append(bad)
                bad = []
    return [bad for bad in [*found, bad] if bad]


def long_failures(minutes: str, *, bound: int) -> list[Late]:
    """The failures of more than `bound` bad minutes, and one more that may have been seen wrongly."""
    most = bound + MISSEEN_MINUTES
    return [Late(bad[0], bad[-1], bad[most], len(bad)) for bad in failures(minutes) if len(bad) > most]


@dataclass(frozen=True)
class Notice:
    """A maintenance as announced; minutes from the start of the lease, negative before it."""

    announced_minute: int
    first_minute: int
    end_minute: int


def short_notices(minutes: str, notices: Iterable[Notice], *, bound_hours: int) -> list[Late]:
    """The maintenances that were announced too late and did cost minutes of the lease.

    One that cost nothing breaks nothing, so to announce is never worse than to keep silent about what then happens; one
    minute may have been seen wrongly.
    """
    found = []
    for notice in notices:
        first = max(0, notice.first_minute)
        lost = [place for place in range(first, min(notice.end_minute, len(minutes)))
                if minutes[place] in (DOWN, MAINTAINED)]  # fmt: skip
        if len(lost) > MISSEEN_MINUTES and notice.first_minute - notice.announced_minute < 60 * bound_hours:
            found.append(Late(first, lost[-1], lost[0], len(lost)))
    return sorted(found, key=lambda late: late.first_minute)
