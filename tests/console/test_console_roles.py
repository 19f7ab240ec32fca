"""Who only reads at the Foundation opens every page of the console, and does nothing there."""

from __future__ import annotations

import pytest
from django.test import Client

from ledger.ids import uuid7
from ledger.models import ChainIntent, Outbox
from ledger.tasks import TRIES_MAX
from marketplace import models as m
from tests.doors.factories import NOW, Market, seat

FORMS = {
    "reconcile": ("/console/acts/reconcile/", {}),
    "advance": ("/console/acts/advance/", {}),
    "retry": ("/console/parked-jobs/", {"act": "retry", "job": "{job}", "reason": "r"}),
    "drop": ("/console/parked-jobs/", {"act": "drop", "job": "{job}", "reason": "r"}),
    "cancel": ("/console/transactions/{intent}/cancel/", {}),
    "sign": ("/console/phases/", {"act": "sign", "phase": "2"}),
    "open": ("/console/phases/", {"act": "open", "phase": "2"}),
    "close": ("/console/phases/", {"act": "close", "signal": "{job}", "reason": "r"}),
    "review": ("/console/phases/", {"act": "review", "verdict": "v"}),
    "lost": ("/console/keyholders/", {"act": "lost", "share": "{share}", "text": "r"}),
    "release": ("/console/keyholders/", {"act": "release", "share": "{share}", "text": "00"}),
}  # fmt: skip


@pytest.fixture
def job(market: Market) -> Outbox:
    return Outbox.objects.create(
        id=uuid7(NOW), kind="send", payload={}, dedupe_key="poison:1", run_at=NOW, tries=TRIES_MAX, last_error="no"
    )


@pytest.fixture
def intent(market: Market) -> ChainIntent:
    return ChainIntent.objects.create(id=uuid7(NOW), key="k", role="operator", contract="escrow", function="settle",
                                      to_address="0x1", calldata=b"", created_at=NOW, state="queued")  # fmt: skip


def by(role: str) -> Client:
    client = Client()
    foundation = m.Party.objects.get(slug="foundation")
    client.force_login(seat(foundation, f"{role}@console.example", role, is_staff=True))
    return client


def told(client: Client, name: str, job: Outbox, intent: ChainIntent) -> str:
    share = m.WindowShare.objects.first()
    assert share is not None
    where, fields = FORMS[name]
    these = {"job": job.pk, "intent": intent.pk, "share": share.pk}
    answer = client.post(where.format(**these), {field: value.format(**these) for field, value in fields.items()})
    assert answer.status_code == 302
    return str(answer.wsgi_request._messages._queued_messages[0].message)


@pytest.mark.parametrize("name", FORMS)
def test_an_auditor_does_nothing_and_operations_may(job: Outbox, intent: ChainIntent, name: str) -> None:
    assert "(role_forbidden)" in told(by("auditor"), name, job, intent)

    job.refresh_from_db()
    intent.refresh_from_db()
    assert (job.tries, job.done_at, intent.state, intent.cancel_asked_at) == (TRIES_MAX, None, "queued", None)
    assert not m.WindowShare.objects.exclude(lost_at=None).exists()

    assert "(role_forbidden)" not in told(by("operations"), name, job, intent)
