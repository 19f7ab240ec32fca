"""Money in and back: customers, Checkout Sessions, PaymentIntents, charges, refunds, disputes, and the balance."""

from __future__ import annotations

from typing import Any

from ledger.rails.stripe_sandbox.refusals import Refused, only_usd, required, whole
from ledger.rails.stripe_sandbox.store import Store

Object = dict[str, Any]
DECLINED_CARD, DISPUTED_CARD = "4000000000000002", "4000000000000259"
CARDS = {
    "4242424242424242": "pays",
    DECLINED_CARD: "is declined",
    DISPUTED_CARD: "pays, and is disputed at once",
}
SESSION_SECONDS = 24 * 3600
DISPUTE_FEE_CENTS = 1500


def charge_fee_cents(store: Store, cents: int) -> int:
    """Return what a charge costs: 2.9 % and 30 cents, or nothing when no fees are on."""
    return (cents * 29 + 999) // 1000 + 30 if store.behaviour("fees") else 0


def move_balance(store: Store, kind: str, cents: int, fee_cents: int, source: str, about: str) -> Object:
    """Write one line of the balance: `cents` came in (or went out, below zero), less a fee."""
    return store.add(
        "balance_transaction", "txn", amount=cents, fee=fee_cents, net=cents - fee_cents, currency="usd", type=kind,
        source=source, status="available", reporting_category=about, available_on=store.now(), exchange_rate=None,
        description=None, fee_details=[],
    )  # fmt: skip


# -- customers -----------------------------------------------------------------------------------------------------
def make_customer(store: Store, params: Object) -> Object:
    """Make a customer."""
    customer = store.add(
        "customer", "cus", email=params.get("email"), name=params.get("name"), metadata=params.get("metadata") or {}
    )
    store.tell("customer.created", customer)
    return customer


# -- Checkout ------------------------------------------------------------------------------------------------------
def make_session(store: Store, params: Object, pages: str) -> Object:
    """Make a Checkout Session of mode `payment`; its PaymentIntent exists once somebody pays."""
    if required(params, "mode") != "payment":
        raise Refused(400, "The sandbox knows the mode payment only.", param="mode")
    cents = sum(_line_cents(line) for line in params.get("line_items") or [])
    if cents < 50:
        raise Refused(400, "The total must be at least 50 cents.", code="amount_too_small", param="line_items")
    customer = params.get("customer")
    if customer:
        store.get("customer", customer)
    session = store.add(
        "checkout.session", "cs_test", mode="payment", amount_total=cents, amount_subtotal=cents, currency="usd",
        status="open", payment_status="unpaid", payment_intent=None, customer=customer,
        client_reference_id=params.get("client_reference_id"), metadata=params.get("metadata") or {},
        success_url=required(params, "success_url"), cancel_url=params.get("cancel_url"),
        expires_at=store.now() + SESSION_SECONDS,
        intent_metadata=(params.get("payment_intent_data") or {}).get("metadata") or {},
    )  # fmt: skip
    session["url"] = f"{pages}/pay/{session['id']}"
    store.put(session)
    return session


def _line_cents(line: Object) -> int:
    price = line.get("price_data") or {}
    only_usd(price)
    return whole(price, "unit_amount") * whole(line, "quantity", default=1)


def expire_session(store: Store, id: str) -> Object:
    """End a session that nobody paid."""
    session = store.get("checkout.session", id)
    if session["status"] != "open":
        raise Refused(400, "Only an open Checkout Session can be expired.")
    session |= {"status": "expired", "url": None}
    store.put(session)
    store.tell("checkout.session.expired", session)
    return session


def pay_session(store: Store, id: str, card: str) -> Object:
    """Pay an open session by card. Raises the refusal of a declined card; the session stays open then."""
    session = store.get("checkout.session", id)
    if session["status"] != "open":
        raise Refused(400, f"This Checkout Session is {session['status']}.")
    intent = store.get("payment_intent", session["payment_intent"]) if session["payment_intent"] else _new_intent(
        store, session["amount_total"], session["intent_metadata"], session["customer"]
    )  # fmt: skip
    session["payment_intent"] = intent["id"]
    store.put(session)
    intent = charge_intent(store, intent, card)
    if intent["status"] == "succeeded":
        session |= {"status": "complete", "payment_status": "paid", "url": None}
        store.put(session)
        store.tell("checkout.session.completed", session)
    return session


# -- PaymentIntents ------------------------------------------------------------------------------------------------
def make_intent(store: Store, params: Object) -> Object:
    """Make a PaymentIntent, and charge it at once when `confirm` is asked for."""
    only_usd(params)
    intent = _new_intent(
        store, whole(params, "amount", least=50), params.get("metadata") or {}, params.get("customer")
    )
    if str(params.get("confirm", "")).lower() == "true":
        return confirm_intent(store, intent["id"], params)
    return intent


def confirm_intent(store: Store, id: str, params: Object) -> Object:
    """Charge a PaymentIntent with one of Stripe's test payment methods."""
    intent = store.get("payment_intent", id)
    if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
        raise Refused(400, f"This PaymentIntent is {intent['status']}.", code="payment_intent_unexpected_state")
    cards = {
        "pm_card_visa": "4242424242424242", "pm_card_chargeDeclined": DECLINED_CARD,
        "pm_card_createDispute": DISPUTED_CARD,
    }  # fmt: skip
    method = required(params, "payment_method")
    if method not in cards:
        raise Refused(404, f"No such PaymentMethod: '{method}'", code="resource_missing", param="payment_method")
    intent = charge_intent(store, intent, cards[method])
    if intent["status"] != "succeeded":
        raise Refused(402, "Your card was declined.", kind="card_error", code="card_declined")
    return intent


def cancel_intent(store: Store, id: str) -> Object:
    """Give a PaymentIntent up."""
    intent = store.get("payment_intent", id)
    if intent["status"] in ("succeeded", "canceled"):
        raise Refused(400, f"This PaymentIntent is {intent['status']}.", code="payment_intent_unexpected_state")
    intent |= {"status": "canceled", "canceled_at": store.now()}
    store.put(intent)
    store.tell("payment_intent.canceled", intent)
    return intent


def _new_intent(store: Store, cents: int, metadata: Object, customer: str | None) -> Object:
    intent = store.add(
        "payment_intent", "pi", amount=cents, amount_received=0, currency="usd", status="requires_payment_method",
        customer=customer, metadata=metadata, latest_charge=None, last_payment_error=None,
    )  # fmt: skip
    store.tell("payment_intent.created", intent)
    return intent


def charge_intent(store: Store, intent: Object, card: str) -> Object:
    """Charge a card and return the PaymentIntent as it stands then."""
    if card not in CARDS:
        raise Refused(402, "Your card number is incorrect.", kind="card_error", code="incorrect_number")
    charge = store.add(
        "charge", "ch", amount=intent["amount"], amount_refunded=0, currency="usd", payment_intent=intent["id"],
        customer=intent["customer"], metadata=intent["metadata"], paid=card != DECLINED_CARD, disputed=False,
        refunded=False, status="failed" if card == DECLINED_CARD else "succeeded", balance_transaction=None,
    )  # fmt: skip
    intent["latest_charge"] = charge["id"]
    if card == DECLINED_CARD:
        intent["last_payment_error"] = {"code": "card_declined", "message": "Your card was declined."}
        store.put(intent)
        store.tell("charge.failed", charge)
        store.tell("payment_intent.payment_failed", intent)
        return intent
    fee = charge_fee_cents(store, charge["amount"])
    charge["balance_transaction"] = move_balance(store, "charge", charge["amount"], fee, charge["id"], "charge")["id"]
    store.put(charge)
    intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
    store.put(intent)
    store.tell("charge.succeeded", charge)
    store.tell("payment_intent.succeeded", intent)
    if card == DISPUTED_CARD:
        open_dispute(store, charge["id"], charge["amount"])
    return intent


# -- refunds -------------------------------------------------------------------------------------------------------
def make_refund(store: Store, params: Object) -> Object:
    """Pay a charge back, whole or in part, out of the balance."""
    charge = _charge_of(store, params)
    room = charge["amount"] - charge["amount_refunded"]
    if charge["disputed"]:
        raise Refused(400, "This charge is disputed.", code="charge_disputed")
    if not charge["paid"] or room <= 0:
        raise Refused(400, "This charge has been refunded already.", code="charge_already_refunded")
    cents = whole(params, "amount", default=room)
    if cents > room:
        raise Refused(400, f"Refund amount ({cents}) is greater than the unrefunded amount ({room}).", param="amount")
    refund = store.add(
        "refund", "re", amount=cents, currency="usd", charge=charge["id"], payment_intent=charge["payment_intent"],
        metadata=params.get("metadata") or {}, reason=params.get("reason"), status="pending", failure_reason=None,
        balance_transaction=None, failure_balance_transaction=None,
    )  # fmt: skip
    refund["balance_transaction"] = move_balance(store, "refund", -cents, 0, refund["id"], "refund")["id"]
    store.put(refund)
    charge["amount_refunded"] += cents
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    store.put(charge)
    store.tell("refund.created", refund)
    store.tell("charge.refunded", charge)
    return refund if store.behaviour("refunds_wait") else end_refund(store, refund["id"], succeeds=True)


def end_refund(store: Store, id: str, *, succeeds: bool) -> Object:
    """Let a refund arrive, or come back because the bank did not take it."""
    refund = store.get("refund", id)
    if refund["status"] == "failed" or (succeeds and refund["status"] == "succeeded"):
        raise Refused(400, f"This refund is {refund['status']}.")
    if succeeds:
        refund["status"] = "succeeded"
    else:
        back = move_balance(store, "refund_failure", refund["amount"], 0, refund["id"], "refund_failure")
        refund |= {"status": "failed", "failure_reason": "unknown", "failure_balance_transaction": back["id"]}
        charge = store.get("charge", refund["charge"])
        charge |= {"amount_refunded": charge["amount_refunded"] - refund["amount"], "refunded": False}
        store.put(charge)
    store.put(refund)
    store.tell("refund.updated" if succeeds else "refund.failed", refund)
    return refund


def _charge_of(store: Store, params: Object) -> Object:
    if params.get("charge"):
        return store.get("charge", params["charge"])
    intent = store.get("payment_intent", required(params, "payment_intent"))
    if not intent["latest_charge"]:
        raise Refused(400, "This PaymentIntent has no charge.", code="charge_not_found")
    return store.get("charge", intent["latest_charge"])


# -- disputes ------------------------------------------------------------------------------------------------------
def open_dispute(store: Store, charge_id: str, cents: int) -> Object:
    """Let a cardholder dispute a charge: the money and a fee leave the balance at once."""
    charge = store.get("charge", charge_id)
    if charge["disputed"] or cents > charge["amount"] - charge["amount_refunded"]:
        raise Refused(400, "This charge cannot be disputed for that much.")
    dispute = store.add(
        "dispute", "du", amount=cents, currency="usd", charge=charge_id, payment_intent=charge["payment_intent"],
        status="needs_response", reason="fraudulent", evidence={}, balance_transactions=[], is_charge_refundable=False,
    )  # fmt: skip
    fee = DISPUTE_FEE_CENTS if store.behaviour("fees") else 0
    dispute["balance_transactions"] = [move_balance(store, "adjustment", -cents, fee, dispute["id"], "dispute")]
    store.put(dispute)
    charge["disputed"] = True
    store.put(charge)
    store.tell("charge.dispute.created", dispute)
    store.tell("charge.dispute.funds_withdrawn", dispute)
    return dispute


def answer_dispute(store: Store, id: str, params: Object) -> Object:
    """Take evidence; as in Stripe's test mode its words decide: `winning_evidence` or `losing_evidence`."""
    words = (params.get("evidence") or {}).get("uncategorized_text", "")
    if words not in ("winning_evidence", "losing_evidence"):
        return _open_dispute(store, id)
    return end_dispute(store, id, won=words == "winning_evidence")


def _open_dispute(store: Store, id: str) -> Object:
    dispute = store.get("dispute", id)
    if dispute["status"] in ("won", "lost"):
        raise Refused(400, f"This dispute is {dispute['status']}.")
    return dispute


def end_dispute(store: Store, id: str, *, won: bool) -> Object:
    """Close a dispute; a won one brings the money back, not the fee."""
    dispute = _open_dispute(store, id)
    dispute["status"] = "won" if won else "lost"
    if won:
        back = move_balance(store, "adjustment", dispute["amount"], 0, dispute["id"], "dispute_reversal")
        dispute["balance_transactions"].append(back)
    store.put(dispute)
    if won:
        store.tell("charge.dispute.funds_reinstated", dispute)
    store.tell("charge.dispute.closed", dispute)
    return dispute


# -- balance -------------------------------------------------------------------------------------------------------
def balance(store: Store) -> Object:
    """Return what lies at the processor; here everything is available at once."""
    cents = store.total("balance_transaction", "net")
    return {
        "object": "balance", "livemode": False, "available": [{"amount": cents, "currency": "usd"}],
        "pending": [{"amount": 0, "currency": "usd"}],
    }  # fmt: skip
