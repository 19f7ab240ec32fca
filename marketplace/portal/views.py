"""Pages of the buyer portal. Each view parses, asks services and selectors, and renders."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ledger import selectors as books
from ledger.ids import uuid7
from ledger.rails.stripe import is_offered, is_sandbox
from marketplace.catalogue import selectors as catalogue
from marketplace.clearing import selectors as clearings
from marketplace.clearing.feasibility import Feasibility, feasibility_of, foresee_order
from marketplace.delivery.selectors import metered_hours
from marketplace.demand import selectors as demands
from marketplace.demand.gates import money_rules_of
from marketplace.demand.legs import amend_step, fund_whole, post_order, withdraw_whole
from marketplace.demand.models import STATES as DEMAND_STATES
from marketplace.demand.pins import pin_data
from marketplace.doors import STOP_POLLING, buyer_only, bytes_from_text, found_or_404, market_time, page_of, seat_of
from marketplace.downloads import own_statement
from marketplace.errors import MarketError
from marketplace.escrow import cards
from marketplace.escrow import selectors as leases
from marketplace.escrow.clauses import clauses_of
from marketplace.escrow.services import deposit_funds
from marketplace.insights import market
from marketplace.insights.legs import legs_report
from marketplace.insights.residency import export_residency
from marketplace.notices import selectors as notices
from marketplace.pack_pages import pack_answer
from marketplace.payout.proofs import payout_for
from marketplace.payout_pages import proof_answer
from marketplace.portal.forms import CardDepositForm, DemandForm, DepositForm, StepForm
from marketplace.sla.selectors import targets_shown


@require_safe
@buyer_only
def home(request: HttpRequest) -> HttpResponse:
    """What needs the buyer now."""
    running = catalogue.windows_in(("COLLECTING", "BIDDING", "CLEARING", "CLEARED", "DELIVERING"))
    windows = list(catalogue.visible_to(running, request.party.pk))
    gates = demands.gates_of(windows)
    running, money = leases.leases_bought_by(request.party), leases.money_of(request.party)
    own_gap_micros = demands.funding_gap_micros(request.party, of_own_money=True)
    return render(request, "portal/home.html", {
        "windows": [(w, gates[w.pk]) for w in windows], "money": money,
        "gap_micros": demands.funding_gap_micros(request.party),
        "short_micros": max(0, own_gap_micros - money.available_micros),
        "counts": demands.count_by_state(request.party),
        "trouble": leases.leases_in_trouble(request.party)[:5],
        "running": running.filter(state__in=leases.RUNNING_STATES).count(), "progress": notices.current_progress(),
        "told": notices.notices_of(request.party.pk, market_time(request)),
    })  # fmt: skip


@require_safe
@buyer_only
def progress(request: HttpRequest) -> HttpResponse:
    """The progress of a job as a fragment; the last answer has status 286, which stops the polling."""
    job = notices.find_progress(request.GET.get("job", "")) or notices.current_progress()
    status = 200 if job and job.outcome == "running" else STOP_POLLING
    return render(request, "parts/progress.html", {"progress": job}, status=status)


@require_safe
@buyer_only
def window_list(request: HttpRequest) -> HttpResponse:
    """Every window with its gate."""
    page = page_of(request, catalogue.visible_to(catalogue.list_windows(), request.party.pk))
    gates = demands.gates_of(page.object_list)
    return render(request, "portal/windows.html", {
        "page": page, "rows": [(w, gates[w.pk]) for w in page.object_list],
    })  # fmt: skip


@require_safe
@buyer_only
def window_page(request: HttpRequest, window_id: UUID) -> HttpResponse:
    """One window: its state, gate, curves, prices, certificate and reasons."""
    window = found_or_404(catalogue.find_visible_window(window_id, request.party.pk))
    clearing = clearings.find_clearing(window)
    codes, zones = [c.code for c in catalogue.list_classes()], [z.code for z in catalogue.list_zones()]
    products = clearings.products_of(clearing) if clearing else []
    chosen = request.GET.get("class", "")
    chosen = chosen if chosen in codes else (products[0].resource_class if products else next(iter(codes), ""))
    zone = request.GET.get("zone", "")
    zone = zone if zone in zones else ""
    return render(request, "portal/window.html", {
        "window": window, "strip": catalogue.strip_of(window), "gate": demands.gates_of([window])[window.pk],
        "clearing": clearing, "products": products, "codes": codes, "zones": zones, "chosen": chosen, "zone": zone,
        "chart": market.curves_of(window, clearing, chosen, zone) if chosen else None,
        "reasons": clearings.count_reasons(clearing) if clearing else [],
        "totals": clearings.totals_of(clearing) if clearing else {},
        "money_rules": money_rules_of(window) if window.state == "COLLECTING" else [],
        "mine": demands.demands_of(request.party, window=window.pk)[:5],
        "indicative": clearings.indicative_prices(window) if window.state in catalogue.OPEN_STATES else [],
    })  # fmt: skip


@require_safe
@buyer_only
def demand_list(request: HttpRequest) -> HttpResponse:
    """The buyer's own demands."""
    state = request.GET.get("state", "")
    state = state if state in DEMAND_STATES else ""
    counts = demands.count_by_state(request.party)
    page = page_of(request, demands.demands_of(request.party, state=state))
    return render(request, "portal/demands.html", {
        "page": page, "state": state, "shown_counts": [(s, counts[s]) for s in DEMAND_STATES if s in counts],
    })  # fmt: skip


@require_http_methods(["GET", "POST"])
@buyer_only
def demand_new(request: HttpRequest) -> HttpResponse:
    """Post a demand, or look before who could serve it. Posting moves no money; funding does."""
    windows = list(catalogue.visible_to(catalogue.windows_in(("COLLECTING",)), request.party.pk))
    data = request.POST if request.method == "POST" else None
    form = DemandForm(
        data, windows=windows, party=request.party, initial=DemandForm.filled_from(request.GET)
    )
    foreseen: list[tuple[str, Feasibility]] = []
    if request.method == "POST" and form.is_valid():
        order = {"party": request.party, "seat": seat_of(request), "now": market_time(request), **form.terms()}
        is_look = request.POST.get("act") == "look"
        try:
            if is_look:
                foreseen = foresee_order(**order)
            else:
                demand = post_order(**order)[0]
        except MarketError as error:
            form.show(error, (("provider_share_max_ppm", "share_percent"), ("further_steps", "steps")))
        else:
            if not is_look:
                messages.success(request, "It waits for an approval." if demand.state == "pending"
                                 else "Demand posted. It counts for the gate once it is funded.")  # fmt: skip
                return redirect("portal:demand", demand.pk)
    shown = {"form": form, "windows": windows, "foreseen": foreseen}
    return render(request, "portal/demand_new.html", shown, status=422 if form.errors else 200)


@require_safe
@buyer_only
def demand_page(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """One demand with its hold, awards, leases and, for what was not filled, the one reason."""
    demand = found_or_404(demands.find_demand(demand_id, request.party))
    awards = list(clearings.awards_of_demand(demand))
    return render(request, "portal/demand.html", {
        "demand": demand, "awards": awards, "awarded_micros": sum(a.amount_micros for a in awards),
        "parts": clearings.parts_of(awards), "reason": clearings.reason_of_demand(demand),
        "money": leases.money_of(request.party), "legs": legs_report(demand),
        "leases": leases.leases_bought_by(request.party).filter(demand=demand),
        "could": feasibility_of(demand) if demand.window.state == "COLLECTING" else None,
    })  # fmt: skip


@require_POST
@buyer_only
def demand_fund(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Hold the most a demand can cost."""
    behind = {"funding": request.POST.get("funding", ""), "number": request.POST.get("number", "").strip()}
    sentence = "Funded: the hold is in place and counts for the gate."
    return _act_on_demand(request, demand_id, partial(fund_whole, **behind), sentence)


@require_POST
@buyer_only
def demand_pin(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Pin a demand's data to the machines that it will be leased."""
    demand = found_or_404(demands.find_demand(demand_id, request.party))
    try:
        pin_data(demand=demand, party=request.party, seat=seat_of(request), now=market_time(request),
                 limit_bytes=bytes_from_text(request.POST.get("limit_gb", "")))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Pinned: an hour in which more leaves is credited to you whole, and both are told.")
    return redirect("portal:demand", demand_id)


@require_POST
@buyer_only
def demand_step(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Change units and price of one step of a price curve."""
    form = StepForm(request.POST)
    if not form.is_valid():
        name, errors = next(iter(form.errors.items()))
        messages.error(request, f"{form.fields[name].label}: {errors[0]}", extra_tags="bad_input")
        return redirect("portal:demand", demand_id)
    change = partial(amend_step, **form.cleaned_data)
    return _act_on_demand(request, demand_id, change, "Changed. The other steps stay.")


@require_POST
@buyer_only
def demand_withdraw(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Take a demand back and release its hold."""
    return _act_on_demand(request, demand_id, withdraw_whole, "Withdrawn. What was held is available again.")


def _act_on_demand(request: HttpRequest, demand_id: UUID, service: Any, sentence: str) -> HttpResponse:
    demand = found_or_404(demands.find_demand(demand_id, request.party))
    try:
        service(demand=demand, party=request.party, seat=seat_of(request), now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, sentence)
    return redirect("portal:demand", demand.pk)


@require_safe
@buyer_only
def lease_list(request: HttpRequest) -> HttpResponse:
    """The buyer's own leases."""
    page = page_of(request, leases.leases_bought_by(request.party))
    return render(request, "portal/leases.html", {"page": page})


@require_safe
@buyer_only
def lease_pack(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """The documentation pack of an own lease, as a page or as its file."""
    return pack_answer(request, found_or_404(leases.find_lease_of_buyer(lease_id, request.party)))


@require_safe
@buyer_only
def lease_page(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """One lease: minutes, error budget, verdict, credit, slash case and where the money went."""
    lease = found_or_404(leases.find_lease_of_buyer(lease_id, request.party))
    metered = metered_hours(lease)
    return render(request, "portal/lease.html", {
        "lease": lease, "clauses": clauses_of(lease), "metered": metered,
        "backups": clearings.backups_of(lease.demand, lease.bid),
        "transactions": leases.transactions_of(lease), "payout": payout_for(lease),
        "verdict": getattr(lease, "verdict", None), **targets_shown(lease),
        "hours": market.lease_hours(lease, metered) if metered else None,
        "burn": market.lease_burn(lease, metered) if metered else None, "flow": market.lease_money(lease),
    })  # fmt: skip


@require_safe
@buyer_only
def payout_proof(request: HttpRequest, payout_id: UUID) -> HttpResponse:
    """The public proof of a payout that paid for an own lease, as a page or a file."""
    return proof_answer(request, request.party, payout_id)


@require_POST
@buyer_only
def lease_residency(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """Evidence of where a delivered lease ran, as a file; that it was taken goes on the audit trail."""
    lease = found_or_404(leases.find_lease_of_buyer(lease_id, request.party))
    try:
        body = export_residency(lease=lease, party=request.party, person=str(request.user.get_username()),
                                now=market_time(request))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect("portal:lease", lease.pk)
    headers = {"Content-Disposition": f'attachment; filename="residency-{lease.pk}.json"'}
    return HttpResponse(body, content_type="application/json", headers=headers)


@require_safe
@buyer_only
def escrow(request: HttpRequest) -> HttpResponse:
    """What is available, held and locked, and every line that moved it."""
    form = DepositForm(initial={"key": uuid7(market_time(request))}) if settings.DEMO else None
    return _escrow(request, form)


@require_safe
@buyer_only
def escrow_statement(request: HttpRequest) -> HttpResponse:
    """Every line of the books on the buyer's accounts, as a file."""
    return own_statement(request, back="portal:escrow")


@require_POST
@buyer_only
def deposit(request: HttpRequest) -> HttpResponse:
    """Deposit test money; it shows as available once the chain has confirmed it."""
    form = DepositForm(request.POST)
    if form.is_valid():
        try:
            deposit_funds(
                party=request.party, amount_micros=form.cleaned_data["amount_micros"], key=form.deposit_key(),
                seat=seat_of(request), now=market_time(request),
            )
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Deposit sent to the chain. It shows as available once its block is final.")
            return redirect("portal:escrow")
    return _escrow(request, form, status=422)


@require_POST
@buyer_only
def card_deposit(request: HttpRequest) -> HttpResponse:
    """Ask for a payment page; the deposit's own page then leads there."""
    form = CardDepositForm(request.POST)
    if form.is_valid():
        key = form.cleaned_data["key"]
        try:
            cards.start_card_deposit(
                party=request.party, amount_micros=form.cleaned_data["amount_micros"], key=form.deposit_key(),
                return_url=request.build_absolute_uri(reverse("portal:card", args=[key])),
                seat=seat_of(request), now=market_time(request),
            )  # fmt: skip
        except MarketError as error:
            form.show(error)
        else:
            return redirect("portal:card", key=key)
    test_form = DepositForm(initial={"key": uuid7(market_time(request))}) if settings.DEMO else None
    return _escrow(request, test_form, status=422, card_form=form)


@require_safe
@buyer_only
def card_page(request: HttpRequest, key: UUID) -> HttpResponse:
    """How far a deposit by card has come; also where the payment page leads back to."""
    return render(request, "portal/card.html", _card(request, key))


@require_safe
@buyer_only
def card_steps(request: HttpRequest, key: UUID) -> HttpResponse:
    """The steps of a deposit as a fragment; one that has ended asks no more."""
    return render(request, "parts/card_steps.html", _card(request, key))


@require_POST
@buyer_only
def card_return(request: HttpRequest, key: UUID) -> HttpResponse:
    """Send what is left of a deposit back to its card."""
    deposit = found_or_404(cards.find_card_deposit(request.party, key))
    try:
        cards.return_to_card(
            party=request.party, deposit=deposit.intent, key=str(request.POST.get("key", ""))[:60],
            seat=seat_of(request), now=market_time(request),
        )
    except MarketError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "The card processor is asked to send the money back.")
    return redirect("portal:card", key=key)


def _card(request: HttpRequest, key: UUID) -> dict[str, Any]:
    return {
        "deposit": found_or_404(cards.find_card_deposit(request.party, key)), "key": key, "sandbox": is_sandbox(),
        "return_key": uuid7(market_time(request)), "delay_hours": settings.CARD_DELAY_HOURS,
    }  # fmt: skip


def _escrow(
    request: HttpRequest, form: DepositForm | None, status: int = 200, card_form: CardDepositForm | None = None
) -> HttpResponse:
    page = page_of(request, books.statement(request.party.pk))
    return render(request, "portal/escrow.html", {
        "money": leases.money_of(request.party), "page": page, "form": form, "chain": leases.chain_facts(request.party),
        "card_form": card_form or CardDepositForm(initial={"key": uuid7(market_time(request))}),
        "card": cards.card_money_of(request.party), "sandbox": is_sandbox(), "cards_offered": is_offered(),
    }, status=status)  # fmt: skip

