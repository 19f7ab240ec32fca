"""The console's acts on a real chain: they run, say what they came to, and leave the person's name on the trail.

They really commit, so they stand apart from the pages, whose market is one open transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from ledger.models import Ledger, Reconciliation
from ledger.services import book_deposit
from marketplace import clock as market_clock
from marketplace import models as m
from tests.owner import behind_the_triggers
from tests.rails.conftest import (  # noqa: F401
    clock,
    deployed_once,
    keys,
    keys_home,
    rails,
    transactional_db,
)

NAME = "staff@acts.example"


@pytest.fixture
def staff(rails, clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:  # noqa: F811
    monkeypatch.setattr(market_clock, "now", clock)
    client = Client()
    client.force_login(m.User.objects.create_superuser(NAME, "a long enough password"))
    yield client
    with behind_the_triggers() as cursor:  # what was really committed is taken away again
        cursor.execute("DELETE FROM marketplace_auditline; DELETE FROM django_session; DELETE FROM marketplace_user")


def said(answer) -> list[str]:
    return [f"{message.level_tag}: {message}" for message in get_messages(answer.wsgi_request)]


def test_reconciliation_runs_now_and_a_difference_halts_payouts(staff, clock):  # noqa: F811
    equal = staff.post("/console/acts/reconcile/")
    book_deposit(party=UUID(int=9), amount=5_000_000, reference=bytes(36), now=clock.now)
    differs = staff.post("/console/acts/reconcile/")

    assert (equal.status_code, equal.headers["Location"]) == (302, "/console/")
    assert said(equal) == ["success: Books and chain agree in every figure."]
    assert "$5.000000 in the books, $0.000000 on chain. Payouts are halted." in said(differs)[-1]
    assert Reconciliation.objects.count() == 2
    assert Ledger.objects.get(pk=1).halted
    assert list(m.AuditLine.objects.values_list("actor", "action")) == [(NAME, "console_reconcile")] * 2


def test_the_market_advances_now_and_says_what_moved(staff):
    answer = staff.post("/console/acts/advance/")

    assert said(answer)[0].startswith("success: ")
    assert m.AuditLine.objects.get().action == "console_advance"
    assert staff.get("/console/").status_code == 200
