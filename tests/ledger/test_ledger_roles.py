"""What each role of the database may do with the books, tried as that role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from ledger.epochs import close_epoch
from ledger.errors import InsufficientFunds, LedgerHalted
from ledger.models import Account, Epoch, Transfer
from ledger.recipes import book_paid_out, settle_postings
from ledger.reconcile import check_books
from ledger.services import halt_ledger, resume_ledger
from tests.owner import as_owner

WRITES = ("insert into {0} select * from {0}", "update {0} set ledger = ledger", "delete from {0}", "truncate {0}")


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("select set_config('role', %s, true)", [role])
        yield
        cursor.execute("set local role grove_app")


def refused(statement: str, *facts: object) -> str:
    """What PostgreSQL says against a statement; it must say something."""
    with pytest.raises(DatabaseError) as told, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, facts or None)
    return str(told.value)


def test_the_product_runs_a_whole_turn_of_the_books_as_the_restricted_role(books):
    buyer, window, provider, node_class = (books.id() for _ in range(4))

    with acting_as("grove_app"):
        books.deposit(buyer, 1_000)
        books.lock(buyer, window, 400)
        books.post(
            *settle_postings(
                lease=books.id(), buyer=buyer, window=window, provider=provider, node_class=node_class, earned=300,
                holdback=50, fee=10, returned=40, credit=0,
            )
        )  # fmt: skip
        card, suspense = books.account("card.clearing"), books.account("suspense")
        assert books.post(*(books.posting(card, suspense, 1) for _ in range(600))) == 600  # by COPY
        book_paid_out(provider=provider, node_class=node_class, amount=100, reference=books.reference(), now=books.now)
        with pytest.raises(InsufficientFunds):
            books.hold(buyer, window, 10_000)
        halt_ledger(ledger=1, reason="as the product")
        with pytest.raises(LedgerHalted):
            book_paid_out(provider=provider, node_class=node_class, amount=1, reference=b"x", now=books.now)
        resume_ledger(ledger=1)
        assert close_epoch(1, books.now).n == Transfer.objects.count()
        assert all(finding.ok for finding in check_books())
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('role')")
            assert cursor.fetchone() == ("grove_app",)


@pytest.mark.parametrize("role", ["grove_app", "grove_read", "grove_party"])
@pytest.mark.parametrize("table", ["ledger_transfer", "ledger_account", "ledger_epoch"])
def test_no_role_of_the_product_writes_the_books_by_itself(books, role, table):
    with acting_as(role):
        for statement in WRITES:
            assert "permission denied" in refused(statement.format(table))


def test_the_product_cannot_move_the_next_number(books):
    with acting_as("grove_app"):
        assert "permission denied" in refused("update ledger_ledger set next_seq = 9")


def test_no_table_of_the_books_was_forgotten_when_rights_were_given(db):
    with connection.cursor() as cursor:
        cursor.execute(
            """select tablename, has_table_privilege('grove_app', tablename, 'select'),
                      has_table_privilege('grove_read', tablename, 'select')
                 from pg_tables where schemaname = 'public' and tablename like 'ledger\\_%'"""
        )
        tables = cursor.fetchall()

    assert len(tables) > 15
    assert [name for name, app, read in tables if not (app and read)] == []


def test_no_table_outside_the_books_was_forgotten_and_what_is_kept_is_only_added_to(db):
    with connection.cursor() as cursor:
        cursor.execute(
            """select name, has_table_privilege('grove_app', name, 'select')
                            and has_table_privilege('grove_app', name, 'insert') as adds,
                      has_any_column_privilege('grove_app', name, 'update') as changes,
                      has_table_privilege('grove_app', name, 'delete') as deletes,
                      exists (select 1 from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                               where t.tgrelid = name::regclass and p.proname = 'marketplace_deny_change'
                                 and (t.tgtype & 16) > 0) as is_kept  -- as it is, also against UPDATE
                 from (select schemaname || '.' || tablename as name from pg_tables
                        where schemaname in ('public', 'chain', 'stripe_sandbox')
                          and tablename not like 'ledger\\_%%' and tablename <> 'django_migrations') tables""",
            [],
        )
        rights = cursor.fetchall()

    assert {"chain.node", "stripe_sandbox.object", "public.marketplace_auditline"} <= {name for name, *_ in rights}
    assert [name for name, adds, *_ in rights if not adds] == []
    # Lists that a release may change, as their owner, and the product only adds to.
    assert {name for name, _, changes, _, is_kept in rights if changes == is_kept} == {
        f"public.marketplace_{name}" for name in (
            "control", "dataclass", "fundingsource", "kindlimit", "tiercontrol", "tierzone",
        )
    }  # fmt: skip
    assert {name for name, *_, deletes, _ in rights if deletes and name.startswith("public.")} == {
        "public.django_session", "public.marketplace_rememberedreply", "public.marketplace_settlementline",
        "public.marketplace_sitelatency",  # of a site that moved
    }  # fmt: skip


@pytest.mark.parametrize("table", ["ledger_cardtransaction", "ledger_cardreconciliation", "ledger_cardintent"])
def test_what_the_card_processor_said_is_kept(db, table):
    with acting_as("grove_app"):
        assert "permission denied" in refused(f"delete from {table}")
        if table != "ledger_cardintent":  # an intent moves on; a line and a comparison never do
            assert "permission denied" in refused(f"update {table} set id = id")


def test_the_role_that_copies_adds_transfers_under_the_same_rules_and_does_nothing_else(books):
    buyer = books.account("buyer.available", books.id())
    insert = """insert into ledger_transfer (ledger, id, seq, debit, credit, amount, kind, code, origin, effective_at,
                                             posted_at)
                values (1, gen_random_uuid(), %s, %s, %s, 5, 'posted', 650, 'organic', now(), now())"""
    escrow, suspense = books.account("chain.escrow"), books.account("suspense")

    with acting_as("grove_copy"):
        assert "account_never_spends_more_than_it_holds" in refused(insert, 1, buyer, suspense)
        assert "without a gap" in refused(insert, 2, escrow, buyer)
        assert "no such account" in refused(insert, 1, escrow, 12345)
        with connection.cursor() as cursor:
            cursor.execute(insert, [1, escrow, buyer])
        for statement in (
            "select 1 from ledger_transfer", "delete from ledger_transfer", "truncate ledger_transfer",
            "select 1 from ledger_account", "update ledger_account set version = 1",
        ):  # fmt: skip
            assert "permission denied" in refused(statement)

    assert books.counters(buyer) == (0, 5, 0, 0)


def test_only_the_product_may_call_the_functions_that_write(books):
    for role in ("grove_read", "grove_party", "grove_copy"):
        with acting_as(role):
            assert "permission denied" in refused("select next_number(1)")
            assert "permission denied" in refused("select open_account(1, 'suspense', null, null, 'none')")


def test_an_epoch_that_does_not_follow_the_last_is_refused_also_for_the_product(books):
    books.deposit(books.id(), 10)
    seal = "select seal_epoch(1, %s, %s, %s, 'r', %s, 't', now())"

    with acting_as("grove_app"):
        for no, first, last, root in ((2, 1, 1, None), (1, 2, 2, None), (1, 1, 2, None), (1, 1, 1, b"x")):
            assert "follows the last one" in refused(seal, no, first, last, root or bytes(32))
        close_epoch(1, books.now)
    assert Epoch.objects.count() == 1


def test_the_functions_run_with_their_own_rights_and_a_pinned_path(db):
    with connection.cursor() as cursor:
        cursor.execute(
            """select p.proname, r.rolname, p.prosecdef, coalesce(array_to_string(p.proconfig, ' '), '')
                 from pg_proc p join pg_roles r on r.oid = p.proowner
                where p.proname in ('apply_transfers', 'next_number', 'post_transfers', 'open_account', 'seal_epoch',
                                    'first_leaning_account', 'post_run')"""
        )
        found = cursor.fetchall()

    assert len(found) == 7
    assert all(owner == "grove_poster" and definer for _, owner, definer, _ in found), found
    assert all("search_path=pg_catalog, public, pg_temp" in settings for *_, settings in found), found


def test_a_party_sees_its_own_accounts_and_no_others_also_by_raw_sql(books):
    one, other = books.id(), books.id()
    books.deposit(one, 10), books.deposit(other, 20)

    with acting_as("grove_party"), connection.cursor() as cursor:
        seen = []
        for party in (one, other, UUID(int=0), ""):
            cursor.execute("select set_config('app.party', %s, true)", [str(party)])
            cursor.execute("select party, credits_posted from ledger_account")
            seen.append(cursor.fetchall())
        assert seen == [[(one, 10)], [(other, 20)], [], []]
        for table in ("ledger_transfer", "ledger_epoch", "ledger_ledger", "ledger_outbox"):
            assert "permission denied" in refused(f"select 1 from {table}")


def test_the_books_themselves_see_every_account(books):
    books.deposit(books.id(), 10)

    for role in ("grove_app", "grove_read"):
        with acting_as(role):
            assert Account.objects.count() == 2


def test_no_role_owns_a_table_and_only_the_product_may_log_in(db):
    with connection.cursor() as cursor:
        cursor.execute(
            """select rolname from pg_roles r where rolname like 'grove\\_%'
                 and (rolcanlogin and rolname <> 'grove_app' or rolsuper or rolcreaterole or rolbypassrls
                      or exists (select 1 from pg_class c where c.relowner = r.oid))"""
        )
        assert cursor.fetchall() == []


@pytest.mark.parametrize("statement", ["delete from ledger_account", "truncate ledger_account cascade"])
def test_an_account_is_never_deleted_not_even_by_the_owner(db, statement):
    assert "permission denied" in refused(statement)
    with as_owner():
        assert "append-only" in refused(statement)
