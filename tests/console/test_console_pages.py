"""What the console shows, and that it shows and never edits."""

from __future__ import annotations

import pytest
from django.test import Client

from ledger.chart import Code
from ledger.ids import uuid7
from ledger.models import ChainEvent, Ledger, Outbox, Reconciliation
from ledger.selectors import balance
from ledger.services import USDC6_LEDGER, Posting, account, post_transfers
from ledger.tasks import TRIES_MAX
from marketplace import models as m
from marketplace.console.site import console
from marketplace.insights.drawing import usd_text
from tests.doors.factories import NOW

OWN_PAGES = (
    "/console/", "/console/opened-bids/", "/console/books/", "/console/acts/reconcile/", "/console/acts/advance/",
    "/console/phases/", "/console/funding-lines/", "/console/round-trips/",
    "/console/vouchers/", "/console/undertakings/", "/console/rules/", "/console/market-maker/",
    "/console/seats/",
)  # fmt: skip


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return answer.content.decode()


def test_the_control_room_shows_windows_with_gate_and_state(market, staff):
    page = text_of(staff, "/console/")

    for window in (market.settled, market.bidding, market.collecting):
        assert window.name in page
    assert 'aria-current="step"><b>Bidding</b>' in page
    assert "of 9,000 unit-hours funded" in page
    assert "of 3 distinct funded buyers" in page


def test_the_control_room_shows_the_certificate_and_whether_it_is_anchored(market, staff):
    kept = bytes(market.clearing.bundle_hash).hex()
    before = text_of(staff, "/console/")
    event = ChainEvent.objects.create(
        block_number=5, block_hash="0x05", log_index=0, tx_hash="0x1", contract="anchor", name="Bundled",
        args={"window": market.settled.number, "bundle_hash": f"0x{kept}"},
    )  # fmt: skip
    anchored = text_of(staff, "/console/")
    event.args = {"window": market.settled.number, "bundle_hash": "0x" + "00" * 32}
    event.save()
    other = text_of(staff, "/console/")

    assert usd_text(market.clearing.welfare_micros, 6) in before
    assert kept in before
    assert "not final yet" in before
    assert "the anchor contract keeps the same hash" in anchored
    assert 'gx-tag-bad">differs' in other


def test_the_control_room_shows_books_against_chain_and_a_halt(market, staff):
    assert "not yet" in text_of(staff, "/console/")
    Reconciliation.objects.create(
        ledger_id=1, block_number=77, block_hash="0x", figures=[{}] * 9, differences=[{}, {}], checked_at=NOW
    )
    Ledger.objects.filter(pk=1).update(halted=True, halted_reason="books and chain differ at block 77")
    page = text_of(staff, "/console/")

    assert "2 differ" in page
    assert "Payouts are halted." in page
    assert "books and chain differ at block 77" in page


def test_the_control_room_shows_dead_letters(market, staff):
    assert "dead letter" not in text_of(staff, "/console/")
    Outbox.objects.create(
        id=market.buyers[0].pk, kind="send", payload={}, dedupe_key="k", run_at=NOW, tries=TRIES_MAX,
        last_error="RuntimeError: <b>no</b>",
    )  # fmt: skip
    page = text_of(staff, "/console/")

    assert "1 dead letter." in page
    assert "&lt;b&gt;no" in page


def test_organic_revenue_is_the_fee_account_less_what_was_subsidised(market, staff):
    organic = balance(code="foundation.fees").minor
    clearing, grant, fees = (
        account(ledger=USDC6_LEDGER, code="card.clearing"),
        account(ledger=USDC6_LEDGER, code="programme.grant", scope=uuid7(NOW)),
        account(ledger=USDC6_LEDGER, code="foundation.fees"),
    )
    post_transfers(ledger=USDC6_LEDGER, now=NOW, postings=[
        Posting(id=uuid7(NOW), debit=debit, credit=credit, amount=7_000_000, kind="posted", code=Code.FEE,
                origin="grant")
        for debit, credit in ((clearing, grant), (grant, fees))
    ])  # fmt: skip

    page = text_of(staff, "/console/")

    assert balance(code="foundation.fees").minor == organic + 7_000_000
    assert f"<b>{usd_text(organic)}</b><small>fees from organic money only" in page
    assert f"grant {usd_text(7_000_000)}" in page


def test_the_slash_queue_names_who_is_paid(market, staff):
    case = m.SlashCase.objects.select_related("verdict__lease__buyer").first()
    page = text_of(staff, "/console/")

    assert case.verdict.lease.buyer.name in page
    assert case.get_outcome_display() in page


def test_opened_bids_are_those_of_closed_windows(market, staff):
    opened = m.Bid.objects.filter(window=market.settled).first()
    page = text_of(staff, "/console/opened-bids/")

    assert opened.reference in page
    assert usd_text(opened.price_ask_micros, 4) in page
    assert staff.get("/console/opened-bids/", {"window": market.bidding.name}).status_code == 404
    assert staff.get("/console/opened-bids/", {"window": "x"}).status_code == 404
    assert staff.get("/console/opened-bids/", {"window": "x\x00"}).status_code == 400


def test_the_books_page_balances(market, staff):
    page = text_of(staff, "/console/books/")

    assert 'gx-tag-ok">balanced' in page
    assert usd_text(balance(code="chain.escrow").minor) in page


@pytest.mark.parametrize("path", OWN_PAGES)
def test_only_staff_seats_come_in(market, path):
    stranger, buyer = Client(), Client()
    buyer.force_login(m.User.objects.get(email="buyer@console.example"))

    assert stranger.get(path, follow=True).redirect_chain[-1][0] == f"/login/?next={path}"
    assert buyer.get(path, follow=True).status_code == 403
    assert stranger.get("/console/marketplace/demand/").status_code == 302


def test_every_table_is_read_only(market, staff):
    for model in console._registry:
        base = f"/console/{model._meta.app_label}/{model._meta.model_name}/"
        row = model._default_manager.first()
        assert staff.get(f"{base}add/").status_code == 403, model
        assert staff.post(base, {"action": "delete_selected", "_selected_action": ["1"]}).status_code in (200, 302)
        if row is not None:
            assert staff.get(f"{base}{row.pk}/delete/").status_code == 403, model
            assert staff.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403, model
            assert staff.post(f"{base}{row.pk}/change/", {"name": "changed"}).status_code in (403, 404), model
        assert model._default_manager.filter(pk=getattr(row, "pk", None)).exists() == (row is not None)


def test_no_page_holds_a_form_field_that_could_be_edited(market, staff):
    page = text_of(staff, f"/console/marketplace/lease/{market.leases[0].pk}/change/")

    assert usd_text(market.leases[0].fee_micros, 6) in page
    assert 'name="_save"' not in page
    assert 'name="fee_micros"' not in page


def test_secrets_and_salts_are_on_no_page(market, staff):
    window = text_of(staff, f"/console/marketplace/window/{market.settled.pk}/change/")

    assert "salt" not in window
    assert m.RememberedReply not in console._registry
    assert m.User not in console._registry


def test_an_act_asks_first_and_names_its_effect_on_money(market, staff):
    page = text_of(staff, "/console/acts/advance/")

    assert "Money moves where it is due" in page
    assert 'method="post"' in page
    assert staff.get("/console/acts/delete-everything/").status_code == 404
    assert not m.AuditLine.objects.filter(action__startswith="console_").exists()


def test_an_act_needs_its_csrf_token(market):
    client = Client(enforce_csrf_checks=True)
    client.force_login(m.User.objects.get(email="staff@console.example"))

    assert client.post("/console/acts/advance/").status_code == 403


def test_the_console_asks_nobody_else_for_anything(market, staff):
    for path in (*OWN_PAGES, "/console/marketplace/demand/"):
        page = text_of(staff, path)
        assert not [word for word in page.split('"') if word.startswith(("http://", "https://", "//"))
                    and not word.startswith("http://www.w3.org/")], path  # fmt: skip


@pytest.mark.parametrize(("path", "most"), [("/console/", 47), ("/console/opened-bids/", 12), ("/console/books/", 10),
                                            ("/console/marketplace/lease/", 12), ("/console/marketplace/award/", 12),
                                            ("/console/marketplace/verdict/", 12)])  # fmt: skip
def test_a_page_asks_the_database_few_questions(market, staff, path, most, django_assert_max_num_queries):
    with django_assert_max_num_queries(most):
        assert staff.get(path).status_code == 200
