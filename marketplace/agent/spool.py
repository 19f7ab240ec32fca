"""Minute readings on disk: one signed line a minute, each naming the line before it, whatever the network does.

A line is what a machine says of one minute: its leases with the units that are up, and its counters. Lines lie in one
file per UTC day. A line is on the disk before the next minute begins, so a kill or a power cut loses at most the line
that was being written, and that one is cut off when the files are opened again. Files older than the days to keep are
dropped as a whole, so the folder is bounded.

What goes to the market is folded out of the lines: one report per lease and hour, bit m set when all leased units were
up in minute m (`readings.py`). How far the market has taken them stands in `taken.json`. An hour of which there is no
line at all is not reported: silence is no claim.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from marketplace.agent.errors import SpoolBroken
from marketplace.agent.home import sync_folder, write_file
from marketplace.agent.keys import MachineKey, is_signed_by
from marketplace.agent.readings import SLOT_SECONDS, START, ChainHead

MINUTE_SECONDS, DAY_SECONDS = 60, 86_400
DAYS_KEPT = 7
LINE_PREFIX = b"grove-exchange minute 1\n"
TAKEN_FILE = "taken.json"
LINE_BYTES_MAX = 1 << 16
PINNED = "pinned"  # the counter "pinned/LEASE" of a line: how many bytes of it may leave in an hour


@dataclass(frozen=True)
class MinuteReading:
    """One minute of one machine as it saw itself."""

    machine: str
    sequence: int  # 1, 2, 3 ... over all lines ever written here
    minute_at: int  # unix seconds, on the minute
    up: dict[str, int]  # lease: units of it that were up
    owed: dict[str, int]  # lease: units of it that are leased
    counters: dict[str, int]  # what the machine counts since it was started, such as bytes sent; what is pinned
    previous: str  # hex SHA-256 of the line before; 64 zeros for the first

    @cached_property
    def pinned(self) -> dict[str, int]:
        """The leases whose data is pinned, and how many bytes an hour may leave: read again with each later line."""
        before = f"{PINNED}/"
        return {name.removeprefix(before): most for name, most in self.counters.items() if name.startswith(before)}


@dataclass(frozen=True)
class Slot:
    """What the lines of one hour say of one lease."""

    slot_start_at: int  # unix seconds
    lease: str
    up_word: int  # bit m: every leased unit was up in minute m


@dataclass(frozen=True)
class Taken:
    """How far the market has taken what was folded out of the lines."""

    head: ChainHead  # of the chain of slot reports
    slots: tuple[str, ...] = ()  # "start/lease" of the slots that were sent and may still have lines here


class Spool:
    """The lines in one folder. Raises SpoolBroken where a line in the middle is not as it was written.

    A reader passes over a torn end; the one writer, who holds the lock of the home, cuts it off.
    """

    def __init__(self, folder: Path, *, days_kept: int = DAYS_KEPT, is_reader: bool = False) -> None:
        self.folder, self._days_kept, self._is_reader = folder, days_kept, is_reader
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._head = START
        self._last_minute_at = 0
        self._lines: list[MinuteReading] = []
        for path in self._files():
            self._read(path, is_last=path == self._files()[-1])

    # --- writing ---
    def append(
        self, key: MachineKey, *, machine: str, minute_at: int, up: Mapping[str, int], owed: Mapping[str, int],
        counters: Mapping[str, int],
    ) -> MinuteReading:  # fmt: skip
        """Sign the line of a minute and put it on the disk. A minute that has its line, or an earlier one, is refused.

        Raises SpoolBroken for such a minute: the clock was set back, and nothing is said twice.
        """
        if minute_at <= self._last_minute_at or minute_at % MINUTE_SECONDS:
            raise SpoolBroken("That minute has its line already.", minute_at=minute_at, last=self._last_minute_at)
        reading = MinuteReading(
            machine, self._head.sequence + 1, minute_at, dict(up), dict(owed), dict(counters), self._head.hash
        )
        body = _body_of(reading)
        line = key.sign(LINE_PREFIX + body).hex().encode() + b" " + body + b"\n"
        path = self.folder / _name_of(minute_at)
        is_new = not path.exists()
        with path.open("ab", buffering=0) as file:
            path.chmod(0o600)
            file.write(line)
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.folder)
        self._note(reading, body)
        self.drop_before(minute_at - self._days_kept * DAY_SECONDS)
        return reading

    def drop_before(self, limit_at: int) -> int:
        """Drop the files of days that ended before a moment; returns how many lines went with them."""
        kept = [reading for reading in self._lines if _day(reading.minute_at) >= _day(limit_at)]
        dropped = len(self._lines) - len(kept)
        if dropped:
            for path in self._files():
                if path.name < _name_of(limit_at):
                    path.unlink()
            self._lines = kept
        return dropped

    def note_taken(self, slots: list[Slot], head: ChainHead) -> None:
        """Remember that the market took these slots, and where its chain stands now."""
        oldest = self._lines[0].minute_at - SLOT_SECONDS if self._lines else 0
        names = {*self.taken.slots, *(f"{slot.slot_start_at}/{slot.lease}" for slot in slots)}
        kept = sorted(name for name in names if int(name.split("/")[0]) >= oldest)
        content = {"sequence": head.sequence, "hash": head.hash, "slots": kept}
        write_file(self.folder / TAKEN_FILE, json.dumps(content).encode() + b"\n")

    # --- reading ---
    @property
    def taken(self) -> Taken:
        """How far the market has taken the slots; at the start nothing."""
        path = self.folder / TAKEN_FILE
        if not path.exists():
            return Taken(START)
        found = json.loads(path.read_bytes())
        return Taken(ChainHead(found["sequence"], found["hash"]), tuple(found["slots"]))

    @property
    def lines(self) -> tuple[MinuteReading, ...]:
        """All lines that are kept, oldest first."""
        return tuple(self._lines)

    def slots_over(self, now_at: int) -> list[Slot]:
        """The slots that are over at a moment and not taken yet, in the order in which they are reported."""
        words: dict[tuple[int, str], int] = defaultdict(int)
        for reading in self._lines:
            start_at = reading.minute_at // SLOT_SECONDS * SLOT_SECONDS
            if start_at + SLOT_SECONDS > now_at:
                continue
            for lease, owed in reading.owed.items():
                is_up = reading.up.get(lease, 0) >= owed
                words[start_at, lease] |= is_up << (reading.minute_at - start_at) // MINUTE_SECONDS
        done = set(self.taken.slots)
        return [
            Slot(start_at, lease, word)
            for (start_at, lease), word in sorted(words.items())
            if f"{start_at}/{lease}" not in done
        ]

    # --- files ---
    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("????-??-??.log"))

    def _read(self, path: Path, *, is_last: bool) -> None:
        data = path.read_bytes()
        whole = 0
        for number, line in enumerate(data.splitlines(keepends=True), start=1):
            try:
                reading, body = _parse(line)
                if self._lines and reading.previous != self._head.hash:
                    raise ValueError("another line stood before it")
            except (ValueError, TypeError, KeyError) as error:
                # Only the end of the newest file may be torn: whoever was killed while writing wrote no more.
                if is_last and not line.endswith(b"\n"):
                    break
                raise SpoolBroken(
                    f"Line {number} of {path.name} is not as it was written; move the file away to go on.",
                    path=str(path), line=number, cause=str(error),
                ) from error  # fmt: skip
            whole += len(line)
            self._note(reading, body)
        if whole < len(data) and not self._is_reader:
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def _note(self, reading: MinuteReading, body: bytes) -> None:
        self._lines.append(reading)
        self._head = ChainHead(reading.sequence, hashlib.sha256(body).hexdigest())
        self._last_minute_at = reading.minute_at


def check_lines(folder: Path, public_key: bytes) -> Iterator[MinuteReading]:
    """The lines of a folder, each with its signature checked: what a third person does with a copy of the files."""
    for path in sorted(folder.glob("????-??-??.log")):
        for line in path.read_bytes().splitlines(keepends=True):
            signature, _, body = line.rstrip(b"\n").partition(b" ")
            if not is_signed_by(public_key, LINE_PREFIX + body, bytes.fromhex(signature.decode())):
                raise SpoolBroken("A line is not signed by this key.", path=str(path))
            yield _parse(line)[0]


def _parse(line: bytes) -> tuple[MinuteReading, bytes]:
    signature, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or len(signature) != 128 or len(line) > LINE_BYTES_MAX:
        raise ValueError("a torn line")
    reading = MinuteReading(**json.loads(body))
    if _body_of(reading) != body:
        raise ValueError("another form")
    return reading, body


def _body_of(reading: MinuteReading) -> bytes:
    return json.dumps(asdict(reading), sort_keys=True, separators=(",", ":")).encode()


def _name_of(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}.log"


def _day(at: int) -> int:
    return at // DAY_SECONDS
