"""All machines of one owner challenged in the same moments: one machine that is listed twice cannot answer twice.

Each machine has a panel of its own and its own seed; all chains begin when everybody is ready. Two names of one machine
share its speed, so both fall below their class, or one of them does not answer at all.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, BrokenBarrierError
from typing import Any, cast

from marketplace.agent.errors import AgentError, PanelFailed
from marketplace.agent.panel import Proof, run_panel
from marketplace.agent.prover import ProverSession
from marketplace.agent.verifier import Verifier
from pricing.errors import MalformedProof, ProofRefused
from pricing.proof import Preset
from pricing.transcript import OPS_SHARE_BPS

READY_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Called:
    """What became of one machine: its proof, or the code of the refusal."""

    proof: Proof | None
    refusal: str = ""


@dataclass(frozen=True)
class Together:
    """A roll call of machines by name."""

    called: Mapping[str, Called]
    ops_needed: int

    @property
    def answered(self) -> list[str]:
        """The machines that reached their class while all others were at work."""
        return [name for name, each in self.called.items() if each.proof and self._is_enough(each.proof)]

    def _is_enough(self, proof: Proof) -> bool:
        return proof.score.ops_per_second * 10_000 >= self.ops_needed * OPS_SHARE_BPS


def call_together(
    machines: Mapping[str, ProverSession], *, panel: Callable[[], Sequence[Verifier]], preset: Preset,
    binding: bytes, ops_needed: int, quorum: int | None = None,
) -> Together:  # fmt: skip
    """Challenge all machines at once. `ops_needed` is the class's reference row; 85 % of it is an answer.

    A machine that fails or falls silent takes nobody else's chance. Raises MalformedProof for no machine.
    """
    if not machines:
        raise MalformedProof("Somebody has to be called.")
    ready = Barrier(len(machines))

    def call(name: str) -> Called:
        try:
            machine = cast(ProverSession, _Waiting(machines[name], ready))
            proof = run_panel(
                panel(), machine, preset=preset, binding=binding + name.encode(), quorum=quorum, is_measured=False
            )
        except (AgentError, ProofRefused, BrokenBarrierError) as refusal:
            ready.abort()  # those who wait go on without it
            codes = refusal.facts.get("refusals") if isinstance(refusal, PanelFailed) else None
            return Called(None, str(codes or getattr(refusal, "code", "not_ready")))
        return Called(proof)

    with ThreadPoolExecutor(len(machines)) as threads:
        return Together(dict(zip(machines, threads.map(call, machines), strict=True)), ops_needed)


class _Waiting:
    """A prover whose chain waits until every machine has taken its challenge."""

    def __init__(self, prover: ProverSession, ready: Barrier) -> None:
        self._prover, self._ready = prover, ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prover, name)

    def start(self, preset: Preset, seed: bytes) -> None:
        self._prover.start(preset, seed)
        try:
            self._ready.wait(READY_SECONDS_MAX)
        except BrokenBarrierError:
            return  # another machine is not there; this one is called all the same
