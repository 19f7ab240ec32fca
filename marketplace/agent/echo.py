"""Answers to probes: one line of JSON in, one line with the machine's signature over nonce and device count out.

    -> {"lease": "…", "minute_at": 1790000040, "attempt": 1, "nonce": "64 hex digits"}
    <- {"echo": "128 hex digits", "devices": 8}

A line with `ask` or `done` is a re-check's and goes to `rechecks.CheckDoor`, where the meter has one.

It signs for leases of this machine and for the minute that runs, so that nobody can collect echoes for later, and it
serves few at a time and briefly, so that nobody can hold it up.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from typing import TYPE_CHECKING, Any

from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import ProbeRefused
from marketplace.agent.keys import MachineKey
from marketplace.agent.statements import EXTRA, FIRST, MINUTE_SECONDS, RETRY, sign_echo

if TYPE_CHECKING:
    from marketplace.agent.rechecks import CheckDoor

LINE_BYTES_MAX = 1024
ANSWER_SECONDS = 1.0
AT_ONCE_MAX = 64
NONCE = re.compile(r"[0-9a-f]{64}")
EARLY_SECONDS = 2  # two clocks may differ by as much


class EchoServer(ThreadingTCPServer):
    """Serves echoes at an address. `devices_of` tells how many devices answer now, by lease."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = AT_ONCE_MAX  # with Python's five, whom a burst leaves out knocks a second later

    def __init__(
        self, address: tuple[str, int], *, key: MachineKey, clock: MarketClock,
        devices_of: Callable[[], Mapping[str, int]], door: "CheckDoor | None" = None,
    ) -> None:  # fmt: skip
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.key, self.clock, self.devices_of, self.door = key, clock, devices_of, door
        self.room = BoundedSemaphore(AT_ONCE_MAX)
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def answer(self, asked: Any) -> dict[str, Any]:
        """The echo to a probe, or the door's answer to a re-check.

        Raises ProbeRefused for another lease, another minute or another form.
        """
        if self.door is not None and isinstance(asked, dict) and ("ask" in asked or "done" in asked):
            return self.door.answer(asked)
        try:
            lease, minute_at, attempt, nonce = (asked[name] for name in ("lease", "minute_at", "attempt", "nonce"))
        except (TypeError, KeyError) as error:
            raise ProbeRefused("A probe names lease, minute, attempt and nonce.") from error
        if type(minute_at) is not int or attempt not in (FIRST, RETRY, EXTRA) or not isinstance(nonce, str):
            raise ProbeRefused("A field of the probe has the wrong kind.")
        devices = self.devices_of()
        if not isinstance(lease, str) or lease not in devices or not NONCE.fullmatch(nonce):
            raise ProbeRefused("That is no lease of this machine, or no nonce.")
        now_at = self.clock.now_ms() / 1000
        # A retry of the last second comes up to 15 seconds into the next minute.
        if minute_at % MINUTE_SECONDS or not -EARLY_SECONDS <= now_at - minute_at < 2 * MINUTE_SECONDS:
            raise ProbeRefused("Echoes are for the minute that runs.", now_at=int(now_at))
        count = devices[lease]
        echo = sign_echo(self.key, lease=lease, minute_at=minute_at, attempt=attempt, nonce=nonce, devices=count)
        return {"echo": echo, "devices": count}


class _Handler(StreamRequestHandler):
    server: EchoServer
    timeout = ANSWER_SECONDS

    def handle(self) -> None:
        if not self.server.room.acquire(blocking=False):
            return
        try:
            line = self.rfile.readline(LINE_BYTES_MAX)
            try:
                answer = self.server.answer(json.loads(line))
            except ProbeRefused as error:
                answer = {"code": error.code, "title": str(error), **error.facts}
            self.wfile.write(json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError, RecursionError):
            return  # whoever asks in another form, or hangs up, gets no answer
        finally:
            self.server.room.release()


def ask_echo(
    host: str, port: int, *, lease: str, minute_at: int, attempt: int, nonce: str, timeout_seconds: float
) -> tuple[str, int]:
    """Ask a machine for its echo: the signature in hex and the devices it names. Raises ProbeRefused without one.

    Whether the signature holds is the caller's question.
    """
    asked = {"lease": lease, "minute_at": minute_at, "attempt": attempt, "nonce": nonce}
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            connection.sendall(json.dumps(asked).encode() + b"\n")
            with connection.makefile("rb") as answers:
                found = json.loads(answers.readline(LINE_BYTES_MAX))
        echo, devices = found["echo"], found["devices"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProbeRefused("The machine gave no echo.", cause=type(error).__name__) from error
    if not isinstance(echo, str) or not re.fullmatch(r"[0-9a-f]{128}", echo) or type(devices) is not int:
        raise ProbeRefused("The machine's answer is no echo.")
    if not 0 <= devices < 2**31:
        raise ProbeRefused("The machine's answer is no number of devices.")
    return echo, devices
