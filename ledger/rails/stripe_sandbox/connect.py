"""Money out and capital in: Connect accounts and their links, transfers and reversals, payouts, top-ups."""

from __future__ import annotations

from urllib.parse import urlencode

from ledger.rails.stripe_sandbox.payments import Object, balance, move_balance
from ledger.rails.stripe_sandbox.refusals import Refused, only_usd, required, whole
from ledger.rails.stripe_sandbox.store import Store

DETAILS = ["external_account", "individual.verification.document", "tos_acceptance.date"]
COUNTRIES = {"AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "NL", "NO", "PL", "PT", "SE", "US"}


def make_account(store: Store, params: Object) -> Object:
    """Make a connected account; it can be paid after its holder has filled in the linked page."""
    country = params.get("country", "US")
    if country not in COUNTRIES:
        raise Refused(400, f"{country} is not currently supported by Stripe.", code="country_unsupported",
                      param="country")  # fmt: skip
    account = store.add(
        "account", "acct", type=params.get("type", "express"), country=country, email=params.get("email"),
        metadata=params.get("metadata") or {}, charges_enabled=False, payouts_enabled=False, details_submitted=False,
        capabilities={"transfers": "inactive"}, requirements=_requirements(DETAILS, "requirements.past_due"),
    )  # fmt: skip
    store.tell("account.updated", account)
    return account


def _requirements(missing: list[str], disabled: str | None) -> Object:
    return {"currently_due": missing, "eventually_due": missing, "past_due": [], "disabled_reason": disabled}


def make_account_link(store: Store, params: Object, pages: str) -> Object:
    """Return a short-lived link to the page on which a holder gives their details."""
    account = store.get("account", required(params, "account"))
    required(params, "refresh_url")
    back = urlencode({"return_url": required(params, "return_url")})
    return {
        "object": "account_link", "created": store.now(), "expires_at": store.now() + 300,
        "url": f"{pages}/connect/{account['id']}?{back}",
    }  # fmt: skip


def enable_account(store: Store, id: str) -> Object:
    """Let a holder finish the page."""
    account = store.get("account", id)
    account |= {"details_submitted": True, "payouts_enabled": True, "capabilities": {"transfers": "active"},
                "requirements": _requirements([], None)}  # fmt: skip
    store.put(account)
    store.tell("account.updated", account)
    return account


def disable_account(store: Store, id: str, params: Object) -> Object:
    """Stop an account, as the processor does when details turn out wrong or overdue."""
    account = store.get("account", id)
    why = params.get("reason") or "requirements.past_due"
    account |= {"details_submitted": True, "payouts_enabled": False, "capabilities": {"transfers": "inactive"},
                "requirements": _requirements(DETAILS[1:2], why)}  # fmt: skip
    store.put(account)
    store.tell("account.updated", account)
    return account


def _spend(store: Store, cents: int) -> None:
    if cents > balance(store)["available"][0]["amount"]:
        raise Refused(400, "You have insufficient available funds in your account.", code="balance_insufficient")


def make_transfer(store: Store, params: Object) -> Object:
    """Move money out of the balance to a connected account."""
    only_usd(params)
    cents, account = whole(params, "amount"), store.get("account", required(params, "destination"))
    if account["capabilities"]["transfers"] != "active":
        raise Refused(400, "The destination account cannot receive transfers.", code="transfers_not_allowed")
    _spend(store, cents)
    transfer = store.add(
        "transfer", "tr", amount=cents, amount_reversed=0, currency="usd", destination=account["id"], reversed=False,
        transfer_group=params.get("transfer_group"), metadata=params.get("metadata") or {}, balance_transaction=None,
    )  # fmt: skip
    transfer["balance_transaction"] = move_balance(store, "transfer", -cents, 0, transfer["id"], "transfer")["id"]
    store.put(transfer)
    store.tell("transfer.created", transfer)
    return transfer


def reverse_transfer(store: Store, id: str, params: Object) -> Object:
    """Take a transfer back, whole or in part."""
    transfer = store.get("transfer", id)
    room = transfer["amount"] - transfer["amount_reversed"]
    cents = whole(params, "amount", default=room)
    if not 1 <= cents <= room:
        raise Refused(400, f"A reversal of {cents} is more than what is left of the transfer ({room}).", param="amount")
    reversal = store.add(
        "transfer_reversal", "trr", amount=cents, currency="usd", transfer=id, metadata=params.get("metadata") or {}
    )
    line = move_balance(store, "transfer_refund", cents, 0, reversal["id"], "transfer_reversal")
    reversal["balance_transaction"] = line["id"]
    store.put(reversal)
    transfer["amount_reversed"] += cents
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    store.put(transfer)
    store.tell("transfer.reversed", transfer)
    return reversal


def make_payout(store: Store, params: Object) -> Object:
    """Pay the balance out to the bank."""
    only_usd(params)
    cents = whole(params, "amount")
    _spend(store, cents)
    payout = store.add(
        "payout", "po", amount=cents, currency="usd", status="paid", metadata=params.get("metadata") or {},
        arrival_date=store.now(), balance_transaction=None,
    )  # fmt: skip
    payout["balance_transaction"] = move_balance(store, "payout", -cents, 0, payout["id"], "payout")["id"]
    store.put(payout)
    store.tell("payout.created", payout)
    store.tell("payout.paid", payout)
    return payout


def make_topup(store: Store, params: Object) -> Object:
    """Bring money from the bank into the balance."""
    only_usd(params)
    topup = store.add(
        "topup", "tu", amount=whole(params, "amount"), currency="usd", status="succeeded",
        metadata=params.get("metadata") or {}, balance_transaction=None,
    )  # fmt: skip
    line = move_balance(store, "topup", topup["amount"], 0, topup["id"], "topup")
    topup["balance_transaction"] = line["id"]
    store.put(topup)
    store.tell("topup.succeeded", topup)
    return topup
