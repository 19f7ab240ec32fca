"""Verdicts of minutes, words of slots, and what is billable."""

import itertools

import numpy as np
import pytest

from pricing.errors import MeteringError
from pricing.metering import (
    DOWN,
    FULL_WORD,
    UNKNOWN,
    UP,
    count_minutes,
    count_verdicts,
    judge_minutes,
    judge_slots,
    pack,
    reconcile,
    unpack,
)


def verdict_of(reports: str) -> int:
    """The rule in words, one minute: "+" good, "-" failed, "0" void."""
    valid = [report for report in reports if report != "0"]
    if len(valid) < 2:
        return UNKNOWN
    return DOWN if valid.count("-") >= 2 / 3 * len(valid) else UP


@pytest.mark.parametrize(
    ("reports", "verdict"),
    [
        ("+++", UP), ("++-", UP), ("+--", DOWN), ("---", DOWN), ("++0", UP), ("+-0", UP), ("--0", DOWN),
        ("+00", UNKNOWN), ("-00", UNKNOWN), ("000", UNKNOWN), ("---++", UP), ("----+", DOWN),
    ],
)  # fmt: skip
def test_a_minute_is_down_when_two_thirds_of_two_valid_reports_fail(reports, verdict):
    valid = np.array([[report != "0"] for report in reports])
    failed = np.array([[report == "-"] for report in reports])

    assert judge_minutes(valid, failed)[0] == verdict


def test_what_a_void_report_says_is_not_read():
    valid = np.array([[True], [True], [False]])

    assert judge_minutes(valid, np.array([[True], [False], [True]]))[0] == UP


@pytest.mark.parametrize("verifiers", [2, 3, 4, 5, 7])
def test_the_verdicts_of_many_minutes_equal_the_rule_minute_by_minute(verifiers):
    cases = np.array(list(itertools.islice(itertools.product("+-0", repeat=verifiers), 3**7))).T

    verdicts = judge_minutes(cases != "0", cases == "-")

    assert verdicts.tolist() == [verdict_of("".join(case)) for case in cases.T]


def reports_of(*verifiers: list[int]) -> np.ndarray:
    """Minutes that each verifier calls down, as bool [verifiers, 1 slot, 60]."""
    return np.array([[np.isin(np.arange(60), minutes)] for minutes in verifiers])


def test_a_verifier_that_stands_alone_in_more_than_six_minutes_is_not_heard_in_that_slot():
    everybody = np.ones((3, 1, 60), bool)
    liar, mistaken = reports_of(list(range(60)), [7], []), reports_of(list(range(6)), [3], [])

    assert (judge_slots(everybody, liar) == UP).all()  # without the rule minute 7 would be down
    assert judge_minutes(everybody, liar)[0, 7] == DOWN
    assert judge_slots(everybody, mistaken)[0].tolist() == [UP] * 3 + [DOWN] + [UP] * 56


def test_a_verifier_that_alone_sees_no_outage_saves_nobody():
    everybody, blind = np.ones((3, 1, 60), bool), reports_of(list(range(30)), list(range(30)), [])

    assert (judge_slots(everybody, blind)[0, :30] == DOWN).all()
    assert (judge_slots(everybody, blind)[0, 30:] == UP).all()


def test_without_liars_slots_are_judged_as_their_minutes():
    rng = np.random.default_rng(7)
    shared = rng.random((400, 60)) < 0.3
    valid = rng.random((3, 400, 60)) < 0.9

    assert (judge_slots(valid, np.broadcast_to(shared, valid.shape)) == judge_minutes(valid, np.broadcast_to(
        shared, valid.shape))).all()
    with pytest.raises(MeteringError):
        judge_slots(valid[..., :59], valid[..., :59])


def test_tens_of_thousands_of_slots_are_judged_at_once():
    rng = np.random.default_rng(1)
    valid, failed = rng.random((3, 30_000, 60)) < 0.95, rng.random((3, 30_000, 60)) < 0.1

    verdicts = judge_minutes(valid, failed)
    counts = count_verdicts(verdicts)

    assert verdicts.shape == (30_000, 60)
    assert (counts.up + counts.down + counts.unknown == 60).all()
    assert (count_minutes(pack(verdicts == DOWN)) == counts.down).all()


def test_reports_of_unlike_shapes_are_refused():
    with pytest.raises(MeteringError) as refusal:
        judge_minutes(np.ones((3, 60), bool), np.ones((3, 61), bool))
    assert refusal.value.code == "metering_error"


def test_words_hold_sixty_minutes_and_lose_none():
    minutes = np.random.default_rng(2).random((1000, 60)) < 0.5
    words = pack(minutes)

    assert words.dtype == np.int64
    assert (unpack(words) == minutes).all()
    assert (count_minutes(words) == minutes.sum(axis=1)).all()
    assert pack(np.ones(60, bool)) == FULL_WORD
    assert pack(np.arange(60) == 59) == 1 << 59


@pytest.mark.parametrize("word", [-1, 1 << 60, 0.5])
def test_a_word_with_bits_beyond_the_hour_is_refused(word):
    assert unpack(FULL_WORD).all()
    with pytest.raises(MeteringError):
        unpack(word)
    with pytest.raises(MeteringError):
        pack(np.ones(61, bool))


FULL = FULL_WORD


@pytest.mark.parametrize(
    ("provider", "probes", "known", "buyer", "billable", "held", "disagreed"),
    [
        (1, 1, 1, None, 1, 0, 0),
        (1, 0, 1, None, 0, 1, 1),
        (0, 1, 1, None, 0, 1, 1),
        (0, 0, 1, None, 0, 0, 0),
        (1, 0, 0, None, 0, 1, 0),  # nobody else saw it: held until there is a witness
        (0, 0, 0, None, 0, 0, 0),
        (1, 1, 1, 1, 1, 0, 0),
        (1, 1, 1, 0, 0, 1, 1),
        (1, 0, 1, 1, 0, 1, 1),
        (0, 1, 1, 1, 0, 1, 1),
        (1, 0, 0, 1, 1, 0, 0),  # the buyer's counter-reading stands in for the probes
        (1, 0, 0, 0, 0, 1, 1),
        (0, 0, 1, 0, 0, 0, 0),
    ],
)
def test_the_lowest_report_is_billed_and_the_rest_held_or_unpaid(
    provider, probes, known, buyer, billable, held, disagreed
):
    found = reconcile(provider_up=provider, probes_up=probes, probes_known=known, buyer_up=buyer)

    assert (int(found.billable) & 1, int(found.held) & 1) == (billable, held)
    assert int(found.disagreed_minutes) == disagreed


def test_billed_held_and_unpaid_fill_the_hour_and_no_source_is_passed():
    rng = np.random.default_rng(3)
    provider, probes, known, buyer = (pack(rng.random((40_000, 60)) < share) for share in (0.97, 0.95, 0.98, 0.96))

    for counter_reading in (None, buyer):
        found = reconcile(provider_up=provider, probes_up=probes, probes_known=known, buyer_up=counter_reading)

        assert ((found.billable ^ found.held ^ found.unpaid) == FULL).all()
        assert (found.billable & found.held == 0).all()
        assert (found.billable & found.unpaid == 0).all()
        assert (found.billable & ~provider == 0).all()
        assert (found.billable & known & ~probes == 0).all()
        if counter_reading is not None:
            assert (found.billable & ~counter_reading == 0).all()
        assert (found.billable_minutes == count_minutes(found.billable)).all()


@pytest.mark.parametrize(("minutes_alone", "verdict"), [(6, DOWN), (7, UP)])
def test_a_verifier_alone_in_more_than_six_minutes_of_a_slot_is_not_heard_in_any_of_them(minutes_alone, verdict):
    valid, failed = np.ones((3, 1, 60), bool), np.zeros((3, 1, 60), bool)
    failed[0, 0, :minutes_alone] = True
    failed[:2, 0, 59] = True  # two of three, one of whom may not be heard

    assert judge_slots(valid, failed)[0, 59] == verdict
