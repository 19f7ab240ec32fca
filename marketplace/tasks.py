"""Celery shells of the market: find, call, return a count."""

from __future__ import annotations

from celery import shared_task

from marketplace import clock, cycle


@shared_task(acks_late=True)
def cycle_task() -> int:
    """Carry every window as far as it can go, unless somebody is at it."""
    with cycle.only_turn(wait=False) as mine:
        return len(cycle.advance(now=clock.now())) if mine else 0


@shared_task(acks_late=True)
def anchor_task() -> int:
    """Seal the books and anchor their root."""
    return cycle.anchor_books(now=clock.now())
