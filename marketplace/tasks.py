"""Celery shells of the market: find, call, return a count."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from celery import shared_task

from ledger.tasks import handler
from marketplace import clock, cycle
from marketplace.catalogue.models import Window
from marketplace.clearing.services import JOB, attempt_clearing
from marketplace.delivery.health import watch_silence
from marketplace.parties.passwords import JOB as RESET
from marketplace.parties.passwords import mail_reset
from marketplace.parties.seats import JOB as INVITATION
from marketplace.parties.seats import mail_invitation
from marketplace.supply.rolls import call_due_rolls


@shared_task(acks_late=True)
def cycle_task() -> int:
    """Carry every window as far as it can go, unless somebody is at it."""
    with cycle.only_turn(wait=False) as mine:
        return len(cycle.advance(now=clock.now())) if mine else 0


@shared_task(acks_late=True)
def watch_heartbeats_task() -> int:
    """Suspect running leases whose machine has fallen silent."""
    return watch_silence(now=clock.now())


@shared_task(acks_late=True)
def call_rolls_task() -> int:
    """Call the roll of every owner whose secret moment has come."""
    return call_due_rolls(now=clock.now())


@shared_task(acks_late=True)
def anchor_task() -> int:
    """Seal the books and anchor their root."""
    return cycle.anchor_books(now=clock.now())


# atomic=False: clearing publishes in a transaction of its own, and its attempts stay on record when it is refused
@handler(JOB, atomic=False)
def clear_window_job(payload: dict[str, Any], now: datetime) -> None:
    """Make one attempt at clearing one window, unless somebody is at it or it was made already."""
    attempt_clearing(window=Window.objects.get(pk=payload["window"]), number=payload["attempt"], now=now)


# atomic=False: a letter is sent outside the database; killed before it is noted, it is sent once more
@handler(RESET, atomic=False)
def mail_reset_job(payload: dict[str, Any], now: datetime) -> None:
    """Send the link for another password, where the address had a seat."""
    mail_reset(user=payload["user"], root=payload["root"], is_own=payload["is_own"], now=now)


@handler(INVITATION, atomic=False)
def mail_invitation_job(payload: dict[str, Any], now: datetime) -> None:
    """Send the link of an invitation that still leads in."""
    mail_invitation(invitation=UUID(payload["invitation"]), root=payload["root"], now=now)
