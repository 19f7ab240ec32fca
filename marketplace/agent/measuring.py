"""What a verifier measures beside the chain: how near the machine is, and whether its memory is there.

    echoes (>= 20, between begin and the first nonce) -> ... chain ... -> sweep -> reads

Every time is of this verifier's own clock. An echo is signed by the machine's key, so that nobody nearer can answer for
it; the key is the one enrolled, where there is one. Reads come after the sweep, so that a prover cannot learn which
rows will be looked at before it has said what all of them sum to.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from marketplace.agent.errors import OutOfTurn
from pricing.errors import EchoRefused, MalformedProof, SweepRefused
from pricing.proof import Commitment, Preset
from pricing.residency import ECHOES_MIN, Read, draw_reads
from pricing.sweep import PASSES_MAX, Sweep, Words, check_sums
from pricing.transcript import Echo, Measures, Transcript, check_measures, echo_message

# A sweep lasts 20 round trips or more when memory is read at this rate, so that the wire costs at most 5 %.
BYTES_PER_NS, ROUND_TRIPS = 20, 20


class Measuring:
    """One verifier's measuring in one session."""

    def __init__(self, *, vantage: str, monotonic_ns: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self.vantage = vantage
        self._monotonic_ns, self._entropy = monotonic_ns, entropy
        self._echoes: list[Echo] = []
        self._sent_ns = 0
        self._sweep_nonce, self._sweep_ns = b"", 0
        self._said: Sweep | None = None
        self._sums: list[Words] = []
        self._asked: list[tuple[int, int]] = []
        self._reads: list[Read] = []

    def echo_sent(self) -> bytes:
        """A fresh nonce, stamped."""
        nonce = self._entropy(32)
        self._sent_ns = self._monotonic_ns()
        return nonce

    def echo_arrived(self, nonce: bytes, signature: bytes, *, seed: bytes, machine_key: bytes) -> None:
        """Stamp an echo, then look at its signature. Raises EchoRefused."""
        rtt_ns = max(1, self._monotonic_ns() - self._sent_ns)
        check_echo(machine_key, seed, self.vantage, nonce, signature)
        self._echoes.append(Echo(nonce, signature, rtt_ns))

    @property
    def rtt_max_ns(self) -> int:
        """The longest round trip so far."""
        return max((echo.rtt_ns for echo in self._echoes), default=0)

    def sweep_sent(self, nonce: bytes) -> None:
        """Stamp the nonce of the sweep."""
        self._sweep_nonce, self._sent_ns = nonce, self._monotonic_ns()

    def sweep_arrived(self, digests: Sequence[bytes]) -> None:
        """Stamp the digests of the sweep."""
        self._sweep_ns = max(1, self._monotonic_ns() - self._sent_ns)
        if not self._sweep_nonce or self._said is not None:
            raise OutOfTurn("One sweep is swept, after its nonce.")
        self._said = Sweep(self._sweep_nonce, tuple(digests))

    def joint_sweep_arrived(self, swept: Sweep, *, is_own: bool) -> None:
        """Stamp the digests of a sweep whose nonce all verifiers made. Raises OutOfTurn or SweepRefused."""
        self.sweep_arrived(swept.digests)
        self._said = swept
        if not is_own:
            raise SweepRefused("The sweep's nonce was made without this verifier's part.")

    def take_sums(self, preset: Preset, sums: Sequence[Words]) -> list[tuple[int, int]]:
        """Take the sums behind the digests; the secret rows to read. Raises SweepRefused or MalformedProof."""
        if self._said is None:
            raise OutOfTurn("Sums follow a sweep.")
        check_sums(preset, self._said, sums)
        self._sums = list(sums)
        self._asked = draw_reads(preset, entropy=self._entropy(32))
        return self._asked

    def read_sent(self) -> None:
        """Stamp a question."""
        self._sent_ns = self._monotonic_ns()

    def read_arrived(self, read: Read) -> None:
        """Stamp its answer."""
        elapsed_ns = max(1, self._monotonic_ns() - self._sent_ns)
        place = len(self._reads)
        if place >= len(self._asked) or (read.block, read.row) != self._asked[place]:
            raise MalformedProof("Another row was read than asked for.", block=read.block, row=read.row)
        self._reads.append(replace(read, elapsed_ns=elapsed_ns))

    def check(self, preset: Preset, commitments: Sequence[Commitment]) -> None:
        """Whether all of it holds. Raises OutOfTurn while something is missing, or a ProofRefused."""
        if self._said is None or len(self._reads) != len(self._asked) or not self._asked:
            raise OutOfTurn("Sweep and reads come first.", reads=len(self._reads))
        check_measures(preset, commitments, self._said, self.measures(preset))

    def measures(self, preset: Preset) -> Measures | None:
        """What stands in the transcript; None when nothing was measured."""
        if self._said is None or not self._reads:
            return None
        places = [block * preset.size + row for block, row in self._asked[: len(self._reads)]]
        sums = np.stack([each[places] for each in self._sums])
        return Measures(self.vantage, tuple(self._echoes), self._sweep_ns, tuple(self._reads), sums)


def passes_for(preset: Preset, *, rtt_max_ns: int) -> int:
    """How often a sweep goes over what is resident, so that it lasts 20 round trips."""
    pass_ns = max(1, preset.blocks * preset.size**2 // BYTES_PER_NS)
    return min(PASSES_MAX, max(1, -(-ROUND_TRIPS * rtt_max_ns // pass_ns)))


def check_echo(machine_key: bytes, seed: bytes, vantage: str, nonce: bytes, signature: bytes) -> None:
    """An echo is signed by the machine. Raises EchoRefused."""
    try:
        Ed25519PublicKey.from_public_bytes(machine_key).verify(signature, echo_message(seed, vantage, nonce))
    except (InvalidSignature, ValueError) as error:
        raise EchoRefused("An echo is not signed by the machine's key.", vantage=vantage) from error


def check_echoes(transcript: Transcript) -> None:
    """All echoes of a transcript are fresh and signed by its machine key. Raises EchoRefused."""
    seed, seen = transcript.seed, set[bytes]()
    for measures in (witness.measures for witness in transcript.witnesses if witness.measures is not None):
        for echo in measures.echoes:
            if echo.nonce in seen:
                raise EchoRefused("A nonce is echoed once.", vantage=measures.vantage)
            seen.add(echo.nonce)
            check_echo(transcript.machine_key, seed, measures.vantage, echo.nonce, echo.signature)
    if transcript.sweep is not None and len(seen) < ECHOES_MIN:
        raise EchoRefused("A measured proof has its echoes.", have=len(seen))
