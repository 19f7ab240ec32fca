"""That a machine is there: its heartbeats, and its own answer to the roll call that is open.

The machine that meters has one, and so has the prover of each further unit (`stand.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from marketplace.agent import clock as clocks
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import ServerRefused
from marketplace.agent.keys import MachineKey
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import Beat, RollPresence, sign_statement


@dataclass(frozen=True)
class Addresses:
    """Where verifiers ask for echoes and look at the workload, as they see this machine."""

    probe: str = ""
    workload: str = ""


class Presence:
    """What one machine says of itself. `sequence` is of its last heartbeat and only rises."""

    def __init__(
        self, *, key: MachineKey, machine_id: str, client: ApiClient, clock: MarketClock, sequence: int = 0
    ) -> None:
        self.machine_id, self.sequence = machine_id, sequence
        self._key, self._client, self._clock = key, client, clock
        self._lock = Lock()
        self._said: RollPresence | None = None  # to the roll call that is open

    def beat(self, devices: Mapping[str, int], addresses: Addresses) -> int | None:
        """Send one heartbeat, whose answer sets the clock; when it was sent, unix milliseconds, if it was taken.

        Raises ServerRefused or ServerUnreachable.
        """
        with self._lock:
            self.sequence = max(self.sequence + 1, self._clock.now_ms())
            sequence = self.sequence
        beat = Beat(
            self.machine_id, sequence, self._clock.now_ms(), dict(devices), addresses.probe, addresses.workload
        )
        asked_ns = clocks.monotonic_ns()
        try:
            answer = self._post("/api/v1/heartbeats", sign_statement(self._key, beat))
        except ServerRefused as error:
            if error.facts.get("problem_code") not in ("clock_skewed", "report_late"):
                raise
            self.fetch_time()  # the next one is sent by the market's time
            return None
        # No other answer sets the clock: the same batch sent again gets the answer of then, with the time of then.
        self._clock.set_by(answer["now_ms"], asked_ns=asked_ns)
        return beat.sent_at_ms

    def fetch_time(self) -> None:
        """Set the clock by the market's."""
        asked_ns = clocks.monotonic_ns()
        self._clock.set_by(self._client.get("/api/v1/time")["now_ms"], asked_ns=asked_ns)

    def answer(self, called: Mapping[str, Any] | None, *, is_up: bool) -> bool:
        """Answer the roll call that the market tells of, if there is one; whether it was answered.

        From then on verifiers are let in. The same answer is sent until the roll is over, so a lost one does no harm.
        A machine that is not up says nothing: silence is no claim.
        """
        with self._lock:
            if called is None or not is_up:
                self._said = None
            elif self._said is None or self._said.roll != called["roll"]:
                self._said = RollPresence(self.machine_id, str(called["roll"]), self._clock.now_ms())
            said = self._said
        if said is None:
            return False
        self._post("/api/v1/roll-answers", sign_statement(self._key, said))
        return True

    def rolls(self) -> set[str]:
        """The roll call that was answered and is open: what verifiers may be let in for."""
        with self._lock:
            return {self._said.roll} if self._said else set()

    def _post(self, path: str, signed: SignedReport) -> dict[str, Any]:
        statement = {"body": signed.body.decode(), "signature": signed.signature.hex()}
        return self._client.post(path, {"statements": [statement]})


def id_in_statements(name: str) -> str:
    """The UUID with dashes of a machine's name at the API (`cls_` or `unt_` and 32 digits)."""
    digits = name[4:]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
