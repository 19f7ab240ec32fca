"""One secret second for all verifiers, and a failure known in less than two probe intervals."""

from collections import Counter

import numpy as np
import pytest

from pricing.errors import MeteringError
from pricing.health import (
    INTERVAL_SECONDS,
    ProbeReport,
    accepted,
    after_extra_probe,
    after_heartbeat,
    after_round,
    after_silence,
    commitment_of,
    is_revealed,
    panel_of,
    probe_second,
    retry_after_seconds,
)
from pricing.metering import DOWN, judge_minutes

SECRET = bytes(range(32))
ANCHORS = (True, True, True)


def report(**changes: object) -> ProbeReport:
    facts = {"anchors_ok": ANCHORS, "clock_skew_seconds": 0.0, "echo_ok": True, "port_ok": True, "devices_seen": 8}
    return ProbeReport(**facts | changes)


# --- the secret ----------------------------------------------------------------------------------------------------


def test_a_secret_is_committed_before_its_day_and_shown_after_it():
    commitment = commitment_of(SECRET, day="2026-11-27")

    assert is_revealed(SECRET, day="2026-11-27", commitment=commitment)
    assert not is_revealed(SECRET, day="2026-11-28", commitment=commitment)
    assert not is_revealed(SECRET[::-1], day="2026-11-27", commitment=commitment)
    with pytest.raises(MeteringError):
        commitment_of(b"short", day="2026-11-27")


def test_seconds_are_spread_evenly_over_the_minute_and_unlike_between_machines():
    seconds = [probe_second(SECRET, machine="a", minute=minute) for minute in range(1440)]
    others = [probe_second(SECRET, machine="b", minute=minute) for minute in range(1440)]

    counts = Counter(seconds)
    assert sorted(counts) == list(range(60))
    assert sum((counts[second] - 24) ** 2 / 24 for second in range(60)) < 98  # chi-squared, 59 degrees: p = .001
    assert sum(one == other for one, other in zip(seconds, others, strict=True)) < 60
    with pytest.raises(MeteringError):
        probe_second(SECRET, machine="a", minute=1440)


def test_one_shared_instant_calls_a_flapping_minute_down_no_more_often_than_it_was_down():
    rng = np.random.default_rng(1)
    minutes, share = 60_000, 0.7
    valid = np.ones((3, minutes), bool)
    shared = np.broadcast_to(rng.random((1, minutes)) < share, valid.shape)
    own = rng.random(valid.shape) < share

    assert (judge_minutes(valid, shared) == DOWN).mean() == pytest.approx(share, abs=0.01)
    assert (judge_minutes(valid, own) == DOWN).mean() > share + 0.05  # the trap: 3u^2 - 2u^3


def test_a_retry_comes_after_5_to_15_seconds():
    waits = {retry_after_seconds(SECRET, machine="a", minute=m, seat=s) for m in range(200) for s in range(3)}

    assert waits == set(range(5, 16))


def test_a_panel_has_three_organisations_and_never_the_owners():
    organisations = [f"org{n}" for n in range(9)]
    panels = [panel_of(bytes([day] * 32), machine="a", organisations=organisations, owner="org0") for day in range(200)]

    assert all(len(set(panel)) == 3 and "org0" not in panel for panel in panels)
    assert len({name for panel in panels for name in panel}) == 8
    with pytest.raises(MeteringError):
        panel_of(SECRET, machine="a", organisations=["org0", "org1", "org2"], owner="org0")


# --- a report ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [{"anchors_ok": (True, False, True)}, {"clock_skew_seconds": 2.1},
                                    {"clock_skew_seconds": -2.1}])  # fmt: skip
def test_a_verifier_without_its_anchors_or_its_time_proves_nothing(broken):
    assert report().is_valid()
    assert report(clock_skew_seconds=2.0).is_valid()
    assert not report(**broken).is_valid()


@pytest.mark.parametrize("broken", [{"echo_ok": False}, {"port_ok": False}, {"devices_seen": 7}])
def test_a_missing_echo_workload_or_device_is_a_failure(broken):
    assert not report().has_failed(devices_leased=8)
    assert report(**broken).has_failed(devices_leased=8)


# --- the automaton -------------------------------------------------------------------------------------------------


def known_after(fails_at: float, rng: np.random.Generator) -> float:
    """Seconds from the loss of one of 8 devices, hidden by a lying agent, until FAILED by probes alone."""
    health = accepted(0.0)
    for minute in range(10):
        at = 60 * minute + int(rng.integers(60))
        failed = sum(report(devices_seen=7 if at >= fails_at else 8).has_failed(devices_leased=8) for _ in range(3))
        health = after_round(health, valid=3, failed=failed, at=at)
        health = after_heartbeat(health, devices=8, devices_leased=8, at=at)  # it says all is well
        if not health.is_billed:
            assert health.state == "FAILED"
            return at - fails_at
    raise AssertionError("never found")


def test_one_of_eight_devices_lost_is_known_in_less_than_two_intervals_and_billing_stops():
    rng = np.random.default_rng(8)
    waits = [known_after(float(rng.uniform(60, 240)), rng) for _ in range(3000)]

    assert max(waits) < 2 * INTERVAL_SECONDS
    assert np.mean(waits) < INTERVAL_SECONDS


def test_an_honest_agents_own_word_pauses_billing_at_once_and_the_extra_probe_decides():
    suspect = after_heartbeat(accepted(0.0), devices=7, devices_leased=8, at=15.0)

    assert (suspect.state, suspect.is_billed) == ("SUSPECT", False)
    assert after_extra_probe(suspect, failed=True, at=20.0).state == "FAILED"
    assert after_extra_probe(suspect, failed=False, at=20.0).state == "HEALTHY"
    assert after_extra_probe(accepted(0.0), failed=True, at=20.0).state == "HEALTHY"  # nobody asked for it


def test_two_missed_heartbeats_are_a_suspicion_and_one_is_not():
    beating = after_heartbeat(accepted(0.0), devices=8, devices_leased=8, at=100.0)

    assert after_silence(beating, at=129.9).state == "HEALTHY"
    assert after_silence(beating, at=130.0).state == "SUSPECT"
    assert after_silence(accepted(0.0), at=1e9).state == "HEALTHY"  # it never promised to beat


def test_one_network_error_ends_nothing():
    suspect = after_round(accepted(0.0), valid=3, failed=1, at=60.0)

    assert suspect.state == "SUSPECT"
    assert after_round(suspect, valid=3, failed=0, at=120.0).state == "HEALTHY"
    assert after_round(suspect, valid=1, failed=0, at=120.0).state == "SUSPECT"  # nobody was able to see


def test_a_failed_machine_is_billed_again_after_three_good_minutes_in_a_row():
    health = after_round(accepted(0.0), valid=3, failed=3, at=60.0)
    for minute, failed in enumerate((0, 0, 1, 0, 0), start=2):
        health = after_round(health, valid=3, failed=failed, at=60.0 * minute)
        assert health.state == "FAILED"
    health = after_round(health, valid=3, failed=2, at=420.0)
    for minute in (8, 9, 10):
        assert not health.is_billed
        health = after_round(health, valid=3, failed=0, at=60.0 * minute)

    assert (health.state, health.since) == ("HEALTHY", 600.0)
    with pytest.raises(MeteringError):
        after_round(health, valid=1, failed=2, at=1.0)
