"""The prover of one more unit: it is there, answers roll calls for itself alone, and lets verifiers measure it then.

A node class sells units, and each of them is proven by a prover of its own: the first is the machine that meters, each
further one runs this, under a key of its own. It signs no readings and answers no probes of leases.
"""

from pathlib import Path
from threading import Event, Lock
from typing import Any

from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import AgentError, UsageWrong
from marketplace.agent.keys import MachineKey
from marketplace.agent.presence import Addresses, Presence, id_in_statements

BEAT_SECONDS, ROLL_SECONDS = 15, 60
UNIT = "unt_"


class Stand:
    """One further unit's prover. `run` works until told to stop. Raises UsageWrong for a machine that meters."""

    def __init__(
        self, home: Path, *, key: MachineKey, machine: str, client: ApiClient, address: str, clock: MarketClock
    ) -> None:
        if not machine.startswith(UNIT):
            raise UsageWrong("This machine was enrolled to meter: run meter. A unit's prover has a code of its own.")
        self.home, self.clock, self.stop = home, clock, Event()
        self._machine, self._client, self._addresses = machine, client, Addresses(address)
        before = homes.read_json(home, homes.METER_FILE)
        self.presence = Presence(
            key=key, machine_id=id_in_statements(machine), client=client, clock=clock,
            sequence=int(before.get("sequence", 0)),
        )  # fmt: skip
        self._lock, self._witnesses = Lock(), list[str]()
        self._roll_ms = 0
        self._told: dict[str, Any] = {"beat_at_ms": None, "trouble": None, "rolls_answered": 0}

    def run(self) -> None:
        """Beat, and answer what is called, until told to stop."""
        while not self.stop.is_set():
            self._told["trouble"] = None
            for step in (self.beat, self._answer_when_due):
                try:
                    step()
                except AgentError as error:
                    self._told["trouble"] = f"{error} ({error.facts.get('problem_code') or error.code})"
                except (KeyError, TypeError, ValueError) as error:  # an answer in another form
                    self._told["trouble"] = f"The market's answer cannot be used: {error!r}."
            self._tell()
            self.stop.wait(self.clock.local_seconds(BEAT_SECONDS * 1000))
        self._tell()

    def beat(self) -> None:
        """Send one heartbeat. Raises ServerRefused or ServerUnreachable."""
        self._told["beat_at_ms"] = self.presence.beat({}, self._addresses) or self._told["beat_at_ms"]

    def answer_roll(self) -> bool:
        """Answer the roll call that is open, if this unit is called; whether it was answered."""
        found = self._client.get(f"/api/v1/units/{self._machine}/roll")
        with self._lock:
            self._witnesses = [str(key) for key in found["witnesses"]]
        before = self.presence.rolls()
        was_answered = self.presence.answer(found["roll"], is_up=True)
        self._told["rolls_answered"] += bool(self.presence.rolls() - before)
        return was_answered

    def subjects(self) -> set[str]:
        """What verifiers may be let in for: the roll call that was answered."""
        return self.presence.rolls()

    def witnesses(self) -> list[str]:
        """The keys of the market's verifiers, in hex."""
        with self._lock:
            return list(self._witnesses)

    def devices(self) -> dict[str, int]:
        """It carries no lease, so it tells of none."""
        return {}

    def _answer_when_due(self) -> None:
        if self.clock.now_ms() >= self._roll_ms:
            self.answer_roll()
            self._roll_ms = self.clock.now_ms() + ROLL_SECONDS * 1000

    def _tell(self) -> None:
        homes.write_json(self.home, homes.METER_FILE, self._told | {
            "at_ms": self.clock.now_ms(), "sequence": self.presence.sequence, "skew_ms": self.clock.skew_ms,
        })  # fmt: skip
