"""How an export is written: CSV for every reader, Parquet for those who count. Both end in the manifest.

CSV has one header row, times in UTC, empty for nothing, and as its last line `#` and the manifest as JSON, which
readers skip as a comment. Parquet keeps 64-bit integers and UTC times, one row group a page, and the manifest as JSON
in the file's key-value metadata under `grove.manifest`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

from ledger.errors import UnknownFormat
from ledger.exports import Export

MANIFEST_KEY = "grove.manifest"
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


def require_format(format: str) -> None:
    """Raise UnknownFormat for anything the books are not written in."""
    if format not in MEDIA_TYPES:
        raise UnknownFormat("The books are written as CSV or as Parquet.", format=format[:40], known=list(MEDIA_TYPES))


def write_export(export: Export, format: str, file: BinaryIO) -> dict[str, Any]:
    """Write an export to a file that can be written from where it stands, and return its manifest.

    Not more than one page of rows is held at once. Raises UnknownFormat before anything is read.
    """
    require_format(format)
    return _WRITERS[format](export, file)


def manifest_text(manifest: dict[str, Any]) -> str:
    """Return a manifest as one line of ASCII JSON: the form in both files and in the header of the answer.

    Amounts are strings, as everywhere in our JSON: 64 bits pass what many readers keep of a number.
    """
    return json.dumps(_amounts_as_text(manifest), separators=(",", ":"))


def _amounts_as_text(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _amounts_as_text(fact) if isinstance(fact, dict) else str(fact) if name.endswith("_micros") else fact
        for name, fact in facts.items()
    }


def _write_csv(export: Export, file: BinaryIO) -> dict[str, Any]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in export.columns])
    for page in export.pages():
        writer.writerows([_as_text(value) for value in row] for row in page)
    manifest = export.manifest()
    text.write(f"# {manifest_text(manifest)}\r\n")
    text.detach()  # flushes, and leaves the file open
    return manifest


def _write_parquet(export: Export, file: BinaryIO) -> dict[str, Any]:
    import pyarrow  # 50 MB that only a process pays which writes such a file
    from pyarrow import parquet

    types = {"integer": pyarrow.int64(), "text": pyarrow.string(), "time": pyarrow.timestamp("us", tz="UTC")}
    schema = pyarrow.schema([(column.name, types[column.holds]) for column in export.columns])
    with parquet.ParquetWriter(file, schema) as writer:
        for page in export.pages():
            cells = ([_as_cell(value) for value in values] for values in zip(*page, strict=True))
            arrays = [pyarrow.array(column, field.type) for column, field in zip(cells, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        manifest = export.manifest()
        writer.add_key_value_metadata({MANIFEST_KEY: manifest_text(manifest)})
    return manifest


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return _as_cell(value)


def _as_cell(value: Any) -> Any:
    """Return ids as text and chain references as hex; numbers, times and nothing stay what they are."""
    if isinstance(value, UUID):
        return str(value)
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


_WRITERS: dict[str, Callable[[Export, BinaryIO], dict[str, Any]]] = {"csv": _write_csv, "parquet": _write_parquet}
