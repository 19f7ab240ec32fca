"""The verifier's side of a benchmark for the market: sit with the panel, sign what was seen, hand both in."""

import base64
import os
import zlib
from pathlib import Path
from threading import Event
from typing import Any

from marketplace.agent.attestation import LocalKey, SigningKey, Terms, attest, message_of
from marketplace.agent.client import ApiClient
from marketplace.agent.errors import AgentError, KeyMissing, UsageWrong
from marketplace.agent.keys import refuse_wrong_modes
from marketplace.agent.panel import own_rate
from marketplace.agent.prover import HttpProver
from marketplace.agent.sitting import sit
from marketplace.agent.verifier import Verifier
from pricing.errors import PricingError
from pricing.presets import opens_directly
from pricing.proof import Preset
from pricing.transcript import Transcript, score_of

POLL_SECONDS = 2.0
NOT_READY = ("server_unreachable", "token_wrong")  # it opens its prover only when it has heard of its panel
KEY_BYTES = 32


class Attester:
    """One seat of the market's verifiers. `run` works until told to stop."""

    def __init__(self, client: ApiClient, *, key: SigningKey, stop: Event) -> None:
        self._client, self._key, self._stop = client, key, stop
        self._tried: set[str] = set()
        self.told: dict[str, Any] = {"attested": [], "settled": [], "troubles": {}}

    def run(self, *, once: bool = False) -> dict[str, Any]:
        """Attest what this seat is drawn for; with `once` what is asked for now. What was done, by challenge."""
        while not self._stop.is_set():
            for order in self._orders():
                if self._attest(order):
                    self._tried.add(order["challenge"])
            if once and self._tried:
                break
            self._stop.wait(POLL_SECONDS)
        return self.told

    def _orders(self) -> list[dict[str, Any]]:
        try:
            orders = list(self._client.rows("/api/v1/challenge-orders"))
        except AgentError as error:
            if error.code != "server_unreachable":
                raise
            self.told["troubles"]["market"] = str(error)
            return []
        return [order for order in orders if order["challenge"] not in self._tried]

    def _attest(self, order: dict[str, Any]) -> bool:
        """One session, and its attestation; False where the machine is not ready yet and is to be asked again.

        What is refused is told and stops no other.
        """
        name = order["challenge"]
        try:
            answer = self._client.post(f"/api/v1/challenges/{name}/attestations", self.measure(order))
        except (AgentError, PricingError) as error:
            code = error.facts.get("problem_code") or error.code
            self.told["troubles"][name] = f"{error} ({code})"
            return code not in NOT_READY
        self.told["troubles"].pop(name, None)
        self.told["attested"].append(name)
        if answer["is_settled"]:
            self.told["settled"].append(name)
        return True

    def measure(self, order: dict[str, Any]) -> dict[str, Any]:
        """Sit over one machine with the rest of its panel; the attestation as it is handed in.

        Raises a ProofRefused where this verifier does not accept, AttestationUntrue, or as the machine refuses.
        """
        terms, preset = Terms.from_json(order["terms"]), Preset(**order["preset"])
        verifier = Verifier(self._key)
        rate = terms.reference_rows and max(row.ops_per_second for row in terms.reference_rows)
        with HttpProver(order["prover_url"], token=order["token"], certificate=order["certificate"]) as prover:
            transcript = sit(
                verifier, prover, preset=preset, binding=terms.binding, seats=order["panel"],
                machine_key=bytes.fromhex(order["machine_key"]),
                is_direct=opens_directly(
                    preset, prover_ops_per_second=rate or 1, checker_ops_per_second=own_rate()
                ),
            )  # fmt: skip
        return signed_word(verifier, transcript, terms)


def signed_word(verifier: Verifier, transcript: Transcript, terms: Terms) -> dict[str, Any]:
    """Attestation, signature and packed transcript, as the market takes them. Raises AttestationUntrue."""
    attestation = attest(transcript, score_of(transcript), terms)
    signature = verifier.sign(attestation, terms=terms, transcript=transcript)
    return {
        "attestation": message_of(attestation),
        "signature": {"v": signature.v, "r": signature.r.hex(), "s": signature.s.hex()},
        "transcript": base64.b64encode(zlib.compress(transcript.to_bytes())).decode(),
    }


def load_attester_key(file: Path | None, given: str) -> LocalKey:
    """The verifier's secp256k1 key, out of a file of mode 0600 or the environment.

    Raises KeyMissing, KeyModesWrong or UsageWrong.
    """
    if file is not None:
        if not file.exists():
            raise KeyMissing("There is no such key file.", file=os.fspath(file))
        refuse_wrong_modes(file, 0o600)
        given = file.read_text()
    text = given.strip().removeprefix("0x")
    if not text:
        raise KeyMissing("An attester signs with its own key: --key-file, or GROVE_ATTESTER_KEY.")
    try:
        private = bytes.fromhex(text)
        if len(private) == KEY_BYTES:
            return LocalKey(private)
    except ValueError:
        pass
    raise UsageWrong("An attesting key is 32 bytes in hex.")
