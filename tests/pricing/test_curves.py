"""Stated curves: a planted premium comes back, noise stays inside the interval about as often as it should."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.curves import Pair, added_up, check_curve, reach, stated_premium, worth_micros
from pricing.errors import EstimateError
from pricing.samples import published

PPM = 1_000_000


def planted(buyers: int, premium_ppm: int, noise_ppm: int = 0, seed: int = 1) -> list[Pair]:
    """Pairs of curves with a premium, the same for all, or drawn around it evenly by buyer."""
    rng = random.Random(seed)
    pairs = []
    for number in range(buyers):
        factor = premium_ppm + rng.randint(-noise_ppm, noise_ppm)
        for _ in range(rng.randint(1, 3)):
            plain, price = [], 100 * rng.randint(10_000, 40_000)
            for _ in range(rng.randint(1, 8)):
                plain.append((price, rng.randint(1, 40)))
                price = max(10_000, price - 10_000 * rng.randint(0, 20))
            plain = [(p // 10_000 * 10_000, u) for p, u in plain]
            dear = tuple((p * (PPM + factor) // PPM // 100 * 100, u) for p, u in plain)
            pairs.append(Pair(f"buyer-{number}", dear, tuple(plain), rng.randint(1, 168)))
    return pairs


def test_a_planted_premium_of_24_percent_comes_back_exactly():
    found = stated_premium(planted(12, 240_000), buyers_min=3)

    assert found is not None
    assert (found.premium_ppm, found.low_ppm, found.high_ppm) == (240_000, 240_000, 240_000)
    assert found.buyers == 12
    assert found.pairs == len(planted(12, 240_000))


def test_a_premium_drawn_around_24_percent_is_found_with_an_interval_around_it():
    found = stated_premium(planted(60, 240_000, noise_ppm=100_000), buyers_min=3)

    assert found is not None
    assert 215_000 < found.premium_ppm < 265_000
    assert found.low_ppm < found.premium_ppm < found.high_ppm
    assert 10_000 < found.high_ppm - found.low_ppm < 60_000
    assert found == stated_premium(reversed(planted(60, 240_000, noise_ppm=100_000)), buyers_min=3)


def test_the_interval_holds_the_planted_premium_about_as_often_as_it_says():
    found = [stated_premium(planted(40, 240_000, 100_000, seed), buyers_min=3) for seed in range(100)]

    held = sum(f is not None and f.low_ppm <= 240_000 <= f.high_ppm for f in found)
    assert 85 <= held <= 100  # 95 of 100 is meant; a bootstrap over 40 holds a little less


def test_fewer_buyers_than_asked_for_have_no_premium():
    pairs = planted(2, 240_000)

    assert stated_premium(pairs, buyers_min=3) is None
    assert stated_premium([], buyers_min=3) is None
    assert stated_premium(planted(3, 240_000), buyers_min=3) is not None


def test_only_the_units_that_both_curves_reach_are_compared():
    pair = [Pair(f"b{n}", ((2_000_000, 4),), ((1_600_000, 2), (100, 98)), 1) for n in range(3)]
    short = [Pair(f"b{n}", ((2_000_000, 2),), ((1_600_000, 2), (100, 98)), 1) for n in range(3)]

    assert stated_premium(pair, buyers_min=3).premium_ppm > 1_400_000
    assert stated_premium(short, buyers_min=3).premium_ppm == 250_000


@given(st.lists(st.tuples(st.integers(1, 10**5).map(lambda n: 100 * n), st.integers(1, 1_000)), min_size=1, max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_worth_grows_with_units_and_never_faster_than_before(steps):
    curve = check_curve(sorted(steps, reverse=True))
    whole = reach(curve)

    worths = [worth_micros(curve, n) for n in range(0, whole + 1, max(1, whole // 20))]
    gains = [b - a for a, b in pairwise(worths)]
    assert worths[0] == 0
    assert gains == sorted(gains, reverse=True)
    assert worth_micros(curve, whole + 5) == sum(p * u for p, u in curve)
    assert sum(hours for _, hours, _ in added_up([(curve, 3, "b")])) == 3 * whole


@pytest.mark.parametrize(("steps", "step", "words"), [
    ([], 0, "1 to 8 steps"), ([(100, 1)] * 9, 9, "1 to 8 steps"), ([(100, 1), (200, 1)], 2, "falls or stays"),
    ([(150, 1)], 1, "tick"), ([(0, 1)], 1, "tick"), ([(1.0, 1)], 1, "tick"), ([(100, 0)], 1, "units"),
    ([(100, 2**20 + 1)], 1, "units"), ([(100, True)], 1, "tick"), ([(200, 2**20), (100, 1)], 2, "at most"),
])  # fmt: skip
def test_a_curve_that_cannot_be_is_refused_at_its_step(steps, step, words):
    with pytest.raises(EstimateError, match=words) as refusal:
        check_curve(steps)

    assert (refusal.value.facts["field"], refusal.value.facts["step"]) == ("curve", step)
    assert check_curve([(200, 1), (200, 2), (100, 3)]) == ((200, 1), (200, 2), (100, 3))


# -- what may be published ---------------------------------------------------------------------------------------------


def rows(n: int, buyers: int) -> list[tuple[str, int, int]]:
    return [(f"b{i % buyers}", 100 + i, 1_000) for i in range(n)]


def test_a_claim_is_refused_one_below_its_n_and_made_at_it():
    below, at, narrow = (published(rows(n, b), n_min=30, buyers_min=3) for n, b in ((29, 3), (30, 3), (30, 2)))

    assert (below.is_published, narrow.is_published, at.is_published) == (False, False, True)
    for refused in (below, narrow):
        assert (refused.share_ppm, refused.low_ppm, refused.high_ppm, refused.quartiles_ppm) == (None,) * 4
    assert (below.n, below.buyers, narrow.buyers) == (29, 3, 2)
    assert at.share_ppm == sum(100 + i for i in range(30)) * PPM // 30_000
    assert at.low_ppm <= at.share_ppm <= at.high_ppm
    assert at.quartiles_ppm == (107_000, 115_000, 122_000)
    assert "bootstrap" in at.method


def test_a_loss_is_told_like_a_saving_and_a_basis_of_nothing_is_refused():
    dearer = published([(f"b{i}", -50, 1_000) for i in range(30)], n_min=30, buyers_min=3)

    assert (dearer.share_ppm, dearer.low_ppm, dearer.high_ppm) == (-50_000, -50_000, -50_000)
    with pytest.raises(EstimateError):
        published([("b", 1, 0)], n_min=1, buyers_min=1)
