"""One deliberate break for every rule that the database keeps about verifiers, roll calls and proofs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection
from django.db.models import F

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from tests.journey import world
from tests.owner import behind_the_triggers

Break = Callable[[], None]


def benchmark(provider: str = "basalt", **columns: Any) -> m.Benchmark:
    """A further benchmark of a class, written directly."""
    row = m.Benchmark.objects.filter(node_class=world.node_class(provider)).latest("epoch")
    row.pk, row.epoch = uuid7(clock.now()), row.epoch + 1
    for name, value in columns.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def seat(**columns: Any) -> m.VerifierSeat:
    facts = {"address": "0x" + "a" * 40, "party": world.party("alder"), "vantage": "ams", "seated_at": clock.now()}
    return m.VerifierSeat.objects.create(**facts | columns)


def attest(party: str) -> None:
    address = seat(party=world.party(party)).address
    m.Attestation.objects.create(benchmark=benchmark(), signer=address, v=27, r=b"", s=b"")


def below(parent: str) -> None:
    """A sibling of basalt attests: both are owned by one party at the top."""
    m.Party.objects.filter(slug__in=("basalt", "elm")).update(parent=world.party(parent))
    attest("elm")


def vantage(**columns: Any) -> None:
    facts = {"benchmark": m.Benchmark.objects.first(), "vantage": "ams", "radius_km": 10}
    m.BenchmarkVantage.objects.create(**facts | columns)


def twice(make: Break) -> None:
    make()
    make()


def roll(**columns: Any) -> m.RollCall:
    at = clock.now()
    facts = {"id": uuid7(at), "owner": world.party("basalt"), "opened_at": at, "closes_at": at + timedelta(minutes=10)}
    return m.RollCall.objects.create(**facts | columns)


def member(of: m.RollCall | None = None, **columns: Any) -> m.RollMember:
    facts = {"roll": of or roll(), "node_class": world.node_class("basalt"), "machines": 40}
    return m.RollMember.objects.create(**facts | columns)


def called_twice() -> None:
    called = roll()
    member(called)
    member(called)


def answer_late() -> None:
    called = roll()
    at = called.closes_at + timedelta(seconds=1)
    m.RollAnswer.objects.create(member=member(called), machines=1, answered_at=at)


def replied(of: m.RollMember | None = None, **columns: Any) -> m.RollMember:
    one = of or member()
    facts = {"member": one, "received_at": clock.now(), "body": b"b", "signature": bytes(64)}
    m.RollReply.objects.create(**facts | columns)
    return one


def reported(of: m.RollMember | None = None, name: str = "alder", **columns: Any) -> m.RollMember:
    one = of or member()
    facts = {"member": one, "verifier": world.party(name), "measured_at": clock.now(), "ops": 10**18,
             "instant": 1 if name == "alder" else 2, "received_at": clock.now(), "body": b"b",
             "signature": bytes(64)}  # fmt: skip
    m.RollReport.objects.create(**facts | columns)
    return one


def reported_twice() -> None:
    reported(reported())


def answered_by_one() -> None:
    one = reported(reported(replied()), "birch", ops=1)
    m.RollAnswer.objects.create(member=one, machines=1, answered_at=clock.now())


def second_unit() -> m.UnitProver:
    """The prover of basalt's second unit."""
    return m.UnitProver.objects.get(node_class=world.node_class("basalt"), number=2)


def answered_for_two(
    *, raw: bool = False, apart_seconds: float = 0, signed: int = 2, seen_twice: bool = True,
    instants: tuple[int, int] = (1, 2),
) -> None:  # fmt: skip
    """Two machines of one class, both at work for a second; the second one so much later than the first."""
    one, at = member(roll(), machines=2), clock.now()
    for place, prover in enumerate((None, second_unit())):
        began = at + timedelta(seconds=place * apart_seconds)
        if place < signed:
            replied(one, prover=prover)
        for name, instant in zip(("alder", "birch")[: 2 if seen_twice or not place else 1], instants, strict=False):
            reported(one, name, prover=prover, measured_at=began, ended_at=began + timedelta(seconds=1),
                     instant=instant)  # fmt: skip
    if not raw:
        m.RollAnswer.objects.create(member=one, machines=2, answered_at=at)
        return
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO marketplace_rollanswer (member_id, machines, answered_at) VALUES (%s, 2, %s)",
                       [one.pk, at])  # fmt: skip


def answered_while_another_was_silent(*, raw: bool = False) -> None:
    """Three names, of which one is silent at each of three instants: two machines could do that."""
    further = m.UnitProver.objects.filter(node_class=world.node_class("basalt"), number__lte=3)
    units = [None, *further.order_by("number")]
    one, at = member(roll(), machines=3), clock.now()
    for prover in units:
        replied(one, prover=prover)
    for place, name in enumerate(("alder", "birch", "verifier-1")):
        for prover in units[:place] + units[place + 1 :]:
            reported(one, name, prover=prover, measured_at=at, ended_at=at + timedelta(seconds=1), instant=place + 1)
    m.RollAnswer.objects.create(member=one, machines=3, answered_at=at)


def heard_of_another_class() -> None:
    reported(member(node_class=world.node_class("granite"), machines=8), prover=second_unit())


def heard_of_a_late_one() -> None:
    with behind_the_triggers():
        m.UnitProver.objects.filter(pk=second_unit().pk).update(enrolled_at=clock.now() + timedelta(seconds=1))
    replied(prover=second_unit())


def challenge(**columns: Any) -> m.Challenge:
    at = clock.now()
    facts = {"id": uuid7(at), "node_class": world.node_class("basalt"), "epoch": 90, "nonce": b"n" * 32, "terms": {},
             "preset": {}, "prover_url": "https://machine", "certificate": "", "token": "t" * 48, "body": b"b",
             "signature": bytes(64), "opened_at": at, "closes_at": at + timedelta(minutes=30)}  # fmt: skip
    return m.Challenge.objects.create(**facts | columns)


def drawn(of: m.Challenge, number: int = 1) -> m.VerifierSeat:
    row = m.VerifierSeat.objects.get(party__slug=f"verifier-{number}")
    m.ChallengeSeat.objects.create(challenge=of, seat=row)
    return row


def transcript(of: m.Challenge, name: bytes = b"t" * 32) -> m.ChallengeTranscript:
    return m.ChallengeTranscript.objects.create(
        transcript_hash=name, challenge=of, transcript=b"{}", received_at=clock.now()
    )


def attested(of: m.Challenge, row: m.VerifierSeat, told: m.ChallengeTranscript, **columns: Any) -> None:
    facts = {"challenge": of, "seat": row, "transcript": told, "v": 27, "r": b"", "s": b"", "received_at": clock.now()}
    m.ChallengeReport.objects.create(**facts | columns)


def attested_twice() -> None:
    one = challenge()
    row, told = drawn(one), transcript(one)
    attested(one, row, told)
    attested(one, row, told)


def attested_by_somebody_else() -> None:
    one = challenge()
    attested(one, m.VerifierSeat.objects.get(party__slug="verifier-1"), transcript(one))


def attested_late() -> None:
    one = challenge()
    attested(one, drawn(one), transcript(one), received_at=one.closes_at)


def attested_by_the_transcript_of_another() -> None:
    one, other = challenge(), challenge(epoch=91, nonce=b"o" * 32)
    attested(one, drawn(one), transcript(other))


def settled_by(reports: int, *, signers: int = 0, epoch: int = 90) -> None:
    """A result of so many reports, and signatures of so many seats under its benchmark."""
    one = challenge(epoch=epoch)
    told, proof = transcript(one), benchmark(epoch=90, transcript_hash=b"t" * 32)
    for number in range(1, reports + 1):
        attested(one, drawn(one, number), told)
    for number in range(1, signers + 1):
        address = m.VerifierSeat.objects.get(party__slug=f"verifier-{number}").pk
        m.Attestation.objects.create(benchmark=proof, signer=address, v=27, r=b"", s=b"")
    m.ChallengeResult.objects.create(challenge=one, benchmark=proof, settled_at=clock.now())


def answered_one_after_the_other() -> None:
    """Two names of one machine: the second was measured when the first was done."""
    called, at = roll(), clock.now()
    one, other = member(called), member(called, node_class=world.node_class("granite"), machines=8)
    for each, from_second in ((one, 0), (other, 1)):
        span = {"measured_at": at + timedelta(seconds=from_second), "ended_at": at + timedelta(seconds=from_second + 1)}
        replied(each)
        for name in ("alder", "birch"):
            reported(each, name, **span)
    m.RollAnswer.objects.create(member=one, machines=1, answered_at=at)


def same_hardware() -> None:
    benchmark("basalt", hw_key_hash=b"h" * 32)
    benchmark("harbour", hw_key_hash=b"h" * 32)


def rise(*, raw: bool = False, **facts: Any) -> None:
    """Harbour did all that is asked for: it is put back into probation with some other facts, and rises again."""
    with behind_the_triggers():
        m.Standing.objects.filter(node_class=world.node_class("harbour")).update(state="PROBATION", **facts)
    if raw:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE marketplace_standing SET state = 'PROVEN' WHERE state = 'PROBATION' AND "
                           "node_class_id = %s", [world.node_class("harbour").pk])  # fmt: skip
        return
    m.Standing.objects.filter(node_class=world.node_class("harbour")).update(state="PROVEN")


def harbours_proofs() -> list[m.Benchmark]:
    return list(m.Benchmark.objects.filter(node_class=world.node_class("harbour")).order_by("epoch"))


def move(proof: m.Benchmark, at: datetime) -> datetime:
    """Let a proof have ended at another moment; returns until when it is valid then."""
    until = proof.valid_until + (at - proof.finished_at)
    with behind_the_triggers():
        m.Benchmark.objects.filter(pk=proof.pk).update(started_at=at, finished_at=at, valid_until=until)
    return until


def rise_too_early(*, raw: bool = False) -> None:
    first, _, baseline = harbours_proofs()[:3]
    early = first.finished_at + timedelta(days=14, seconds=-1)
    rise(raw=raw, proven_at=early, proven_until=move(baseline, early))


def rise_from_an_invented_start(*, raw: bool = False) -> None:
    """The row says that the probation began earlier: no challenge ended then."""
    started = world.node_class("harbour").standing.challenged_at
    rise(raw=raw, challenged_at=started - timedelta(days=30))


def rise_by_two_days(*, raw: bool = False) -> None:
    first, second = harbours_proofs()[:2]
    move(second, first.finished_at + timedelta(seconds=1))
    rise(raw=raw)


def rise_by_a_slow_day(*, raw: bool = False) -> None:
    """On the second of the three days the machines did not reach their class."""
    with behind_the_triggers():
        m.Benchmark.objects.filter(pk=harbours_proofs()[1].pk).update(ops_per_sec=1)
    rise(raw=raw)


def rise_without_a_roll(*, raw: bool = False) -> None:
    """One machine of somebody called with it did not answer."""
    called = m.RollMember.objects.filter(node_class=world.node_class("harbour")).values("roll")
    with behind_the_triggers():
        m.RollAnswer.objects.filter(member__roll__in=called).update(machines=F("machines") - 1)
    rise(raw=raw)


def rise_over_a_fault(*, raw: bool = False) -> None:
    """It was suspended in between, and nobody let its probation start again."""
    standing = world.node_class("harbour").standing
    m.StandingChange.objects.create(
        node_class_id=standing.pk, from_state="PROBATION", to_state="SUSPENDED", actor="foundation:ada",
        reason="two machines under one name", evidence=bytes(32), at=standing.challenged_at + timedelta(days=1),
    )  # fmt: skip
    rise(raw=raw)


def stay_proven_for_longer(*, raw: bool = False) -> None:
    until = world.node_class("harbour").standing.proven_until + timedelta(days=1)
    if raw:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE marketplace_standing SET proven_until = %s WHERE state = 'PROVEN'", [until])
        return
    m.Standing.objects.filter(state="PROVEN").update(proven_until=until)


# The break, as (ORM or SQL) -> None; each of them is tried by both doors.
ENTRY: dict[str, Callable[..., None]] = {
    "proven_has_its_checks_and_baseline": partial(rise, checks_passed=312, checks_failed=0),
    "proven_after_fourteen_days": rise_too_early,
    "proven_by_challenges_on_three_days": rise_by_two_days,
    "proven_by_a_roll_that_all_answered": rise_without_a_roll,
    "proven_without_a_fault_since_its_challenge": rise_over_a_fault,
    "proof_lasts_as_long_as_its_baseline": stay_proven_for_longer,
}
MORE_ENTRY: list[tuple[str, Callable[..., None]]] = [
    *ENTRY.items(),
    ("proven_has_its_checks_and_baseline", partial(rise, checks_passed=310, checks_failed=3)),
    ("proven_has_its_checks_and_baseline", partial(rise, proven_until=datetime(2030, 1, 1, tzinfo=UTC))),
    ("proven_after_fourteen_days", rise_from_an_invented_start),
    ("proven_by_challenges_on_three_days", rise_by_a_slow_day),
    ("challenge_is_reported_by_its_panel", lambda raw=False: attested_late()),
    ("challenge_is_reported_by_its_panel", lambda raw=False: attested_by_the_transcript_of_another()),
    ("challenge_result_rests_on_its_reports", lambda raw=False: settled_by(2, signers=3)),
    ("challenge_result_rests_on_its_reports", lambda raw=False: settled_by(2, epoch=91)),
    ("", lambda raw=False: settled_by(2, signers=2)),
    ("roll_answer_shares_a_moment_with_all", partial(answered_for_two, apart_seconds=0.7)),
    ("roll_answer_rests_on_two_verifiers", partial(answered_for_two, signed=1)),
    ("roll_answer_rests_on_two_verifiers", partial(answered_for_two, seen_twice=False)),
    ("roll_answer_shares_a_moment_with_all", answered_while_another_was_silent),
    ("roll_answer_shares_a_moment_with_all", partial(answered_for_two, instants=(1, 1))),
    ("roll_is_heard_of_called_machines", lambda raw=False: heard_of_a_late_one()),
    ("", partial(answered_for_two, apart_seconds=0.6)),
    ("", rise),
    ("", partial(rise, checks_passed=311, checks_failed=2)),
]


def ask_too_late() -> None:
    case = m.SlashCase.objects.exclude(verdict__breach_at=None).filter(verdict__lease__is_armed=True).first()
    assert case is not None
    with behind_the_triggers():
        m.SlashCase.objects.filter(pk=case.pk).delete()
    case.outcome, case.opened_at = "requested", case.verdict.breach_at + timedelta(days=17, seconds=1)
    case.executable_at = case.executed_at = None
    case.save(force_insert=True)


CONSTRAINTS: dict[str, Break] = {
    "an_organisation_has_one_verifier_seat": lambda: (seat(), seat(address="0x" + "b" * 40), None)[2],
    "verifier_seat_has_a_vantage": lambda: seat(vantage="") and None,
    "a_vantage_tells_one_radius": lambda: twice(vantage),
    "radius_is_no_point": lambda: vantage(radius_km=0),
    "roll_call_is_open_for_a_while": lambda: roll(closes_at=clock.now() - timedelta(days=1)) and None,
    "a_class_is_called_once_in_a_roll": called_twice,
    "a_machine_replies_once_to_a_roll": lambda: replied(replied()) and None,
    "one_roll_report_per_verifier": reported_twice,
    "roll_report_measured_something": lambda: reported(ops=-1) and None,
    "a_challenge_has_its_own_epoch": lambda: (challenge(), challenge(nonce=b"o" * 32), None)[2],
    "a_challenge_nonce_is_used_once": lambda: (challenge(), challenge(epoch=91), None)[2],
    "challenge_is_open_for_a_while": lambda: challenge(closes_at=clock.now() - timedelta(days=1)) and None,
    "a_seat_is_drawn_once": lambda: (one := challenge(), drawn(one), drawn(one), None)[3],
    "a_verifier_reports_a_challenge_once": attested_twice,
    "roll_report_ends_after_it_begins": lambda: reported(ended_at=clock.now() - timedelta(days=1)) and None,
    "roll_member_has_machines": lambda: member(machines=0) and None,
    "benchmark_is_valid_90_days_at_most": lambda: benchmark(
        valid_until=clock.now() + timedelta(days=1000)) and None,
}  # fmt: skip
RULES: dict[str, Break] = {
    "verifier_is_of_another_owner": lambda: below("fjord"),
    "hardware_proves_one_class": same_hardware,
    "roll_is_answered_in_its_span": answer_late,
    "roll_is_heard_in_its_span": lambda: reported(measured_at=clock.now() + timedelta(minutes=11)) and None,
    "roll_is_heard_of_called_machines": heard_of_another_class,
    "roll_answer_rests_on_two_verifiers": answered_by_one,
    "roll_answer_shares_a_moment_with_all": answered_one_after_the_other,
    "challenge_is_reported_by_its_panel": attested_by_somebody_else,
    "challenge_result_rests_on_its_reports": lambda: settled_by(1),
    **ENTRY,
    "slash_is_asked_for_in_time": ask_too_late,
}
