"""The meter: a heartbeat every 15 seconds, a signed line every minute, a report of every hour, an echo to each probe.

Two threads. One counts and writes: it needs no network and never waits for it. The other speaks to the market: what it
could not send waits on the disk and follows in batches, oldest first, once there is an answer again.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.egress import sign_egress
from marketplace.agent.errors import AgentError, ServerRefused, ServerUnreachable, SpoolBroken, UsageWrong
from marketplace.agent.keys import MachineKey
from marketplace.agent.outflow import (
    OUT,
    Outflow,
    PinnedHour,
    hours_taken,
    interface_of,
    is_shared,
    note_taken,
    pinned_hours,
    pins,
)
from marketplace.agent.presence import Addresses, Presence, id_in_statements
from marketplace.agent.progress import progress
from marketplace.agent.readings import SLOT_SECONDS, START, ChainHead, SignedReport, sign_report
from marketplace.agent.resting import Rest
from marketplace.agent.sensors import Sensors, counters, share_out
from marketplace.agent.spool import Slot, Spool
from marketplace.agent.statements import MINUTE_SECONDS

BEAT_SECONDS, LEASES_SECONDS = 15, 60
BATCH = 100  # statements in one call
SKEW_MS_MAX = 2000
METERS = "cls_"
LEASES_FILE = "leases.json"
GIVEN_UP = ("report_late", "report_replayed", "report_forged", "bad_input")  # nobody will ever take that slot
EGRESS_GIVEN_UP = ("report_late", "reference_reused", "bad_input")  # judged, told before otherwise, or not ours
EGRESS_BATCH = 40  # hours in one turn: each is a call, and heartbeats go on between the turns


@dataclass
class Leases:
    """The running leases of the machine: units per hour of each, by its id as statements write it."""

    units: dict[str, dict[int, int]] = field(default_factory=dict)  # lease: start of the hour, unix seconds: units
    limits: dict[str, int] = field(default_factory=dict)  # lease whose data is pinned: bytes that may leave in an hour

    def owed(self, at: int) -> dict[str, int]:
        """Units of each lease that are leased in the hour around a moment."""
        hour = at // SLOT_SECONDS * SLOT_SECONDS
        return {lease: hours[hour] for lease, hours in self.units.items() if hours.get(hour)}

    def pinned(self, at: int) -> dict[str, int]:
        """The leases of the hour around a moment whose data is pinned, and how many bytes may leave in it."""
        return {lease: self.limits[lease] for lease in self.owed(at) if lease in self.limits}

    @classmethod
    def of_rows(cls, rows: list[dict[str, Any]]) -> "Leases":
        """Out of the market's answer."""
        units = {
            row["lease"]: {row["from_at"] + SLOT_SECONDS * hour: units for hour, units in enumerate(row["units"])}
            for row in rows
        }
        limits = {row["lease"]: row.get("egress_limit_bytes") for row in rows}
        return cls(units, {lease: limit for lease, limit in limits.items() if limit is not None})


class Meter:
    """One machine's meter. `run` works until it is told to stop. Raises UsageWrong for a further unit's prover."""

    def __init__(
        self, home: Path, *, key: MachineKey, machine: str, client: ApiClient, sensors: Sensors,
        addresses: Addresses, clock: MarketClock, days_kept: int, outflow: Outflow | None = None,
        rest: Rest | None = None,
    ) -> None:  # fmt: skip
        if not machine.startswith(METERS):
            raise UsageWrong("This machine was enrolled as one more unit's prover: run stand.")
        self.home, self.clock, self.stop = home, clock, Event()
        self._key, self._machine, self._client = key, machine, client
        self.machine_id = id_in_statements(machine)
        self._sensors, self._addresses = sensors, addresses
        self._outflow, self._rest = outflow or Outflow(), rest or Rest()
        self._spool = Spool(home / "spool", days_kept=days_kept)
        self._lock = Lock()  # over the spool and what stands below
        kept = homes.read_json(home, LEASES_FILE)
        self._leases, self._witnesses = Leases.of_rows(kept.get("rows", [])), list(kept.get("witnesses", []))
        self._least: int | None = None  # the fewest units that any count of the running minute found
        self._minute_at = self._leases_ms = 0
        self._told: dict[str, Any] = {"beat_at_ms": None, "trouble": None, "given_up": 0}
        before = homes.read_json(home, homes.METER_FILE)
        self._presence = Presence(
            key=key, machine_id=self.machine_id, client=client, clock=clock, sequence=int(before.get("sequence", 0))
        )
        if before.get("skew_ms") is not None:
            clock.resume(skew_ms=before["skew_ms"], least_ms=before["at_ms"])
        self._chain: ChainHead | None = None  # of the market; asked for at the first report and after a refusal

    @property
    def waiting(self) -> int:
        """Hours that are over and wait to be sent."""
        with self._lock:
            return len(self._spool.slots_over(self.clock.now_at()))

    @property
    def egress_waiting(self) -> list[PinnedHour]:
        """Hours of pinned leases that are over and counted, and wait to be sent."""
        with self._lock:
            return self._egress_waiting()

    def run(self) -> None:
        """Count until told to stop; what was counted last is on the disk when this returns."""
        speaker = Thread(target=self._speak, daemon=True)
        speaker.start()
        try:
            while not self.stop.is_set():
                self.count()
                now_ms = self.clock.now_ms()
                to_minute = MINUTE_SECONDS * 1000 - now_ms % (MINUTE_SECONDS * 1000)
                self.stop.wait(self.clock.local_seconds(min(to_minute, BEAT_SECONDS * 1000 / 3)) + 0.01)
        finally:
            self.stop.set()
            speaker.join(timeout=10)
            self._tell()

    def devices(self) -> dict[str, int]:
        """Devices of each running lease that answer now."""
        with self._lock:
            owed = self._leases.owed(self.clock.now_at())
        return share_out(self._sensors.units_up(), owed)

    # --- counting ---
    def count(self) -> None:
        """Count the units; when a minute has ended, write its line: the fewest units that were seen in it."""
        units = self._sensors.units_up()
        minute_at = self.clock.now_at() // MINUTE_SECONDS * MINUTE_SECONDS
        counted: Mapping[str, int] = {}
        if minute_at != self._minute_at:  # not under the lock: it may be slow
            with self._lock:
                carried = self._leases.owed(self._minute_at) | self._leases.owed(minute_at)
            counted = self._outflow.counters(sorted(carried))
        with self._lock:
            if minute_at == self._minute_at:
                self._least = units if self._least is None else min(self._least, units)
                return
            ended_at, least = self._minute_at, self._least
            self._minute_at, self._least = minute_at, units
            if least is not None and minute_at > ended_at:
                self._write(ended_at, least, counted)
        self._tell()

    def _write(self, minute_at: int, units: int, counted: Mapping[str, int]) -> None:
        owed, pinned = self._leases.owed(minute_at), pins(self._leases.pinned(minute_at))
        try:
            self._spool.append(
                self._key, machine=self.machine_id, minute_at=minute_at, up=share_out(units, owed), owed=owed,
                counters={
                    **counters(), **counted, **pinned, "units_up": units, "rested_ms": self._rest.rested_ms,
                },
            )  # fmt: skip
        except SpoolBroken as error:  # the clock was set back: that minute was told already
            self._told["trouble"] = str(error)

    # --- speaking ---
    def _speak(self) -> None:
        while not self.stop.is_set():
            trouble = self._skewed() or self._rest.trouble or self._unmetered()
            for step in (self.beat, self._fetch_leases_when_due, self.send_what_waits, self.send_egress):
                try:
                    step()
                except ServerUnreachable as error:
                    trouble = f"{error} ({error.code})"
                    break
                except AgentError as error:  # one door that refuses keeps no other waiting
                    trouble = f"{error} ({error.facts.get('problem_code') or error.code})"
                except (KeyError, TypeError, ValueError, OSError) as error:  # an answer in another form
                    trouble = f"The market's answer cannot be used: {error!r}."
            self._told["trouble"] = trouble
            self.stop.wait(self.clock.local_seconds(BEAT_SECONDS * 1000))

    def beat(self) -> None:
        """Send one heartbeat; its answer sets the clock. Raises ServerRefused or ServerUnreachable."""
        sent_at_ms = self._presence.beat(self.devices(), self._addresses)
        self._told["beat_at_ms"] = sent_at_ms or self._told["beat_at_ms"]

    def fetch_time(self) -> None:
        """Set the clock by the market's."""
        self._presence.fetch_time()

    def _fetch_leases_when_due(self) -> None:
        if self.clock.now_ms() >= self._leases_ms:
            self.fetch_leases()
            self.answer_roll()
            self._leases_ms = self.clock.now_ms() + LEASES_SECONDS * 1000

    def fetch_leases(self) -> None:
        """Learn which leases run on this machine, and keep it for a start without the network."""
        pages = list(self._client.pages(f"/api/v1/node-classes/{self._machine}/leases"))
        rows = [row for page in pages for row in page["data"]]
        witnesses = [str(key) for key in pages[0].get("witnesses", [])]
        with self._lock:
            self._leases, self._witnesses = Leases.of_rows(rows), witnesses
        homes.write_json(self.home, LEASES_FILE, {"rows": rows, "witnesses": witnesses})

    def answer_roll(self) -> bool:
        """Answer the roll call of these machines for this one, if it is open and its units are up."""
        found = self._client.get(f"/api/v1/node-classes/{self._machine}/roll").get("roll")
        return self._presence.answer(found, is_up=found is not None and self._sensors.units_up() > 0)

    def subjects(self) -> set[str]:
        """What verifiers may be let in for: the running leases, and the roll call that was answered."""
        return {*self.devices(), *self._presence.rolls()}

    def witnesses(self) -> list[str]:
        """The keys of the market's verifiers, in hex: who may ask for a re-check."""
        with self._lock:
            return list(self._witnesses)

    def send_what_waits(self, told: Any = None) -> int:
        """Send the hours that are over, oldest first, in batches; returns how many went.

        Reports are signed as they are sent, on top of what the market has taken: a batch whose answer was lost is sent
        again byte by byte and passed over there. An hour that the market no longer hears is given up.
        """
        sent = 0
        while not self.stop.is_set():
            with self._lock:
                slots = self._spool.slots_over(self.clock.now_at())[:BATCH]
            if not slots:
                break
            try:
                self._send(slots)
                sent += len(slots)
            except ServerRefused as error:
                self._mend(error, slots)
            if told is not None:
                told(sent)
        return sent

    def send_egress(self) -> int:
        """Send the hours of pinned leases that are over and counted, oldest first, some in a turn; how many went.

        A report whose answer was lost is the same bytes again, and the market keeps one row of it.
        """
        sent = 0
        for hour in self.egress_waiting[:EGRESS_BATCH]:
            report = sign_egress(
                self._key, lease=hour.lease, slot_start_at=hour.start_at, egress_bytes=hour.egress_bytes
            )
            body = {"report": report.body.decode(), "signature": report.signature.hex()}
            try:
                self._client.post(f"/api/v1/leases/lea_{hour.lease.replace('-', '')}/egress", body)
                sent += 1
            except ServerRefused as error:
                if error.facts.get("problem_code") not in EGRESS_GIVEN_UP:
                    raise
                self._told["given_up"] += 1
            with self._lock:
                oldest = self._spool.lines[0].minute_at if self._spool.lines else hour.start_at
                note_taken(self._spool.folder, hour, oldest_at=oldest - SLOT_SECONDS)
        return sent

    def _egress_waiting(self) -> list[PinnedHour]:
        taken = hours_taken(self._spool.folder)
        return pinned_hours(self._spool.lines, now_at=self.clock.now_at(), taken=taken)

    def _unmetered(self) -> str | None:
        with self._lock:
            pinned = sorted(self._leases.pinned(self.clock.now_at()))
            last = self._spool.lines[-1] if self._spool.lines else None
        if not pinned or (self._outflow.counts and last is None):
            return None
        counted = last.counters if last else {}
        if self._outflow.by_lease:
            missing = [lease for lease in pinned if f"{OUT}/{lease}" not in counted]
            if not missing:
                return None
            return (
                f"The data of lease {missing[0]} is pinned and it has no interface {interface_of(missing[0])}: an hour "
                "that ends without it is credited."
            )
        if OUT not in counted:
            why = "the source gives no answer" if self._outflow.counts else "say --egress-interface or --egress-command"
            return f"The data of lease {pinned[0]} is pinned and not metered ({why}): each such hour is credited."
        if last and is_shared(last) and not any(name.startswith(f"{OUT}/") for name in counted):
            return (
                f"The data of lease {pinned[0]} is pinned, and what leaves is counted for {len(last.owed)} leases "
                "together: an hour in which more left than its pin lets is told of none of them and is credited. Say "
                "--egress-lease-interfaces, or have --egress-command name the lease."
            )
        return None

    def _send(self, slots: list[Slot]) -> None:
        head, signed = self._head(), []
        for slot in slots:
            report, head = sign_report(
                self._key, lease=slot.lease, machine=self.machine_id, slot_start_at=slot.slot_start_at,
                up_word=slot.up_word, head=head,
            )  # fmt: skip
            signed.append(report)
        self._post("/api/v1/readings", signed)
        self._note(slots, head)

    def _mend(self, error: ServerRefused, slots: list[Slot]) -> None:
        """Begin again from where the market stands, else give up what nobody will take. Raises what is neither."""
        problem, code = error.facts.get("problem"), error.facts.get("problem_code")
        item = problem.get("item") if isinstance(problem, Mapping) else None
        if code in ("report_out_of_sequence", "report_replayed"):
            fresh, stood = self._ask_chain(), self._chain
            self._chain = fresh
            if fresh != stood:
                return
        if code in GIVEN_UP and isinstance(item, int) and 0 <= item < len(slots):
            self._told["given_up"] += 1
            self._note([slots[item]], self._head())
        else:
            raise error

    def _head(self) -> ChainHead:
        if self._chain is None:
            taken = self._spool.taken.head
            if taken == START:  # kept before anything is sent: a batch whose answer is lost is sent again as it was
                self._note([], self._ask_chain())
            else:
                self._chain = taken
        assert self._chain is not None
        return self._chain

    def _ask_chain(self) -> ChainHead:
        found = self._client.get(f"/api/v1/node-classes/{self._machine}/chain")
        return ChainHead(found["sequence"], found["head"])

    def _note(self, slots: list[Slot], head: ChainHead) -> None:
        with self._lock:
            self._spool.note_taken(slots, head)
        self._chain = head

    def _post(self, path: str, signed: list[SignedReport]) -> dict[str, Any]:
        statements = [{"body": each.body.decode(), "signature": each.signature.hex()} for each in signed]
        return self._client.post(path, {"statements": statements})

    def _skewed(self) -> str | None:
        skew = self.clock.skew_ms
        if skew is None or abs(skew) <= SKEW_MS_MAX:
            return None
        return f"This machine's clock is {skew / 1000:+.1f} s off the market's; statements carry the market's time."

    def _tell(self) -> None:
        with self._lock:
            last = self._spool.lines[-1] if self._spool.lines else None
            told = self._told | {
                "at_ms": self.clock.now_ms(), "sequence": self._presence.sequence, "skew_ms": self.clock.skew_ms,
                "waiting": len(self._spool.slots_over(self.clock.now_at())),
                "egress_waiting": len(self._egress_waiting()),
                "last": {"minute_at": last.minute_at, "up": last.up, "owed": last.owed} if last else None,
            }  # fmt: skip
        homes.write_json(self.home, homes.METER_FILE, told)


def flush(meter: Meter) -> dict[str, Any]:
    """Send what waits and end. Raises ServerUnreachable or ServerRefused with the rest still waiting."""
    meter.fetch_time()
    with progress("sending readings", meter.waiting) as told:
        sent = meter.send_what_waits(told)
    hours = 0
    while going := meter.send_egress():
        hours += going
    return {"sent": sent, "waiting": meter.waiting, "egress_sent": hours, "egress_waiting": len(meter.egress_waiting)}


def stop_on_signals(stop: Event) -> None:
    """End in good order on SIGTERM and SIGINT."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, frame: stop.set())

