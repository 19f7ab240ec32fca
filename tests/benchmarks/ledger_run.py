"""The process that posts: our paths, COPY, and naive books, in turns in one fresh database."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

import django

from tests.benchmarks import process

DATABASE = "grove_bench_ledger"
SIZES = (1, 100, 1_000, 10_000)
CALLS = {1: 200, 100: 30, 1_000: 10, 10_000: 4}  # in one turn
WIDE = 10_000  # accounts
CALLERS, HOT_SECONDS = 16, 3.0
OF_A_TRANSFER = ("table", "ledger_transfer_pkey", "transfer_seq_is_taken_once")  # what makes it one, and once
START = datetime(2027, 1, 4, tzinfo=UTC)


class Bench:
    """The accounts, a clock of its own, and the measurements."""

    def __init__(self, accounts: int) -> None:
        from django.db import connection

        self.connection, self.dice, self.now = connection, random.Random(1), START
        self.accounts = accounts
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.percentiles: dict[str, list[float]] = defaultdict(list)
        with connection.cursor() as cursor:
            cursor.execute(
                """insert into ledger_account (id, ledger, code, scope, floor, debits_posted, credits_posted,
                                               debits_pending, credits_pending, version)
                   select (1::bigint << 40) + place, 1, 'chain.wallet', gen_random_uuid(), 'debit', 0, 0, 0, 0, 0
                     from generate_series(1, %s) place""",
                [WIDE],
            )
            cursor.execute("create table raw_copy (like ledger_transfer)")
            cursor.execute("alter table raw_copy add primary key (ledger, id)")
            cursor.execute("select pg_size_bytes(current_setting('wal_segment_size'))")  # the server answers
        self.fund()

    def fund(self) -> None:
        """Give every account something to spend, from one without a floor."""
        from ledger.services import Posting, account, post_transfers

        source = account(ledger=1, code="suspense")
        postings = [
            Posting(self.id(), (1 << 40) + place, source, 10**12, "posted", 650, "organic")
            for place in range(1, WIDE + 1)
        ]
        post_transfers(ledger=1, postings=postings, now=self.now)
        with self.connection.cursor() as cursor:
            cursor.execute("vacuum analyze ledger_account")

    def id(self) -> Any:
        from ledger.ids import uuid7

        return uuid7(self.now)

    def made(self, count: int, accounts: int, *, hot: int | None = None) -> list[Any]:
        """Return new postings between accounts drawn by chance, or out of one hot account."""
        from ledger.services import Posting

        postings = []
        for _ in range(count):
            self.now += timedelta(microseconds=20)
            debit, credit = self.dice.sample(range(1, accounts + 1), 2)
            debit, credit = (hot, credit + (credit == hot)) if hot else (debit, credit)
            # a wallet is a debit account: what is debited grows
            postings.append(
                Posting(self.id(), (1 << 40) + credit, (1 << 40) + debit, self.dice.randrange(1, 100), "posted", 650,
                        "organic")
            )  # fmt: skip
        return postings

    def measure(self, name: str, count: int, act: Callable[[], None]) -> None:
        began = time.perf_counter()
        act()
        self.rates[name].append(count / (time.perf_counter() - began))

    # -- one turn ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        self.copy_and_bulk()
        for size in SIZES[:-1]:
            calls = [self.made(size, self.accounts) for _ in range(CALLS[size])]
            self.measure(f"bulk {size}", size * len(calls), lambda calls=calls: [self.post(call) for call in calls])
        calls = [self.made(10_000, WIDE) for _ in range(2)]
        self.measure("bulk 10000 wide", 20_000, lambda: [self.post(call) for call in calls])
        self.naive()
        self.hot("hot direct", None)
        from ledger.poster import Poster

        with Poster(ledger=1, clock=lambda: self.now) as poster:
            self.hot("hot combined", poster)

    def copy_and_bulk(self) -> None:
        """COPY and our calls of 10,000 alternate; of the turn each keeps its sum."""
        spent = {"copy": 0.0, "bulk 10000": 0.0}
        for _ in range(CALLS[10_000]):
            postings = self.made(10_000, self.accounts)
            data = self.bytes_of(postings)
            began = time.perf_counter()
            self.copy(data)
            spent["copy"] += time.perf_counter() - began
            began = time.perf_counter()
            self.post(postings)
            spent["bulk 10000"] += time.perf_counter() - began
        for name, seconds in spent.items():
            self.rates[name].append(10_000 * CALLS[10_000] / seconds)

    def bytes_of(self, postings: list[Any]) -> bytes:
        from ledger import bulk

        return b"".join(bulk.blocks(1, postings, self.now, 1))

    def copy(self, data: bytes) -> None:
        """The limit: the same bytes, ready made, into a table with its primary key and nothing else."""
        from ledger import bulk

        with self.connection.cursor() as cursor:
            columns = ", ".join(bulk.COLUMNS)
            with cursor.copy(f"copy raw_copy ({columns}) from stdin (format binary)") as pipe:
                pipe.write(data)

    def post(self, postings: list[Any]) -> None:
        from ledger.services import post_transfers

        post_transfers(ledger=1, postings=postings, now=self.now)

    # -- many callers at one account ---------------------------------------------------------------------------------

    def hot(self, name: str, poster: Any) -> None:
        """16 callers post one transfer each out of the same account, and wait for it, again and again."""
        from django.db import connection

        made = self.made(6_000 * CALLERS, self.accounts, hot=1)
        ready = [made[number::CALLERS] for number in range(CALLERS)]  # ids in the order in which they are used
        times: list[list[float]] = [[] for _ in range(CALLERS)]
        gate, ends_at = threading.Barrier(CALLERS + 1), [0.0]

        def caller(number: int) -> None:
            if poster is None:
                connection.ensure_connection()
            gate.wait()
            for posting in ready[number]:
                began = time.perf_counter()
                if began > ends_at[0]:
                    break
                self.post([posting]) if poster is None else poster.post([posting])
                times[number].append(time.perf_counter() - began)
            connection.close()

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        began = time.perf_counter()
        ends_at[0] = began + HOT_SECONDS
        gate.wait()
        for thread in threads:
            thread.join()
        all_times = [seconds for of_one in times for seconds in of_one]
        self.rates[name].append(len(all_times) / (time.perf_counter() - began))
        if poster is not None:
            cuts = quantiles(all_times, n=100)
            self.percentiles["p50"].append(cuts[49] * 1_000)
            self.percentiles["p99"].append(cuts[98] * 1_000)

    # -- as it is often written --------------------------------------------------------------------------------------

    def naive(self) -> None:
        from tests.benchmarks import naive_books

        one_by_one, batch = self.made(200, self.accounts), self.made(10_000, self.accounts)
        self.measure("naive orm", 200, lambda: naive_books.post_one_by_one(one_by_one))
        self.measure("naive batched", 10_000, lambda: naive_books.post_batched(batch))


def main() -> None:
    """Answer with every rate taken, the size of what was written, and how long its audit took."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    os.environ["DATABASE_ROLE"] = "owner"  # it makes tables of its own to compare with
    asked = process.request()
    django.setup()
    from marketplace import postgres

    postgres.ensure_running()
    use_fresh_database()
    try:
        process.answer(measured(asked))
    finally:
        from django.db import connections

        connections.close_all()
        postgres.drop_database(DATABASE)


def use_fresh_database() -> None:
    from django.core.management import call_command
    from django.db import connection, connections

    from marketplace import postgres
    from tests.benchmarks import naive_books

    connections.close_all()
    postgres.drop_database(DATABASE)
    postgres.create_database(DATABASE)
    connection.settings_dict["NAME"] = DATABASE
    call_command("migrate", "ledger", interactive=False, verbosity=0)
    naive_books.create_tables(WIDE)


def measured(asked: dict[str, Any]) -> dict[str, Any]:
    """Take all turns, fill the books up to the wanted number, and audit them."""
    bench = Bench(asked["accounts"])
    for _ in range(asked["turns"]):
        bench.turn()
    sizes = sizes_of_the_books(bench)
    while written(bench) < asked["transfers"]:
        bench.post(bench.made(min(10_000, max(1, asked["transfers"] - written(bench))), asked["accounts"]))
    faults, seconds = audit(bench)
    return {
        "rates": bench.rates, "sizes": SIZES, "accounts": asked["accounts"], "faults": faults,
        "hot_p50_ms": bench.percentiles["p50"], "hot_p99_ms": bench.percentiles["p99"],
        "bytes_per_transfer": sum(sizes[part] for part in OF_A_TRANSFER), "bytes": sizes, "verify_seconds": seconds,
        "verified": written(bench),
    }  # fmt: skip


def written(bench: Bench) -> int:
    from ledger.models import Ledger

    return Ledger.objects.values_list("next_seq", flat=True).get(pk=1) - 1


def sizes_of_the_books(bench: Bench) -> dict[str, float]:
    """Bytes per transfer of the table and of each of its indexes, on disk."""
    with bench.connection.cursor() as cursor:
        cursor.execute("vacuum ledger_transfer")  # the index by account sorts in what waits
        cursor.execute(
            """select 'table', pg_table_size('ledger_transfer'::regclass)
               union all select indexrelid::regclass::text, pg_relation_size(indexrelid)
                           from pg_index where indrelid = 'ledger_transfer'::regclass"""
        )
        return {name: round(size / written(bench), 1) for name, size in cursor.fetchall()}


def audit(bench: Bench) -> tuple[list[str], float]:
    """Seal everything, then let the audit recompute it; what it finds wrong, and its seconds."""
    from ledger.audit import audit_ledger
    from ledger.epochs import close_epoch

    while close_epoch(1, bench.now) is not None:
        pass
    began = time.perf_counter()
    findings = audit_ledger(1)
    return [found.detail for found in findings if not found.ok], time.perf_counter() - began


if __name__ == "__main__":
    main()
