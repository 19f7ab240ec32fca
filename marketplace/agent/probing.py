"""The prober of a verifier organisation: look at each machine at the secret second it is ordered for, and sign it.

The seconds and the panel come from a day secret that the market commits to before the day and shows after it; all three
verifiers of a machine get the same second. A probe asks the machine for an echo over a fresh nonce, connects to the
workload's port and, in the same seconds, to three anchors: where an anchor fails, this vantage is the cause and the
report is void. A failed probe is done once more after the 5 to 15 seconds that the order names.
"""

import heapq
import secrets
import socket
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from marketplace.agent import clock as clocks
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import ask_echo
from marketplace.agent.errors import AgentError, ProbeRefused, ServerRefused, UsageWrong
from marketplace.agent.keys import MachineKey
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import (
    ANCHORS,
    EXTRA,
    FIRST,
    MINUTE_SECONDS,
    NO_ECHO,
    RETRY,
    ProbeStatement,
    is_echo_of,
    sign_statement,
)

ORDER_MINUTES, ORDER_EVERY_SECONDS = 5, 30
ANSWER_SECONDS = 3.0  # less than the shortest wait for a retry
WORKERS = 16
BATCH, WAITING_MAX = 100, 100_000  # reports in one call; that wait at most, the oldest are dropped beyond


@dataclass(frozen=True, order=True)
class Task:
    """One probe to be done at an instant, unix milliseconds of market time."""

    at_ms: int
    lease: str
    attempt: int
    order: dict[str, Any] = field(compare=False)


@dataclass(frozen=True)
class Seen:
    """What came of one probe."""

    statement: ProbeStatement
    has_failed: bool  # no echo, no workload, or fewer devices than were leased, and the anchors answered


class Prober:
    """One verifier's prober. `run` works until told to stop."""

    def __init__(
        self, *, key: MachineKey, verifier: str, client: ApiClient, anchors: Sequence[str], clock: MarketClock
    ) -> None:
        if len(anchors) != ANCHORS:
            raise UsageWrong(f"A prober has {ANCHORS} anchors (--anchor HOST:PORT, each once).", given=len(anchors))
        self.stop, self.clock = Event(), clock
        self._key, self._verifier, self._client = key, verifier, client
        self._anchors = [place_of(anchor) for anchor in anchors]
        self._lock = Lock()
        self._tasks: list[Task] = []
        self._known: set[tuple[str, int, int]] = set()  # lease, minute, attempt that is or was on the list
        self._waiting: deque[SignedReport] = deque(maxlen=WAITING_MAX)
        self.told: dict[str, Any] = {"sent": 0, "failed": 0, "trouble": None}

    def run(self, *, minutes: int | None = None) -> dict[str, Any]:
        """Probe until told to stop, or for so many minutes of market time; what was seen is sent before it returns."""
        end_ms = self.clock.now_ms() + minutes * MINUTE_SECONDS * 1000 if minutes else None
        orders_ms = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            while not self.stop.is_set() and (end_ms is None or self.clock.now_ms() < end_ms):
                if self.clock.now_ms() >= orders_ms:
                    self._quietly(self.fetch_orders)
                    orders_ms = self.clock.now_ms() + ORDER_EVERY_SECONDS * 1000
                for task in self._due():
                    pool.submit(self._do, task)
                self._quietly(self.send)
                self.stop.wait(self._seconds_to_next(orders_ms))
        self._quietly(self.send)
        return self.told | {"waiting": len(self._waiting)}

    def fetch_orders(self) -> None:
        """Learn what is to be probed in the next minutes, and which leases once more at once."""
        asked_ns = clocks.monotonic_ns()
        for answer in self._client.pages("/api/v1/probe-orders", minutes=str(ORDER_MINUTES)):
            self.clock.set_by(answer["now_ms"], asked_ns=asked_ns)
            now_ms = self.clock.now_ms()
            minute_at = now_ms // 1000 // MINUTE_SECONDS * MINUTE_SECONDS
            for order in answer["data"]:
                if order["probe_at_ms"] >= now_ms - 1000:
                    self._plan(Task(order["probe_at_ms"], order["lease"], FIRST, order))
                if order["lease"] in answer["suspects"] and order["minute_at"] == minute_at:
                    self._plan(Task(now_ms, order["lease"], EXTRA, order))
            asked_ns = clocks.monotonic_ns()

    def probe(self, task: Task) -> Seen:
        """Look once."""
        order, nonce = task.order, secrets.token_hex(32)
        probed_at_ms = self.clock.now_ms()
        minute_at = order["minute_at"]
        echo, devices, echo_ms = "", 0, NO_ECHO
        try:
            host, port = place_of(order["probe_address"])
            asked_ns = clocks.monotonic_ns()  # the verifier's own clock: no word of the machine enters its latency
            echo, devices = ask_echo(
                host, port, lease=task.lease, minute_at=minute_at, attempt=task.attempt, nonce=nonce,
                timeout_seconds=ANSWER_SECONDS,
            )  # fmt: skip
            echo_ms = -(-(clocks.monotonic_ns() - asked_ns) // 1_000_000)
        except ProbeRefused:
            pass  # no echo: the statement says so
        port_ok, anchors = answers(order["workload_address"]), [is_open(*anchor) for anchor in self._anchors]
        statement = ProbeStatement(
            verifier=self._verifier, lease=task.lease, machine=order["machine"], minute_at=minute_at,
            attempt=task.attempt, probed_at_ms=probed_at_ms, clock_skew_ms=self.clock.drift_ms or 0, anchors=anchors,
            nonce=nonce, echo=echo, port_ok=port_ok, devices=devices, echo_ms=echo_ms,
        )  # fmt: skip
        is_echo = is_echo_of(bytes.fromhex(order["machine_key"] or ""), statement)
        is_good = is_echo and port_ok and devices >= order["devices"]
        return Seen(statement, all(anchors) and not is_good)

    def send(self) -> None:
        """Send what was seen, oldest first; a report that the market will never take is dropped and counted."""
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            statements = [{"body": each.body.decode(), "signature": each.signature.hex()} for each in batch]
            try:
                self._client.post("/api/v1/probe-reports", {"statements": statements})
                gone = batch
                self.told["sent"] += len(batch)
            except ServerRefused as error:
                problem = error.facts.get("problem") or {}
                item = problem.get("item")
                if not isinstance(item, int) or not 0 <= item < len(batch):
                    raise
                gone = [batch[item]]
                self.told["trouble"] = f"{error} ({error.facts.get('problem_code')})"
            for each in gone:
                self._waiting.remove(each)

    def _do(self, task: Task) -> None:
        try:
            seen = self.probe(task)
        except (AgentError, KeyError, TypeError, ValueError) as error:  # an order in another form stops no other probe
            self.told["trouble"] = f"The order of {task.lease} cannot be read: {error!r}."
            return
        self._waiting.append(sign_statement(self._key, seen.statement))
        if seen.has_failed:
            self.told["failed"] += 1
            if task.attempt == FIRST:
                at_ms = task.order["probe_at_ms"] + task.order["retry_after_seconds"] * 1000
                self._plan(Task(at_ms, task.lease, RETRY, task.order))

    def _plan(self, task: Task) -> None:
        name = (task.lease, task.order["minute_at"], task.attempt)
        with self._lock:
            if name not in self._known:
                self._known.add(name)
                heapq.heappush(self._tasks, task)

    def _due(self) -> list[Task]:
        now_ms, due = self.clock.now_ms(), []
        with self._lock:
            while self._tasks and self._tasks[0].at_ms <= now_ms:
                due.append(heapq.heappop(self._tasks))
            self._known = {name for name in self._known if name[1] > now_ms / 1000 - 10 * MINUTE_SECONDS}
        return due

    def _seconds_to_next(self, orders_ms: int) -> float:
        with self._lock:
            next_ms = min(orders_ms, self._tasks[0].at_ms if self._tasks else orders_ms)
        return min(0.5, self.clock.local_seconds(next_ms - self.clock.now_ms()))

    def _quietly(self, act: Any) -> None:
        try:
            act()
        except AgentError as error:
            self.told["trouble"] = f"{error} ({error.facts.get('problem_code') or error.code})"


def place_of(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, `tcp://host:port` or an https address. Raises ProbeRefused for anything else."""
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        port = parts.port or (443 if parts.scheme == "https" else None)
    except ValueError as error:
        raise ProbeRefused("That is no address.", address=text[:200]) from error
    if not parts.hostname or port is None:
        raise ProbeRefused("An address is host:port.", address=text[:200])
    return parts.hostname, port


def is_open(host: str, port: int) -> bool:
    """Whether somebody takes a connection there."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


def answers(address: str) -> bool:
    """Whether an address that somebody else wrote takes a connection."""
    try:
        return is_open(*place_of(address))
    except ProbeRefused:
        return False
