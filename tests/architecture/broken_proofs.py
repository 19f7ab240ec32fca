"""One deliberate break for every rule that the database keeps about verifiers, roll calls and proofs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection

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
    m.RollAnswer.objects.create(
        member=member(called), machines=40, answered_at=clock.now(),
        benchmark=benchmark(started_at=called.opened_at, finished_at=called.closes_at + timedelta(seconds=1)),
    )  # fmt: skip


def same_hardware() -> None:
    benchmark("basalt", hw_key_hash=b"h" * 32)
    benchmark("harbour", hw_key_hash=b"h" * 32)


def rise_without_checks() -> None:
    standing = m.Standing.objects.get(node_class=world.node_class("basalt"))
    with behind_the_triggers():
        m.Standing.objects.filter(pk=standing.pk).update(
            state="PROBATION", proven_at=clock.now(), proven_until=clock.now(), checks_passed=312, checks_failed=0
        )
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS proven_has_its_checks_and_baseline IMMEDIATE")
    m.Standing.objects.filter(pk=standing.pk).update(state="PROVEN")


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
    "roll_member_has_machines": lambda: member(machines=0) and None,
    "benchmark_is_valid_90_days_at_most": lambda: benchmark(
        valid_until=clock.now() + timedelta(days=1000)) and None,
}  # fmt: skip
RULES: dict[str, Break] = {
    "verifier_is_of_another_owner": lambda: below("fjord"),
    "hardware_proves_one_class": same_hardware,
    "roll_is_answered_in_its_span": answer_late,
    "proven_has_its_checks_and_baseline": rise_without_checks,
    "slash_is_asked_for_in_time": ask_too_late,
}
