"""What waits for the next statement is neither lost nor run in another order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection, transaction

from ledger.ids import uuid7
from ledger.models import Outbox
from tests.properties.one_trip import Rows, fewer_trips

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
JOBS = "select count(*) from ledger_outbox"
pytestmark = pytest.mark.django_db


def write_a_job(key: str) -> None:
    Outbox.objects.create(id=uuid7(NOW), kind="any", payload={}, dedupe_key=key, run_at=NOW)


def test_a_question_tells_how_things_were_before_the_next_statement():
    answers: list[Rows] = []
    with fewer_trips() as trips:
        trips.ask(JOBS, answers.append)
        assert answers == []
        write_a_job("first")
        assert answers == [[(0,)]]
        trips.ask(JOBS, answers.append)

    assert answers == [[(0,)], [(1,)]]


def test_a_question_beside_a_refused_statement_is_asked_again_of_what_the_savepoint_kept():
    answers: list[Rows] = []
    with fewer_trips() as trips:
        write_a_job("first")
        trips.ask(JOBS, answers.append)
        with pytest.raises(DataError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("select 1 / 0")
        write_a_job("second")

    assert answers == [[(1,)]]
    assert Outbox.objects.count() == 2


def test_what_was_written_behind_a_savepoint_goes_with_it():
    with fewer_trips(), transaction.atomic():
        with transaction.atomic():
            write_a_job("first")
        with transaction.atomic():
            write_a_job("second")
            transaction.set_rollback(True)

    assert list(Outbox.objects.values_list("dedupe_key", flat=True)) == ["first"]
