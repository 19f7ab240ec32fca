"""Around a proof: who may attest, hardware once, all machines at once, the way to PROVEN, renewal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from ledger.rails.signer import signer
from marketplace import clock
from marketplace import models as m
from marketplace.delivery.rolls import settle_roll
from marketplace.demo.machines import verifier_roles
from marketplace.demo.rolls import answer_for_all
from marketplace.environment import BadSetting, Quorum, env_quorum
from marketplace.errors import BadInput, DeviceTaken, ProofRefused, ReferenceReused
from marketplace.parties.services import register_party, set_owner
from marketplace.supply.rolls import call_the_roll, is_whole, whole_roll_since
from marketplace.supply.selectors import renewal_from
from marketplace.supply.standing import advance_standing, fifth_percentile, record_checks
from marketplace.supply.verifiers import panel_for, seat_verifier
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.marketplace.test_supply import prove

pytestmark = pytest.mark.stage("bidding")


def signatures(*addresses: str) -> list[tuple[str, int, bytes, bytes]]:
    return [(address, 27, b"", b"") for address in addresses]


def seats() -> list[str]:
    return [signer().address(role) for role in verifier_roles()]


# --- who attests -----------------------------------------------------------------------------------------------------
def test_a_quorum_is_a_setting_of_more_than_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEST_QUORUM", "5/7")
    assert env_quorum("ATTEST_QUORUM", default="2/3") == Quorum(5, 7)
    monkeypatch.delenv("ATTEST_QUORUM")
    assert str(env_quorum("ATTEST_QUORUM", default="2/3")) == "2 of 3"
    for bad in ("5", "1/3", "3/7", "8/7", "6/10", "a/b", "-2/3", "2/3/4"):
        monkeypatch.setenv("ATTEST_QUORUM", bad)
        with pytest.raises(BadSetting, match="ATTEST_QUORUM"):
            env_quorum("ATTEST_QUORUM", default="2/3")


def test_a_benchmark_needs_as_many_verifiers_as_the_setting_says(settings: object) -> None:
    settings.ATTEST_QUORUM = Quorum(5, 7)  # type: ignore[attr-defined]
    five = [f"0x{number}" for number in range(5)]
    with refused(ProofRefused, needed=5, got=4):
        prove(signatures=signatures(*five[:4]))

    assert prove(signatures=signatures(*five)).attestations.count() == 5


def test_outside_a_demo_only_seated_verifiers_attest(settings: object) -> None:
    settings.DEMO = False  # type: ignore[attr-defined]
    with refused(ProofRefused, unseated=["0x1"]):
        prove(signatures=signatures("0x1", seats()[0]))

    assert prove(signatures=signatures(*seats()[:2])).attestations.count() == 2


def test_a_verifier_of_the_provider_s_own_owner_never_sits() -> None:
    sprout = world.party("sprout")
    house = register_party(slug="house", name="House", kind="enterprise", country="IT", parent_country="IT",
                           now=clock.now())  # fmt: skip
    verifier = m.Party.objects.get(slug="verifier-1")
    assert len(panel_for(world.node_class("sprout"))) == 3
    set_owner(party=sprout, parent=house, actor="foundation:ada", now=clock.now())
    set_owner(party=verifier, parent=house, actor="foundation:ada", now=clock.now())

    with refused(ProofRefused, own=[seats()[0]]):
        prove(signatures=signatures(*seats()[:2]))
    assert seats()[0] not in [seat.address for seat in panel_for(world.node_class("sprout"))]
    made = prove(signatures=signatures(*seats()[1:]))
    with pytest.raises(IntegrityError, match="verifier_is_of_another_owner"), transaction.atomic():
        m.Attestation.objects.create(benchmark=made, signer=seats()[0], v=27, r=b"", s=b"")


def test_a_panel_with_too_few_independent_seats_does_not_sit() -> None:
    m.VerifierSeat.objects.filter(address__in=seats()[:2]).update(retired_at=clock.now())

    with refused(ProofRefused, needed=2, got=1):
        panel_for(world.node_class("sprout"))
    with refused(ProofRefused, retired=[seats()[0]]):
        prove(signatures=signatures(seats()[0], seats()[2]))


def test_a_seat_is_given_once_and_to_verifiers_alone() -> None:
    verifier, address = m.Party.objects.get(slug="verifier-1"), seats()[0]
    now = clock.now()
    with untouched():
        assert seat_verifier(party=verifier, address=address, vantage="demo desk 1", now=now).address == address
    with refused(ReferenceReused, field="address"):
        seat_verifier(party=verifier, address="0x" + "1" * 40, vantage="ams", now=now)
    with refused(BadInput, field="party"):
        seat_verifier(party=world.party("alder"), address="0x" + "1" * 40, vantage="ams", now=now)
    with refused(BadInput, field="address"):
        seat_verifier(party=verifier, address="0x1", vantage="ams", now=now)


# --- hardware, gap, validity -----------------------------------------------------------------------------------------
def prove_with(provider: str, epoch: int, **measured: object) -> m.Benchmark:
    import tests.marketplace.test_supply as supply

    plain = supply.Measured
    try:
        supply.Measured = lambda **facts: plain(**facts | measured)  # type: ignore[assignment, misc]
        return prove(provider, epoch=epoch)
    finally:
        supply.Measured = plain  # type: ignore[misc]


def test_one_piece_of_hardware_proves_one_class() -> None:
    assert prove_with("sprout", 1, hw_key_hash=b"h" * 32).hw_key_hash == b"h" * 32
    assert prove_with("sprout", 2, hw_key_hash=b"h" * 32)
    with refused(DeviceTaken, field="hw_key_hash"):
        prove_with("basalt", 9, hw_key_hash=b"h" * 32)
    with refused(BadInput, field="hw_key_hash"):
        prove_with("basalt", 9, hw_key_hash=bytes(32))

    assert prove_with("basalt", 9, hw_key_hash=None).hw_key_hash is None
    assert prove_with("harbour", 9).hw_key_hash is None  # unattested is nobody's


def test_the_gap_between_claim_and_proof_is_kept() -> None:
    row = prove("sprout", share_percent=90)

    assert (row.claimed_class, row.measured_class, row.ops_gap_bps) == ("H100", "H100", -1000)
    assert (row.mem_gap_bps, row.mem_rate_gap_bps) == (0, 0)


def test_memory_below_the_class_is_no_proof_of_it_and_unmeasured_memory_is_neither() -> None:
    reference = world.node_class("sprout").resource_class
    short = prove_with("sprout", 1, mem_bytes=reference.mem_bytes * 89 // 100)
    assert short.measured_class != "H100"
    assert short.mem_gap_bps in (-1101, -1100)
    silent = prove_with("sprout", 2, mem_bytes=0, mem_bytes_per_sec=0)
    assert (silent.measured_class, silent.mem_gap_bps) == ("H100", None)


def test_a_proof_is_valid_90_days_at_most() -> None:
    now = clock.now()
    with refused(ProofRefused):
        prove(valid_until=now + timedelta(days=90))  # it was finished a minute ago

    assert prove(valid_until=now + timedelta(days=89, hours=23))


# --- all machines at once --------------------------------------------------------------------------------------------
def test_the_roll_calls_siblings_of_one_owner_together() -> None:
    now = clock.now()
    set_owner(party=world.party("harbour"), parent=world.party("basalt"), actor="foundation:ada", now=now)
    roll = call_the_roll(party=world.party("harbour"), now=now)

    called = {member.node_class.party.slug: member.machines for member in roll.members.all()}
    assert called == {"basalt": 40, "harbour": 16}
    with untouched():
        assert call_the_roll(party=world.party("basalt"), now=now + timedelta(minutes=9)) == roll
    assert call_the_roll(party=world.party("basalt"), now=now + timedelta(minutes=10)) != roll


def answer(roll: m.RollCall) -> None:
    """Each machine that is called signs, and two verifiers see all of them at work together."""
    verifiers = [world.party("verifier-1"), world.party("verifier-2")]
    codes = {member.node_class_id: member.node_class.party.slug for member in roll.members.all()}
    answer_for_all(roll, codes=codes, verifiers=verifiers, at=clock.now())


def test_a_roll_is_whole_when_every_machine_of_every_sibling_answered() -> None:
    now = clock.now()
    set_owner(party=world.party("harbour"), parent=world.party("basalt"), actor="foundation:ada", now=now)
    roll = call_the_roll(party=world.party("basalt"), now=now - timedelta(minutes=5))
    assert not is_whole(roll.pk)

    answer(roll)

    assert is_whole(roll.pk)
    answers = m.RollAnswer.objects.filter(member__roll=roll).order_by("-machines")
    assert [(row.member.node_class.party.slug, row.machines) for row in answers] == [("basalt", 40), ("harbour", 16)]
    with untouched():
        settle_roll(roll.pk, now)


def test_one_machine_that_does_not_answer_leaves_the_roll_open() -> None:
    now = clock.now()
    set_owner(party=world.party("harbour"), parent=world.party("basalt"), actor="foundation:ada", now=now)
    sold = m.UnitProver.objects.filter(node_class=world.node_class("harbour"), number=16)
    sold.update(retired_at=now - timedelta(hours=1), retired_for="sold")
    roll = call_the_roll(party=world.party("basalt"), now=now - timedelta(minutes=5))

    answer(roll)

    answered = m.RollAnswer.objects.filter(member__roll=roll)
    assert [row.member.node_class.party.slug for row in answered] == ["basalt"]
    assert not is_whole(roll.pk)


# --- the way to PROVEN, and staying there ----------------------------------------------------------------------------
def ripe_basalt() -> m.NodeClass:
    """Basalt with its checks and its baseline: the journey gave it two challenges and a whole roll before."""
    basalt = world.node_class("basalt")
    record_checks(node_class=basalt, passed=313, failed=0, now=clock.now())
    prove("basalt", epoch=9, kind=2)
    return basalt


def test_with_all_that_is_asked_for_a_class_is_proven_at_its_lowest_score() -> None:
    basalt = ripe_basalt()

    assert advance_standing(node_class=basalt, now=clock.now()) == "PROVEN"
    scores = m.Benchmark.objects.filter(node_class=basalt).values_list("ops_per_sec", flat=True)
    assert world.node_class("basalt").standing.proven_ops_per_sec == min(scores)


def test_without_a_roll_that_all_machines_answered_nobody_is_proven() -> None:
    basalt = ripe_basalt()
    since = world.node_class("basalt").standing.challenged_at
    assert whole_roll_since(basalt, since) is not None
    # The same path with a probation that began after the roll: everything else is there.
    began = clock.now() - timedelta(days=14, hours=1)
    m.Standing.objects.filter(node_class=basalt).update(challenged_at=began)
    for epoch, at in ((20, began), (21, began + timedelta(days=5))):
        mark = prove("basalt", epoch=epoch)
        m.Benchmark.objects.filter(pk=mark.pk).update(started_at=at, finished_at=at)
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    now = clock.now()
    roll = call_the_roll(party=basalt.party, now=now - timedelta(minutes=5))
    prove("basalt", epoch=22)
    answer(roll)

    assert advance_standing(node_class=basalt, now=now) == "PROVEN"


def test_a_baseline_of_a_second_before_day_14_ends_no_probation() -> None:
    basalt = ripe_basalt()
    mark = m.Benchmark.objects.get(node_class=basalt, epoch=9)
    standing = m.Standing.objects.filter(node_class=basalt)
    ripe_at = standing.get().challenged_at + timedelta(days=14)
    early = ripe_at - timedelta(seconds=1)
    m.Benchmark.objects.filter(pk=mark.pk).update(started_at=early, finished_at=early)
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    m.Benchmark.objects.filter(pk=mark.pk).update(started_at=ripe_at, finished_at=ripe_at)
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROVEN"


def test_challenges_on_two_days_are_not_three() -> None:
    basalt = ripe_basalt()
    middle = m.Benchmark.objects.get(node_class=basalt, epoch=2)
    first = m.Benchmark.objects.get(node_class=basalt, epoch=1)
    real = (middle.started_at, middle.finished_at)
    m.Benchmark.objects.filter(pk=middle.pk).update(
        started_at=first.started_at + timedelta(seconds=9), finished_at=first.finished_at + timedelta(seconds=9),
        valid_until=first.valid_until,
    )  # fmt: skip
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"

    m.Benchmark.objects.filter(pk=middle.pk).update(started_at=real[0], finished_at=real[1])
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROVEN"


def test_where_memory_is_asked_for_a_baseline_without_it_proves_nothing(settings: object) -> None:
    settings.PROOF_NEEDS_MEMORY = True  # type: ignore[attr-defined]
    basalt = ripe_basalt()
    assert advance_standing(node_class=basalt, now=clock.now()) == "PROBATION"  # memory, but no place

    mark = m.Benchmark.objects.get(node_class=basalt, epoch=9)
    m.BenchmarkVantage.objects.create(benchmark=mark, vantage="ams", radius_km=120)

    assert advance_standing(node_class=basalt, now=clock.now()) == "PROVEN"


def test_a_proof_is_renewed_from_day_60_on_and_not_before() -> None:
    harbour = world.node_class("harbour")
    proven_at, until = harbour.standing.proven_at, harbour.standing.proven_until
    assert renewal_from(harbour) == proven_at + timedelta(days=60)
    mark = prove("harbour", epoch=9, kind=2)
    for days, is_called, renewed in ((61, False, False), (59, True, False), (61, True, True)):
        if is_called and whole_roll_since(harbour, proven_at) is None:
            answer(call_the_roll(party=harbour.party, now=clock.now() - timedelta(minutes=5)))
        at = proven_at + timedelta(days=days)
        m.Benchmark.objects.filter(pk=mark.pk).update(
            started_at=at, finished_at=at, valid_until=at + timedelta(days=90)
        )
        assert advance_standing(node_class=harbour, now=at + timedelta(hours=1)) == "PROVEN"
        assert (world.node_class("harbour").standing.proven_until > until) is renewed

    assert advance_standing(node_class=harbour, now=until) == "PROVEN"
    assert advance_standing(node_class=harbour, now=proven_at + timedelta(days=151, hours=1)) == "PROBATION"


def test_the_fifth_percentile_is_the_nearest_rank() -> None:
    assert fifth_percentile([]) == 0
    assert fifth_percentile([7, 3, 5]) == 3
    assert fifth_percentile(range(1, 101)) == 5
