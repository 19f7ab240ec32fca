"""Jobs of the card rail: shells that find and call. Celery imports them by name (`CELERY_IMPORTS`)."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.errors import LedgerHalted
from ledger.rails import card, connect
from ledger.rails.stripe import told_by
from ledger.tasks import handler

log = logging.getLogger(__name__)


@handler("card.send", atomic=False)
def send_job(payload: dict[str, Any], now: datetime) -> None:
    """Ask the processor for what an intent means."""
    card.send(intent_id=UUID(payload["intent"]), now=now)


@handler("card.event", atomic=False)
def event_job(payload: dict[str, Any], now: datetime) -> None:
    """Read anew what a webhook was about."""
    card.sync(told=told_by(payload["event"]), now=now)


@handler("card.exchange")
def exchange_job(payload: dict[str, Any], now: datetime) -> None:
    """Bring a deposit's money into escrow."""
    card.exchange(deposit_id=UUID(payload["deposit"]), now=now)


@handler("card.float")
def float_job(payload: dict[str, Any], now: datetime) -> None:
    """Book the float once its coins are final."""
    card.book_arrived_float(intent_key=payload["intent_key"], micros=payload["micros"], now=now)


@handler("connect.account", atomic=False)
def account_job(payload: dict[str, Any], now: datetime) -> None:
    """Make a provider's account at the processor, and a link to it."""
    connect.open_account(account_id=UUID(payload["account"]), link=payload["link"], now=now)


@handler("connect.pay")
def pay_job(payload: dict[str, Any], now: datetime) -> None:
    """Pay on what escrow paid. While payouts stand still nothing is lost: the sweep looks again when they go on."""
    try:
        connect.pay_out(provider=UUID(payload["provider"]), node_class=UUID(payload["node_class"]), now=now)
    except LedgerHalted as halted:
        log.warning("a payout waits: %s", halted)
