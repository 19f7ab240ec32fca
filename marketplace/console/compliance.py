"""Compliance in the console: evidence that waits, incidents with their clock, changed zone lists, the trail as a file.

Each act is a service's; the page says whose seat it was and shows the refusal with its code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_POST, require_safe

from marketplace import clock
from marketplace.catalogue.models import ResourceClass, Zone
from marketplace.compliance.evidence import end_evidence, read_document, review_evidence
from marketplace.compliance.incidents import close_incident, hours_to_notice, note_notice, open_incident, set_frozen
from marketplace.compliance.models import Evidence, Incident, ZoneReport
from marketplace.console.moments import moment
from marketplace.console.views import render_page
from marketplace.doors import found_or_404, page_of, seat_of
from marketplace.errors import BadInput, MarketError
from marketplace.oversight.audit_export import export_audit
from marketplace.oversight.models import WindDown
from marketplace.oversight.rechecks import change_zone_list
from marketplace.parties.models import Party, Seat
from marketplace.years import require_year

Act = Callable[[Seat, datetime], str]


@require_safe
def evidence(request: HttpRequest) -> HttpResponse:
    """What waits for a second person, oldest first, and what was reviewed last."""
    rows = Evidence.objects.select_related("party", "site", "control", "seat__user", "review__seat__user", "end")
    return render_page(
        request, "evidence", title="Evidence", now=clock.now(),
        waiting=rows.filter(review=None, end=None).defer("body").order_by("submitted_at", "pk")[:50],
        page=page_of(request, rows.exclude(review=None).defer("body").order_by("-review__at", "pk"), per_page=50),
    )  # fmt: skip


@require_safe
def document(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The stored file, as a download; that it was seen goes on the trail."""
    row = found_or_404(Evidence.objects.filter(pk=pk).first())
    try:
        body = read_document(evidence=row, seat=_seat(request), now=clock.now())
    except MarketError as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
        return redirect("admin:evidence")
    return _file(body, row.file_name)


@require_POST
def review(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Accept, refuse or revoke one piece of evidence."""
    row = found_or_404(Evidence.objects.filter(pk=pk).first())
    what, reason = request.POST.get("act", ""), request.POST.get("reason", "").strip()

    def act(seat: Seat, now: datetime) -> str:
        if what == "revoke":
            end_evidence(evidence=row, seat=seat, reason=reason, now=now)
            return "Revoked. The tier falls at once."
        review_evidence(evidence=row, seat=seat, is_accepted=what == "accept", reason=reason, now=now)
        return "Accepted." if what == "accept" else "Refused."

    return _do(request, act, "admin:evidence")


@require_safe
def incidents(request: HttpRequest) -> HttpResponse:
    """Open incidents with their clock, the wind-downs that began, and a form for a new incident."""
    now = clock.now()
    rows = Incident.objects.select_related("party", "resource_class", "zone").prefetch_related("steps")
    return render_page(
        request, "incidents", title="Incidents", now=now,
        rows=[(row, hours_to_notice(row, now)) for row in rows.order_by("closed_at", "notify_by", "id")[:50]],
        wind_downs=WindDown.objects.select_related("lease__demand", "lease__provider", "lease__buyer")[:50],
        parties=Party.objects.filter(kind__in=("university", "enterprise", "prosumer")).order_by("name", "slug"),
        classes=ResourceClass.objects.all(), zones=Zone.objects.order_by("code"),
    )  # fmt: skip


@require_POST
def incident_new(request: HttpRequest) -> HttpResponse:
    """Open an incident, frozen or not."""
    asked = request.POST

    def act(seat: Seat, now: datetime) -> str:
        tier = asked.get("tier", "")
        open_incident(
            seat=seat, title=asked.get("title", ""), party=Party.objects.filter(slug=asked.get("party", "")).first(),
            resource_class=ResourceClass.objects.filter(pk=asked.get("resource_class", "")).first(),
            zone=Zone.objects.filter(pk=asked.get("zone", "")).first(), tier=int(tier) if tier.isdigit() else None,
            discovered_at=moment(asked, "discovered_at", empty=now), freeze=bool(asked.get("freeze")),
            reason=asked.get("reason", ""), now=now,
        )  # fmt: skip
        return "The incident is open, and its clock runs."

    return _do(request, act, "admin:incidents")


@require_POST
def incident_act(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Freeze, thaw, note the notice, or close."""
    row = found_or_404(Incident.objects.filter(pk=pk).first())
    what = request.POST.get("act", "")

    def act(seat: Seat, now: datetime) -> str:
        common: dict[str, Any] = {"incident": row, "seat": seat, "reason": request.POST.get("reason", ""), "now": now}
        if what in ("freeze", "thaw"):
            set_frozen(is_frozen=what == "freeze", **common)
        elif what == "notify":
            note_notice(**common)
        elif what == "close":
            close_incident(post_mortem_url=request.POST.get("post_mortem_url", ""), **common)
        else:
            raise BadInput("Freeze, thaw, notify or close.", field="act")
        return "Done, and on the trail."

    return _do(request, act, "admin:incidents")


@require_safe
def zone_lists(request: HttpRequest) -> HttpResponse:
    """Every changed list with what it did, and a form for the next."""
    rows = ZoneReport.objects.select_related("change__zone").order_by("-at", "-pk")
    zones = Zone.objects.order_by("code").prefetch_related("members")
    return render_page(request, "zone_lists", title="Zone lists", page=page_of(request, rows, per_page=20), zones=zones)


@require_POST
def zone_change(request: HttpRequest) -> HttpResponse:
    """Adopt a list from a day on."""
    zone = found_or_404(Zone.objects.filter(pk=request.POST.get("zone", "")).first())

    def act(seat: Seat, now: datetime) -> str:
        valid_from = parse_date(request.POST.get("valid_from", ""))
        if valid_from is None:
            raise BadInput("Write the day as 2027-01-31.", field="valid_from")
        require_year(valid_from, "valid_from")
        report = change_zone_list(
            zone=zone, members=request.POST.get("members", "").upper().replace(",", " ").split(), now=now, seat=seat,
            source=request.POST.get("source", "").strip(), valid_from=valid_from,
        )  # fmt: skip
        if report is None:
            return "That is the list that stands; nothing was changed."
        return f"Adopted. {len(report.demands)} open demands and {len(report.leases)} running leases are touched."

    return _do(request, act, "admin:zone_lists")


@require_POST
def audit_file(request: HttpRequest) -> HttpResponse:
    """The audit trail as a file that `manage.py verify audit PATH` checks without a database."""
    try:
        body = export_audit(seat=_seat(request), now=clock.now())
    except MarketError as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
        return redirect("admin:index")
    return _file(body, "audit-trail.jsonl")


def _seat(request: HttpRequest) -> Seat:
    seat = seat_of(request)
    if seat is None:
        raise PermissionDenied("This act is done from a seat.")
    return seat


def _do(request: HttpRequest, act: Act, back: str) -> HttpResponse:
    try:
        messages.success(request, act(_seat(request), clock.now()))
    except MarketError as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    return redirect(back)


def _file(body: bytes, name: str) -> HttpResponse:
    """A download that no browser opens by itself."""
    safe = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in name)
    return HttpResponse(body, content_type="application/octet-stream", headers={
        "Content-Disposition": f'attachment; filename="{safe}"', "X-Content-Type-Options": "nosniff",
    })  # fmt: skip
