"""An exported run of transfers, checked from the file alone: `manage.py verify ledger PATH`, without a database.

What can be wrong is a row that was altered, left out, doubled or put in, and a manifest that says something else than
the rows. The roots of the epochs are computed again from the rows, so whoever compares them with `root_of` of the
anchor contract knows that these are the transfers that were sealed, whatever the books say today.

A leaf holds the numbers of the two accounts, not what they stand for: account codes, parties and the asset are labels
of the exporter. They are held to the roll whose hash the manifest carries, and to each other, and no root proves them.
Neither is a row proven that stands in no sealed epoch of the file; how many there are is told.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from ledger.chart import Code
from ledger.epochs import NO_ROOT, leaf_bytes
from ledger.errors import ExportUnreadable
from ledger.export_files import MANIFEST_KEY
from ledger.exports import Roll, TransfersExport, roll_hash
from ledger.keccak import keccak_many, merkle_root
from ledger.models import Transfer
from ledger.reconcile import Finding

_COLUMNS = [column.name for column in TransfersExport.columns]
_SIDES = ("debits_posted_micros", "credits_posted_micros", "debits_pending_micros", "credits_pending_micros")
_LOOKS = {  # what is looked at: its invariant, and what is so when it holds
    "numbers": ("L8", "the rows are the numbers that the manifest names, each once"),
    "ids": ("L4", "an id exists once"),
    "sides": ("L1", "debits equal credits, posted and pending apart"),
    "sums": ("L2", "the sums of the manifest are those of the rows"),
    "labels": ("L2", "one account number has one code and one party, and they are those of the manifest's roll"),
    "epochs": ("L8", "epochs follow each other, chain their roots and agree with the rows"),
}


@dataclass(frozen=True)
class Checked:
    """What a file comes to: a finding for each look, each epoch's root as its rows give it, and what is under none."""

    findings: list[Finding]
    roots: dict[int, bytes]
    rows: int
    unsealed: list[int]  # numbers of rows that are under no root of the file
    roll_hash: str  # hex, of what the account numbers stand for


def check_file(path: Path) -> Checked:
    """Check a file of transfers (CSV or Parquet) from its own words. Raises ExportUnreadable."""
    try:
        rows, manifest = (_read_parquet if path.suffix == ".parquet" else _read_csv)(path)
        ledger = int(manifest["ledger"])
        transfers = [_transfer(ledger, row) for row in rows]
        reserved = [int(row["ends_hold_of_micros"] or 0) for row in rows]
        codes = [(row["debit_code"], row["credit_code"]) for row in rows]
        roll, torn = _roll(rows)
        told = str(manifest["accounts_sha256"])
        off = torn or ("" if roll_hash(roll) == told else "the manifest's roll has another hash than the rows'")
        return _checked(manifest, transfers, reserved, codes, roll, off)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, OverflowError) as problem:
        raise ExportUnreadable(f"{path} is no whole export of transfers: {problem}.", path=str(path)) from problem


def _checked(
    manifest: dict[str, Any], transfers: list[Transfer], reserved: list[int], codes: list[tuple[str, str]],
    roll: Roll, off_labels: str,
) -> Checked:  # fmt: skip
    wrong: dict[str, str] = {"labels": off_labels} if off_labels else {}
    numbers = [transfer.seq for transfer in transfers]
    if numbers != list(range(manifest["from_seq"], manifest["to_seq"] + 1)) or len(numbers) != manifest["rows"]:
        wrong["numbers"] = _first_off(numbers, manifest["from_seq"])
    ids = sorted(transfer.id for transfer in transfers)
    if again := next((one for one, other in pairwise(ids) if one == other), None):
        wrong["ids"] = f"transfer {again} is there twice"
    sums = _sums(transfers, reserved, codes)
    told = {code: {side: int(figure) for side, figure in each.items()} for code, each in manifest["sums"].items()}
    if off := [code for code in sums.keys() | told.keys() if sums.get(code) != told.get(code)]:
        wrong["sums"] = f"{min(off)}: {told.get(min(off))} in the manifest, {sums.get(min(off))} in the rows"
    totals = [sum(each[side] for each in sums.values()) for side in _SIDES]
    if totals[0] != totals[1] or totals[2] != totals[3]:
        wrong["sides"] = f"debits {totals[0]}, credits {totals[1]}; pending {totals[2]}, {totals[3]}"
    roots: dict[int, bytes] = {}
    for epoch, fault in _epochs(manifest["epochs"], {transfer.seq: transfer for transfer in transfers}, roots):
        wrong.setdefault("epochs", f"epoch {epoch}: {fault}")
    ledger = manifest["ledger"]
    findings = [
        Finding(invariant, what not in wrong, f"ledger {ledger}: " + (
            f"not so that {sentence}: {wrong[what]}" if what in wrong else sentence))
        for what, (invariant, sentence) in _LOOKS.items()
    ]  # fmt: skip
    sealed = {seq for each in manifest["epochs"] if each["no"] in roots
              for seq in range(each["from_seq"], each["to_seq"] + 1)}  # fmt: skip
    unsealed = [number for number in numbers if number not in sealed]
    return Checked(findings, roots, len(numbers), unsealed, roll_hash(roll))


def _roll(rows: list[dict[str, Any]]) -> tuple[Roll, str]:
    """Return what each account number stands for, and the first row that says another thing than one before."""
    roll: Roll = {}
    for row in rows:
        for side in ("debit", "credit"):
            number, told = int(row[f"{side}_account"]), (row[f"{side}_code"], str(row[f"{side}_party"] or ""))
            if roll.setdefault(number, told) != told:
                return roll, f"row {row['seq']} says {told} of account {number}, a row before it {roll[number]}"
    return roll, ""


def _first_off(numbers: list[int], first: int) -> str:
    off = next((place for place, number in enumerate(numbers) if number != first + place), len(numbers))
    return f"number {first + off} is not where it belongs"


def _sums(transfers: list[Transfer], reserved: list[int], codes: list[tuple[str, str]]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for transfer, ended, pair in zip(transfers, reserved, codes, strict=True):
        posted = transfer.amount if transfer.kind in ("posted", "post") else 0
        pending = transfer.amount if transfer.kind == "pending" else -ended
        for code, side in zip(pair, ("debits", "credits"), strict=True):
            each = sums.setdefault(code, dict.fromkeys(_SIDES, 0))
            each[f"{side}_posted_micros"] += posted
            each[f"{side}_pending_micros"] += pending
    return sums


def _epochs(
    epochs: list[dict[str, Any]], transfers: dict[int, Transfer], roots: dict[int, bytes]
) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with each epoch, and keep the root that its rows give."""
    before: dict[str, Any] | None = None
    if epochs and epochs[0]["no"] > 1 and 1 in transfers:
        yield epochs[0]["no"], "is not the first, as the rows are"
    for epoch in epochs:
        prev_root = before["root"] if before else NO_ROOT.hex() if epoch["no"] == 1 else epoch["prev_root"]
        if before and (epoch["no"], epoch["from_seq"]) != (before["no"] + 1, before["to_seq"] + 1):
            yield epoch["no"], f"does not follow epoch {before['no']}"
        if epoch["prev_root"] != prev_root:
            yield epoch["no"], "does not carry the root before it"
        before, span = epoch, range(epoch["from_seq"], epoch["to_seq"] + 1)
        if not span or not all(seq in transfers for seq in span):
            yield epoch["no"], "some of its rows are missing"
            continue
        leaves = b"".join(leaf_bytes(transfers[seq]) for seq in span)
        root = merkle_root(keccak_many(np.frombuffer(leaves, np.uint8).reshape(len(span), -1)))
        roots[epoch["no"]] = root
        if root.hex() != epoch["root"]:
            yield epoch["no"], "its rows give another root"


# -- the file --------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *lines, last = path.read_text(encoding="utf-8").splitlines() or [""]
    if not last.startswith("# {"):
        raise ValueError("its last line is no manifest")
    reader = csv.DictReader(lines)
    rows = list(reader)
    return _like_transfers(list(reader.fieldnames or ()), rows, json.loads(last[2:]))


def _read_parquet(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from pyarrow import ArrowException, parquet  # 50 MB that only a process pays which reads such a file

    try:
        file = parquet.ParquetFile(path)
        kept = file.metadata.metadata[MANIFEST_KEY.encode()]
        return _like_transfers(file.schema_arrow.names, file.read().to_pylist(), json.loads(kept))
    except ArrowException as problem:
        raise ValueError(str(problem)) from problem


def _like_transfers(
    names: list[str], rows: list[dict[str, Any]], manifest: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if manifest.get("export") != TransfersExport.name or names != _COLUMNS:
        raise ValueError("it is no file of transfers")
    return rows, manifest


def _transfer(ledger: int, row: dict[str, Any]) -> Transfer:
    reason = row["reason"].upper()
    return Transfer(
        ledger=ledger, id=UUID(row["transfer"]), seq=int(row["seq"]), debit=int(row["debit_account"]),
        credit=int(row["credit_account"]), amount=int(row["amount_micros"]), kind=row["kind"],
        code=Code[reason] if reason in Code.__members__ else int(reason), origin=row["origin"],
        pending_id=UUID(row["hold"]) if row["hold"] else None, link=UUID(row["link"]) if row["link"] else None,
        timeout_at=_moment(row["times_out_at"]) if row["times_out_at"] else None,
        effective_at=_moment(row["effective_at"]), posted_at=_moment(row["posted_at"]),
        reference=bytes.fromhex(row["chain_reference"]) if row["chain_reference"] not in (None, "") else None,
    )  # fmt: skip


def _moment(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
