"""Readings on disk: nothing is lost between two lines, nothing is said twice, nothing grows without end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketplace.agent.errors import SpoolBroken
from marketplace.agent.keys import create_key
from marketplace.agent.readings import START, ChainHead
from marketplace.agent.spool import DAYS_KEPT, Slot, Spool, check_lines
from pricing.metering import FULL_WORD

HOUR = 1_790_000_000 // 86_400 * 86_400  # midnight
LEASE, OTHER = "lease-1", "lease-2"


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return create_key(tmp_path_factory.mktemp("key") / "home")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "spool"


def write(spool: Spool, key, minute: int, units: int = 4, **changes: dict[str, int]):
    facts = {"up": {LEASE: units}, "owed": {LEASE: 4}, "counters": {"sent_bytes": minute}} | changes
    return spool.append(key, machine="m-1", minute_at=HOUR + 60 * minute, **facts)


def test_lines_survive_the_process_in_one_chain(key, folder):
    spool = Spool(folder)
    first, second = write(spool, key, 0), write(spool, key, 1)

    again = Spool(folder)

    assert again.lines == (first, second)
    assert (first.sequence, second.sequence, first.previous) == (1, 2, START.hash)
    assert write(again, key, 2).sequence == 3
    assert len(list(check_lines(folder, key.public_bytes))) == 3
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_cut_at_any_byte_loses_the_line_that_was_being_written_and_no_other(key, folder, tmp_path):
    spool = Spool(folder)
    for minute in range(3):
        write(spool, key, minute)
    (file,) = folder.glob("*.log")
    data = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]

    for cut in range(len(data) + 1):
        file.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert len(Spool(folder, is_reader=True).lines) == whole
    file.write_bytes(data[: ends[1] + 7])
    assert write(Spool(folder), key, 2).sequence == 3
    assert file.read_bytes() == data  # the torn end was cut off, and the same line written again


def test_a_reader_changes_nothing_while_the_meter_writes(key, folder):
    write(Spool(folder), key, 0)
    (file,) = folder.glob("*.log")
    torn = file.read_bytes() + b"half a li"
    file.write_bytes(torn)

    assert len(Spool(folder, is_reader=True).lines) == 1
    assert file.read_bytes() == torn


@pytest.mark.parametrize("wrong", [
    lambda lines: [lines[0], lines[2]], lambda lines: [lines[0], lines[0], lines[1]],
    lambda lines: [lines[0].replace(b'"up":{"lease-1":3}', b'"up":{"lease-1":4}'), *lines[1:]],
    lambda lines: [lines[0], b"garbage\n", *lines[1:]],
])  # fmt: skip
def test_a_line_that_was_taken_out_doubled_or_changed_is_noticed(wrong, key, folder):
    spool = Spool(folder)
    for minute in range(3):
        write(spool, key, minute, units=3)
    (file,) = folder.glob("*.log")
    file.write_bytes(b"".join(wrong(file.read_bytes().splitlines(keepends=True))))

    with pytest.raises(SpoolBroken, match="not as it was written"):
        Spool(folder)


def test_a_minute_is_written_once_also_when_the_clock_is_set_back(key, folder):
    spool = Spool(folder)
    write(spool, key, 5)

    for minute in (5, 4):
        with pytest.raises(SpoolBroken, match="has its line"):
            write(spool, key, minute)
    assert len(Spool(folder).lines) == 1


def test_an_hour_becomes_one_word_per_lease_once_it_is_over(key, folder):
    spool = Spool(folder)
    for minute in range(60):
        if minute == 30:
            continue  # no line: the machine was off
        both = {"up": {LEASE: 3 if minute == 10 else 4, OTHER: 2}, "owed": {LEASE: 4, OTHER: 2}}
        write(spool, key, minute, **both)
    write(spool, key, 60)

    assert spool.slots_over(HOUR + 3599) == []
    gaps = FULL_WORD & ~(1 << 30)
    assert spool.slots_over(HOUR + 3600) == [Slot(HOUR, LEASE, gaps & ~(1 << 10)), Slot(HOUR, OTHER, gaps)]


def test_what_was_taken_is_not_sent_again_and_an_hour_without_a_line_never(key, folder):
    spool = Spool(folder)
    for minute in (0, 200):  # hours 1 and 2 have no line
        write(spool, key, minute)
    first, last = spool.slots_over(HOUR + 14_400)
    head = ChainHead(7, "ab" * 32)

    spool.note_taken([first], head)

    again = Spool(folder)
    assert again.slots_over(HOUR + 14_400) == [last]
    assert again.taken.head == head
    assert last.slot_start_at == HOUR + 10_800


def test_days_beyond_the_limit_are_dropped_whole_and_the_chain_goes_on(key, folder):
    spool = Spool(folder)
    for day in range(DAYS_KEPT + 4):
        write(spool, key, 1440 * day)

    kept = Spool(folder)

    assert len(list(folder.glob("*.log"))) == DAYS_KEPT + 1
    assert [line.sequence for line in kept.lines] == list(range(4, DAYS_KEPT + 5))
    assert write(kept, key, 1440 * 11).sequence == DAYS_KEPT + 5


WRITER = """
import sys
from pathlib import Path
from marketplace.agent.keys import load_key
from marketplace.agent.spool import Spool
home = Path(sys.argv[1])
key, spool = load_key(home), Spool(home / "spool")
minute = spool.lines[-1].minute_at if spool.lines else {start}
while True:
    minute += 60
    spool.append(key, machine="m-1", minute_at=minute, up={{"l": 1}}, owed={{"l": 1}}, counters={{"pad": 10**9}})
    print(spool.lines[-1].sequence, flush=True)
"""


def test_kill_9_at_any_moment_leaves_every_line_that_was_told(tmp_path):
    home = tmp_path / "home"
    create_key(home)
    told = 0
    for wait_seconds in (0.0, 0.013, 0.004):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(start=HOUR), str(home)], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(5):
            told = int(process.stdout.readline())
        time.sleep(wait_seconds)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()  # through the same buffer as the lines before: `communicate` reads past it
        process.wait()
        process.stdout.close()
        whole = rest.rpartition("\n")[0].split()
        told = int(whole[-1]) if whole else told

        kept = Spool(home / "spool", is_reader=True).lines
        assert [line.sequence for line in kept] == list(range(1, len(kept) + 1))
        assert len(kept) - told in (0, 1)  # at most the one that was on the disk and not told yet
