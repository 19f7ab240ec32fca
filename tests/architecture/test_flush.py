"""A transactional test leaves nothing behind, not even in tables written once; yet nobody else empties them."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from marketplace import clock
from marketplace.governance.models import AuditLine
from marketplace.governance.services import record
from tests.owner import as_owner


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "second"])
def test_a_transactional_test_begins_with_an_empty_trail(time: str) -> None:
    assert not AuditLine.objects.exists()

    record(actor="test", action="test", subject=time, reason="it is committed", now=clock.now())

    with pytest.raises(IntegrityError, match="append-only"), as_owner() as cursor:
        cursor.execute("TRUNCATE marketplace_auditline")
