"""A file of transfers checked from its own words: what is changed in it is found, and a whole one gives the roots."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.epochs import close_epoch
from ledger.errors import ExportUnreadable
from ledger.export_files import MEDIA_TYPES, write_export
from ledger.exports import TransfersExport, TrialBalanceExport, span_of
from ledger.models import Epoch
from ledger.offline import check_file
from ledger.selectors import last_seq
from ledger.services import book_paid_out, settle_postings, void_hold


@pytest.fixture
def file(books: Any, tmp_path: Path) -> Callable[..., Path]:
    """Books of two sealed epochs and a little more, with every kind of transfer but expiry, and files of them."""
    buyer, window, provider, node_class = (books.id() for _ in range(4))
    books.deposit(buyer, 1_000)
    books.lock(buyer, window, 400)
    close_epoch(1, books.now)
    books.forward(hours=1)
    books.post(
        *settle_postings(
            lease=books.id(), buyer=buyer, window=window, provider=provider, node_class=node_class, earned=300,
            holdback=50, fee=10, returned=40, credit=0,
        )
    )  # fmt: skip
    void_hold(id=books.hold(buyer, books.id(), 15), now=books.now)
    close_epoch(1, books.now)
    book_paid_out(provider=provider, node_class=node_class, amount=100, reference=books.reference(), now=books.now)

    def written(format: str = "csv", export: Any = None, **span: int) -> Path:
        path = tmp_path / f"transfers.{format}"
        with path.open("w+b") as out:
            write_export(export or TransfersExport(span_of(**span)), format, out)
        return path

    return written


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_whole_file_gives_the_roots_that_were_sealed(file, format):
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow of the lock is not installed: Parquet not tested")

    checked = check_file(file(format))

    assert [found.detail for found in checked.findings if not found.ok] == []
    assert checked.roots == {epoch.no: bytes(epoch.root) for epoch in Epoch.objects.filter(ledger=1)}
    assert len(checked.roots) == 2


def test_a_range_is_checked_by_the_epochs_that_lie_in_it_whole(file):
    second = Epoch.objects.get(ledger=1, no=2)

    checked = check_file(file(from_seq=second.from_seq - 1))

    assert all(found.ok for found in checked.findings)
    assert checked.roots == {2: bytes(second.root)}


def other(name: str, value: str) -> str:
    """Another value than the one of a cell, in its own form."""
    if name in ("transfer", "hold", "link") and value:
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if name.endswith("_at") and value:
        return (datetime.fromisoformat(value) + timedelta(microseconds=1)).isoformat()
    if name == "chain_reference" and value:
        return value[:-2] + ("00" if value[-2:] != "00" else "01")
    if name == "kind":
        return "pending" if value == "posted" else "posted"
    if name == "reason":
        return "correction" if value != "correction" else "deposit"
    if name == "origin":
        return "grant"
    if name in ("debit_code", "credit_code"):
        return "suspense"
    if name in ("debit_party", "credit_party"):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return str(int(value or 0) + 1)


TOLD_ONLY = {"asset"}  # neither sealed nor summed: said for the reader's sake
CELLS = [column.name for column in TransfersExport.columns if column.name not in TOLD_ONLY]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_in_a_sealed_row_is_found(file, data):
    path = file(to_seq=Epoch.objects.get(ledger=1, no=2).to_seq)
    *lines, last = path.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    row = data.draw(st.sampled_from(rows))
    name = data.draw(st.sampled_from([name for name in CELLS if row[name]]))
    row[name] = other(name, row[name])
    save(path, rows, last)

    found = [each for each in check_file(path).findings if not each.ok]

    assert found, name


def test_a_party_that_is_forged_in_every_row_is_told_by_the_roll_and_in_one_row_by_the_others(file):
    path = file()
    *lines, last = path.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    owner = next(row["credit_party"] for row in rows if row["credit_party"])
    forged = other("credit_party", owner)
    everywhere = [{name: forged if value == owner else value for name, value in row.items()} for row in rows]
    save(path, everywhere, last)
    assert "the manifest's roll has another hash" in wrong_in(path)

    place = [k for k, row in enumerate(rows) if row["debit_party"] == owner][-1]
    save(path, [*rows[:place], rows[place] | {"debit_party": forged}, *rows[place + 1 :]], last)
    assert f"row {place + 1} says" in wrong_in(path)


def wrong_in(path: Path) -> str:
    return "; ".join(found.detail for found in check_file(path).findings if not found.ok)


def test_rows_that_are_under_no_root_yet_are_counted_and_the_file_is_whole_all_the_same(file):
    last = Epoch.objects.get(ledger=1, no=2)
    path, out = file(), io.StringIO()
    loose = last_seq() - last.to_seq
    call_command("verify", "ledger", str(path), stdout=out)

    assert loose > 0
    assert check_file(path).unsealed == list(range(last.to_seq + 1, last_seq() + 1))
    summary = out.getvalue().splitlines()[-1]
    assert summary == (f"{last_seq()} rows, {last.to_seq} under the roots of 2 epochs, {loose} under none, "
                       f"from number {last.to_seq + 1}; 6 looks, 0 broken")  # fmt: skip
    assert "labels of the exporter, under no root: account codes, parties, asset" in out.getvalue()

    call_command("verify", "ledger", str(file(to_seq=last.to_seq)), stdout=out)
    assert "under none" not in out.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda rows: rows[:2] + rows[3:], "number 3 is not where it belongs"),
        (lambda rows: rows[:3] + rows[2:], "number 4 is not where it belongs"),
        (lambda rows: rows[:-1], "is not where it belongs"),
        (lambda rows: [*rows[:-1], {**rows[-1], "transfer": rows[0]["transfer"]}], "is there twice"),
    ],
    ids=["left out", "doubled", "cut off", "an id again"],
)
def test_rows_that_are_missing_or_too_many_are_named(file, change, wrong):
    path = file()
    *lines, last = path.read_text().splitlines()
    save(path, change(list(csv.DictReader(lines))), last)

    told = "; ".join(found.detail for found in check_file(path).findings if not found.ok)

    assert wrong in told


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda m: m["epochs"][0].update(root="00" * 32), "epoch 1: its rows give another root"),
        (lambda m: m["epochs"][1].update(prev_root="00" * 32), "epoch 2: does not carry the root before it"),
        (lambda m: m["epochs"].pop(0), "epoch 2: is not the first, as the rows are"),
        (lambda m: m["epochs"][1].update(from_seq=m["epochs"][1]["from_seq"] + 1), "epoch 2: does not follow epoch 1"),
        (lambda m: m["epochs"][1].update(to_seq=10**6), "epoch 2: some of its rows are missing"),
        (lambda m: m["sums"].pop("foundation.fees"), "foundation.fees: None in the manifest"),
        (lambda m: m.update(rows=m["rows"] + 1), "is not where it belongs"),
    ],
    ids=["root", "chain of roots", "epoch left out", "gap", "too long", "sums", "rows"],
)
def test_a_manifest_that_says_something_else_than_the_rows_is_found(file, change, wrong):
    path = file()
    *lines, last = path.read_text().splitlines()
    manifest = json.loads(last[2:])
    change(manifest)
    path.write_text("\n".join([*lines, f"# {json.dumps(manifest)}"]))

    told = "; ".join(found.detail for found in check_file(path).findings if not found.ok)

    assert wrong in told


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("seq,transfer\r\n1,2\r\n"),
        lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1])),
        lambda path: path.write_text(path.read_text().replace('"export":"transfers"', '"export":"statement"')),
        lambda path: path.write_text(path.read_text().replace(",deposit,", ",heist,", 1)),
        lambda path: path.write_text(path.read_text().replace('"ledger":1', '"ledger":null')),
        lambda path: path.unlink(),
    ],
    ids=["empty", "no text", "other columns", "no manifest", "another export", "odd reason", "no ledger", "no file"],
)
def test_a_file_that_is_no_export_of_transfers_is_refused(file, spoil):
    path = file()
    spoil(path)

    with pytest.raises(ExportUnreadable) as refused:
        check_file(path)

    assert refused.value.facts == {"path": str(path)}


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow of the lock is not installed: Parquet not tested")
    path = tmp_path / "transfers.parquet"
    path.write_bytes(b"PAR1 and so on")

    with pytest.raises(ExportUnreadable):
        check_file(path)


def test_a_trial_balance_is_no_file_of_transfers(file):
    with pytest.raises(ExportUnreadable, match="no file of transfers"):
        check_file(file(export=TrialBalanceExport(last_seq())))


def test_the_command_names_what_is_wrong_and_shows_the_roots(file):
    path, told = file(), io.StringIO()
    call_command("verify", "ledger", str(path), stdout=told)
    root = bytes(Epoch.objects.get(ledger=1, no=2).root).hex()
    assert f"epoch 2: root 0x{root}, to be compared with root_of(2) of the anchor contract" in told.getvalue()

    path.write_text(path.read_text().replace(",organic,", ",grant,", 1))
    with pytest.raises(CommandError, match="not what was sealed"):
        call_command("verify", "ledger", str(path), stdout=told)
    assert "BROKEN  L8: ledger 1: not so that epochs" in told.getvalue()
    with pytest.raises(CommandError, match="no whole export"):
        call_command("verify", "ledger", str(path.with_name("none.csv")), stdout=told)


def save(path: Path, rows: list[dict[str, str]], last: str) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, [column.name for column in TransfersExport.columns])
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(out.getvalue() + last + "\n")
