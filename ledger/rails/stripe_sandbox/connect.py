"""Money out and capital in: Connect accounts and their links, transfers and reversals, payouts, top-ups."""

from __future__ import annotations

from ledger.rails.stripe_sandbox.payments import Object, balance, move_balance
from ledger.rails.stripe_sandbox.refusals import Refused, only_usd, required, whole
from ledger.rails.stripe_sandbox.store import Store


def make_account(store: Store, params: Object) -> Object:
    """Make a connected account; it can be paid after its holder has filled in the linked page."""
    account = store.add(
        "account", "acct", type=params.get("type", "express"), country=params.get("country", "US"),
        email=params.get("email"), metadata=params.get("metadata") or {}, charges_enabled=False, payouts_enabled=False,
        details_submitted=False, capabilities={"transfers": "inactive"},
    )  # fmt: skip
    store.tell("account.updated", account)
    return account


def make_account_link(store: Store, params: Object, pages: str) -> Object:
    """Return a short-lived link to the page on which a holder gives their details."""
    account = store.get("account", required(params, "account"))
    return {
        "object": "account_link", "created": store.now(), "expires_at": store.now() + 300,
        "url": f"{pages}/connect/{account['id']}?return_url={required(params, 'return_url')}",
    }  # fmt: skip


def enable_account(store: Store, id: str) -> Object:
    """Let a holder finish the page."""
    account = store.get("account", id)
    account |= {"details_submitted": True, "payouts_enabled": True, "capabilities": {"transfers": "active"}}
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
        metadata=params.get("metadata") or {}, balance_transaction=None,
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
