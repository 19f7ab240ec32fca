"""A panel of verifiers in programs of their own, and the machine that they meet at.

    verifier                                       machine
    commit   hash of its share of the seed    ->   waits for all, tells all hashes
    reveal   its share                        ->   waits for all, tells all shares, starts the chain
    echo, 20 times                            ->   signs at once
    block/b  its part of the nonce            ->   waits for all, computes, tells all parts and both roots
    sweep    its part, its longest echo       ->   waits for all, reads its memory, tells all parts and the digests
    sums, read: its own secret rows           ->   answers at once
    read     has read                         ->   waits for all: opening rows would make another's reads late
    open     its own secret rows              ->   answers at once
    witness  its stamps and openings          ->   waits for all, tells all

The machine only carries these messages and gains nothing by changing one. A nonce is made of all parts, so every
verifier's clock runs before the nonce can be known; each sees its own part in it. Whoever was told another list of
hashes, shares or parts than the rest ends with another transcript, and transcripts that differ are no quorum. A message
that never comes ends the session.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Condition
from typing import Any, Protocol

from marketplace.agent import clock as clocks
from marketplace.agent.errors import OutOfTurn
from marketplace.agent.measuring import check_echoes, passes_for
from marketplace.agent.panel import echo, open_and_check
from marketplace.agent.prover import ProverSession
from marketplace.agent.verifier import Verifier
from pricing.errors import MalformedProof, ProofRefused
from pricing.proof import Checker, Commitment, Preset
from pricing.sweep import Sweep
from pricing.transcript import (
    Transcript,
    Witness,
    check_measures,
    check_timeline,
    joint_nonce,
    seed_of,
    without_advice,
    witness_from_json,
    witness_to_json,
)

STEP_SECONDS_MAX = 90.0  # how long one verifier waits for the others
RTT_NS_MAX = 10_000_000_000


def seat_token(secret: str, address: str) -> str:
    """The word by which one verifier is let in; another seat's cannot be made of it."""
    return hmac.digest(secret.encode(), address.encode(), "sha256").hex()


def steps_of(preset: Preset) -> tuple[str, ...]:
    """The steps in which all wait for all, in order."""
    return ("commit", "reveal", *(f"block/{block}" for block in range(preset.blocks)), "sweep", "read", "witness")


class Meeting:
    """The machine's side of one session: it lets each seat say one thing in each step, in order."""

    def __init__(
        self, prover: ProverSession, *, preset: Preset, binding: bytes, seats: Sequence[str],
        seconds_max: float = STEP_SECONDS_MAX,
    ) -> None:  # fmt: skip
        self._prover, self._preset, self._binding, self._seats = prover, preset, binding, tuple(seats)
        self._seconds_max, self._steps = seconds_max, steps_of(preset)
        self._said: dict[str, dict[str, Any]] = {step: {} for step in self._steps}
        self._told: dict[str, dict[str, Any] | Exception] = {}
        self._changed, self._heard_ns = Condition(), clocks.monotonic_ns()

    @property
    def blocks_done(self) -> int:
        """How many blocks were computed."""
        return sum(step.startswith("block/") for step in self._told)

    @property
    def is_over(self) -> bool:
        """Whether every seat brought its witness."""
        return self._steps[-1] in self._told

    @property
    def is_silent(self) -> bool:
        """Whether nobody has said anything for longer than a step may last: such a session does not go on."""
        return clocks.monotonic_ns() - self._heard_ns > self._seconds_max * 1_000_000_000

    def say(self, seat: str, step: str, what: Any) -> dict[str, Any]:
        """Take what a seat says in a step and answer once all have. Raises OutOfTurn, or the prover's ProofRefused."""
        with self._changed:
            self._take(seat, step, what)
            self._heard_ns = clocks.monotonic_ns()
            if len(self._said[step]) == len(self._seats):
                self._told[step] = self._act(step, [self._said[step][each] for each in self._seats])
                self._changed.notify_all()
            if not self._changed.wait_for(lambda: step in self._told, self._seconds_max):
                raise OutOfTurn("Not all verifiers of the panel came.", step=step, came=len(self._said[step]))
            told = self._told[step]
        if isinstance(told, Exception):
            raise told
        return told

    def _take(self, seat: str, step: str, what: Any) -> None:
        before = self._steps[: self._steps.index(step)] if step in self._said else ("",)
        if seat not in self._seats or any(each not in self._told for each in before):
            raise OutOfTurn("A session has its seats and its order of steps.", step=step, seat=seat)
        if self._said[step].setdefault(seat, what) != what:
            raise OutOfTurn("A seat says one thing in a step.", step=step, seat=seat)

    def _act(self, step: str, said: list[Any]) -> dict[str, Any] | Exception:
        try:
            return {"said": said} | self._answer(step, said)
        except (ProofRefused, OutOfTurn) as error:
            return error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            return MalformedProof("A verifier's message cannot be read.", step=step, cause=type(error).__name__)

    def _answer(self, step: str, said: list[Any]) -> dict[str, Any]:
        if step == "reveal":
            commitments = _all_bytes([self._said["commit"][seat] for seat in self._seats])
            self._prover.start(self._preset, seed_of(self._binding, _all_bytes(said), commitments))
            return {"backend": self._prover.backend, "machine_key": self._prover.machine_key.hex()}
        if step.startswith("block/"):
            made = self._prover.commit_block(joint_nonce(_all_bytes(said)))
            return {"rows_root": made.rows_root.hex(), "columns_root": made.columns_root.hex()}
        if step == "sweep":
            longest_ns = min(RTT_NS_MAX, max(int(each["rtt_max_ns"]) for each in said))
            passes = passes_for(self._preset, rtt_max_ns=longest_ns)
            digests = self._prover.sweep(joint_nonce([bytes.fromhex(each["part"]) for each in said]), passes)
            return {"digests": [each.hex() for each in digests]}
        return {}


class Met(ProverSession, Protocol):
    """A prover at which a verifier meets the others."""

    def meet(self, step: str, said: Any) -> dict[str, Any]:
        """Say one's part in a step; what all said, and what the machine adds."""


def sit(
    verifier: Verifier, prover: Met, *, preset: Preset, binding: bytes, seats: Sequence[str],
    machine_key: bytes, is_direct: bool = False, told: Callable[[int], None] = lambda block: None,
) -> Transcript:  # fmt: skip
    """One verifier's part in a session with others elsewhere; the transcript, in its light form, that all share.

    Raises the ProofRefused that this verifier comes to, after it gave the others what they need; OutOfTurn or
    MalformedProof where the session broke off.
    """
    refusals: dict[str, ProofRefused] = {}
    shares, commitments_to = _agree_on_seed(verifier, prover, preset, binding)
    seed, place = seed_of(binding, shares, commitments_to), list(seats).index(verifier.address)
    echo([verifier], prover, seed, machine_key, refusals)
    nonces, commitments = [], []
    for block in range(preset.blocks):
        answer = prover.meet(f"block/{block}", verifier.part_sent().hex())
        parts = _all_bytes(answer["said"])
        nonces.append(joint_nonce(parts))
        commitments.append(Commitment(nonces[-1], *_all_bytes([answer["rows_root"], answer["columns_root"]])))
        try:
            verifier.joint_root_arrived(parts, place, commitments[-1])
        except ProofRefused as refusal:
            refusals[verifier.address] = refusal
        told(block + 1)
    swept = _sweep_and_read(verifier, prover, preset, place, refusals)
    prover.meet("read", True)
    open_and_check(verifier, prover, refusals, advice=not is_direct)
    own = without_advice(verifier.witness)
    brought = prover.meet("witness", witness_to_json(own))["said"]
    transcript = Transcript(
        preset, prover.backend, binding, tuple(nonces), tuple(commitments),
        tuple(_read_witness(each, seat) for each, seat in zip(brought, seats, strict=True)),
        machine_key=prover.machine_key, sweep=swept,
    )  # fmt: skip
    if refusals:
        raise refusals[verifier.address]
    checker = Checker(preset=preset, seed=seed, entropy=verifier.new_nonce())
    held = (each if each.name == own.name else _if_holds(each, transcript, checker) for each in transcript.witnesses)
    return replace(transcript, witnesses=tuple(held))


def _agree_on_seed(
    verifier: Verifier, prover: Met, preset: Preset, binding: bytes
) -> tuple[list[bytes], list[bytes]]:
    committed = _all_bytes(prover.meet("commit", verifier.commit_share(preset, binding).hex())["said"])
    answer = prover.meet("reveal", verifier.reveal_share(committed).hex())
    shares = _all_bytes(answer["said"])
    verifier.begin(shares)
    prover.backend, prover.machine_key = str(answer["backend"])[:32], _all_bytes([answer["machine_key"]])[0]
    return shares, committed


def _sweep_and_read(
    verifier: Verifier, prover: Met, preset: Preset, place: int, refusals: dict[str, ProofRefused]
) -> Sweep:
    part = verifier.new_nonce()
    verifier.measuring.sweep_sent(part)
    longest_ns = verifier.measuring.rtt_max_ns
    answer = prover.meet("sweep", {"part": part.hex(), "rtt_max_ns": longest_ns})
    try:
        parts = _all_bytes([each["part"] for each in answer["said"]])
        swept = Sweep(joint_nonce(parts), tuple(_all_bytes(answer["digests"])))
    except (KeyError, TypeError) as error:
        raise MalformedProof("That is no sweep.", cause=type(error).__name__) from error
    try:
        verifier.measuring.joint_sweep_arrived(swept, is_own=parts[place] == part)
        if len(swept.digests) < passes_for(preset, rtt_max_ns=longest_ns):
            raise MalformedProof("A sweep lasts twenty round trips.", passes=len(swept.digests))
        if verifier.address not in refusals:
            for block, row in verifier.measuring.take_sums(preset, prover.sums()):
                verifier.measuring.read_sent()
                verifier.measuring.read_arrived(prover.read(block, row))
    except ProofRefused as refusal:
        refusals[verifier.address] = refusal
    return swept


def _read_witness(told: Mapping[str, Any], seat: str) -> Witness:
    try:
        witness = witness_from_json(told)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MalformedProof("That is no witness.", seat=seat, cause=type(error).__name__) from error
    if witness.name != seat:
        raise MalformedProof("A witness speaks for its own seat.", seat=seat)
    return without_advice(witness)


def _if_holds(witness: Witness, transcript: Transcript, checker: Checker) -> Witness:
    """A witness, as one that did not accept unless its rows hold. They are computed: every verifier finds the same."""
    if not witness.has_accepted or transcript.sweep is None:
        return replace(witness, openings=(), measures=None)
    try:
        check_timeline(transcript.preset, witness.timeline)
        checker.check(transcript.nonces, transcript.commitments, witness.openings)
        check_measures(transcript.preset, transcript.commitments, transcript.sweep, witness.measures)
        check_echoes(replace(transcript, witnesses=tuple(
            each if each.name == witness.name else replace(each, measures=None) for each in transcript.witnesses
        )))  # fmt: skip
    except ProofRefused:
        return replace(witness, openings=(), measures=None)
    return witness


def _all_bytes(said: Any) -> list[bytes]:
    try:
        return [bytes.fromhex(each) for each in said]
    except (ValueError, TypeError) as error:
        raise MalformedProof("A part of the answer is not in hex.") from error
