"""Jobs of the card rail: shells that find and call. Celery imports them by name (`CELERY_IMPORTS`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.rails import card
from ledger.rails.stripe import told_by
from ledger.tasks import handler


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
