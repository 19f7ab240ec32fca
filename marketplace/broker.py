"""The queue of the demo: a folder of message files, without the half-read messages of kombu's own.

kombu's `filesystem://` writes a message in place, so a worker can read half of it, and one such message once ended a
worker (celery/kombu#1551); its routing tables are rewritten in place as well. Here both are written aside and renamed.
A message that cannot be read is dropped: it was only a hint, and the outbox in the database publishes it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads
from kombu.utils.uuid import uuid


class Channel(filesystem.Channel):
    """A channel whose files appear whole or not at all."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        folder = Path(self.data_folder_out)
        folder.mkdir(parents=True, exist_ok=True)
        serial = uuid()
        draft = folder / f".{serial}.draft"
        draft.write_text(dumps(payload))
        draft.rename(folder / f"{time.monotonic_ns():020d}_{serial}.{queue}.msg")  # names sort by arrival

    def _get(self, queue: str) -> dict[str, Any]:
        for path in self._messages(queue):
            taken = path.with_name(f".{path.name}.taken")
            try:
                path.rename(taken)  # the one that renames it has it
            except OSError:
                continue
            text = taken.read_text(errors="replace")
            taken.unlink(missing_ok=True)
            with contextlib.suppress(ValueError):
                return loads(text)
        raise Empty

    def _purge(self, queue: str) -> int:
        count = 0
        for path in self._messages(queue):
            with contextlib.suppress(OSError):
                path.unlink()
                count += 1
        return count

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _messages(self, queue: str) -> list[Path]:
        """Return the waiting files of one queue, oldest first; a name is `arrival_serial.queue.msg`."""
        try:
            names = sorted(os.listdir(self.data_folder_in))
        except FileNotFoundError:
            return []
        folder = Path(self.data_folder_in)
        return [folder / n for n in names if n.partition(".")[2] == f"{queue}.msg" and not n.startswith(".")]

    def get_table(self, exchange: str) -> list[filesystem.exchange_queue_t]:
        """Return who gets the messages of an exchange. After the folder was wiped, what this process bound itself."""
        bound = [key for key in self.state.bindings if key.exchange == exchange]
        return super().get_table(exchange) or [
            filesystem.exchange_queue_t(key.routing_key or "", "", key.queue) for key in bound
        ]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        bound = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._table_changes(exchange) as table:
            if bound not in table:
                table.insert(0, bound)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any) -> None:
        self._purge(queue)
        bound = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._table_changes(exchange) as table:
            if bound in table:
                table.remove(bound)

    @contextlib.contextmanager
    def _table_changes(self, exchange: str) -> Iterator[list[filesystem.exchange_queue_t]]:
        """Give the routing table of an exchange to one writer; readers see the old file or the new one."""
        file = self._exchange_file(exchange)
        self.control_folder.mkdir(parents=True, exist_ok=True)
        with open(self.control_folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = super().get_table(exchange)
            before = list(table)
            yield table
            if table != before:
                draft = file.with_name(f".{file.name}.draft")
                draft.write_text(dumps(table))
                draft.rename(file)


class Transport(filesystem.Transport):
    """`filesystem://` with the channel above; `marketplace.celery` puts it in place of kombu's."""

    Channel = Channel
