"""Signed webhooks: Stripe's scheme `t=...,v1=...`, sent until they are taken, later each time."""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from threading import Event as Signal
from typing import Any

from ledger.rails.stripe_sandbox.store import Store

LOOK_SECONDS = 0.05
ANSWER_SECONDS_MAX = 10


def signature_header(payload: str, secret: str, at: int) -> str:
    """Return the Stripe-Signature of a payload sent at `at` (seconds since 1970)."""
    digest = hmac.new(secret.encode(), f"{at}.{payload}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def send_webhooks(store: Store, *, url: str, secret: str, stop: Signal) -> None:
    """Send what is due to `url` until `stop` is set. No lock is held while the receiver works."""
    while not stop.wait(LOOK_SECONDS):
        with store.commit():
            due, now = store.due(), store.now()
        for id, event in due:
            taken = _is_taken(url, event, secret, now)
            with store.commit():
                store.note_sent(id, taken=taken)


def _is_taken(url: str, event: dict[str, Any], secret: str, now: int) -> bool:
    payload = json.dumps(event)
    headers = {"Content-Type": "application/json", "Stripe-Signature": signature_header(payload, secret, now)}
    request = urllib.request.Request(url, data=payload.encode(), headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError, ValueError):
        return False
