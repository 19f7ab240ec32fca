"""What left a machine, hour by hour: out of counters that only rise, never a byte too few, and no guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.agent import outflow
from marketplace.agent.errors import UsageWrong
from marketplace.agent.outflow import (
    Outflow,
    PinnedHour,
    hours_taken,
    interface_of,
    note_taken,
    pinned_hours,
    pins,
)
from marketplace.agent.readings import START
from marketplace.agent.spool import MinuteReading

HOUR = 1_790_000_000 // 86_400 * 86_400  # midnight
LEASE, OTHER = "lease-1", "lease-2"
DAY_ON = HOUR + 86_400


def line(minute: int, out: int | None, *, pinned: tuple[str, ...] = (LEASE,), source: int = 7, limit: int = 0,
         carried: tuple[str, ...] = (), **more: int):  # fmt: skip
    counted = {} if out is None else {"out_bytes": out, "out_source": source}
    own = {f"out_bytes/{lease}": count for lease, count in more.items()}
    counters = counted | own | pins(dict.fromkeys(pinned, limit))
    return MinuteReading("m-1", 1, HOUR + 60 * minute, {}, dict.fromkeys(carried, 1), counters, START.hash)


def alone(minute: int, *, pinned: tuple[str, ...] = (LEASE,), **each: tuple[int, int]):
    """A line of leases that have interfaces of their own: how many bytes each sent, and which interface it was."""
    own = {f"out_bytes/{lease}": count for lease, (count, _) in each.items()}
    sources = {f"out_source/{lease}": source for lease, (_, source) in each.items()}
    counters = {"out_by_lease": 1} | own | sources | pins(dict.fromkeys(pinned, 0))
    return MinuteReading("m-1", 1, HOUR + 60 * minute, {}, {}, counters, START.hash)


def hours(*lines: MinuteReading, now_at: int = DAY_ON) -> dict[tuple[int, str], int]:
    found = pinned_hours(lines, now_at=now_at)
    return {((hour.start_at - HOUR) // 3600, hour.lease): hour.egress_bytes for hour in found}


def whole(out_of_minute=lambda minute: minute) -> list[MinuteReading]:
    return [line(minute, out_of_minute(minute)) for minute in range(-1, 120)]


def test_what_left_in_an_hour_is_the_rise_of_the_counter_over_it() -> None:
    assert hours(*whole()) == {(0, LEASE): 60, (1, LEASE): 60}
    assert hours(*whole(), now_at=HOUR + 3600) == {(0, LEASE): 60}
    assert hours(*whole(), now_at=HOUR + 3599) == {}


def test_minutes_without_a_meter_lose_no_byte_and_an_hours_edge_without_a_line_is_taken_wider() -> None:
    lines = whole()
    assert hours(*lines[:11], *lines[40:]) == {(0, LEASE): 60, (1, LEASE): 60}  # killed and started again
    # Off from minute 50 of one hour to 10 of the next: what left then is told of both.
    assert hours(*lines[:51], *lines[71:]) == {(0, LEASE): 71, (1, LEASE): 70}


@pytest.mark.parametrize("broken", [
    lambda lines: lines[1:], lambda lines: lines[:60],
    lambda lines: [*lines[:30], line(29, 0), *lines[31:]],
    lambda lines: [*lines[:30], *(line(minute, 1_000 + minute, source=8) for minute in range(29, 120))],
    lambda lines: [line(minute, None) for minute in range(-1, 120)],
])  # fmt: skip
def test_an_hour_that_is_not_known_whole_is_not_reported(broken) -> None:
    assert (0, LEASE) not in hours(*broken(whole()))


def test_a_meter_that_says_nothing_for_a_while_is_no_gap() -> None:
    lines = whole()
    assert hours(*lines[:20], line(19, None), *lines[21:]) == {(0, LEASE): 60, (1, LEASE): 60}


def test_bytes_of_a_named_lease_are_its_own() -> None:
    both = (LEASE, OTHER)
    lines = [line(-1, 5, pinned=())] + [line(minute, 5, pinned=both, **{LEASE: 100}) for minute in range(60)]

    assert hours(*lines) == {(0, LEASE): 100, (0, OTHER): 0}


def test_bytes_of_nobody_are_told_of_each_of_several_leases_only_up_to_what_it_may() -> None:
    """Nobody can say whose they were: no lease is told to have sent what another may have sent."""
    both = (LEASE, OTHER)
    lines = [line(minute, 3 * (minute > 30), pinned=both) for minute in range(-1, 60)]
    assert hours(*lines) == {}
    assert hours(*(line(minute, 7, pinned=both) for minute in range(-1, 60))) == {(0, LEASE): 0, (0, OTHER): 0}
    may = [line(minute, 3 * (minute > 30), pinned=both, limit=3) for minute in range(-1, 60)]
    assert hours(*may) == {(0, LEASE): 3, (0, OTHER): 3}
    # The other lease need not be pinned to have sent them, and need not run for more than a minute of the hour.
    beside = [line(minute, 3 * (minute > 30), carried=both if minute == 12 else (LEASE,)) for minute in range(-1, 60)]
    assert hours(*beside) == {}
    assert hours(*(line(minute, 3 * (minute > 30), carried=(LEASE,)) for minute in range(-1, 60))) == {(0, LEASE): 3}


def test_leases_on_interfaces_of_their_own_are_told_apart() -> None:
    both = (LEASE, OTHER)
    lines = [alone(minute, pinned=both, **{LEASE: (50 + minute, 3), OTHER: (9, 4)}) for minute in range(-1, 60)]
    assert hours(*lines) == {(0, LEASE): 60, (0, OTHER): 0}
    # One that is made with its lease counts from nothing; one that went, or was made anew, is not known whole.
    made = [alone(-1)] + [alone(minute, **({LEASE: (minute, 3)} if minute > 4 else {})) for minute in range(60)]
    assert hours(*made) == {(0, LEASE): 59}
    assert hours(*made[:40], *(alone(minute) for minute in range(39, 60))) == {}
    assert hours(*made[:40], *(alone(minute, **{LEASE: (minute, 8)}) for minute in range(39, 60))) == {}
    assert hours(*(alone(minute) for minute in range(-1, 60))) == {}  # it never had one: nothing is said
    assert hours(*made[:40], *(line(minute, 0) for minute in range(39, 60))) == {}  # counted otherwise meanwhile


def test_only_hours_in_which_data_was_pinned_are_reported() -> None:
    lines = [line(minute, minute, pinned=(LEASE,) if minute >= 60 else ()) for minute in range(-1, 120)]

    assert hours(*lines) == {(1, LEASE): 60}


def test_what_was_taken_is_remembered_as_long_as_its_lines(tmp_path: Path) -> None:
    first, second = PinnedHour(HOUR, LEASE, 0), PinnedHour(HOUR + 3600, LEASE, 0)

    note_taken(tmp_path, first, oldest_at=0)
    note_taken(tmp_path, second, oldest_at=HOUR)
    assert hours_taken(tmp_path) == {first.name, second.name}
    note_taken(tmp_path, second, oldest_at=HOUR + 1)
    assert hours_taken(tmp_path) == {second.name}


# --- where the counters come from ------------------------------------------------------------------------------------
@pytest.fixture
def interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two interfaces as the kernel shows them."""
    for index, (name, sent) in enumerate((("lease0", 100), ("lease1", 23)), start=3):
        (tmp_path / name / "statistics").mkdir(parents=True)
        (tmp_path / name / "statistics" / "tx_bytes").write_text(f"{sent}\n")
        (tmp_path / name / "ifindex").write_text(f"{index}\n")
    monkeypatch.setattr(outflow, "INTERFACES", tmp_path)
    return tmp_path


def test_bytes_that_the_named_interfaces_sent_are_counted_and_one_made_anew_is_another_source(interfaces: Path) -> None:
    both = Outflow(interfaces=["lease0", "lease1"])
    before = both.counters()
    assert before["out_bytes"] == 123
    assert Outflow(interfaces=["lease0"]).counters()["out_bytes"] == 100

    (interfaces / "lease1" / "ifindex").write_text("9\n")
    after = both.counters()
    assert after["out_bytes"] == before["out_bytes"]
    assert after["out_source"] != before["out_source"]
    (interfaces / "lease1" / "statistics" / "tx_bytes").unlink()
    assert both.counters() == {}  # it is gone: nothing is said, and not that nothing left


def test_the_interface_of_a_lease_is_the_hosts_end_and_what_it_received_left(interfaces: Path) -> None:
    lease, other = "01a28071-2dc3-7076-b208-1aa870830c11", "01a28071-2dc3-7076-b208-000000000000"
    name = interface_of(lease)
    assert name == "gx-1aa870830c11"
    (interfaces / name / "statistics").mkdir(parents=True)
    (interfaces / name / "statistics" / "rx_bytes").write_text("77\n")
    (interfaces / name / "statistics" / "tx_bytes").write_text("1\n")
    (interfaces / name / "ifindex").write_text("5\n")

    found = Outflow(by_lease=True).counters([lease, other])
    assert found.pop(f"out_source/{lease}") > 0
    assert found == {"out_by_lease": 1, f"out_bytes/{lease}": 77}
    with pytest.raises(UsageWrong):
        Outflow(by_lease=True, interfaces=["lease0"])


def test_a_command_lists_what_went_where_and_inside_is_not_out() -> None:
    lines = "10.20.3.4 1000\\n::ffff:10.20.3.5 500\\nfd00::9 40\\n198.51.100.7 3\\n203.0.113.9 2 lease-1\\n"
    found = Outflow(command=f"printf '{lines}'", inside=["10.20.0.0/16", "fd00::/8"]).counters()

    del found["out_source"]
    assert found == {"out_bytes": 3, "out_bytes/lease-1": 2}
    assert Outflow(command=f"printf '{lines}'").counters()["out_bytes"] == 1543
    assert Outflow(command="true").counters()["out_bytes"] == 0  # it answers: nothing went anywhere


@pytest.mark.parametrize("command", [
    "false", "no-such-command", "echo 198.51.100.7", "echo 198.51.100.7 -1", "echo 198.51.100.7 1 lease more",
    "echo somewhere 1", "sh -c 'echo 198.51.100.7 1; exit 3'",
])  # fmt: skip
def test_a_command_that_fails_or_prints_anything_else_says_nothing(command: str) -> None:
    assert Outflow(command=command).counters() == {}


def test_without_a_source_nothing_is_counted_and_what_cannot_be_counted_is_refused(interfaces: Path) -> None:
    assert Outflow().counters() == {}
    for wrong in ({"interfaces": ["lease0"], "command": "true"}, {"interfaces": ["eth9"]},
                  {"interfaces": ["lease0"], "inside": ["10.0.0.0/8"]}, {"command": "true", "inside": ["10.0.0.1/8"]},
                  {"command": "true", "inside": ["home"]}):  # fmt: skip
        with pytest.raises(UsageWrong):
            Outflow(**wrong)
