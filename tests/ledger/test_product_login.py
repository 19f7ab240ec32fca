"""What a thief of the product's own login could do: raw SQL in a session of it, each refusal beside a success."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection as tests_connection
from psycopg import errors

from marketplace import postgres

KEPT = ("ledger_transfer", "ledger_epoch", "ledger_epochanchor", "marketplace_auditline", "ledger_account")
NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
POST = """select post_transfers(1, %(now)s, %(id)s, %(debit)s, %(credit)s, '{5}', '{posted}', '{650}', '{organic}',
          '{null}', '{null}', '{null}', '{null}', %(times)s)"""
AUDIT = """insert into marketplace_auditline (no, at, actor, action, subject, reason, facts, prev_hash, hash)
           values (1000000, now(), 'a', 'a', 'a', 'a', '{}', '', '')"""


@pytest.fixture
def product(db: None) -> Iterator[psycopg.Connection[Any]]:
    """A session of the product's own login in the test database; whatever it does is rolled back."""
    name = tests_connection.settings_dict["NAME"]
    with psycopg.connect(**postgres.psycopg_fields(postgres.django_database(name=name, role="product"))) as session:
        assert session.execute("select current_user, session_user").fetchone() == (postgres.PRODUCT, postgres.PRODUCT)
        yield session
        session.rollback()


def refused_alone(product: psycopg.Connection[Any], statement: str) -> type[Exception]:
    """Return how PostgreSQL refuses a statement outside any transaction, where some may not be."""
    product.rollback()
    product.autocommit = True
    with pytest.raises(psycopg.Error) as told:
        product.execute(statement.encode())
    return told.type


def refusal(product: psycopg.Connection[Any], statement: str) -> type[Exception]:
    """Return how PostgreSQL refuses a statement; it must refuse, and what stood before stays."""
    with pytest.raises(psycopg.Error) as told, product.transaction():
        product.execute(statement.encode())
    return told.type


def test_the_product_posts_by_the_function_that_judges_and_adds_to_the_audit_trail(product: Any) -> None:
    debit, credit = (
        product.execute("select open_account(1, %s::text, null, null, 'none')", [code]).fetchone()[0]
        for code in ("card.clearing", "suspense")
    )
    facts = {"now": NOW, "id": [uuid4()], "debit": [debit], "credit": [credit], "times": [NOW]}

    assert product.execute(POST, facts).fetchone() is not None
    product.execute(AUDIT)

    assert product.execute("select amount from ledger_transfer").fetchall() == [(5,)]
    assert product.execute("select actor from marketplace_auditline").fetchall() == [("a",)]
    for table in ("ledger_transfer", "marketplace_auditline"):
        for statement in (f"update {table} set {'amount = 6' if 'ledger' in table else 'reason = null'}",
                          f"delete from {table}", f"truncate {table}"):  # fmt: skip
            assert refusal(product, statement) is errors.InsufficientPrivilege
    assert refusal(product, "insert into ledger_transfer select * from ledger_transfer") is errors.InsufficientPrivilege


@pytest.mark.parametrize("table", KEPT)
def test_what_is_kept_is_neither_changed_nor_emptied_nor_reshaped(product: Any, table: str) -> None:
    column = product.execute(
        "select column_name from information_schema.columns where table_name = %s limit 1", [table]
    ).fetchone()[0]

    assert product.execute(f"select count(*) from {table}").fetchone()[0] >= 0
    product.execute(f"grant all on {table} to grove_app")  # PostgreSQL warns, and gives nothing
    for statement in (
        f"update {table} set {column} = {column}", f"delete from {table}", f"truncate {table}",
        f"truncate {table} cascade",
        f"alter table {table} add column more int", f"alter table {table} disable trigger all",
        f"alter table {table} disable trigger user", f"alter table {table} owner to grove_app", f"drop table {table}",
        f"lock table {table} in access exclusive mode", f"create index on {table} ({column})",
        f"create trigger mine before insert on {table} execute function apply_transfers()",
        f"alter table {table} disable row level security",
        f"create rule mine as on insert to {table} do instead nothing", f"comment on table {table} is 'mine'",
    ):  # fmt: skip
        assert refusal(product, statement) is errors.InsufficientPrivilege, statement


@pytest.mark.parametrize("statement", [
    "create table mine (id int)", "create temporary table mine (id int)", "create schema mine",
    "create table chain.mine (id int)", "create table stripe_sandbox.mine (id int)", "create view mine as select 1",
    "create function mine() returns int language sql as 'select 1'", "create sequence mine", "create database mine",
    "create role mine", "create type mine as (id int)", "drop schema chain cascade",
    "drop function apply_transfers() cascade", "alter function apply_transfers() reset search_path",
    "create or replace function lock_ledger(integer) returns void language sql as 'select'",
    "create policy mine on ledger_account using (true)", "create publication mine", "drop owned by app",
])  # fmt: skip
def test_the_product_makes_and_unmakes_nothing_in_the_database(product: Any, statement: str) -> None:
    assert refused_alone(product, statement) is errors.InsufficientPrivilege


@pytest.mark.parametrize("statement", [
    "set role app", "set session authorization app", "set role grove_poster", "set role grove_read",
    "set role grove_party", "set session_replication_role = replica", "set local session_replication_role = replica",
    "alter role grove_app superuser", "alter role grove_app createrole", "alter role grove_app bypassrls",
    "grant app to grove_app", "grant grove_poster to grove_app", "alter role app password 'mine'",
    "alter system set fsync = off", "select pg_reload_conf()", "alter database postgres set search_path = mine",
    "update pg_authid set rolsuper = true", "select rolpassword from pg_authid", "select passwd from pg_shadow",
])  # fmt: skip
def test_the_product_becomes_nobody_with_more_rights(product: Any, statement: str) -> None:
    assert refused_alone(product, statement) is errors.InsufficientPrivilege


@pytest.mark.parametrize("undo", ["reset role", "set role none", "reset session authorization", "discard all"])
def test_going_back_from_a_role_leads_to_the_product_and_not_to_the_owner(product: Any, undo: str) -> None:
    product.rollback()
    product.autocommit = True
    product.execute("set role grove_copy")  # the one role it may take: it adds transfers, which the trigger judges
    assert product.execute("select current_user").fetchone() == ("grove_copy",)

    product.execute(undo)

    assert product.execute("select current_user, session_user").fetchone() == ("grove_app", "grove_app")
    with pytest.raises(errors.InsufficientPrivilege):
        product.execute("delete from ledger_transfer")


@pytest.mark.parametrize("statement", [
    "copy (select 1) to program 'cat'", "copy ledger_outbox from program 'echo'", "copy (select 1) to '/mine'",
    "copy ledger_outbox from '/etc/passwd'", "select pg_read_file('postgresql.conf')", "select pg_ls_dir('.')",
    "select lo_import('/etc/passwd')", "select pg_read_binary_file('pg_hba.conf')", "load '/mine.so'",
])  # fmt: skip
def test_the_product_reaches_neither_files_nor_programs_of_the_server(product: Any, statement: str) -> None:
    assert refused_alone(product, statement) is errors.InsufficientPrivilege


def test_the_product_copies_to_and_from_itself_alone(product: Any) -> None:
    with product.cursor().copy("copy (select asset from ledger_ledger order by id) to stdout") as rows:
        assert b"".join(rows).split() == [b"USDC6", b"USD2", b"GRANT", b"PLAY"]
