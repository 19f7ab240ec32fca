"""What others send us unasked: kept raw, answered at once, worked on by a job."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from ledger.rails.errors import SignatureInvalid
from ledger.rails.stripe import receive
from marketplace import clock


@csrf_exempt  # its signature stands for it
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """Take a webhook of the card processor; 2xx only after it is committed, 400 when it is not signed."""
    try:
        receive(body=request.body, signature=request.headers.get("Stripe-Signature", ""), now=clock.now())
    except SignatureInvalid as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    return HttpResponse(status=200)
