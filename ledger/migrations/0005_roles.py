"""Roles: who may do what with the books. The walls that a role meets hold also where the code above is wrong.

grove_poster owns the functions and nothing else; grove_app runs the product; grove_copy may only add transfers, which the
trigger judges; grove_read reads; grove_party reads the accounts of one party. Roles belong to the server, not to one
database: they are made where they are missing and stay when this migration is taken back.
"""

from django.db import migrations

ROLES = ("grove_poster", "grove_app", "grove_copy", "grove_read", "grove_party")

# Several databases of one server may be migrated at this moment, and the roles are the server's.
AT_ONCE = "exception when others then if sqlstate not in ('42710', '23505', 'XX000') then raise; end if;"
MAKE = "".join(
    f"""
do $$ begin
    if not exists (select 1 from pg_roles where rolname = '{role}') then
        create role {role} nologin noinherit;  -- grove_app has the right to COPY only while it says so by SET ROLE
    end if;
{AT_ONCE} end $$;
do $$ begin
    if not pg_has_role(current_user, '{role}', 'member') then
        execute format('grant {role} to %I', current_user);
    end if;
{AT_ONCE} end $$;
"""
    for role in ROLES
) + f"""
do $$ begin
    if not pg_has_role('grove_app', 'grove_copy', 'member') then
        grant grove_copy to grove_app;
    end if;
{AT_ONCE} end $$;
grant usage on schema public to {", ".join(ROLES)};
"""

FUNCTIONS = {
    "apply_transfers()": False,
    "next_number(integer)": True,
    "post_transfers(integer, timestamptz, uuid[], bigint[], bigint[], bigint[], text[], smallint[], text[], uuid[], "
    "uuid[], timestamptz[], bytea[], timestamptz[])": True,
    "post_run(integer, timestamptz, uuid[], bigint[], bigint[], bigint[], text[], smallint[], text[], uuid[], "
    "uuid[], timestamptz[], bytea[], timestamptz[], integer[])": True,
    "first_leaning_account(integer, bigint, integer[])": False,
    "open_account(integer, text, uuid, uuid, text)": True,
    "seal_epoch(integer, bigint, bigint, bigint, bytea, bytea, bytea, timestamptz)": True,
}

SEAL = """
alter function open_account(integer, text, uuid, uuid, text) security definer;
alter function open_account(integer, text, uuid, uuid, text) set search_path = pg_catalog, public, pg_temp;

-- Writes an epoch that follows the last one without a gap and carries its root; GL002 for any other.
create function seal_epoch(p_ledger integer, p_no bigint, p_from_seq bigint, p_to_seq bigint, p_root bytea,
                           p_prev_root bytea, p_totals_hash bytea, p_closed_at timestamptz)
returns void language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_last ledger_epoch%rowtype;
begin
    perform pg_advisory_xact_lock(7602, p_ledger);
    select * into v_last from ledger_epoch where ledger = p_ledger order by no desc limit 1;
    if p_no <> coalesce(v_last.no, 0) + 1 or p_from_seq <> coalesce(v_last.to_seq, 0) + 1
       or p_prev_root <> coalesce(v_last.root, decode(repeat('00', 32), 'hex'))
       or p_to_seq >= (select next_seq from ledger_ledger where id = p_ledger) then
        raise exception using errcode = 'GL002', message = 'an epoch follows the last one and seals what is written';
    end if;
    insert into ledger_epoch (ledger, no, from_seq, to_seq, n, root, prev_root, totals_hash, closed_at)
    values (p_ledger, p_no, p_from_seq, p_to_seq, p_to_seq - p_from_seq + 1, p_root, p_prev_root, p_totals_hash,
            p_closed_at);
end $$;
"""
UNSEAL = """
drop function seal_epoch(integer, bigint, bigint, bigint, bytea, bytea, bytea, timestamptz);
alter function open_account(integer, text, uuid, uuid, text) security invoker;
alter function open_account(integer, text, uuid, uuid, text) reset search_path;
"""

BOOKS = "ledger_transfer, ledger_account, ledger_epoch, ledger_ledger"
OTHERS = (
    "ledger_epochanchor, ledger_outbox, ledger_inbox, ledger_reconciliation, ledger_chaincontract, ledger_chainaddress, "
    "ledger_chainclass, ledger_chainintent, ledger_chainattempt, ledger_chainevent, ledger_chainmark, "
    "ledger_cardintent, ledger_cardtransaction, ledger_cardreconciliation"
)
GRANT = f"""
revoke all on {BOOKS} from public;
grant select on {BOOKS} to grove_app, grove_read;
grant update (halted, halted_reason) on ledger_ledger to grove_app;
grant select, insert, update, delete on {OTHERS} to grove_app;
revoke update, delete on ledger_epochanchor, ledger_cardtransaction, ledger_cardreconciliation from grove_app;
revoke delete on ledger_cardintent from grove_app;
grant select on {OTHERS} to grove_read;
grant usage on all sequences in schema public to grove_app;
grant select, insert on ledger_transfer, ledger_epoch, ledger_account to grove_poster;
grant select on ledger_ledger to grove_poster;
grant update on ledger_account, ledger_ledger to grove_poster;
grant insert on ledger_transfer to grove_copy;
""" + "".join(
    f"revoke execute on function {function} from public;\n"
    + (f"grant execute on function {function} to grove_app;\n" if is_called else "")
    for function, is_called in FUNCTIONS.items()
) + """
grant create on schema public to grove_poster;  -- an owner needs it at the moment it becomes one
""" + "".join(f"alter function {function} owner to grove_poster;\n" for function in FUNCTIONS) + """
revoke create on schema public from grove_poster;
"""
REVOKE = "".join(
    f"do $$ begin execute format('alter function {function} owner to %I', current_user); end $$;\n"
    f"grant execute on function {function} to public;\n"
    for function in FUNCTIONS
) + f"""
revoke all on {BOOKS}, {OTHERS} from grove_poster, grove_app, grove_copy, grove_read, grove_party;
revoke all on all sequences in schema public from grove_app;
revoke usage on schema public from grove_poster, grove_app, grove_copy, grove_read, grove_party;
"""

# After a commit a pooled connection reads '' and not NULL from a setting that was local: hence the nullif.
ROWS = """
alter table ledger_account enable row level security;
alter table ledger_account force row level security;
create policy account_is_seen_by_its_party on ledger_account for select to grove_party
    using (party = nullif(current_setting('app.party', true), '')::uuid);
do $$ begin
    execute format('create policy account_is_kept_by_the_books on ledger_account
        to grove_poster, grove_app, grove_copy, grove_read, %I using (true) with check (true)', current_user);
end $$;
grant select on ledger_account to grove_party;
"""
NO_ROWS = """
revoke select on ledger_account from grove_party;
drop policy account_is_kept_by_the_books on ledger_account;
drop policy account_is_seen_by_its_party on ledger_account;
alter table ledger_account no force row level security;
alter table ledger_account disable row level security;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_one_wall_for_every_path")]

    operations = [
        migrations.RunSQL(MAKE, migrations.RunSQL.noop),
        migrations.RunSQL(SEAL, UNSEAL),
        migrations.RunSQL(GRANT, REVOKE),
        migrations.RunSQL(ROWS, NO_ROWS),
    ]
