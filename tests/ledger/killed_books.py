"""A process that posts through the poster until it is killed, and notes what was acknowledged. Started by its test.

Before it goes on it looks at what the kill before it left behind: everything acknowledged is there, once and whole, and
every invariant holds.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
START = datetime(2027, 1, 4, tzinfo=UTC)
CALLERS = 8


def look(acknowledged: Path) -> int:
    """Return how many transfers there are, or end with what is wrong."""
    from django.db import connection

    from ledger.audit import audit_ledger
    from ledger.reconcile import check_books

    known = [line.split() for line in acknowledged.read_text().splitlines()]
    with connection.cursor() as cursor:
        cursor.execute("select link::text, count(*), min(get_byte(reference, 0)) from ledger_transfer group by link")
        written = {link: (count, wanted) for link, count, wanted in cursor.fetchall()}
    lost = [link for link, length in known if written.get(link, (0, 0))[0] != int(length)]
    partial = [link for link, (count, wanted) in written.items() if count != wanted]
    broken = [found.detail for found in [*check_books(), *audit_ledger(1)] if not found.ok]
    if lost or partial or broken:
        print(f"lost {lost[:3]}, partial {partial[:3]}, broken {broken[:3]}", flush=True)
        sys.exit(1)
    return sum(count for count, _ in written.values())


def post_until_killed(acknowledged: Path, seed: int, told: str) -> None:
    from ledger.ids import uuid7
    from ledger.poster import Poster
    from ledger.services import Posting, account

    card, suspense, clearing = (
        account(ledger=1, code=code) for code in ("card.clearing", "suspense", "chain.clearing")
    )
    now = START + timedelta(hours=seed)
    note = os.open(acknowledged, os.O_APPEND | os.O_WRONLY)

    def caller(number: int) -> None:
        dice = random.Random(f"{seed}/{number}")
        while True:
            link, length = uuid7(now), dice.randrange(2, 5)
            group = [
                Posting(uuid7(now), *dice.sample([card, suspense, clearing], 2), dice.randrange(1, 9), "posted", 650,
                        "organic", link=link, reference=bytes([length]))
                for _ in range(length)
            ]  # fmt: skip
            try:
                poster.post(group)
            except BaseException:
                os._exit(3)  # the server was killed: nothing more is acknowledged
            os.write(note, f"{link} {length}\n".encode())

    poster = Poster(ledger=1, clock=lambda: now)
    threads = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
    print(told, flush=True)  # only now: a kill before the first posting would show nothing
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def live(acknowledged: Path, seed: int, what: str) -> None:
    """Be the one whose number is `seed`: look at what is there, then post until killed unless `what` is "look"."""
    from marketplace import postgres
    from marketplace.environment import data_folder

    postgres.ensure_running()
    from django.core.management import call_command

    if seed == 0:
        call_command("migrate", "ledger", interactive=False, verbosity=0)
    there: Any = look(acknowledged)
    told = f"{postgres._postmaster(data_folder())} {os.getpid()} {there}"
    if what == "look":
        print(told, flush=True)
    else:
        post_until_killed(acknowledged, seed, told)


def fork(act: Callable[[], None]) -> int:
    """Run `act` in a process of its own; returns its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """For each line `SEED post` or `SEED look` fork a process, and tell how it ended.

    This one never touches the server: its children have all that it has loaded, and it costs seconds to load it.
    """
    acknowledged = Path(sys.argv[1])
    django.setup()
    import ledger.audit
    import ledger.poster  # noqa: F401
    for line in sys.stdin:
        seed, what = line.split()
        print("ended", fork(lambda seed=seed, what=what: live(acknowledged, int(seed), what)), flush=True)


if __name__ == "__main__":
    main()
