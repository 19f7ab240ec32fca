"""Ids sort by time or follow from their parts; fail points do nothing until a test arms them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from ledger import faults
from ledger.ids import chain_reference, uuid7, uuid_from

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


def test_a_new_id_is_of_version_seven_and_carries_its_time():
    id = uuid7(NOW)

    assert (id.version, id.variant) == (7, "specified in RFC 4122")
    assert id.int >> 80 == int(NOW.timestamp() * 1000)


def test_new_ids_sort_by_their_time_and_never_repeat():
    ids = [uuid7(NOW + timedelta(microseconds=step)) for step in range(0, 5000, 7)]

    assert ids == sorted(ids)
    assert len({uuid7(NOW) for _ in range(1000)}) == 1000


def test_the_same_parts_give_the_same_id():
    id = uuid_from("settle", "lease", b"\x01")

    assert id == uuid_from("settle", "lease", b"\x01") != uuid_from("settle", "lease", b"\x02")
    assert (id.version, id.variant) == (8, "specified in RFC 4122")


def test_parts_are_not_run_together():
    assert uuid_from("ab", "c") != uuid_from("a", "bc")
    with pytest.raises(ValueError, match="at least one"):
        uuid_from()


def test_a_chain_reference_is_a_block_hash_and_a_log_index():
    assert chain_reference("0x" + "ab" * 32, 5) == bytes.fromhex("ab" * 32) + b"\x00\x00\x00\x05"
    assert chain_reference(b"\x01" * 32, 0) == b"\x01" * 32 + bytes(4)
    with pytest.raises(ValueError, match="32 bytes"):
        chain_reference("0xab", 0)


def test_a_point_does_nothing_until_it_is_armed():
    faults.point("here")
    with faults.armed("here"), pytest.raises(faults.FaultInjected):
        faults.point("here")
    faults.point("here")


def test_a_point_can_run_what_a_test_hands_in():
    seen = []
    with faults.armed("here", lambda: seen.append("outer")), faults.armed("here", lambda: seen.append("inner")):
        faults.point("here")
        faults.point("elsewhere")

    assert seen == ["inner"]


def test_a_child_process_is_armed_by_its_environment():
    program = "from ledger import faults; faults.point('here'); print('alive')"

    def run(armed: str) -> subprocess.CompletedProcess[bytes]:
        environment = os.environ | {"GROVE_FAULTS": armed}
        return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)

    killed, alive = run("here=kill"), run("other=kill")

    assert (killed.returncode, killed.stdout) == (-9, b"")
    assert alive.stdout == b"alive\n"
    with pytest.raises(ValueError, match="name=kill"):
        faults._from_environment("here")
