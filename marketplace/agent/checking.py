"""The verifier's side of performance re-checks: measure each machine at its secret minute, once more if it was slow.

The machine opens its prover at the address of its echoes for whoever signs with a witness key of the market. The score
is by this verifier's clock. A machine that cannot be reached gets no report (the probes judge that); one that answers
and does not prove has done no operations. The transcript of the last try stays here, under its hash, as evidence.
"""

import hashlib
import json
import secrets
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from marketplace.agent import clock as clocks
from marketplace.agent import home as homes
from marketplace.agent.attestation import LocalKey
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import AgentError, ProbeRefused, ServerRefused, ServerUnreachable
from marketplace.agent.keys import MachineKey
from marketplace.agent.panel import choose_preset, run_panel
from marketplace.agent.probing import place_of
from marketplace.agent.prover import HttpProver
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import CheckAsk, CheckStatement, RollMeasured, sign_statement
from marketplace.agent.verifier import Verifier
from marketplace.agent.wire import require_vouched
from pricing.errors import PricingError
from pricing.proof import Commitment

ORDERS_EVERY_SECONDS = 60
RETRY_MS = 600_000
READY_MS = 30_000  # before its instant the pilot of a called machine is timed and its chain prepared
LATE_START_SECONDS, CALL_ENDS_SECONDS = 2.0, 5.0
LATE_MS = 110_000  # after that the market takes no begin of a try
FLOOR_PERCENT = 90
CALLS_MAX = 256  # called machines that one verifier measures side by side, each in a thread that mostly waits
BUSY_SECONDS = 3.0
ANSWER_SECONDS = 5.0
LINE_BYTES_MAX = 4096
CHECKS = "checks"  # folder of transcripts


@dataclass
class Task:
    """One try that is due, and what the first one came to."""

    at_ms: int
    order: dict[str, Any]
    first_at_ms: int = 0
    first_ops: int = -1


class Checker:
    """One verifier's re-checks. `run` works until told to stop."""

    def __init__(self, home: Path, *, key: MachineKey, verifier: str, client: ApiClient, clock: MarketClock) -> None:
        self.home, self.stop, self.clock = home, Event(), clock
        self._key, self._verifier, self._client = key, verifier, client
        self._tasks: list[Task] = []
        self._calls: list[Thread] = []
        self._known: set[tuple[str, int]] = set()
        self._waiting: deque[tuple[str, SignedReport]] = deque()  # where to, and what
        self.told: dict[str, Any] = {"checked": 0, "called": 0, "unreachable": 0, "trouble": None}

    def run(self) -> None:
        """Check until told to stop."""
        orders_ms = 0
        while not self.stop.is_set():
            if self.clock.now_ms() >= orders_ms:
                self._quietly(self.fetch_orders)
                self._quietly(self.fetch_rolls)
                orders_ms = self.clock.now_ms() + ORDERS_EVERY_SECONDS * 1000
            for task in sorted(self._due(), key=lambda task: "roll" not in task.order):
                if "roll" in task.order:
                    self._call(task)
                else:
                    self._quietly(lambda task=task: self.do(task))
            self._quietly(self.send)
            self.stop.wait(self.clock.local_seconds(1000))
        self.end_calls(CALL_ENDS_SECONDS)

    def fetch_orders(self) -> None:
        """Learn what is to be measured within the hour."""
        asked_ns = clocks.monotonic_ns()
        for answer in self._client.pages("/api/v1/check-orders"):
            self.clock.set_by(answer["now_ms"], asked_ns=asked_ns)
            for order in answer["data"]:
                name = (order["lease"], order["interval"])
                if name not in self._known:
                    self._known.add(name)
                    self._tasks.append(Task(order["due_at_ms"], order))
            asked_ns = clocks.monotonic_ns()

    def fetch_rolls(self) -> None:
        """Learn which machines are called, and at which instant each is to be measured: all of an owner's at once."""
        for order in self._client.rows("/api/v1/roll-orders"):
            name = (f"{order['roll']}/{order['machine']}", 0)
            if name not in self._known and order["probe_address"]:
                self._known.add(name)
                ready_ms = order["measure_at_ms"] - READY_MS
                self._tasks.append(Task(ready_ms, {**order, "lease": order["roll"], "interval": 0}))

    def _call(self, task: Task) -> None:
        """Measure a called machine in a thread of its own: all of a roll are at work together, and nothing waits."""
        self._calls = [each for each in self._calls if each.is_alive()]
        if len(self._calls) >= CALLS_MAX:  # more verifiers share the machines of a larger roll
            self.told["trouble"] = f"{CALLS_MAX} machines are measured at once; {task.order['machine']} is left out."
            return
        thread = Thread(target=self._quietly, args=(lambda: self.do(task),), daemon=True)
        self._calls.append(thread)
        thread.start()

    def end_calls(self, seconds: float) -> None:
        """Wait for the measurements that go on, so long at most."""
        for thread in self._calls:
            thread.join(timeout=seconds)

    def do(self, task: Task) -> None:
        """One try: under the floor the second follows ten minutes later, else the statement is signed."""
        if "roll" in task.order:
            self._measure_called(task)
            return
        began_ms = self.clock.now_ms()
        try:
            ops, transcript = self.measure(task)
        except ServerUnreachable:
            self.told["unreachable"] += 1
            return
        if task.first_ops < 0 and ops * 100 < FLOOR_PERCENT * int(task.order["proven_ops"]):
            self._tasks.append(Task(began_ms + RETRY_MS, task.order, began_ms, ops))
            return
        is_second = task.first_ops >= 0
        statement = CheckStatement(
            verifier=self._verifier, lease=task.order["lease"], machine=task.order["machine"],
            interval=task.order["interval"], first_at_ms=task.first_at_ms if is_second else began_ms,
            first_ops=task.first_ops if is_second else ops, second_at_ms=began_ms if is_second else 0,
            second_ops=ops if is_second else -1, transcript=self._keep(transcript),
        )  # fmt: skip
        self._waiting.append(("/api/v1/rechecks", sign_statement(self._key, statement)))
        self.told["checked"] += 1

    def _measure_called(self, task: Task) -> None:
        """Measure a called machine at its instant, once. Who comes late reports nothing: it would prove nothing.

        A machine that is out of reach, or lets nobody in, gets no report.
        """
        order = task.order
        verifier = _Punctual(self._verifier, self.clock, at_ms=order["measure_at_ms"], stop=self.stop)
        try:
            ops, transcript = self.measure(task, verifier)
        except ServerUnreachable:
            self.told["unreachable"] += 1
            return
        if not transcript or verifier.is_late:
            return
        statement = RollMeasured(
            self._verifier, order["machine"], order["roll"], verifier.began_ms, verifier.ended_ms, ops,
            self._keep(transcript),
        )  # fmt: skip
        self._waiting.append(("/api/v1/roll-reports", sign_statement(self._key, statement)))
        self.told["called"] += 1

    def measure(self, task: Task, punctual: "_Punctual | None" = None) -> tuple[int, bytes]:
        """Operations per second of one try, and its transcript; 0 where the machine answers and does not prove.

        Raises ServerUnreachable where nobody answers at its address.
        """
        order = task.order
        try:
            host, port = place_of(order["probe_address"])
        except ProbeRefused as error:
            raise ServerUnreachable("The machine has told no address.") from error
        opened = self._ask(host, port, order, until_ms=task.at_ms + LATE_MS)
        if opened is None:
            return 0, b""
        try:
            with self._prover_at(host, opened, order) as prover:
                one = punctual or Verifier(LocalKey(secrets.token_bytes(32)), vantage=self._verifier)
                preset, is_direct = choose_preset([one], prover, purpose="recheck", is_in_time=punctual is not None)
                proof = run_panel(
                    [one], prover, preset=preset, binding=f"re-check/{order['lease']}/{order['interval']}".encode(),
                    quorum=1, machine_key=bytes.fromhex(order["machine_key"]), is_direct=is_direct,
                )  # fmt: skip
        except (AgentError, PricingError) as error:
            self.told["trouble"] = f"{order['lease']}: {error}"
            return 0, b""
        finally:
            _exchange(host, port, {"done": opened["token"]})
        return proof.score.ops_per_second, proof.transcript.light().to_bytes()

    def _prover_at(self, host: str, opened: dict[str, Any], order: dict[str, Any]) -> HttpProver:
        """Its opened prover, under the certificate that its machine key signed. Raises CertificateWrong."""
        place, certificate = f"{_in_url(host)}:{opened['port']}", str(opened.get("certificate") or "")
        if not certificate:
            return HttpProver(f"http://{place}", token=opened["token"])
        signature = str(opened.get("vouched") or "")
        require_vouched(bytes.fromhex(order["machine_key"]), certificate, signature)
        return HttpProver(f"https://{place}", token=opened["token"], certificate=certificate)

    def _ask(self, host: str, port: int, order: dict[str, Any], *, until_ms: int) -> dict[str, Any] | None:
        """The opened prover's port and token; None where the machine refuses. Raises ServerUnreachable."""
        while True:
            ask = CheckAsk(self._verifier, order["lease"], order["machine"], order["interval"], self.clock.now_ms())
            signed = sign_statement(self._key, ask)
            found = _exchange(host, port, {
                "ask": signed.body.decode(), "signature": signed.signature.hex(), "key": self._key.public_bytes.hex(),
            })  # fmt: skip
            if found is None:
                raise ServerUnreachable("The machine does not answer.")
            if isinstance(found.get("port"), int) and isinstance(found.get("token"), str):
                return found
            if not found.get("busy") or self.clock.now_ms() >= until_ms or self.stop.is_set():
                self.told["trouble"] = f"{order['lease']}: {found.get('title', 'no re-check is answered')}"
                return None
            self.stop.wait(self.clock.local_seconds(BUSY_SECONDS * 1000))

    def send(self) -> None:
        """Send what was measured; what the market will never take is dropped and told."""
        while self._waiting:
            path, signed = self._waiting[0]
            statement = {"body": signed.body.decode(), "signature": signed.signature.hex()}
            try:
                self._client.post(path, {"statements": [statement]})
            except ServerRefused as error:
                if not isinstance((error.facts.get("problem") or {}).get("item"), int):
                    raise
                self.told["trouble"] = f"{error} ({error.facts.get('problem_code')})"
            self._waiting.popleft()

    def _keep(self, transcript: bytes) -> str:
        digest = hashlib.sha256(transcript).hexdigest()
        folder = self.home / CHECKS
        folder.mkdir(mode=0o700, exist_ok=True)
        homes.write_file(folder / digest, transcript)
        return digest

    def _due(self) -> list[Task]:
        now_ms = self.clock.now_ms()
        due = [task for task in self._tasks if task.at_ms <= now_ms]
        self._tasks = [task for task in self._tasks if task.at_ms > now_ms]
        return [task for task in due if now_ms < task.at_ms + LATE_MS]

    def _quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except AgentError as error:
            self.told["trouble"] = f"{error} ({error.facts.get('problem_code') or error.code})"
        except (KeyError, TypeError, ValueError, OSError) as error:  # an order in another form stops no other check
            self.told["trouble"] = f"An order cannot be read: {error!r}."


class _Punctual(Verifier):
    """A verifier that gives its first nonce at one instant of market time and knows when the work began and ended."""

    def __init__(self, name: str, market: MarketClock, *, at_ms: int, stop: Event) -> None:
        super().__init__(LocalKey(secrets.token_bytes(32)), vantage=name)
        self._market, self._at_ms, self._stop_event = market, at_ms, stop
        self.began_ms = self.ended_ms = 0

    @property
    def is_late(self) -> bool:
        """Whether its chain began too long after its instant to be one of the many that began then."""
        return self.began_ms - self._at_ms > LATE_START_SECONDS * 1000 * self._market.rate

    def new_nonce(self) -> bytes:
        if not self.began_ms:
            wait_ms = self._at_ms - self._market.now_ms()
            self._stop_event.wait(self._market.local_seconds(max(0, wait_ms)))
        return super().new_nonce()

    def nonce_sent(self, nonce: bytes) -> None:
        self.began_ms = self.began_ms or self._market.now_ms()
        super().nonce_sent(nonce)

    def root_arrived(self, commitment: Commitment) -> None:
        super().root_arrived(commitment)
        self.ended_ms = self._market.now_ms()


def _exchange(host: str, port: int, said: dict[str, Any]) -> dict[str, Any] | None:
    """One line there and one back; None where nobody answers, or in another form."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(json.dumps(said).encode() + b"\n")
            with connection.makefile("rb") as answers:
                found = json.loads(answers.readline(LINE_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
