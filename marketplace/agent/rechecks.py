"""The machine's side of a performance re-check: while it meters, its prover opens for one verifier at a time.

    -> {"ask": {...}, "signature": "128 hex digits"}      one line, at the address of the echoes
    <- {"port": 9444, "token": "...", "seconds": 40}      the prover's HTTP port, and a token that is good so long
    -> {"done": "the token"}

Off loopback the prover speaks TLS, and the answer brings its certificate's SHA-256 under the machine key's signature.

Who asks signs with the witness key that the market names beside the leases, for a lease that runs here, now, or for the
roll call that this machine answered. Each key is let in for each of them once in five minutes, since a second try
follows ten minutes after the first; the prover takes the pilot and the rows of a re-check and no larger work. Counting,
beats and echoes go on beside it; the workload may rest (`resting.py`). While a benchmark is proved on this machine the
door is busy, and a benchmark waits for a session to end (`turns.py`).
"""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock, Thread, Timer
from typing import Any

from marketplace.agent import clock as clocks
from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import AgentError, ProbeRefused
from marketplace.agent.keys import MachineKey
from marketplace.agent.prover import ProverServer
from marketplace.agent.readings import SignedReport
from marketplace.agent.resting import Rest, RestingProver
from marketplace.agent.statements import CheckAsk, accept_statement
from marketplace.agent.turns import Turn
from marketplace.agent.wire import Wire, vouch
from pricing.proof import PRESETS

SESSION_SECONDS = 40  # the panel's three come one after the other, and are due within two minutes
APART_SECONDS = 300  # between two sessions of one key
ASKED_WITHIN_MS = 10_000
PURPOSES = ("pilot", "recheck")
NS = 1_000_000_000


@dataclass
class _Session:
    token: str
    ends_ns: int


class CheckDoor:
    """Lets verifiers measure this machine. `leases_of` tells what runs here, `witnesses_of` whose keys may ask."""

    def __init__(
        self, address: tuple[str, int], *, key: MachineKey, backend: str, clock: MarketClock,
        leases_of: Callable[[], Collection[str]], witnesses_of: Callable[[], Collection[str]],
        rest: Rest | None = None, wire: Wire | None = None, turn: Turn | None = None,
    ) -> None:  # fmt: skip
        self._wire, self._turn = wire, turn
        self._key, self._backend, self._clock, self._rest = key, backend, clock, rest or Rest()
        self._leases_of, self._witnesses_of = leases_of, witnesses_of
        presets = {name: preset for name, preset in PRESETS.items() if name.split("-")[0] in PURPOSES}
        self._server = ProverServer(
            address, prover=RestingProver(backend, key=key, rest=self._rest), token=secrets.token_urlsafe(24),
            presets=presets, memory_bytes_max=0, wire=wire,
        )  # fmt: skip
        self._lock = Lock()
        self._session: _Session | None = None
        self._let_in_ns: dict[tuple[str, str], int] = {}
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def port(self) -> int:
        """Where its prover listens."""
        return self._server.server_port

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._rest.end()
        self._thread.join()
        self._server.server_close()

    def answer(self, asked: Any) -> dict[str, Any]:
        """Open the prover for whoever asks by right, or close it behind them. Raises ProbeRefused."""
        if "done" in asked:
            self._close(str(asked["done"]))
            return {"closed": True}
        key, subject = self._asker(asked)
        with self._lock:
            now_ns = clocks.monotonic_ns()
            if self._session is not None and now_ns < self._session.ends_ns:
                raise ProbeRefused("Another verifier measures now; ask again in a few seconds.", busy=True)
            last_ns = self._let_in_ns.get((key, subject))
            if last_ns is not None and now_ns - last_ns < APART_SECONDS * NS:
                raise ProbeRefused("A verifier measures once in five minutes.", seconds=APART_SECONDS)
            if self._turn is not None and not self._turn.take():
                raise ProbeRefused("A benchmark is proved here now; ask again in a few seconds.", busy=True)
            self._let_in_ns[key, subject] = now_ns
            self._session = _Session(secrets.token_urlsafe(24), now_ns + SESSION_SECONDS * NS)
            self._open(self._session.token)
            self._end_later(self._session.token)
            return {"port": self.port, "token": self._session.token, "seconds": SESSION_SECONDS} | self._vouched()

    def _vouched(self) -> dict[str, str]:
        """The certificate of the prover, and this machine's signature under it; nothing where it speaks in plain."""
        if self._wire is None:
            return {}
        return {"certificate": self._wire.fingerprint, "vouched": vouch(self._key, self._wire.fingerprint)}

    def _asker(self, asked: Any) -> tuple[str, str]:
        """The key that signed, in hex, and the lease or roll call that it asks for."""
        try:
            signed = SignedReport(str(asked["ask"]).encode(), bytes.fromhex(asked["signature"]))
            key = str(asked["key"])
            if key not in self._witnesses_of():
                raise ProbeRefused("That is no key of a verifier.")
            ask = accept_statement(CheckAsk, signed, public_key=bytes.fromhex(key))
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeRefused("A verifier asks with a signed statement and its key.") from error
        except ProbeRefused:
            raise
        except AgentError as error:
            raise ProbeRefused(str(error)) from error
        if ask.lease not in self._leases_of():
            raise ProbeRefused("That is no lease of this machine.")
        if abs(self._clock.now_ms() - ask.asked_at_ms) > ASKED_WITHIN_MS:
            raise ProbeRefused("It was not asked now.", now_at=self._clock.now_ms() // 1000)
        return key, ask.lease

    def _open(self, token: str) -> None:
        self._rest.end()
        self._server.prover = RestingProver(self._backend, key=self._key, rest=self._rest)
        self._server.token = token

    def _close(self, token: str) -> None:
        with self._lock:
            if self._session is not None and secrets.compare_digest(self._session.token, token):
                self._session = None
                self._open(secrets.token_urlsafe(24))  # nobody knows it, and what was resident is let go
                if self._turn is not None:
                    self._turn.leave()

    def _end_later(self, token: str) -> None:
        """Whoever goes without a word holds nobody up for longer than its session."""
        timer = Timer(SESSION_SECONDS, self._close, (token,))
        timer.daemon = True
        timer.start()
