"""Celery: carries ids from the outbox to the workers as a hint, and beats the clock of everything periodic."""

from __future__ import annotations

import os

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from marketplace import postgres

TRANSPORT_ALIASES["filesystem"] = "marketplace.broker:Transport"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

app = Celery("marketplace")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def every(seconds: float, task: str) -> dict[str, object]:
    """Return a beat entry. A beat that nobody took before the next one is due is worth nothing and expires."""
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds, 5)}}


app.conf.beat_schedule = {
    "publish due jobs of the outbox": every(1, "ledger.tasks.pump_task"),
    "send transactions to the chain": every(1, "ledger.tasks.send_task"),
    "book what the chain made final": every(1, "ledger.tasks.index_task"),
    "watch the heartbeats of running leases": every(15, "marketplace.tasks.watch_heartbeats_task"),
    "call the rolls of owners": every(60, "marketplace.tasks.call_rolls_task"),
    "turn the market": every(60, "marketplace.tasks.cycle_task"),
    "seal the books and anchor their root": every(3600, "marketplace.tasks.anchor_task"),
    "look after card payments": every(30, "ledger.tasks.card_sweep_task"),
    "compare the books with the card processor": every(3600, "ledger.tasks.card_reconcile_task"),
    "compare the books with the chain": every(3600, "ledger.tasks.reconcile_task"),
}


@signals.celeryd_init.connect
@signals.beat_init.connect
def need_the_database(**_: object) -> None:
    """A worker or beat started by hand finds its server as `manage.py` does."""
    postgres.ensure_running()
