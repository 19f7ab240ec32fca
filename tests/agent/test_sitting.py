"""Verifiers that meet at the machine: nobody's clock runs late, nobody's part is left out, nobody speaks twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from marketplace.agent.attestation import LocalKey
from marketplace.agent.errors import OutOfTurn
from marketplace.agent.prover import LocalProver
from marketplace.agent.sitting import Meeting, seat_token, sit, steps_of
from marketplace.agent.verifier import Verifier
from pricing.errors import MalformedProof, NonceRefused, PricingError, ProofRefused, SweepRefused
from pricing.proof import PRESETS
from pricing.transcript import Transcript, joint_nonce, score_of, verify_again

pytestmark = pytest.mark.usefixtures("unhurried")

PRESET = replace(PRESETS["demo"], size=256, products=2, blocks=2, rows_opened=8)
KEYS = sorted((LocalKey(bytes([n]) * 32) for n in (1, 2, 3)), key=lambda key: key.address)
SEATS = [key.address for key in KEYS]


class Seat:
    """A prover as one seat reaches it; `change` may alter what the machine tells this seat."""

    def __init__(
        self, meeting: Meeting, prover: LocalProver, seat: str, change: Callable[..., Any] | None, seconds_then: float
    ) -> None:
        self._meeting, self._prover, self._seat, self._change = meeting, prover, seat, change
        self._seconds_then = seconds_then
        self.backend, self.machine_key = "", b""

    def meet(self, step: str, said: Any) -> dict[str, Any]:
        told = dict(self._meeting.say(self._seat, step, said))
        if step == "reveal":  # all have said theirs: from here on nobody waits longer than this
            self._meeting._seconds_max = self._seconds_then
        return self._change(step, told, SEATS.index(self._seat)) if self._change else told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prover, name)


def session(
    change: Callable[..., Any] | None = None, *, prover: LocalProver | None = None, seconds_then: float = 60
) -> list[Any]:
    """What each of three verifiers ends with: a transcript, or its refusal."""
    prover = prover or LocalProver("float32")
    meeting = Meeting(prover, preset=PRESET, binding=b"b", seats=SEATS, seconds_max=60)

    def one(key: LocalKey) -> Any:
        try:
            seat: Any = Seat(meeting, prover, key.address, change, seconds_then)
            return sit(Verifier(key), seat, preset=PRESET, binding=b"b", seats=SEATS, machine_key=prover.machine_key)
        except (PricingError, OutOfTurn) as error:
            return error

    with ThreadPoolExecutor(len(KEYS)) as threads:
        return list(threads.map(one, KEYS))


def test_three_verifiers_end_with_one_transcript_that_anybody_can_check() -> None:
    ends = session()

    assert all(isinstance(each, Transcript) for each in ends), ends
    assert len({each.to_bytes() for each in ends}) == 1
    assert score_of(ends[0]).accepted == len(SEATS)
    assert verify_again(ends[0].to_bytes(), entropy=bytes(32)).ops_per_second == score_of(ends[0]).ops_per_second


@pytest.mark.parametrize(("at", "refusal"), [("block/1", NonceRefused), ("sweep", SweepRefused)])
def test_a_nonce_made_without_ones_own_part_is_refused_by_that_verifier(at: str, refusal: type[ProofRefused]) -> None:
    def swap(step: str, told: dict[str, Any], place: int) -> dict[str, Any]:
        if step == at and place == 2:
            other = "00" * 32 if at != "sweep" else {"part": "00" * 32, "rtt_max_ns": 1}
            told["said"] = [*told["said"][:2], other]
        return told

    ends = session(swap)

    assert isinstance(ends[2], refusal)
    assert at != "sweep" or "without this verifier's part" in str(ends[2])
    assert [score_of(each).accepted for each in ends[:2]] == [2, 2]  # the others go on without it
    assert ends[0].to_bytes() == ends[1].to_bytes()


@pytest.mark.parametrize("step", ["block/0", "sweep"])
def test_who_is_told_other_roots_or_parts_than_the_rest_signs_nothing_that_they_sign(step: str) -> None:
    def lie(at: str, told: dict[str, Any], place: int) -> dict[str, Any]:
        if at == step and place == 0:
            told["said"] = [told["said"][0], told["said"][2], told["said"][1]]
        return told

    ends = session(lie)

    assert isinstance(ends[0], ProofRefused) or ends[0].to_bytes() != ends[1].to_bytes()
    assert ends[1].to_bytes() == ends[2].to_bytes()


def test_a_changed_share_is_refused() -> None:
    def lie(step: str, told: dict[str, Any], place: int) -> dict[str, Any]:
        if step == "reveal" and place == 1:
            told["said"] = [told["said"][0], told["said"][1], "11" * 32]
        return told

    ends = session(lie, seconds_then=0.5)
    assert isinstance(ends[1], NonceRefused)
    assert all(isinstance(each, OutOfTurn) for each in (ends[0], ends[2]))  # they wait for it in vain


def test_a_sweep_that_is_shorter_than_twenty_round_trips_is_refused_by_all() -> None:
    class Brief(LocalProver):
        def sweep(self, nonce: bytes, passes: int) -> tuple[bytes, ...]:
            return super().sweep(nonce, 1)

    ends = session(prover=Brief("float32"))

    assert [str(each) for each in ends] == ["A sweep lasts twenty round trips."] * len(SEATS)


def test_a_witness_speaks_for_its_own_seat_alone() -> None:
    def swap(step: str, told: dict[str, Any], place: int) -> dict[str, Any]:
        if step == "witness" and place == 0:
            told["said"] = [told["said"][0], told["said"][2], told["said"][1]]
        return told

    ends = session(swap)

    assert isinstance(ends[0], MalformedProof)
    assert ends[0].facts == {"seat": SEATS[1]}
    assert ends[1].to_bytes() == ends[2].to_bytes()


def _swapped_stamps(one: dict[str, Any]) -> None:
    one["nonce_ns"], one["root_ns"] = one["root_ns"], one["nonce_ns"]


def _other_rows(one: dict[str, Any]) -> None:
    one["openings"] = one["openings"][::-1]


def _a_late_read(one: dict[str, Any]) -> None:
    *read, _ = one["measures"]["reads"][0]
    one["measures"] |= {"reads": [[*read, 10**12], *one["measures"]["reads"][1:]]}


def _a_forged_echo(one: dict[str, Any]) -> None:
    nonce, _, rtt_ns = one["measures"]["echoes"][0]
    one["measures"] |= {"echoes": [[nonce, "00" * 64, rtt_ns], *one["measures"]["echoes"][1:]]}


@pytest.mark.parametrize("spoil", [_swapped_stamps, _other_rows, _a_late_read, _a_forged_echo])
def test_what_does_not_hold_is_left_out_of_every_verifiers_transcript(spoil: Callable[[dict[str, Any]], None]) -> None:
    def spoiled(step: str, told: dict[str, Any], place: int) -> dict[str, Any]:
        if step == "witness" and place:
            one = dict(told["said"][0])
            if "measures" in one:
                one["measures"] = dict(one["measures"])
            spoil(one)
            told["said"] = [one, *told["said"][1:]]
        return told

    ends = session(spoiled)

    assert ends[1].to_bytes() == ends[2].to_bytes()
    assert [each.has_accepted for each in ends[1].witnesses] == [False, True, True]


def test_a_seat_says_one_thing_in_each_step_in_order_and_nobody_else_speaks() -> None:
    prover = LocalProver("float32")
    meeting = Meeting(prover, preset=PRESET, binding=b"b", seats=SEATS[:1], seconds_max=0.05)
    assert steps_of(PRESET) == ("commit", "reveal", "block/0", "block/1", "sweep", "read", "witness")
    with pytest.raises(OutOfTurn):
        meeting.say(SEATS[0], "block/0", "ab" * 32)
    with pytest.raises(OutOfTurn):
        meeting.say(SEATS[1], "commit", "ab" * 32)
    with pytest.raises(OutOfTurn):
        meeting.say(SEATS[0], "lunch", "ab" * 32)
    meeting.say(SEATS[0], "commit", "ab" * 32)
    assert meeting.say(SEATS[0], "commit", "ab" * 32) == {"said": ["ab" * 32]}
    with pytest.raises(OutOfTurn):
        meeting.say(SEATS[0], "commit", "cd" * 32)
    with pytest.raises(PricingError):
        meeting.say(SEATS[0], "reveal", "not hex")


def test_a_verifier_that_stays_away_ends_the_session_for_the_others() -> None:
    meeting = Meeting(LocalProver("float32"), preset=PRESET, binding=b"b", seats=SEATS, seconds_max=0.05)
    with pytest.raises(OutOfTurn) as refusal:
        meeting.say(SEATS[0], "commit", "ab" * 32)
    assert refusal.value.facts == {"step": "commit", "came": 1}
    assert meeting.is_silent  # the machine need not keep its processors free for it any longer
    assert not Meeting(LocalProver("float32"), preset=PRESET, binding=b"b", seats=SEATS).is_silent


def test_nobody_opens_rows_while_another_still_reads() -> None:
    acts: list[str] = []

    class Noted(LocalProver):
        def read(self, block: int, row: int) -> Any:
            acts.append("read")
            return super().read(block, row)

        def open_rows(self, block: int, rows: Any, *, advice: bool = True) -> Any:
            acts.append("open")
            return super().open_rows(block, rows, advice=advice)

    ends = session(prover=Noted("float32"))

    assert all(isinstance(each, Transcript) for each in ends), ends
    assert "read" not in acts[acts.index("open") :]


def test_the_word_of_a_seat_and_a_joint_nonce_are_of_all_that_made_them() -> None:
    assert seat_token("s", SEATS[0]) != seat_token("s", SEATS[1])
    assert joint_nonce([b"a", b"b"]) != joint_nonce([b"b", b"a"]) != joint_nonce([b"ab"])
