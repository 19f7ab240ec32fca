"""A file of the books as an answer: written to a temporary file first, then sent piece by piece.

So the database is asked once and let go before a slow reader has begun, a refusal is an answer and not half a file,
and neither the rows nor the file are ever whole in memory.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from ledger.errors import LedgerError
from ledger.export_files import MEDIA_TYPES, manifest_text, require_format, write_export
from ledger.exports import Export, Span, StatementExport, span_of
from marketplace.errors import BadInput, MarketError

PIECE_BYTES = 64 * 1024
SEQ_SHAPE = re.compile(r"[0-9]{1,18}")


def own_statement(request: HttpRequest, *, back: str) -> HttpResponseBase:
    """Answer a seat with the statement of its own party; a refusal is told on the page named `back`."""
    party = request.party  # type: ignore[attr-defined]
    try:
        format, span = asked_file(request.GET)
        return send_export(request, StatementExport(party.pk, span), format, owner=party.slug)
    except (LedgerError, MarketError) as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect(back)


def asked_file(query: Mapping[str, str]) -> tuple[str, Span]:
    """Return format and range that are asked for: CSV and all there is, where nothing is said.

    Raises UnknownFormat, SeqNotWritten, RangeReversed, and BadInput for a number that is none.
    """
    format = query.get("format", "csv")
    require_format(format)
    return format, span_of(from_seq=seq_from_text(query, "from_seq"), to_seq=seq_from_text(query, "to_seq"))


def seq_from_text(query: Mapping[str, str], name: str) -> int | None:
    """Return a transfer's number from a query, None where it is not given or left empty. Raises BadInput."""
    text = query.get(name, "").strip()
    if text and not SEQ_SHAPE.fullmatch(text):
        raise BadInput("A transfer's number is a whole number from 1.", field=name)
    return int(text) if text else None


def send_export(request: HttpRequest, export: Export, format: str, *, owner: str = "") -> StreamingHttpResponse:
    """Return an export as a download; `Export-Manifest` says what it comes to. Raises UnknownFormat."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- the answer closes it; it has no name and goes with us
    try:
        manifest = write_export(export, format, file)
        size_bytes = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    parts = [export.name, owner, f"{manifest['from_seq']}-{manifest['to_seq']}"]
    name = "_".join(part for part in parts if part)
    short = {word: fact for word, fact in manifest.items() if word != "epochs"}  # a year of them is no header
    # An asynchronous server would gather a plain iterator whole before it sends the first byte.
    pieces = _pieces_while_others_run(file) if isinstance(request, ASGIRequest) else _pieces(file)
    return StreamingHttpResponse(pieces, content_type=MEDIA_TYPES[format], headers={
        "Content-Disposition": f'attachment; filename="{name}.{format}"', "Content-Length": str(size_bytes),
        "Export-Manifest": manifest_text(short),
    })  # fmt: skip


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def _pieces_while_others_run(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await sync_to_async(file.read)(PIECE_BYTES):
            yield piece
