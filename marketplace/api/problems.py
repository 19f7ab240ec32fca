"""The only place that knows which refusal is which HTTP status (RFC 9457, application/problem+json)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError, OperationalError
from django.http import Http404, HttpResponse, UnreadablePostError
from rest_framework import exceptions as drf
from rest_framework.response import Response

import ledger.errors as books
import marketplace.agent.errors as agent
import marketplace.errors as market
import pricing.errors as pricing
from marketplace.api import errors as api

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1

STATUS: dict[type[Exception], int] = {
    market.BadInput: 422, market.UnknownName: 422, market.PriceOffTick: 422, market.PriceOutOfRange: 422,
    market.QuantityOutOfRange: 422, market.BadSlots: 422, market.BadLines: 422, market.NoCounterfactual: 409,
    market.ContradictoryRules: 422, market.DemandFirst: 409, market.WindowClosed: 409, market.StateSkipped: 409,
    market.NotEligible: 422, market.PhaseClosed: 403, market.ReferenceReused: 409, market.NotYours: 404,
    market.LineNotDecided: 409, market.InDefault: 402, market.UnmappedLine: 422, market.RenewalAboveCap: 409,
    market.NotFunded: 402, market.TooLate: 409, market.BadKey: 401, market.IdempotencyMismatch: 422,
    market.InFlight: 409, market.ProofRefused: 422, market.WrongStanding: 409,
    market.HoldersMissing: 409, market.SealUnreadable: 503,
    market.CyclicOwnership: 422, market.PastDate: 422, market.ExpiredEvidence: 422, market.Overlapping: 422,
    market.WrongSignatory: 422, market.SharesDoNotSum: 422, market.TierNotForKind: 422, market.DataRefused: 422,
    market.RoleForbidden: 403, market.SamePerson: 403, market.PendingApproval: 409, market.OverBudget: 409,
    market.CapacityPromised: 409, market.CapacityReserved: 409, market.DeviceTaken: 409, market.Frozen: 409,
    market.KeyCapped: 403, market.EnrolmentRefused: 409, market.LastOwner: 409,
    market.ReportRefused: 422, market.ReportMalformed: 422, market.ReportForged: 422, market.ReportReplayed: 409,
    market.ReportOutOfSequence: 409, market.ReportLate: 409, market.ReportFromFuture: 422, market.ClockSkewed: 422,
    market.NotAnAttester: 403, market.AttestationForged: 422, market.OtherSpec: 422, market.ChallengeStale: 409,
    market.ChallengeExpired: 409, market.ResultDiffers: 409, market.TranscriptAltered: 422, market.EvidenceReused: 409,
    market.WrongInstant: 422, market.NotOnPanel: 403, market.NoWitnessKey: 409,
    api.BadRequest: 400, api.MalformedJson: 400, api.BodyMissing: 400, api.IdempotencyKeyMissing: 400,
    api.IdempotencyKeyBad: 400, api.BadParameter: 400, api.UnreadableText: 400, api.NotSignedIn: 401,
    api.Forbidden: 403, api.ReadOnlyKey: 403, api.CsrfFailed: 403, api.NoSuchPage: 404, api.WrongMethod: 405,
    api.Conflict: 409,
    api.BodyTooLarge: 413, api.WrongMediaType: 415, api.InvalidBody: 422, api.TooMany: 429, api.Internal: 500,
    api.Busy: 503,
    books.InsufficientFunds: 402, books.PendingResolved: 409, books.PendingTimedOut: 409, books.AmountOutOfRange: 422,
    books.LedgerHalted: 503, books.SeqNotWritten: 422, books.RangeReversed: 422, books.UnknownFormat: 422,
}  # fmt: skip

# Refusals that no request can cause; should one escape all the same, the answer is 500 internal_error without facts.
NEVER_OVER_HTTP: dict[type[Exception], str] = {
    market.MarketError: "the root of the tree is never raised itself",
    market.CertificateRefused: "raised by the clearing job",
    market.SlashHeldBack: "raised by the job that follows breaches",
    market.MakerStopped: "raised by the console",
    market.MakerLimit: "raised by the console",
    market.TooEarly: "raised by the console and the command of keyholders",
    market.ShareRefused: "raised by the console and the command of keyholders",
    market.SealKeyLost: "raised by the job that opens bids",
    market.SealBroken: "raised by the job that opens bids",
    market.ClockRunsForward: "raised by commands of the demo",
    market.GateNotReady: "raised by the console",
    market.LinkOver: "raised by the pages that a link leads to",
    api.ApiError: "the root of the API's own branch",
    books.LedgerError: "the root of the tree is never raised itself",
    books.JobNotDead: "raised by the console",
    books.ExportUnreadable: "raised by the command that checks a file",
    **dict.fromkeys(
        (books.IdReused, books.LinkBroken, books.PendingNotFound, books.PendingMismatch, books.PendingNotTimedOut,
         books.UnknownAccount, books.UnknownLedger, books.NotInChart, books.OriginMismatch, books.UnlikeAssets,
         books.PostingRefused),
        "a mistake of ours in a posting: the request rolls back whole",
    ),
    **dict.fromkeys(
        (books.JobKeyReused, books.UnknownJobKind, books.EventReused, books.ClockMissing, books.StaleWords,
         books.Busy),
        "raised by jobs",
    ),
}  # fmt: skip
JOBS_ONLY = (pricing.PricingError, agent.AgentError)  # clearing and judging are jobs; the agent runs at the provider
RETRY = (market.InFlight, api.Conflict, api.Busy, books.LedgerHalted)
RESERVED = {"type", "title", "status", "code", "errors", "request_id", "detail", "instance"}
MONEY_FACTS = ("micros", "minor", "price", "nearest")


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Answer with a problem document; None for what is our own mistake, which becomes 500 further out."""
    known = known_refusal(error)
    if known is None:
        return None
    request = context.get("request")
    status = STATUS[type(known)]
    headers = {"WWW-Authenticate": 'Bearer realm="Grove Exchange"'} if status == 401 else {}
    if wait := _retry_seconds(known, error):
        headers["Retry-After"] = str(wait)
    if isinstance(known, api.WrongMethod):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    body = problem_of(known, status, getattr(request, "request_id", ""))
    answer = Response(body, status=status, headers=headers, content_type=MEDIA_TYPE)
    answer.is_problem = True  # type: ignore[attr-defined]
    return answer


def known_refusal(error: Exception) -> Exception | None:
    """Return the typed refusal behind an exception of ours, of Django or of DRF; None when it has no status."""
    if type(error) in STATUS:
        return error
    match error:
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return api.NotSignedIn("Send a key as `Authorization: Bearer gx_live_...`, or sign in.")
        case drf.PermissionDenied() if "CSRF" in str(error.detail):
            return api.CsrfFailed("A session's POST needs its CSRF token.")
        case drf.PermissionDenied() | PermissionDenied():
            return api.Forbidden("This seat or key may not do that.")
        case drf.NotFound() | Http404():
            return api.NoSuchPage("There is no such thing here.")
        case drf.MethodNotAllowed():
            return api.WrongMethod("This address does not know that method.")
        case drf.Throttled():
            return api.TooMany("Too many requests; wait before the next one.")
        case RequestDataTooBig():
            return api.BodyTooLarge("The body is larger than 64 KiB.")
        case UnreadablePostError() | SuspiciousOperation():
            return api.BadRequest("The request cannot be read.")
        case IntegrityError():
            log.warning("two requests met at a constraint: %s", error)
            return api.Conflict("Another request was there first; look, then send this one again.")
        case OperationalError():
            log.warning("the database is busy: %s", error)
            return api.Busy("The database is busy; send the same request again.")
    return None


def problem_of(error: Exception, status: int, request_id: str) -> dict[str, Any]:
    """Return the problem document of a refusal: type, title, status, code, its facts, and errors by JSON pointer."""
    code = str(getattr(error, "code", "internal_error"))
    facts = dict(getattr(error, "facts", {}))
    body: dict[str, Any] = {"type": f"/problems/{code}", "title": str(error), "status": status, "code": code}
    body |= {name: fact_text(name, fact) for name, fact in facts.items() if name not in RESERVED}
    errors = list(getattr(error, "errors", ()))
    field = facts.get("field")
    if field and field != "party" and not errors:  # the party comes from the key, there is no such field to point to
        errors = [(f"/{field}", code, str(error))]
    if errors:
        body["errors"] = [{"pointer": p, "code": c, "detail": sentence} for p, c, sentence in errors]
    if request_id:
        body["request_id"] = request_id
    return body


def fact_text(name: str, fact: Any) -> Any:
    """Return a fact as JSON can carry it: money and whatever passes 2^53 as a string, unknown things as text."""
    if isinstance(fact, Mapping):
        return {str(key): fact_text(str(key), value) for key, value in fact.items()}
    if isinstance(fact, list | tuple | set | frozenset):
        return [fact_text(name, value) for value in fact]
    if isinstance(fact, bool) or fact is None:
        return fact
    if isinstance(fact, int):
        return str(fact) if name.endswith(MONEY_FACTS) or abs(fact) >= 2**53 else fact
    return str(fact)


def problem_answer(refusal: api.ApiError, request_id: str) -> HttpResponse:
    """Return the problem document of a refusal that is met before any view."""
    status = STATUS[type(refusal)]
    return HttpResponse(json.dumps(problem_of(refusal, status, request_id)), status=status, content_type=MEDIA_TYPE)


def plain_problem(status: int, request_id: str, allow: str | None = None) -> HttpResponse:
    """Return the problem document for an answer that was made outside the API's views, such as a crash."""
    kinds = {400: api.BadRequest, 403: api.Forbidden, 404: api.NoSuchPage, 405: api.WrongMethod, 413: api.BodyTooLarge}
    kind = kinds.get(status, api.Internal if status >= 500 else api.BadRequest)
    sentence = {
        api.Internal: "That is our mistake. Nothing was written; the same request may be sent again.",
        api.NoSuchPage: "There is no such thing here.",
        api.Forbidden: "This seat or key may not do that.",
    }.get(kind, "The request cannot be read.")
    body = problem_of(kind(sentence), status, request_id)
    return HttpResponse(json.dumps(body), status=status, content_type=MEDIA_TYPE)


def _retry_seconds(known: Exception, error: Exception) -> int | None:
    if isinstance(known, api.TooMany):
        wait = known.facts.get("retry_after_seconds") or getattr(error, "wait", None)
        return max(1, int(wait or RETRY_SECONDS))
    return RETRY_SECONDS if isinstance(known, RETRY) else None


def reachable(root: type[Exception]) -> Iterable[type[Exception]]:
    """Yield a class and all below it."""
    yield root
    for child in root.__subclasses__():
        yield from reachable(child)
