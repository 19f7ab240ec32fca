"""Celery shells of the market: find, call, return a count."""

from __future__ import annotations

from celery import shared_task

from marketplace import clock, cycle


@shared_task(acks_late=True)
def cycle_task() -> int:
    """Carry every window as far as it can go."""
    return len(cycle.advance(now=clock.now()))


@shared_task(acks_late=True)
def anchor_task() -> int:
    """Seal the books and anchor their root."""
    return cycle.anchor_books(now=clock.now())
