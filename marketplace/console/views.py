"""The console's own pages: opened bids, a certificate checked again, a preview, the acts with their confirmation."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ledger.models import ChainIntent
from marketplace import clock
from marketplace.clearing.previews import preview_window
from marketplace.clearing.selectors import last_clearing
from marketplace.clearing.services import verify_published
from marketplace.console.acts import ACTS, REFUSALS, run_act
from marketplace.console.reads import opened_bids, opened_windows, previewed_windows
from marketplace.console.underway import keys_for_gas, transactions_under_way, waits_for_time
from marketplace.doors import found_or_404, page_of, seat_of
from marketplace.governance.transactions import cancel_transaction
from marketplace.insights.anchors import anchored_hashes
from marketplace.insights.coordination import coordination_trend
from marketplace.parties.roles import require_person
from marketplace.payout.refusals import ask_retry, blocking_calls, let_retry
from marketplace.slashing.appeals import give_opinion
from marketplace.slashing.selectors import find_appealed
from marketplace.supply.receipts import note_viewing


def render_page(request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    from marketplace.console.site import console

    return TemplateResponse(request, f"console/{template}.html", {**console.each_context(request), **context})


@require_safe
def opened(request: HttpRequest) -> HttpResponse:
    """The bids of one window, once they are open."""
    windows = list(opened_windows())
    asked = request.GET.get("window", "")
    window = next((w for w in windows if w.name == asked), None) or (windows[0] if windows else None)
    if asked and (window is None or window.name != asked):
        raise Http404("no such opened window")
    page = page_of(request, opened_bids(window), per_page=50) if window else None
    if window and page:
        note_viewing(person=request.user.get_username(), window=window, bids=page.object_list, now=clock.now())
    return render_page(request, "opened_bids", title="Opened bids", windows=windows, window=window, page=page)


@require_safe
def coordination(request: HttpRequest) -> HttpResponse:
    """What it costs to come together, with its trend."""
    return render_page(request, "coordination", title="Coordination cost", trend=coordination_trend())


@require_safe
def certificate(request: HttpRequest) -> HttpResponse:
    """Run the published verifier over the last clearing's bundle, now."""
    clearing = found_or_404(last_clearing())
    wrong = list(verify_published(clearing=clearing))
    anchored = anchored_hashes([clearing.window.number]).get(clearing.window.number, "")
    bundle_hash = bytes(clearing.bundle_hash).hex()
    if anchored and anchored != bundle_hash:
        wrong.append("anchor: the chain keeps another bundle hash")
    return render_page(
        request, "certificate", title=f"Certificate of {clearing.window.name}", clearing=clearing, wrong=wrong,
        bundle_hash=bundle_hash, anchored=anchored, files=clearing.files.order_by("name").defer("body"),
    )  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
def preview(request: HttpRequest) -> HttpResponse:
    """Clear a frozen copy of a window that is not cleared yet, and show what it came to; nothing is published."""
    windows = list(previewed_windows())
    found, refusal = None, ""
    if request.method == "POST":
        window = found_or_404(next((w for w in windows if w.name == request.POST.get("window")), None))
        try:
            found = preview_window(window=window, actor=request.user.get_username(), now=clock.now())
        except REFUSALS as error:
            refusal = f"{error} ({error.code})"
    return render_page(request, "preview", title="Preview a clearing", windows=windows, preview=found, refusal=refusal)


@require_http_methods(["GET", "HEAD", "POST"])
def act(request: HttpRequest, name: str) -> HttpResponse:
    """Ask before an act, naming its effect; then do it and say what it came to."""
    chosen = ACTS.get(name)
    if chosen is None:
        raise Http404("no such act")
    if request.method != "POST":
        return render_page(request, "act", title=chosen.title, act=chosen)
    went_well, outcome = run_act(act=chosen, person=request.user.get_username(), now=clock.now())
    (messages.success if went_well else messages.error)(request, outcome)
    return redirect("admin:index")


@require_safe
def transactions(request: HttpRequest) -> HttpResponse:
    """What is on its way to the chain, with every signed transaction, its fees and its trouble."""
    return render_page(
        request, "transactions", title="Transactions under way", rows=transactions_under_way(),
        blocking=blocking_calls(), waits=waits_for_time(), coins=keys_for_gas(),
    )  # fmt: skip


@require_POST
def settlement_retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask that a settlement refused three times is tried again, or let what another person asked for."""
    seat, now = found_or_404(seat_of(request)), clock.now()
    if (wanted := request.POST.get("act", "")) not in ("ask", "let"):
        raise Http404("no such act")
    try:
        if wanted == "ask":
            ask_retry(settlement_id=pk, seat=seat, reason=request.POST.get("reason", ""), now=now)
        else:
            let_retry(settlement_id=pk, seat=seat, now=now)
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    else:
        messages.success(request, {
            "ask": "Asked for. Another person of operations has to let it.",
            "let": "Taken back: the next turn settles its leases anew.",
        }[wanted])  # fmt: skip
    return redirect("admin:transactions")


@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask before a cancel, naming its effect; then ask the sender for it."""
    intent = found_or_404(ChainIntent.objects.filter(pk=pk).first())
    if request.method != "POST":
        return render_page(request, "cancel_transaction", title="Cancel a transaction", intent=intent)
    person = request.user.get_username()
    try:
        require_person(person, "operate", "cancel transactions")
        cancel_transaction(key=intent.key, person=person, now=clock.now())
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    else:
        messages.success(request, f"The cancel of {intent.contract}.{intent.function} is asked for.")
    return redirect("admin:transactions")


@require_http_methods(["GET", "HEAD", "POST"])
def appeal(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show a disputed request with its evidence, and take this person's opinion; the second equal one decides."""
    case = found_or_404(find_appealed(pk))
    if request.method != "POST":
        return render_page(request, "appeal", title="Judge an appeal", case=case, now=clock.now())
    try:
        give_opinion(
            case=case, judge=request.user.get_username(), upholds=request.POST.get("opinion") == "uphold",
            reason=request.POST.get("reason", ""), now=clock.now(),
        )  # fmt: skip
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    else:
        messages.success(request, "Your opinion is on record. The second equal one decides.")
    return redirect("admin:appeal", pk=pk)
