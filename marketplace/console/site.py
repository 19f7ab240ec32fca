"""The Foundation's console: every stage in the order of the data path, for staff seats only."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url
from django.templatetags.static import static
from django.urls import path, reverse
from unfold.sites import UnfoldAdminSite

from ledger import models as books
from marketplace import clock
from marketplace import models as m
from marketplace.console import books as money
from marketplace.console import compliance as papers
from marketplace.console import (
    delivery,
    keyholders,
    maker,
    phases,
    reports,
    round_trips,
    rules,
    undertakings,
    views,
    vouchers,
)
from marketplace.console.reads import (
    certificate_of_last_clearing,
    control_room,
    health,
    revenue,
    slash_queue,
)
from marketplace.console.tables import Rolls, Table, Told, Trail, answered, hexed, table_of
from marketplace.doors import foundation_only
from marketplace.seat_pages import seat_list


class Console(UnfoldAdminSite):
    """An admin site that shows and does not edit. People sign in by the site's own door."""

    site_title = "Grove Exchange"
    index_title = "Control room"
    index_template = "console/index.html"

    def get_urls(self) -> list[Any]:
        urls = [url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site"]
        own = [
            path("opened-bids/", self.admin_view(views.opened), name="opened_bids"),
            path("keyholders/", self.admin_view(keyholders.keyholders), name="keyholders"),
            path("market-maker/", self.admin_view(maker.maker), name="maker"),
            path("books/", self.admin_view(money.books), name="books"),
            path("books/<slug:what>/", self.admin_view(money.books_file), name="books_file"),
            path("parked-jobs/", self.admin_view(money.parked_jobs), name="parked_jobs"),
            path("rules/", self.admin_view(rules.rules), name="rules"),
            path("reports/", self.admin_view(reports.reports), name="reports"),
            path("reports/<uuid:pk>/", self.admin_view(reports.report_act), name="report_act"),
            path("coordination/", self.admin_view(views.coordination), name="coordination"),
            path("certificate/", self.admin_view(views.certificate), name="certificate"),
            path("phases/", self.admin_view(phases.phases), name="phases"),
            path("funding-lines/", self.admin_view(phases.funding_lines), name="funding_lines"),
            path("undertakings/", self.admin_view(undertakings.undertakings), name="undertakings"),
            path("round-trips/", self.admin_view(round_trips.round_trips), name="round_trips"),
            path("vouchers/", self.admin_view(vouchers.vouchers), name="vouchers"),
            path("preview/", self.admin_view(views.preview), name="preview"),
            path("transactions/", self.admin_view(views.transactions), name="transactions"),
            path("transactions/<uuid:pk>/cancel/", self.admin_view(views.cancel), name="cancel_transaction"),
            path("settlements/<uuid:pk>/retry/", self.admin_view(views.settlement_retry), name="settlement_retry"),
            path("appeals/<uuid:pk>/", self.admin_view(views.appeal), name="appeal"),
            path("delivery-cases/", self.admin_view(delivery.cases), name="delivery_cases"),
            path("causes/", self.admin_view(delivery.causes), name="causes"),
            path("delivery-cases/<uuid:pk>/", self.admin_view(delivery.case), name="delivery_case"),
            path("seats/", self.admin_view(foundation_only(seat_list)), {"door": "admin", "frame": self.frame},
                 name="seats"),
            path("acts/<slug:name>/", self.admin_view(views.act), name="act"),
            *compliance_urls(self.admin_view),
        ]
        return own + urls

    def frame(self, request: HttpRequest) -> dict[str, Any]:
        """What stands around the page of seats, which all doors share."""
        return {**self.each_context(request), "title": "Seats"}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        now = clock.now()
        figures = {
            "now": now, "rows": control_room(), "certificate": certificate_of_last_clearing(), "health": health(now),
            "cases": slash_queue(), "revenue": revenue(),
        }  # fmt: skip
        return super().index(request, {**figures, **(extra_context or {})})

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Find a table by its name; rows are searched in their own tables only."""
        if set(request.GET) - {"s"}:
            raise Http404("search by name only")
        return super().search(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send to the site's own page, which is on the trail."""
        return redirect("password_change")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send to the site's own sign-in page; whoever is signed in and no staff has no door here."""
        if request.user.is_authenticated:
            raise PermissionDenied("The console is for seats of the Foundation.")
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"), resolve_url(settings.LOGIN_URL))


def compliance_urls(guarded: Any) -> list[Any]:
    """The addresses of evidence, incidents, zone lists and the exported trail."""
    return [
        path("evidence/", guarded(papers.evidence), name="evidence"),
        path("evidence/<uuid:pk>/document/", guarded(papers.document), name="evidence_document"),
        path("evidence/<uuid:pk>/review/", guarded(papers.review), name="evidence_review"),
        path("incidents/", guarded(papers.incidents), name="incidents"),
        path("incidents/new/", guarded(papers.incident_new), name="incident_new"),
        path("incidents/<uuid:pk>/", guarded(papers.incident_act), name="incident_act"),
        path("zone-lists/", guarded(papers.zone_lists), name="zone_lists"),
        path("zone-lists/change/", guarded(papers.zone_change), name="zone_change"),
        path("audit-file/", guarded(papers.audit_file), name="audit_file"),
    ]


console = Console(name="admin")

# Group, then its tables in data-path order: title, icon, model, how it is shown.
GROUPS: tuple[tuple[str, tuple[tuple[str, str, Any, type[Table]], ...]], ...] = (
    ("Parties", (
        ("Parties", "apartment", m.Party, table_of(
            m.Party, show=("name", "kind", "country", "parent_country", "parent", "registered_at"),
            filters=("kind", "country"), search=("name", "slug"), list_select_related=("parent",))),
        ("Seats", "badge", m.Seat, table_of(
            m.Seat, show=("user", "party", "role"), filters=("role",), search=("user__email", "party__name"),
            list_select_related=("user", "party"))),
        ("API keys", "key", m.ApiKey, table_of(
            m.ApiKey, show=("label", "party", "prefix", "may_write", "created_at", "expires_at", "revoked_at"),
            filters=("may_write",), search=("label", "prefix"), list_select_related=("party",))),
    )),
    ("Catalogue", (
        ("Windows", "calendar_month", m.Window, table_of(
            m.Window, show=("name", "number", "state", "kind", "starts_at", "demand_closes_at", "bidding_closes_at"),
            filters=("state", "kind"), search=("name",))),
        ("Window transitions", "timeline", m.WindowTransition, table_of(
            m.WindowTransition, show=("window", "from_state", "to_state", "reason", "at"), filters=("to_state",),
            list_select_related=("window",))),
        ("Resource classes", "memory", m.ResourceClass, table_of(
            m.ResourceClass, show=("code", "name", "ops_per_sec", "mem_bytes", "reference_price_micros"))),
        ("Zones", "public", m.Zone, table_of(m.Zone, show=("code", "name", "source"))),
        ("Tiers", "shield", m.Tier, table_of(m.Tier, show=("level", "name"))),
        ("SLA presets", "verified", m.SlaPreset, table_of(m.SlaPreset, show=("code", "availability_bps"))),
        ("Vantages", "cell_tower", m.Vantage, table_of(m.Vantage, show=("code", "city", "country"))),
    )),
    ("Compliance", (
        ("Controls", "rule", m.Control, table_of(
            m.Control, show=("code", "name", "kind", "asks", "source"), filters=("kind",), search=("code", "name"))),
        ("Data classes", "category", m.DataClass, table_of(
            m.DataClass, show=("code", "name", "tier_min", "agreement", "zone", "is_refused", "source"),
            list_select_related=("agreement", "zone"))),
        ("Limits of kinds", "vertical_align_top", m.KindLimit, table_of(
            m.KindLimit, show=("kind", "tier_max", "reason"))),
        ("Documents", "description", m.Evidence, table_of(
            m.Evidence, show=("control", "party", "site", "issuer", "valid_until", "submitted_at"),
            filters=("control",), search=("party__name",), list_select_related=("control", "party", "site"))),
        ("Agreements", "contract_edit", m.Agreement, table_of(
            m.Agreement, show=("control", "buyer", "provider", "valid_until", "proposed_at"),
            list_select_related=("control", "buyer", "provider"))),
    )),
    ("Demand", (
        ("Demands", "request_quote", m.Demand, table_of(
            m.Demand, show=("reference", "party", "window", "kind", "quantity_units", "price_limit_micros", "state"),
            filters=("state", "kind", "window"), search=("reference", "party__name"),
            list_select_related=("party", "window"))),
        ("Standing demands", "repeat", m.StandingDemand, table_of(
            m.StandingDemand, show=("reference", "party", "price_limit_micros", "renewal_cap_ppm", "state", "ends_at"),
            filters=("state",), search=("reference", "party__name"), list_select_related=("party",))),
        ("Statements", "sentiment_dissatisfied", m.DemandStatement, table_of(
            m.DemandStatement, show=("buyer", "demand", "version", "segment", "pain", "present_usd_per_year",
                                     "incumbent", "stated_at"),
            filters=("segment",), search=("party__name", "demand__party__name"),
            list_select_related=("party", "demand__party"))),
    )),
    ("Supply", (
        ("Admissions", "how_to_reg", m.Admission, table_of(
            m.Admission, show=("node_class", "month", "zone", "unit_hours", "state", "asked_at", "decided_at"),
            filters=("state", "month"), list_select_related=("node_class__party",))),
        ("Sites", "location_on", m.Site, table_of(
            m.Site, show=("code", "party", "city", "country", "operator_country", "keys_country"),
            filters=("country",), search=("code", "city", "party__name"), list_select_related=("party",))),
        ("Node classes", "dns", m.NodeClass, table_of(
            m.NodeClass, show=("chain_class", "party", "resource_class", "site", "units", "tier", "enrolled_at"),
            filters=("resource_class", "tier"), search=("party__name", "claimed_name"),
            list_select_related=("party", "site", "resource_class"))),
        ("Standings", "trending_up", m.Standing, table_of(
            m.Standing, show=("node_class", "state", "checks_passed", "checks_failed", "proven_until", "changed_at"),
            filters=("state",), list_select_related=("node_class__party",))),
        ("Standing changes", "history", m.StandingChange, table_of(
            m.StandingChange, show=("node_class", "from_state", "to_state", "reason", "at"), filters=("to_state",),
            list_select_related=("node_class__party",))),
        ("Benchmarks", "speed", m.Benchmark, table_of(
            m.Benchmark, show=("node_class", "kind", "epoch", "is_simulated", "finished_at", "valid_until"),
            filters=("kind", "is_simulated"), list_select_related=("node_class__party",), exclude=("transcript",))),
        ("Verifier seats", "verified", m.VerifierSeat, table_of(
            m.VerifierSeat, show=("address", "party", "vantage", "is_demo", "seated_at", "retired_at"),
            list_select_related=("party",))),
        ("Roll calls", "groups", m.RollCall, table_of(
            m.RollCall, Rolls, show=("owner", "opened_at", "closes_at", answered), list_select_related=("owner",))),
    )),
    ("Clearing", (
        ("Clearings", "balance", m.Clearing, table_of(
            m.Clearing, show=("window", "rule_version", "welfare_micros", "bound_micros", "gap_micros", "cleared_at",
                              hexed("bundle_hash")), list_select_related=("window",))),
        ("Attempts", "replay", m.ClearingAttempt, table_of(
            m.ClearingAttempt, show=("window", "number", "outcome", "code", "sentence", "began_at", "ended_at"),
            filters=("outcome",), list_select_related=("window",))),
        ("Indicative prices", "price_change", m.IndicativePrice, table_of(
            m.IndicativePrice, show=("window", "resource_class", "method", "low_micros", "high_micros", "bids",
                                     "made_at"),
            filters=("method",), list_select_related=("window", "resource_class"))),
        ("Prices", "sell", m.PriceRow, table_of(
            m.PriceRow, show=("clearing", "resource_class", "country", "tier", "signature"),
            filters=("resource_class", "country", "tier"), list_select_related=("clearing__window",))),
        ("Awards", "handshake", m.Award, table_of(
            m.Award, show=("demand", "bid", "start_slot", "end_slot", "units", "amount_micros"),
            list_select_related=("demand__party", "bid__party"))),
        ("Backups", "swap_horiz", m.Backup, table_of(
            m.Backup, show=("award", "bid", "strike_price_micros"),
            list_select_related=("award__demand__party", "bid__party"))),
        ("Reasons", "help", m.LineReason, table_of(
            m.LineReason, show=("side", "demand", "bid", "code", "unfilled_unit_hours"), filters=("side", "code"),
            list_select_related=("demand__party", "bid__party"))),
    )),
    ("Escrow", (
        ("Backups that step in", "emergency", m.StepIn, table_of(
            m.StepIn, show=("lease", "state", "code", "sentence", "from_slot", "fee_micros", "decided_at"),
            filters=("state",), list_select_related=("lease__demand", "lease__provider"))),
        ("Mandates", "draw", m.Mandate, table_of(
            m.Mandate, show=("window", "party", "nonce", "max_spend_micros", "expires_at"), filters=("window",),
            list_select_related=("window", "party"))),
        ("Lock batches", "lock", m.LockBatch, table_of(
            m.LockBatch, show=("window", "ordinal", "chain_no", "total_micros", "locked_at"), filters=("window",),
            list_select_related=("window",))),
        ("Leases", "contract", m.Lease, table_of(
            m.Lease, show=("demand", "buyer", "provider", "unit_hours", "fee_micros", "is_armed", "state"),
            filters=("state", "is_armed", "window"), search=("demand__reference", "buyer__name", "provider__name"),
            list_select_related=("demand__party", "buyer", "provider"))),
        ("Suspect flows", "sync_problem", m.SuspectFlow, table_of(
            m.SuspectFlow, show=("lease", "kind", "owners", "came_round_micros", "is_tagged_in_books", "found_at"),
            filters=("kind", "is_tagged_in_books"), list_select_related=("lease__demand", "lease__provider"))),
    )),
    ("Delivery and SLA", (
        ("Readings", "timer", m.Reading, table_of(
            m.Reading, show=("lease", "slot", "minutes_down", "minutes_unknown", "minutes_billable", "earned_micros"),
            list_select_related=("lease__demand", "lease__provider"))),
        ("Verdicts", "gavel", m.Verdict, table_of(
            m.Verdict, show=("lease", "availability_ppm", "down_minutes", "is_below_sla", "is_breach", "judged_at"),
            filters=("is_below_sla", "is_breach"), list_select_related=("lease__demand", "lease__provider"))),
        ("Credits", "redeem", m.Credit, table_of(
            m.Credit, show=("verdict__lease", "step_bps", "amount_micros", "source", "posted_at"), filters=("source",),
            list_select_related=("verdict__lease__demand", "verdict__lease__provider"))),
    )),
    ("Payout and slashing", (
        ("Settlements", "receipt_long", m.Settlement, table_of(
            m.Settlement, show=("epoch", "window", "earned_micros", "refunded_micros", "fees_micros", "final_at"),
            list_select_related=("window",))),
        ("Settlement lines", "segment", m.SettlementLine, table_of(
            m.SettlementLine, show=("lease", "earned_micros", "payable_micros", "holdback_micros", "fee_micros",
                                    "returned_micros", "credit_micros"),
            list_select_related=("lease__demand", "lease__provider"))),
        ("Payouts", "payments", m.Payout, table_of(
            m.Payout, show=("node_class", "window", "amount_micros", "made_at", "final_at"), filters=("window",),
            list_select_related=("node_class__party", "window"))),
        ("Slash cases", "content_cut", m.SlashCase, table_of(
            m.SlashCase, show=("node_class", "outcome", "amount_micros", "forfeit_micros", "to_buyer_micros",
                               "to_pool_micros", "executable_at"),
            filters=("outcome",), list_select_related=("node_class__party",))),
    )),
    ("Books and chain", (
        ("Reconciliations", "compare_arrows", books.Reconciliation, table_of(
            books.Reconciliation, show=("checked_at", "ledger", "block_number", "block_hash"),
            ordering=("-checked_at",))),
        ("Card reconciliations", "credit_card", books.CardReconciliation, table_of(
            books.CardReconciliation, show=("checked_at", "lines", "books_cents", "processor_cents", "differences"),
            ordering=("-checked_at",))),
        ("Card payments", "payments", books.CardIntent, table_of(
            books.CardIntent, show=("kind", "party", "cents", "state", "reason", "created_at", "ended_at"),
            filters=("kind", "state"), search=("processor_id", "payment_id"), ordering=("-created_at",))),
        ("Bank accounts", "account_balance_wallet", books.BankAccount, table_of(
            books.BankAccount, show=("party", "country", "state", "is_chosen", "reason", "read_at"),
            filters=("state", "is_chosen"), search=("processor_id",), ordering=("-created_at",))),
        ("Accounts", "account_balance", books.Account, table_of(
            books.Account, show=("id", "code", "party", "scope", "floor"), filters=("code",), ordering=("code", "id"))),
        ("Jobs", "inbox", books.Outbox, table_of(
            books.Outbox, show=("kind", "dedupe_key", "run_at", "tries", "done_at"), filters=("kind",),
            ordering=("-run_at",))),
        ("Transactions", "link", books.ChainIntent, table_of(
            books.ChainIntent, show=("key", "role", "contract", "function", "state", "block_number", "revert_reason"),
            filters=("state", "contract"), search=("key", "tx_hash"), ordering=("-created_at",))),
        ("Chain events", "event_note", books.ChainEvent, table_of(
            books.ChainEvent, show=("block_number", "log_index", "contract", "name", "booked"),
            filters=("contract", "name", "booked"), ordering=("-block_number", "-log_index"))),
        ("Contracts", "description", books.ChainContract, table_of(
            books.ChainContract, show=("name", "address", "chain_id"))),
    )),
    ("Governance", (
        ("Signals", "crisis_alert", m.Signal, table_of(
            m.Signal, show=("title", "kind", "direction", "freezes", "owner", "raised_at", "closed_at"),
            filters=("direction", "kind"))),
        ("Phase evidence", "history_edu", m.PhaseEvidence, table_of(
            m.PhaseEvidence, show=("phase", "is_complete", "at", hexed("hash")), filters=("phase",))),
        ("Sign-offs", "signature", m.PhaseSignOff, table_of(
            m.PhaseSignOff, show=("evidence", "person", "at"), list_select_related=("evidence",))),
        ("Gate reviews", "event_available", m.GateReview, table_of(
            m.GateReview, show=("quarter", "person", "verdict", "at"))),
        ("Flags", "flag", m.Flag, table_of(m.Flag, show=("name", "is_on", "opens_in_phase", "reason"))),
        ("Audit trail", "fact_check", m.AuditLine, table_of(
            m.AuditLine, Trail, show=("at", "actor", "action", "subject", "reason"), filters=("action",),
            search=("subject", "actor"), sortable_by=())),
        ("Notices", "campaign", m.Notice, table_of(
            m.Notice, Told, show=("at", "party", "code", "sentence"), filters=("code",),
            list_select_related=("party",))),
        ("Progress", "hourglass_top", m.Progress, table_of(
            m.Progress, show=("job", "phase", "done", "total", "outcome", "updated_at"), filters=("outcome",))),
    )),
)  # fmt: skip

for _, tables in GROUPS:
    for _, _, model, table in tables:
        console.register(model, table)


# -- what Unfold asks for by name in the settings --------------------------------------------------------------------
def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The side bar: the control room, then every stage in data-path order."""
    room = [
        {"title": "Control room", "icon": "monitoring", "link": reverse("admin:index")},
        {"title": "Phases", "icon": "stairs", "link": reverse("admin:phases")},
        {"title": "Orders and grants", "icon": "request_quote", "link": reverse("admin:funding_lines")},
        {"title": "Grant vouchers", "icon": "redeem", "link": reverse("admin:vouchers")},
        {"title": "Undertakings", "icon": "history_edu", "link": reverse("admin:undertakings")},
        {"title": "Round trips", "icon": "network_ping", "link": reverse("admin:round_trips")},
        {"title": "Opened bids", "icon": "drafts", "link": reverse("admin:opened_bids")},
        {"title": "Coordination cost", "icon": "handshake", "link": reverse("admin:coordination")},
        {"title": "Rules for everybody", "icon": "gavel", "link": reverse("admin:rules")},
        {"title": "Reports", "icon": "flag", "link": reverse("admin:reports")},
        {"title": "Keyholders", "icon": "key", "link": reverse("admin:keyholders")},
        {"title": "Delivery cases", "icon": "balance", "link": reverse("admin:delivery_cases")},
        {"title": "Causes of bad minutes", "icon": "account_tree", "link": reverse("admin:causes")},
        {"title": "Seats of the Foundation", "icon": "group", "link": reverse("admin:seats")},
        {"title": "Market-maker", "icon": "storefront", "link": reverse("admin:maker")},
        {"title": "Preview a clearing", "icon": "preview", "link": reverse("admin:preview")},
        {"title": "Trial balance", "icon": "account_balance_wallet", "link": reverse("admin:books")},
        {"title": "Transactions under way", "icon": "swap_vert", "link": reverse("admin:transactions")},
        {"title": "Parked jobs", "icon": "report", "link": reverse("admin:parked_jobs")},
    ]
    groups = [{"title": "", "items": room}]
    for title, tables in GROUPS:
        items = [{"title": name, "icon": icon, "link": _list_url(model)} for name, icon, model, _ in tables]
        groups.append({"title": title, "collapsible": True, "items": items})
    return groups


def _list_url(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def stylesheet(request: HttpRequest) -> str:
    """Our own style sheet for the console's pages."""
    return static("grove/console.css")


def icon(request: HttpRequest) -> str:
    """The sign beside the name."""
    return static("grove/logo.svg")


def environment(request: HttpRequest) -> list[str] | None:
    """The badge that says this is a demo."""
    return ["Demo world", "warning"] if settings.DEMO else None
