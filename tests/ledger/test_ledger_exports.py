"""The books as files: the same rows as the pages, sums that equal the books, and never more than a page in memory."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from ledger import exports
from ledger.errors import RangeReversed, SeqNotWritten, UnknownFormat
from ledger.export_files import MANIFEST_KEY, MEDIA_TYPES, write_export
from ledger.exports import StatementExport, TransfersExport, TrialBalanceExport, span_of
from ledger.selectors import balance, last_seq, read_pages, reserved, statement, trial_balance
from ledger.services import book_paid_out, settle_postings, void_hold

SIDES = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")


@dataclass
class File:
    """An export as its reader finds it: names, rows, and the manifest inside the file."""

    names: list[str]
    rows: list[dict[str, Any]]
    manifest: dict[str, Any]


def read_csv(raw: bytes) -> File:
    *lines, last = raw.decode().splitlines()
    assert last.startswith("# {")
    rows = list(csv.DictReader(lines))
    return File(lines[0].split(","), rows, json.loads(last[2:]))


def read_parquet(raw: bytes) -> File:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow of the lock is not installed: Parquet not tested")
    file = parquet.ParquetFile(io.BytesIO(raw))
    kept = file.metadata.metadata[MANIFEST_KEY.encode()]
    return File(file.schema_arrow.names, file.read().to_pylist(), json.loads(kept))


READERS = {"csv": read_csv, "parquet": read_parquet}


def file_of(export: Any, format: str) -> File:
    raw = io.BytesIO()
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow of the lock is not installed: Parquet not tested")
    write_export(export, format, raw)
    return READERS[format](raw.getvalue())


@pytest.fixture
def turn(books):
    """A buyer with an open hold, a settled lease and a payout to its provider; another buyer beside."""
    buyer, window, provider, node_class = (books.id() for _ in range(4))
    books.deposit(buyer, 1_000)
    books.deposit(books.id(), 77)
    books.lock(buyer, window, 400)
    books.forward(hours=1)
    books.post(
        *settle_postings(
            lease=books.id(), buyer=buyer, window=window, provider=provider, node_class=node_class, earned=300,
            holdback=50, fee=10, returned=40, credit=0,
        )
    )  # fmt: skip
    book_paid_out(provider=provider, node_class=node_class, amount=100, reference=books.reference(), now=books.now)
    void_hold(id=books.hold(buyer, books.id(), 15), now=books.now)
    books.hold(buyer, books.id(), 7)
    return buyer, provider


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_statement_file_has_the_lines_of_the_page_and_sums_that_equal_the_books(turn, format):
    buyer = turn[0]

    found = file_of(StatementExport(buyer, span_of()), format)

    shown = list(statement(buyer))[::-1]
    assert sorted((int(row["seq"]), row["account"], int(row["change_micros"]), int(row["balance_after_micros"]),
                   int(row["reserved_change_micros"]), row["transfer"]) for row in found.rows) == \
        sorted((x.seq, x.account_code, x.change, x.balance_after, x.reserved_change, str(x.transfer))
               for x in shown)  # fmt: skip
    assert [int(row["seq"]) for row in found.rows] == [line.seq for line in shown]
    assert {row["asset"] for row in found.rows} == {"USDC6"}
    assert (found.manifest["rows"], found.manifest["to_seq"]) == (len(shown), last_seq())
    assert set(found.manifest["sums"]) == {"buyer.available", "buyer.held"}
    for code, sums in found.manifest["sums"].items():
        assert int(sums["closing_micros"]) == balance(code=code, party=buyer).minor
        assert int(sums["reserved_change_micros"]) == reserved(code=code, party=buyer).minor
        rows = [row for row in found.rows if row["account"] == code]
        assert int(sums["change_micros"]) == sum(int(row["change_micros"]) for row in rows)


def test_a_statement_in_two_ranges_is_the_statement_in_one(turn):
    buyer, middle = turn[0], last_seq() // 2

    whole = file_of(StatementExport(buyer, span_of()), "csv")
    first = file_of(StatementExport(buyer, span_of(to_seq=middle)), "csv")
    second = file_of(StatementExport(buyer, span_of(from_seq=middle + 1)), "csv")

    assert first.rows + second.rows == whole.rows
    assert first.rows
    assert second.rows
    for code, sums in second.manifest["sums"].items():
        before = first.manifest["sums"].get(code, {"closing_micros": "0"})
        assert sums["opening_micros"] == before["closing_micros"]
        assert sums["closing_micros"] == whole.manifest["sums"][code]["closing_micros"]


def test_a_statement_file_holds_nobody_elses_rows(books, turn):
    buyer, provider = turn
    own = {str(line.transfer) for line in statement(provider)}

    sold = file_of(StatementExport(provider, span_of()), "csv")
    stranger = file_of(StatementExport(books.id(), span_of()), "csv")

    assert {row["transfer"] for row in sold.rows} == own
    assert str(buyer) not in str(sold)
    assert (stranger.rows, stranger.manifest["rows"], stranger.manifest["sums"]) == ([], 0, {})


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_the_transfers_of_a_range_are_the_trial_balance_after_less_the_one_before(turn, format):
    start = 3

    found = file_of(TransfersExport(span_of(from_seq=start)), format)

    assert [int(row["seq"]) for row in found.rows] == list(range(start, last_seq() + 1))
    before, after = (by_code(trial_balance(at_seq=seq)) for seq in (start - 1, last_seq()))
    for code, sums in found.manifest["sums"].items():
        grown = [now - then for now, then in zip(after[code], before.get(code, (0,) * 4), strict=True)]
        assert [int(sums[f"{side}_micros"]) for side in SIDES] == grown, code
    totals = found.manifest["totals"]
    assert totals["debits_posted_micros"] == totals["credits_posted_micros"]
    assert totals["debits_pending_micros"] == totals["credits_pending_micros"]


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_trial_balance_file_is_the_one_that_stood_then(turn, format):
    for seq in (1, 4, last_seq()):
        trial = trial_balance(at_seq=seq)

        found = file_of(TrialBalanceExport(seq), format)

        assert [row["account"] for row in found.rows] == [row.code for row in trial.rows]
        assert [int(row["balance_micros"]) for row in found.rows] == [row.balance for row in trial.rows]
        assert (found.manifest["to_seq"], found.manifest["epoch"]) == (seq, None)
        assert int(found.manifest["totals"]["debits_posted_micros"]) == trial.debits_posted


def test_parquet_keeps_integers_times_and_nothing_as_they_are(turn):
    (row, *_) = file_of(TransfersExport(span_of(to_seq=1)), "parquet").rows

    assert (row["amount_micros"], row["ends_hold_of_micros"], row["hold"]) == (1_000, None, None)
    assert row["posted_at"].utcoffset().total_seconds() == 0
    assert len(row["chain_reference"]) == 72


def test_a_file_holds_one_page_at_a_time_whatever_its_length(books, monkeypatch):
    buyer = books.id()
    for _ in range(25):
        books.deposit(buyer, 3)
    monkeypatch.setattr(exports, "PAGE_ROWS", 4)
    held, cursors = [], []

    for export in (StatementExport(buyer, span_of()), TransfersExport(span_of())):
        for page in export.pages():
            held.append(len(page))
            with connection.cursor() as cursor:
                cursor.execute("select count(*) from pg_cursors where statement like '%seq between%'")
                cursors.append(cursor.fetchone()[0])
        assert export.manifest()["rows"] == 25

    assert held == [4, 4, 4, 4, 4, 4, 1] * 2
    assert set(cursors) == {1}  # the rest waits at the server


def test_the_number_of_questions_does_not_grow_with_the_rows(books, django_assert_num_queries):
    buyer = books.id()
    books.deposit(buyer, 3)
    with django_assert_num_queries(6) as short:
        write_export(StatementExport(buyer, span_of()), "csv", io.BytesIO())
    for _ in range(30):
        books.deposit(buyer, 3)
    with django_assert_num_queries(6) as long:
        write_export(StatementExport(buyer, span_of()), "csv", io.BytesIO())

    assert len(short) == len(long)


def test_pages_end_with_their_rows(db):
    query = "select n from generate_series(1, %(last)s) n"

    assert [len(page) for page in read_pages(query, {"last": 7}, rows=3)] == [3, 3, 1]
    assert list(read_pages(query, {"last": 0}, rows=3)) == []


def test_a_range_is_within_the_books_and_runs_forward(turn):
    last = last_seq()

    assert span_of() == span_of(from_seq=1, to_seq=last)
    assert span_of(from_seq=2, to_seq=2).to_seq == 2
    for wrong in ({"from_seq": 0}, {"to_seq": last + 1}, {"from_seq": last + 1}, {"to_seq": -1}, {"to_seq": 2**70}):
        with pytest.raises(SeqNotWritten):
            span_of(**wrong)
    with pytest.raises(RangeReversed):
        span_of(from_seq=3, to_seq=2)


def test_an_unknown_format_is_refused_before_anything_is_written(turn):
    file = io.BytesIO()

    with pytest.raises(UnknownFormat) as refused:
        write_export(StatementExport(turn[0], span_of()), "xlsx", file)

    assert refused.value.facts == {"format": "xlsx", "known": ["csv", "parquet"]}
    assert file.getvalue() == b""


def test_books_without_a_transfer_are_an_empty_file(books):
    found = file_of(StatementExport(books.id(), span_of()), "csv")

    assert (found.rows, found.manifest["from_seq"], found.manifest["to_seq"]) == ([], 1, 0)


def by_code(trial) -> dict[str, tuple[int, ...]]:
    return {row.code: tuple(getattr(row, side) for side in SIDES) for row in trial.rows}
