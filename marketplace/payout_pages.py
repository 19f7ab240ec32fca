"""The page of a payout's proof, shown to its provider and to the buyers of its leases alike."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from ledger.errors import LedgerError
from marketplace.errors import NotYours
from marketplace.parties.models import Party
from marketplace.payout import offline
from marketplace.payout.proofs import openings_of, payout_of, proof_of


def proof_answer(request: HttpRequest, party: Party, payout_id: UUID) -> HttpResponse:
    """Answer with the proof as a page, checked just now; as a file (`?file`); or with what opens one id (`?opening=`).

    404 for a payout that the party had no part in.
    """
    try:
        payout = payout_of(payout_id=payout_id, party=party)
    except NotYours as missing:
        raise Http404("no such payout") from missing
    openings = openings_of(payout=payout, party=party)
    if "opening" in request.GET:
        wanted = next((each for each in openings if each["id"] == request.GET["opening"]), None)
        if wanted is None:
            raise Http404("no such opening")
        return _file(wanted, f"grove-opening-{wanted['id']}.json")
    waits, document = "", None
    try:
        document = proof_of(payout=payout, party=party)
    except (NotYours, LedgerError) as reason:  # not anchored yet, or no chain answers
        waits = str(reason)
    if "file" in request.GET:
        if document is None:
            raise Http404("no proof yet")
        return _file(document, f"grove-payout-{payout.pk}.json")
    report = offline.verify(document) if document and document["awards"] is not None else None
    return render(request, "portal/payout_proof.html", {
        "payout": payout, "document": document, "report": report, "waits": waits, "openings": openings,
        "blocks": sorted(report.blocks.items()) if report else [],
    })  # fmt: skip


def _file(document: object, name: str) -> HttpResponse:
    return JsonResponse(document, safe=False, headers={"Content-Disposition": f'attachment; filename="{name}"'})
