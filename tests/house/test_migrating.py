"""The quick way through the migrations makes what Django's own makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.commands import migrate as of_django
from django.db import connection, models
from django.db.migrations import AddConstraint, AddField, AlterField, CreateModel, RunSQL
from django.db.migrations.executor import MigrationExecutor

from marketplace import postgres
from marketplace.migrating import QuickExecutor, in_runs

# All that a migration leaves behind: columns in their order, keys, checks, indexes, triggers, functions, rights.
LEFT_BEHIND = """
    SELECT 'column', table_name || '.' || column_name, format('%s %s %s %s %s %s %s', ordinal_position,
           data_type, character_maximum_length, is_nullable, column_default, is_identity, generation_expression)
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
      FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', oid::regprocedure::text, md5(prosrc) FROM pg_proc
      WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'right', table_name || ' ' || grantee, string_agg(privilege_type, ' ' ORDER BY privilege_type)
      FROM information_schema.table_privileges WHERE table_schema = 'public' GROUP BY table_name, grantee
"""


def field(name: str) -> AddField:
    return AddField("lease", name, models.IntegerField(default=0))


def check(name: str, model: str = "lease") -> AddConstraint:
    return AddConstraint(model, models.CheckConstraint(condition=models.Q(hours__gt=0), name=name))


def test_what_touches_different_things_is_done_in_one_run() -> None:
    one = CreateModel("Award", [("id", models.AutoField(primary_key=True))])
    operations = [one, field("hours"), check("some_hours"), check("some_award", "award"), field("units")]

    assert list(in_runs(operations)) == [operations]


def test_what_is_changed_again_is_done_in_a_run_of_its_own() -> None:
    hours, units = field("hours"), field("units")
    again = AlterField("lease", "hours", models.BigIntegerField(default=0))

    assert list(in_runs([hours, units, again])) == [[hours, units], [again]]


def test_sql_stands_alone_between_what_was_before_it_and_what_comes_after() -> None:
    before, sql, after = field("hours"), RunSQL("SELECT 1"), field("units")

    assert list(in_runs([before, sql, after])) == [[before], [sql], [after]]


def left_by(executor: type[MigrationExecutor], database: str, monkeypatch: pytest.MonkeyPatch) -> set[tuple[Any, ...]]:
    monkeypatch.setattr(of_django, "MigrationExecutor", executor)
    postgres.create_database(database)
    monkeypatch.setitem(connection.settings_dict, "NAME", database)
    connection.close()
    call_command("migrate", interactive=False, verbosity=0)
    connection.close()
    fields = postgres.maintenance_fields(None) | {"dbname": database}
    with psycopg.connect(**fields) as server:
        return set(server.execute(LEFT_BEHIND).fetchall())


@pytest.fixture
def two_databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[str]]:
    before = connection.settings_dict["NAME"]
    names = [f"{before}_quick", f"{before}_plain"]
    with django_db_blocker.unblock():
        yield names
        connection.close()
        for name in names:
            postgres.drop_database(name)


@pytest.mark.slow
def test_both_ways_leave_the_same_database(two_databases: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quick, plain = two_databases

    left = left_by(QuickExecutor, quick, monkeypatch)

    assert len(left) > 1_000
    assert left == left_by(MigrationExecutor, plain, monkeypatch)
