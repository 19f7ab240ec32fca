"""One verifier of a panel: it times with its own clock, checks with its own secrets and signs only what it saw.

A session runs strictly in this order; any other raises OutOfTurn:

    commit_share -> reveal_share -> begin -> [echoes] -> (nonce_sent -> root_arrived) x B -> [sweep -> reads]
        -> ask_rows -> accept -> sign

What stands in brackets is `measuring`; a session that measures speed alone leaves it out. Verifiers that sit in
programs of their own (`sitting.py`) each give a part of every nonce: part_sent -> joint_root_arrived.
"""

import secrets
from collections.abc import Callable, Sequence

from contracts.eip712 import BenchmarkAttestation, Signature
from marketplace.agent import clock
from marketplace.agent.attestation import SigningKey, Terms, attest
from marketplace.agent.errors import AttestationUntrue, OutOfTurn
from marketplace.agent.measuring import Measuring, check_echoes
from pricing.errors import MalformedProof, NonceRefused, ProofRefused
from pricing.proof import Checker, Commitment, Int64s, Opening, Preset, check_commitment
from pricing.transcript import (
    Measures,
    Timeline,
    Transcript,
    Witness,
    check_timeline,
    check_transcript,
    commit_share,
    joint_nonce,
    seed_of,
    without_advice,
    witness_to_json,
)


class Verifier:
    """A verifier in one session with one prover."""

    def __init__(
        self,
        key: SigningKey,
        *,
        vantage: str = "",
        organisation: str = "",
        monotonic_ns: Callable[[], int] = clock.monotonic_ns,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key = key
        self.organisation = organisation  # its ultimate owner; nobody sits over a machine of its own
        self.measuring = Measuring(vantage=vantage or key.address, monotonic_ns=monotonic_ns, entropy=entropy)
        self._machine_key = b""
        self._monotonic_ns = monotonic_ns
        self._entropy = entropy
        self._share = b""
        self._share_commitment = self._part = b""
        self._checker: Checker | None = None
        self._nonces: list[bytes] = []
        self._commitments: list[Commitment] = []
        self._nonce_ns: list[int] = []
        self._root_ns: list[int] = []
        self._asked: list[Int64s] = []
        self._openings: tuple[Opening, ...] = ()
        self._measures: Measures | None = None

    @property
    def address(self) -> str:
        """The address that its signature recovers to."""
        return self._key.address

    def commit_share(self, preset: Preset, binding: bytes) -> bytes:
        """Open a session: the commitment to this verifier's share of the seed."""
        if self._share:
            raise OutOfTurn("A verifier object serves one session.")
        self._preset, self._binding = preset, binding
        self._share = self._entropy(32)
        self._share_commitment = commit_share(self._share)
        return self._share_commitment

    def reveal_share(self, share_commitments: Sequence[bytes]) -> bytes:
        """The share, once all have committed. Raises OutOfTurn if this verifier's commitment is not among them."""
        if not self._share or self._share_commitment not in share_commitments:
            raise OutOfTurn("A share is revealed after all commitments, this one among them.")
        if len(set(share_commitments)) != len(share_commitments):
            raise OutOfTurn("Two verifiers committed to the same share.")
        self._share_commitments = tuple(share_commitments)
        return self._share

    def begin(self, shares: Sequence[bytes]) -> None:
        """Take the revealed shares and prepare the secrets of the check. Raises NonceRefused for a changed share."""
        seed = seed_of(self._binding, shares, self._share_commitments)
        self._checker = Checker(preset=self._preset, seed=seed, entropy=self._entropy(32))

    def know_machine(self, machine_key: bytes) -> None:
        """Take the key that signs the echoes of this session; the attestation rests on it."""
        self._machine_key = machine_key

    def time_pilot(self, work: Callable[[bytes], object]) -> int:
        """Nanoseconds, by this verifier's clock, that a prover takes for one pilot block on a fresh nonce."""
        nonce, started_ns = self._entropy(32), self._monotonic_ns()
        work(nonce)
        return max(1, self._monotonic_ns() - started_ns)

    def new_nonce(self) -> bytes:
        """A fresh nonce for the next block, when it is this verifier's turn to give one."""
        return self._entropy(32)

    def nonce_sent(self, nonce: bytes) -> None:
        """Stamp the moment at which the nonce of the next block goes out."""
        if self._checker is None or len(self._nonce_ns) != len(self._commitments):
            raise OutOfTurn("The next nonce goes out after the root before it.", block=len(self._nonce_ns))
        self._nonces.append(nonce)
        self._nonce_ns.append(self._monotonic_ns())

    def root_arrived(self, commitment: Commitment) -> None:
        """Stamp the arrival of a block's roots, then look at them. Raises OutOfTurn or NonceRefused."""
        arrived_ns = self._monotonic_ns()
        block = len(self._commitments)
        if len(self._nonces) != block + 1:
            raise OutOfTurn("A root answers the nonce before it, once.", block=block)
        self._root_ns.append(arrived_ns)
        self._commitments.append(commitment)
        check_commitment(block, self._nonces[block], commitment)

    def part_sent(self) -> bytes:
        """This verifier's part of the next block's nonce, stamped as it goes out: the whole is not known before."""
        self._part = self.new_nonce()
        self.nonce_sent(b"")
        return self._part

    def joint_root_arrived(self, parts: Sequence[bytes], place: int, commitment: Commitment) -> None:
        """Stamp a block's roots, then see that the nonce was made of all parts, this one at its place among them.

        Raises OutOfTurn or NonceRefused.
        """
        self._nonces[-1:] = [joint_nonce(parts)]
        self.root_arrived(commitment)
        if parts[place] != self._part:
            raise NonceRefused("The nonce was made without this verifier's part.", block=len(self._commitments) - 1)

    def ask_rows(self) -> tuple[Int64s, ...]:
        """The secret rows of each block. Raises OutOfTurn before the last root, MalformedProof or LateRoot."""
        if self._checker is None or len(self._commitments) != self._preset.blocks:
            raise OutOfTurn("Rows are asked for after the last root.", blocks=len(self._commitments))
        check_timeline(self._preset, self._timeline)
        if self._machine_key:
            self.measuring.check(self._preset, self._commitments)
        self._asked = [self._checker.draw_rows(block) for block in range(self._preset.blocks)]
        return tuple(self._asked)

    def accept(self, openings: Sequence[Opening]) -> None:
        """Check the answer to `ask_rows`. Raises OutOfTurn, or a ProofRefused that names what does not hold."""
        if self._checker is None or not self._asked:
            raise OutOfTurn("Nothing was asked yet.")
        for block, (asked, opening) in enumerate(zip(self._asked, openings, strict=False)):
            if opening.rows.tolist() != asked.tolist():
                raise MalformedProof("Other rows were opened than asked for.", block=block)
        self._checker.check(self._nonces, self._commitments, openings)
        self._openings, self._measures = tuple(openings), self.measuring.measures(self._preset)

    @property
    def witness(self) -> Witness:
        """What this verifier adds to the transcript; without openings unless it accepted."""
        return Witness(
            self.address, self._share_commitment, self._share, self._timeline, self._openings, self._measures
        )

    def sign(self, attestation: BenchmarkAttestation, *, terms: Terms, transcript: Transcript) -> Signature:
        """Sign an attestation after deriving it again from the transcript, the other witnesses' rows checked too.

        Raises AttestationUntrue if the transcript is not the session this verifier saw, if it does not verify, or if
        the attestation says anything else than it proves.
        """
        checker = self._checker
        mine = [witness_to_json(without_advice(each)) for each in transcript.witnesses if each.name == self.address]
        is_the_session = transcript.nonces == tuple(self._nonces) and transcript.commitments == tuple(self._commitments)
        own = witness_to_json(without_advice(self.witness))
        if checker is None or not self._openings or not is_the_session or mine != [own]:
            raise AttestationUntrue("This is not the session that this verifier saw and accepted.")
        if transcript.machine_key != self._machine_key:
            raise AttestationUntrue("The echoes are another machine's.")
        if transcript.preset != self._preset or transcript.binding != self._binding or terms.binding != self._binding:
            raise AttestationUntrue("The terms are not those of the challenge.")
        try:
            score = check_transcript(transcript, checker)
            check_echoes(transcript)
        except ProofRefused as error:
            raise AttestationUntrue("The transcript does not verify.", cause=error.code) from error
        if attest(transcript, score, terms) != attestation:
            raise AttestationUntrue("The attestation says something else than the transcript proves.")
        return self._key.sign(attestation, chain_id=terms.chain_id, verifying_contract=terms.verifying_contract)

    @property
    def _timeline(self) -> Timeline:
        return Timeline(tuple(self._nonce_ns), tuple(self._root_ns))
