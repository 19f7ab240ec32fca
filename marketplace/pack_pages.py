"""The documentation pack of a lease for both of its parties: one page and one file, behind either door."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from marketplace.delivery.egress import meter_of
from marketplace.escrow.models import Lease
from marketplace.escrow.packs import packs_of, read_pack


def pack_answer(request: HttpRequest, lease: Lease) -> HttpResponse:
    """Answer with the newest pack as a page, or with the bytes of the version that `?file=` names."""
    packs = packs_of(lease)
    if "file" in request.GET:
        pack = next((each for each in packs if str(each.version) == request.GET["file"]), None)
        if pack is None:
            raise Http404("no such version")
        name = f"grove-pack-{lease.pk}-{pack.version}.json"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HttpResponse(bytes(pack.body), content_type="application/json", headers=disposition)
    newest = read_pack(packs[0]) if packs else None
    return render(request, "portal/pack.html", {"lease": lease, "packs": packs, "pack": newest,
                                                "meter": meter_of(lease)})
