"""Pages of the provider's dashboard. Each view parses, asks services and selectors, and renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ledger.errors import LedgerError
from ledger.rails.stripe import is_offered, is_sandbox
from marketplace.catalogue import selectors as catalogue
from marketplace.clearing import selectors as clearings
from marketplace.demand.selectors import gates_of
from marketplace.doors import STOP_POLLING, found_or_404, market_time, page_of, provider_only, seat_of
from marketplace.downloads import own_statement
from marketplace.errors import MarketError, NotYours
from marketplace.escrow import selectors as leases
from marketplace.insights import onboarding as checklist
from marketplace.notices import selectors as notices
from marketplace.onboarding.forms import BidForm
from marketplace.pack_pages import pack_answer
from marketplace.payout import banks, claims
from marketplace.payout import selectors as payouts
from marketplace.payout_pages import proof_answer
from marketplace.slashing import selectors as slashing
from marketplace.slashing.appeals import open_appeal
from marketplace.supply import selectors as supply
from marketplace.supply.bids import place_bid, withdraw_bid
from marketplace.supply.receipts import receipt_of
from marketplace.supply.sealing import with_own_terms
from marketplace.supply.verifiers import is_demo_panel


@require_safe
@provider_only
def home(request: HttpRequest) -> HttpResponse:
    """The checklist: what is done, what is missing, what comes next."""
    windows = list(catalogue.visible_to(catalogue.windows_in(catalogue.OPEN_STATES), request.party.pk))
    gates, money = gates_of(windows), checklist.provider_money(request.party)
    return render(request, "onboarding/home.html", {
        "list": checklist.checklist_of(request.party, money, market_time(request)),
        "windows": [(w, gates[w.pk]) for w in windows], "money": money, "progress": notices.current_progress(),
        "told": notices.notices_of(request.party.pk, market_time(request)),
    })  # fmt: skip


@require_safe
@provider_only
def progress(request: HttpRequest) -> HttpResponse:
    """The progress of a job as a fragment; the last answer has status 286, which stops the polling."""
    job = notices.find_progress(request.GET.get("job", "")) or notices.current_progress()
    status = 200 if job and job.outcome == "running" else STOP_POLLING
    return render(request, "parts/progress.html", {"progress": job}, status=status)


@require_safe
@provider_only
def class_list(request: HttpRequest) -> HttpResponse:
    """The provider's node classes with their proofs."""
    now = market_time(request)
    classes = list(supply.node_classes_of(request.party))
    rows = [(c, supply.live_benchmark(c, now)) for c in classes]
    return render(request, "onboarding/classes.html", {
        "rows": [(c, b, supply.proofs_of(c, b) if b else []) for c, b in rows], "is_demo_panel": is_demo_panel(),
    })  # fmt: skip


@require_safe
@provider_only
def arming(request: HttpRequest) -> HttpResponse:
    """Slashing held back until proof: now, after proof, and the worst case."""
    now = market_time(request)
    classes = list(supply.node_classes_of(request.party))
    chosen = next((c for c in classes if str(c.pk) == request.GET.get("class")), classes[0] if classes else None)
    return render(request, "onboarding/arming.html", {
        "classes": classes, "chosen": chosen, "arming": slashing.explain_arming(chosen, now) if chosen else None,
        "table": slashing.SLASH_TABLE, "caps": slashing.CAPS_BPS, "forfeit_bps": slashing.FORFEIT_BPS,
        "cases": slashing.slash_cases_of(request.party)[:10], "now": now,
    })  # fmt: skip


@require_POST
@provider_only
def case_dispute(request: HttpRequest, case_id: UUID) -> HttpResponse:
    """Dispute a request to slash: it is frozen until two persons outside the panel agree."""
    case = found_or_404(slashing.slash_cases_of(request.party).filter(pk=case_id).first())
    try:
        appeal = open_appeal(
            case=case, party=request.party, person=request.user.get_username(), now=market_time(request),
            grounds=request.POST.get("grounds", ""),
        )  # fmt: skip
    except MarketError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(
            request,
            f"Disputed. Two persons outside the panel decide by {appeal.decide_by:%d %b %Y}; undecided means no slash.",
        )
    return redirect(f"{reverse('onboarding:arming')}?class={case.node_class_id}")


@require_safe
@provider_only
def bid_list(request: HttpRequest) -> HttpResponse:
    """The provider's own bids, and for what was not filled the one reason."""
    page = page_of(request, supply.bids_of(request.party))
    bids = with_own_terms(page.object_list, party=request.party)
    reasons = clearings.reasons_of_bids(page.object_list)
    windows = list(catalogue.visible_to(catalogue.windows_in(catalogue.OPEN_STATES), request.party.pk))
    gates = gates_of(windows)
    return render(request, "onboarding/bids.html", {
        "page": page, "rows": [(bid, reasons.get(bid.pk)) for bid in bids],
        "windows": [(w, gates[w.pk]) for w in windows], "now": market_time(request),
    })  # fmt: skip


@require_http_methods(["GET", "POST"])
@provider_only
def bid_new(request: HttpRequest) -> HttpResponse:
    """Place a sealed bid."""
    known = catalogue.visible_to(catalogue.windows_in(catalogue.OPEN_STATES), request.party.pk)
    windows = sorted(known, key=lambda w: w.state != "BIDDING")
    classes = list(supply.classes_to_offer(request.party))
    data = request.POST if request.method == "POST" else None
    form = BidForm(data, windows=windows, node_classes=classes, initial={"window": request.GET.get("window")})
    if request.method == "POST" and form.is_valid():
        try:
            place_bid(party=request.party, seat=seat_of(request), now=market_time(request), **form.terms())
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Bid sealed. Nobody but your own seats can read it until bidding closes.")
            return redirect("onboarding:bids")
    gates = gates_of(windows)
    return render(request, "onboarding/bid_new.html", {
        "form": form, "windows": windows, "classes": classes,
        "waiting": [(w, gates[w.pk]) for w in windows if w.state == "COLLECTING"],
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@provider_only
def bid_withdraw(request: HttpRequest, bid_id: UUID) -> HttpResponse:
    """Take a sealed bid back, before the no-cancel period."""
    bid = found_or_404(supply.find_bid(bid_id, request.party))
    try:
        withdraw_bid(bid=bid, party=request.party, seat=seat_of(request), now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Bid withdrawn.")
    return redirect("onboarding:bids")


@require_safe
@provider_only
def bid_receipt(request: HttpRequest, bid_id: UUID) -> HttpResponse:
    """The receipt of an own bid, as a page or as the file that is checked against the trail."""
    bid = found_or_404(supply.find_bid(bid_id, request.party))
    try:
        receipt = receipt_of(bid=bid, party=request.party)
    except NotYours as missing:
        raise Http404("no receipt") from missing
    if "file" in request.GET:
        name = f"grove-receipt-{bid.pk}.json"
        return JsonResponse(receipt, headers={"Content-Disposition": f'attachment; filename="{name}"'})
    return render(request, "onboarding/receipt.html", {"bid": bid, "receipt": receipt})


@require_safe
@provider_only
def lease_list(request: HttpRequest) -> HttpResponse:
    """The provider's awards as leases, with verdicts and credits."""
    page = page_of(request, leases.leases_sold_by(request.party))
    return render(request, "onboarding/leases.html", {"page": page})


@require_safe
@provider_only
def lease_pack(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """The documentation pack of an own lease, as a page or as its file."""
    return pack_answer(request, found_or_404(leases.leases_sold_by(request.party).filter(pk=lease_id).first()))


@require_safe
@provider_only
def statement(request: HttpRequest) -> HttpResponse:
    """Gross, fee, holdback, credit, slash and net per lease, and the payouts that followed."""
    page = page_of(request, payouts.settled_lines_of(request.party))
    return render(request, "onboarding/statement.html", {
        "page": page, "lines": [payouts.statement_line(line) for line in page.object_list],
        "sums": payouts.statement_sums(request.party), "payouts": payouts.payouts_of(request.party)[:20],
        "money": checklist.provider_money(request.party), "shares": payouts.shares_of(request.party)[:40],
    })  # fmt: skip


@require_safe
@provider_only
def statement_file(request: HttpRequest) -> HttpResponse:
    """Every line of the books on the provider's accounts, as a file."""
    return own_statement(request, back="onboarding:statement")


@require_safe
@provider_only
def payouts_page(request: HttpRequest) -> HttpResponse:
    """Where payouts go, how the bank account stands, and each transfer. The card processor's page leads back here."""
    return render(request, "onboarding/payouts.html", _payouts(request))


@require_safe
@provider_only
def payouts_account(request: HttpRequest) -> HttpResponse:
    """The bank account's state as a fragment; one that waits for nothing asks no more."""
    return render(request, "parts/bank_account.html", _payouts(request))


@require_POST
@provider_only
def payouts_to_bank(request: HttpRequest) -> HttpResponse:
    """Choose a bank account, or ask for a new link to the page for its details."""
    back = request.build_absolute_uri(reverse("onboarding:payouts"))
    return _done(request, "", lambda: banks.choose_bank(
        party=request.party, seat=seat_of(request), return_url=back, now=market_time(request)))  # fmt: skip


@require_POST
@provider_only
def payouts_to_wallet(request: HttpRequest) -> HttpResponse:
    """Choose the wallet for what is paid from now on."""
    sentence = "From now on payouts stay in your wallet on chain."
    return _done(request, sentence, lambda: banks.choose_wallet(
        party=request.party, seat=seat_of(request), now=market_time(request)))  # fmt: skip


@require_POST
@provider_only
def payouts_now(request: HttpRequest) -> HttpResponse:
    """Transfer what waits after a refusal or a reversal."""
    sentence = "The card processor is asked to transfer what waits."
    return _done(request, sentence, lambda: banks.pay_now(
        party=request.party, seat=seat_of(request), now=market_time(request)))  # fmt: skip


@require_safe
@provider_only
def payout_proof(request: HttpRequest, payout_id: UUID) -> HttpResponse:
    """The public proof of a payout of an own class, as a page or a file."""
    return proof_answer(request, request.party, payout_id)


@require_safe
@provider_only
def claims_file(request: HttpRequest) -> HttpResponse:
    """The provider's proofs from the root on chain, to be kept: with them it can claim without us."""
    try:
        document = claims.proofs_of(request.party)
    except (MarketError, LedgerError) as error:  # nothing is published, or no chain answers
        messages.error(request, str(error), extra_tags=error.code)
        return redirect("onboarding:payouts")
    name = f"grove-claims-{document['epoch']}.json"
    return JsonResponse(document, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _done(request: HttpRequest, sentence: str, act: Callable[[], object]) -> HttpResponse:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        if sentence:
            messages.success(request, sentence)
    return redirect("onboarding:payouts")


def _payouts(request: HttpRequest) -> dict[str, Any]:
    return {
        "bank": banks.bank_page_of(request.party, market_time(request)), "sandbox": is_sandbox(),
        "bank_offered": is_offered(), "money": checklist.provider_money(request.party),
    }  # fmt: skip
