"""Only what the provider caused costs the provider (M-046)."""

import pytest

from pricing.attribution import MaintenanceNotice, MinuteEvidence, attribute, is_paid, maintenance_minutes
from pricing.errors import MeteringError

HOUR = 60


def minute(**changes: object) -> MinuteEvidence:
    facts = {"valid_reports": 3, "vantages_without_anchors": 0, "echo_ok": False}
    return MinuteEvidence(**facts | changes)


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        ({}, "PROVIDER"),
        ({"valid_reports": 2, "vantages_without_anchors": 1}, "PROVIDER"),
        ({"valid_reports": 1, "vantages_without_anchors": 2}, "NETWORK"),
        ({"valid_reports": 1, "vantages_without_anchors": 0}, "UNKNOWN"),
        ({"echo_ok": True, "buyer_stopped": True}, "BUYER"),
        ({"echo_ok": False, "buyer_stopped": True}, "PROVIDER"),  # the machine is gone: the buyer cannot be asked
        ({"echo_ok": True, "buyer_stopped": False}, "PROVIDER"),
        ({"force_majeure_signers": ("ada", "bob")}, "FORCE_MAJEURE"),
        ({"force_majeure_signers": ("ada", "ada")}, "PROVIDER"),
        ({"is_maintenance": True, "valid_reports": 0}, "MAINT"),
    ],
)
def test_a_bad_minute_has_the_cause_that_its_evidence_shows(evidence, cause):
    assert attribute(minute(**evidence)) == cause


def test_bad_minutes_are_unpaid_but_for_the_buyers_own_and_announced_work():
    assert [is_paid(cause) for cause in ("PROVIDER", "BUYER", "NETWORK", "FORCE_MAJEURE", "MAINT", "UNKNOWN")] == [
        False, True, False, False, True, False,
    ]  # fmt: skip


def test_maintenance_is_announced_72_hours_ahead_or_it_is_an_outage():
    in_time, late = MaintenanceNotice(0, 72 * HOUR, 73 * HOUR), MaintenanceNotice(1, 72 * HOUR, 73 * HOUR)

    assert maintenance_minutes([in_time]) == set(range(72 * HOUR, 73 * HOUR))
    assert maintenance_minutes([late]) == set()


def test_maintenance_excuses_four_hours_a_month_and_one_span_at_a_time():
    first, second = MaintenanceNotice(-9000, 0, 180), MaintenanceNotice(-9000, 1000, 1120)

    excused = maintenance_minutes([second, first])

    assert excused == set(range(180)) | set(range(1000, 1060))
    with pytest.raises(MeteringError, match="at a time"):
        maintenance_minutes([first, MaintenanceNotice(-9000, 179, 200)])
    with pytest.raises(MeteringError):
        maintenance_minutes([MaintenanceNotice(-9000, 10, 10)])


def test_signed_for_the_network_and_for_the_buyer_it_is_the_one_that_pays_less():
    two = ("ann", "ben")

    assert attribute(MinuteEvidence(3, 0, False, network_signers=two, buyer_signers=two)) == "NETWORK"
    assert attribute(MinuteEvidence(3, 0, False, network_signers=("ann",), buyer_signers=two)) == "BUYER"


@pytest.mark.parametrize(("lost", "cause"), [(0, "UNKNOWN"), (1, "UNKNOWN"), (2, "NETWORK"), (3, "NETWORK")])
def test_a_minute_nobody_could_see_is_the_networks_when_two_vantages_lost_their_anchors(lost, cause):
    assert attribute(MinuteEvidence(valid_reports=1, vantages_without_anchors=lost, echo_ok=False)) == cause
