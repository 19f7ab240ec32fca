"""What left a machine: counted beside each minute's line, and folded into one number per hour of each pinned lease.

The counters rise for as long as their source stands, so what left in an hour is the counter at its end less the one at
its beginning: a meter that was killed and started again misses no byte. Where the minutes at an hour's edge have no
line the span is taken wider, never a byte too few. An hour in which the source began anew (the machine was started
again, an interface was made anew) or a counter fell is not known whole and is not reported: silence is no claim.

Whose bytes they were is known where each lease has an interface of its own, or where the command names leases. What is
counted for a machine as a whole while it carries several leases is only the most that each can have sent: it is told of
a lease where that much was allowed, and otherwise that hour of it is not told. The market credits an hour of pinned
data that nobody told of.
"""

import hashlib
import ipaddress
import json
import shlex
import subprocess
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from marketplace.agent.errors import UsageWrong
from marketplace.agent.home import write_file
from marketplace.agent.readings import SLOT_SECONDS
from marketplace.agent.spool import MINUTE_SECONDS, PINNED, MinuteReading

COMMAND_SECONDS_MAX = 5.0
INTERFACES = Path("/sys/class/net")
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
OUT, SOURCE = "out_bytes", "out_source"  # counters of a line; of one lease: "out_bytes/LEASE"
BY_LEASE = "out_by_lease"  # 1 in a line whose leases are counted on interfaces of their own
TAKEN_FILE = "egress.json"


class Outflow:
    """Counts bytes out: of the interfaces over which data can leave, of one for each lease, or by a command.

    A lease's own interface is the host's end of its workload's veth pair, called as `interface_of` says: what arrives
    there is what the workload sent. The command lists what went where: it prints lines of `DESTINATION BYTES`, or
    `DESTINATION BYTES LEASE` where it knows whose they are, since the machine was started; what went to one of the
    networks `inside` did not leave.
    """

    def __init__(
        self, *, interfaces: Sequence[str] = (), command: str | None = None, inside: Sequence[str] = (),
        by_lease: bool = False,
    ) -> None:  # fmt: skip
        if sum(map(bool, (interfaces, command, by_lease))) > 1:
            raise UsageWrong("Count what leaves by interfaces or by a command, not by both: it would count twice.")
        if inside and not command:
            raise UsageWrong("An interface does not say where to: name inside networks with --egress-command.")
        missing = [name for name in interfaces if not _counter_of(name).is_file()]
        if missing:
            raise UsageWrong("There is no such network interface here.", missing=missing)
        self._interfaces, self._command = tuple(interfaces), shlex.split(command) if command else None
        self._inside, self.by_lease = [_network(text) for text in inside], by_lease

    @property
    def counts(self) -> bool:
        """Whether anything is counted at all."""
        return bool(self._interfaces or self._command or self.by_lease)

    def counters(self, leases: Iterable[str] = ()) -> dict[str, int]:
        """The counters of a line; none where the source does not answer: nothing is said then."""
        if not self.counts:
            return {}
        try:
            if self.by_lease:
                return {BY_LEASE: 1, **self._of_each(leases)}
            found = self._listed() if self._command else {OUT: self._sent()}
            return {**found, SOURCE: self._source()}
        except (OSError, ValueError, subprocess.SubprocessError):
            return {}

    def _of_each(self, leases: Iterable[str]) -> dict[str, int]:
        found = {}
        for lease in leases:
            name = interface_of(lease)
            if _counter_of(name, "rx_bytes").is_file():
                found[f"{OUT}/{lease}"] = int(_counter_of(name, "rx_bytes").read_text())
                found[f"{SOURCE}/{lease}"] = self._source((name,))
        return found

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

    def _source(self, interfaces: Sequence[str] = ()) -> int:
        """Tells one source from the next: another boot, interface or command counts from another beginning."""
        names = interfaces or self._interfaces
        made = [f"{name}={(INTERFACES / name / 'ifindex').read_text().strip()}" for name in names]
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
        return name_of(self.start_at, self.lease)


def name_of(start_at: int, lease: str) -> str:
    """The name under which an hour of a lease is remembered."""
    return f"{start_at}/{lease}"


def pins(limits: Mapping[str, int]) -> dict[str, int]:
    """The counters by which a line says whose data was pinned in its minute, and at how many bytes an hour."""
    return {f"{PINNED}/{lease}": limit for lease, limit in limits.items()}


def pinned_hours(lines: Sequence[MinuteReading], *, now_at: int, taken: Set[str] = frozenset()) -> list[PinnedHour]:
    """The hours of pinned leases that are over and known whole, oldest first, without those whose name is taken."""
    wanted = {
        (line.minute_at // SLOT_SECONDS * SLOT_SECONDS, lease): limit
        for line in lines for lease, limit in line.pinned.items()
    }  # fmt: skip
    found = []
    counted = [line for line in lines if {OUT, SOURCE} <= line.counters.keys() or BY_LEASE in line.counters]
    minutes = [line.minute_at for line in counted]
    for (start_at, lease), limit in sorted(wanted.items()):
        if name_of(start_at, lease) in taken:
            continue
        first = bisect_right(minutes, start_at - MINUTE_SECONDS) - 1  # the last line before the hour
        last = bisect_left(minutes, start_at + SLOT_SECONDS - MINUTE_SECONDS)  # the first that holds its last minute
        if first < 0 or last == len(counted) or start_at + SLOT_SECONDS > now_at:
            continue
        left = _left(counted[first : last + 1], lease, limit)
        if left is not None:
            found.append(PinnedHour(start_at, lease, left))
    return found


def interface_of(lease: str) -> str:
    """The name that a lease's own interface has: 15 letters, the longest that the kernel takes."""
    return f"gx-{lease.replace('-', '')[-12:]}"


def is_shared(line: MinuteReading) -> bool:
    """Whether a line counts several leases together, so that what left is nobody's own."""
    return BY_LEASE not in line.counters and len(_carried(line)) > 1


def _carried(line: MinuteReading) -> set[str]:
    return line.pinned.keys() | line.owed.keys()


def _left(lines: Sequence[MinuteReading], lease: str, limit: int) -> int | None:
    """What left of one lease over lines; None where nobody can say."""
    if any(BY_LEASE in line.counters for line in lines):
        return _risen_alone(lines, lease)
    own, together = _risen(lines, f"{OUT}/{lease}"), _risen(lines, OUT)
    if own is None or together is None:
        return None
    # Of several leases: the most that can be this one's, and no word where that is more than may leave.
    if together and any(map(is_shared, lines)) and own + together > limit:
        return None
    return own + together


def hours_taken(folder: Path) -> set[str]:
    """Names of the hours that the market took, or will never take."""
    path = folder / TAKEN_FILE
    return set(json.loads(path.read_bytes())["hours"]) if path.exists() else set()


def note_taken(folder: Path, hour: PinnedHour, *, oldest_at: int) -> None:
    """Remember that the market took an hour; hours older than any line are forgotten."""
    names = sorted(name for name in {*hours_taken(folder), hour.name} if int(name.split("/")[0]) >= oldest_at)
    write_file(folder / TAKEN_FILE, json.dumps({"hours": names}).encode() + b"\n")


def _risen(lines: Sequence[MinuteReading], name: str) -> int | None:
    """By how much a counter of one source rose over lines; None where it fell or the source is another."""
    if len({line.counters[SOURCE] for line in lines}) != 1:
        return None
    return _rise([line.counters.get(name, 0) for line in lines])


def _risen_alone(lines: Sequence[MinuteReading], lease: str) -> int | None:
    """The same on the lease's own interface, which counts from nothing when it is made; None once it is gone."""
    if not all(BY_LEASE in line.counters for line in lines):
        return None
    name, source = f"{OUT}/{lease}", f"{SOURCE}/{lease}"
    there = [line.counters for line in lines if name in line.counters]
    if not there or there != [line.counters for line in lines[-len(there):]]:
        return None
    if len({counters[source] for counters in there}) != 1:
        return None
    before = [0] if len(there) < len(lines) else []
    return _rise([*before, *(counters[name] for counters in there)])


def _rise(values: Sequence[int]) -> int | None:
    if any(later < earlier for earlier, later in pairwise(values)):
        return None
    return values[-1] - values[0]


def _counter_of(interface: str, counter: str = "tx_bytes") -> Path:
    return INTERFACES / Path(interface).name / "statistics" / counter


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageWrong("An inside network is written like 10.20.0.0/16 or fd00::/8.", given=text) from error
