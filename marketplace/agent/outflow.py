"""What left a machine: counted beside each minute's line, and folded into one number per hour of each pinned lease.

The counters rise for as long as their source stands, so what left in an hour is the counter at its end less the one at
its beginning: a meter that was killed and started again misses no byte. Where the minutes at an hour's edge have no
line the span is taken wider, never a byte too few. An hour in which the source began anew (the machine was started
again, an interface was made anew) or a counter fell is not known whole and is not reported: silence is no claim.
"""

import hashlib
import ipaddress
import json
import shlex
import subprocess
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from marketplace.agent.errors import UsageWrong
from marketplace.agent.home import write_file
from marketplace.agent.readings import SLOT_SECONDS
from marketplace.agent.spool import MINUTE_SECONDS, MinuteReading

COMMAND_SECONDS_MAX = 5.0
INTERFACES = Path("/sys/class/net")
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
OUT, SOURCE, PINNED = "out_bytes", "out_source", "pinned"  # counters of a line; of one lease: "out_bytes/LEASE"
TAKEN_FILE = "egress.json"


class Outflow:
    """Counts bytes out: of the interfaces over which data can leave, or by a command that lists what went where.

    The command prints lines of `DESTINATION BYTES`, or `DESTINATION BYTES LEASE` where it knows whose they are, since
    the machine was started; what went to one of the networks `inside` did not leave.
    """

    def __init__(
        self, *, interfaces: Sequence[str] = (), command: str | None = None, inside: Sequence[str] = ()
    ) -> None:
        if interfaces and command:
            raise UsageWrong("Count what leaves by interfaces or by a command, not by both: it would count twice.")
        if inside and not command:
            raise UsageWrong("An interface does not say where to: name inside networks with --egress-command.")
        missing = [name for name in interfaces if not _counter_of(name).is_file()]
        if missing:
            raise UsageWrong("There is no such network interface here.", missing=missing)
        self._interfaces, self._command = tuple(interfaces), shlex.split(command) if command else None
        self._inside = [_network(text) for text in inside]

    @property
    def counts(self) -> bool:
        """Whether anything is counted at all."""
        return bool(self._interfaces or self._command)

    def counters(self) -> dict[str, int]:
        """The counters of a line; none where the source does not answer: nothing is said then."""
        if not self.counts:
            return {}
        try:
            found = self._listed() if self._command else {OUT: self._sent()}
            return {**found, SOURCE: self._source()}
        except (OSError, ValueError, subprocess.SubprocessError):
            return {}

    def _sent(self) -> int:
        return sum(int(_counter_of(name).read_text()) for name in self._interfaces)

    def _listed(self) -> dict[str, int]:
        assert self._command is not None
        done = subprocess.run(
            self._command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        found: dict[str, int] = defaultdict(int)
        found[OUT] = 0
        for line in done.stdout.splitlines():
            where, count, *lease = line.split()
            if len(lease) > 1 or not (count.isascii() and count.isdigit()):
                raise ValueError(line)
            if not self._is_inside(where):
                found["/".join((OUT, *lease))] += int(count)
        return dict(found)

    def _is_inside(self, where: str) -> bool:
        address = ipaddress.ip_address(where)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._inside)

    def _source(self) -> int:
        """Tells one source from the next: another boot, interface or command counts from another beginning."""
        made = [f"{name}={(INTERFACES / name / 'ifindex').read_text().strip()}" for name in self._interfaces]
        words = [BOOT_FILE.read_text().strip(), *made, *(self._command or ()), *map(str, self._inside)]
        return int(hashlib.sha256("\n".join(words).encode()).hexdigest()[:12], 16)


@dataclass(frozen=True)
class PinnedHour:
    """One hour of a lease whose data is pinned, and what left in it."""

    start_at: int  # unix seconds, on the hour
    lease: str
    egress_bytes: int

    @property
    def name(self) -> str:
        return f"{self.start_at}/{self.lease}"


def pins(limits: Mapping[str, int]) -> dict[str, int]:
    """The counters by which a line says whose data was pinned in its minute, and at how many bytes an hour."""
    return {f"{PINNED}/{lease}": limit for lease, limit in limits.items()}


def pinned_hours(lines: Sequence[MinuteReading], *, now_at: int) -> list[PinnedHour]:
    """The hours of pinned leases that are over and known whole, oldest first."""
    counted = [line for line in lines if {OUT, SOURCE} <= line.counters.keys()]
    minutes = [line.minute_at for line in counted]
    wanted = {
        (line.minute_at // SLOT_SECONDS * SLOT_SECONDS, name.partition("/")[2])
        for line in lines for name in line.counters if name.startswith(f"{PINNED}/")
    }  # fmt: skip
    found = []
    for start_at, lease in sorted(wanted):
        first = bisect_right(minutes, start_at - MINUTE_SECONDS) - 1  # the last line before the hour
        last = bisect_left(minutes, start_at + SLOT_SECONDS - MINUTE_SECONDS)  # the first that holds its last minute
        if first < 0 or last == len(counted) or start_at + SLOT_SECONDS > now_at:
            continue
        left = _risen(counted[first : last + 1], (OUT, f"{OUT}/{lease}"))
        if left is not None:
            found.append(PinnedHour(start_at, lease, left))
    return found


def hours_taken(folder: Path) -> set[str]:
    """Names of the hours that the market took, or will never take."""
    path = folder / TAKEN_FILE
    return set(json.loads(path.read_bytes())["hours"]) if path.exists() else set()


def note_taken(folder: Path, hour: PinnedHour, *, oldest_at: int) -> None:
    """Remember that the market took an hour; hours older than any line are forgotten."""
    names = sorted(name for name in {*hours_taken(folder), hour.name} if int(name.split("/")[0]) >= oldest_at)
    write_file(folder / TAKEN_FILE, json.dumps({"hours": names}).encode() + b"\n")


def _risen(lines: Sequence[MinuteReading], names: Sequence[str]) -> int | None:
    """By how much counters of one source rose over lines; None where one fell or the source is another."""
    if len({line.counters[SOURCE] for line in lines}) != 1:
        return None
    values = [[line.counters.get(name, 0) for line in lines] for name in names]
    if any(later < earlier for row in values for earlier, later in pairwise(row)):
        return None
    return sum(row[-1] - row[0] for row in values)


def _counter_of(interface: str) -> Path:
    return INTERFACES / Path(interface).name / "statistics" / "tx_bytes"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageWrong("An inside network is written like 10.20.0.0/16 or fd00::/8.", given=text) from error
