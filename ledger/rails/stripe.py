"""The card processor: one code path through Stripe's own client, to Stripe or to the sandbox that `up` starts.

`STRIPE_API_KEY` set: Stripe. Unset: the sandbox at `STRIPE_SANDBOX_URL`. Nothing here is called while a transaction is
open: an answer may take seconds, and the locks of the books would wait for it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

import stripe
from django.conf import settings
from django.db import connection, transaction

from ledger.models import Inbox
from ledger.rails.errors import (
    InsideTransaction,
    ProcessorRefused,
    ProcessorUnreachable,
    SignatureInvalid,
)
from ledger.tasks import enqueue

SOURCE = "stripe"
EVENT_JOB = "card.event"
# What moves money or ends a page. Other events are kept and lead to nothing: they tell of the same objects.
HEARD = {
    "checkout.session.completed", "checkout.session.expired", "checkout.session.async_payment_succeeded",
    "payment_intent.succeeded", "refund.created", "refund.updated", "refund.failed", "charge.dispute.created",
    "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed", "topup.succeeded",
    "payout.created", "payout.paid", "account.updated", "transfer.created", "transfer.updated", "transfer.reversed",
}  # fmt: skip
SANDBOX_KEY = "sk_test_sandbox"
PAGE = 100
ANSWER_SECONDS_MAX = 20
EVENT_ID = re.compile(r"[!-~]{1,255}")
SIGNATURE_AGE_SECONDS_MAX = 300
Answer = TypeVar("Answer")

logging.getLogger("stripe").setLevel(logging.WARNING)  # it logs each request's address and body at INFO
_opening = Lock()
_open: dict[tuple[str, str], Any] = {}


def is_sandbox() -> bool:
    """Say whether cards are paid in the sandbox, where no money moves."""
    return not settings.STRIPE_API_KEY


def is_offered() -> bool:
    """Say whether cards are taken here: at Stripe, or in a demo in the sandbox, whose test cards anybody has."""
    return bool(settings.STRIPE_API_KEY) or bool(settings.DEMO)


def client() -> Any:
    """Return Stripe's client for the key and address of this installation."""
    key, address = settings.STRIPE_API_KEY, settings.STRIPE_SANDBOX_URL
    with _opening:
        if (key, address) not in _open:
            more: dict[str, Any] = {} if key else {"base_addresses": {"api": address}}
            _open[key, address] = stripe.StripeClient(
                key or SANDBOX_KEY, max_network_retries=0,  # the outbox tries again, with the same key
                http_client=stripe.RequestsClient(timeout=ANSWER_SECONDS_MAX), **more,
            )  # fmt: skip
        return _open[key, address].v1


def ask(question: Callable[[Any], Answer]) -> Answer:
    """Return the processor's answer to `question(client)`.

    Raises ProcessorRefused for what it will never do, ProcessorUnreachable when nobody knows what happened, and
    InsideTransaction when the books are being written.
    """
    if connection.in_atomic_block:
        raise InsideTransaction("The card processor is asked outside of transaction.atomic() only.")
    if not is_offered():
        raise ProcessorRefused("No card processor is set here; outside of a demo the sandbox is never asked.")
    try:
        return question(client())
    except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as error:
        sentence = f"The card processor refuses: {error.user_message or error}"
        raise ProcessorRefused(sentence, reason=error.code) from error
    except stripe.StripeError as error:
        status = getattr(error, "http_status", None)
        raise ProcessorUnreachable(f"The card processor gave no answer: {error}", http_status=status) from error


@dataclass(frozen=True)
class Told:
    """What a webhook is about: the kind and id of an object that is then read anew."""

    kind: str
    id: str


def receive(*, body: bytes, signature: str, now: datetime) -> bool:
    """Keep a webhook's raw event and a job for it, in one commit; False if the event was known.

    Raises SignatureInvalid: the signature is checked on the raw body, before anything is parsed.
    """
    if not is_offered():
        raise SignatureInvalid("No card processor is set here.")
    event, type = _verified(body, signature)
    with transaction.atomic():
        row = Inbox(source=SOURCE, event_id=event, body=body, received_at=now)
        before = Inbox.objects.filter(source=SOURCE, event_id=event).exists()
        Inbox.objects.bulk_create([row], ignore_conflicts=True)
        if type in HEARD:
            enqueue(kind=EVENT_JOB, payload={"event": event}, dedupe_key=f"{EVENT_JOB}:{event}")
    return not before


def _verified(body: bytes, signature: str) -> tuple[str, str]:
    try:
        stripe.WebhookSignature.verify_header(
            body.decode(), signature, settings.STRIPE_WEBHOOK_SECRET or "", SIGNATURE_AGE_SECONDS_MAX
        )
        event = json.loads(body)
        id, type = event["id"], event["type"]
    except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError) as error:
        raise SignatureInvalid("This is no event that the card processor signed.") from error
    if not settings.STRIPE_WEBHOOK_SECRET or not isinstance(id, str) or not isinstance(type, str):
        raise SignatureInvalid("This is no event that the card processor signed.")
    if not EVENT_ID.fullmatch(id):  # neither NUL nor a length that no index keeps
        raise SignatureInvalid("The id of this event is none that the card processor gives.")
    return id, type


def told_by(event: str) -> Told:
    """Return what a stored event is about. Its own figures are not used: they may be old."""
    about = json.loads(bytes(Inbox.objects.get(source=SOURCE, event_id=event).body))["data"]["object"]
    return Told(str(about.get("object", "")), str(about.get("id", "")))
