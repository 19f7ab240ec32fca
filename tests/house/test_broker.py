"""The queue in a folder: whole messages, in order, each taken once; rubbish costs nothing."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection

import marketplace.celery  # noqa: F401  puts our transport in place


@pytest.fixture
def queue_folder(tmp_path: Path) -> Path:
    """Return the folder whose files are the messages."""
    return tmp_path / "messages"


@pytest.fixture
def connection(queue_folder: Path) -> Iterator[Connection]:
    """Return a connection to a queue in an empty folder."""
    options = {"data_folder_in": str(queue_folder), "data_folder_out": str(queue_folder)}
    options["control_folder"] = str(queue_folder.parent / "control")
    with Connection("filesystem://localhost", transport_options=options | {"polling_interval": 0.01}) as made:
        yield made


def test_messages_come_out_once_and_in_order(connection: Connection) -> None:
    with connection.SimpleQueue("work") as queue:
        for number in range(20):
            queue.put(number)
        assert [queue.get(timeout=60).payload for _ in range(20)] == list(range(20))

        with pytest.raises(Empty):
            queue.get_nowait()


def test_racing_takers_share_the_messages_without_a_double(connection: Connection) -> None:
    with connection.SimpleQueue("work") as queue:
        for number in range(200):
            queue.put(number)
    taken: Counter[int] = Counter()

    def take() -> None:
        with connection.clone() as own, own.SimpleQueue("work") as queue:
            while True:
                try:
                    message = queue.get_nowait()
                except Empty:
                    return
                message.ack()  # what is not acknowledged goes back when the connection closes
                taken[message.payload] += 1

    takers = [threading.Thread(target=take) for _ in range(4)]
    for each in takers:
        each.start()
    for each in takers:
        each.join()

    assert taken == Counter(range(200))


def test_a_half_written_message_is_dropped_and_the_next_one_arrives(connection: Connection, queue_folder: Path) -> None:
    with connection.SimpleQueue("work") as queue:
        queue.put("whole")
        whole = next(queue_folder.glob("*.msg"))
        (queue_folder / f"{0:020d}_{whole.name.partition('_')[2]}").write_text('{"body": "ha')

        assert queue.get(timeout=60).payload == "whole"
        assert list(queue_folder.glob("*.msg")) == []


def test_two_queues_in_one_folder_do_not_mix(connection: Connection) -> None:
    with connection.SimpleQueue("one") as one, connection.SimpleQueue("one.more") as more:
        one.put(1)
        more.put(2)

        assert more.get(timeout=60).payload == 2
        assert one.get(timeout=60).payload == 1


def test_a_wiped_folder_stops_nobody(connection: Connection, queue_folder: Path) -> None:
    with connection.SimpleQueue("work") as queue:
        queue.put("lost")
        shutil.rmtree(queue_folder)
        shutil.rmtree(queue_folder.parent / "control", ignore_errors=True)

        queue.put("after")

        assert queue.get(timeout=60).payload == "after"
