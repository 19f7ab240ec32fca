"""The product logs in as grove_app: the tables beside Django's are its owner's, and it can make none of its own.

The tables of the embedded chain and of the card sandbox were made by the first who needed them; now the owner makes
them, and their stores find them.
"""

from django.db import migrations

CHAIN = """
create schema if not exists chain;
create table if not exists chain.node (key bytea primary key, value bytea not null);
create table if not exists chain.log (
    block_number bigint not null, log_index integer not null, tx_index integer not null, block_hash bytea not null,
    tx_hash bytea not null, address bytea not null, topics bytea[] not null, data bytea not null,
    primary key (block_number, log_index));
create index if not exists log_by_address on chain.log (address, block_number);
create table if not exists chain.revert (tx_hash bytea primary key, output bytea not null);
"""
STRIPE_SANDBOX = """
create schema if not exists stripe_sandbox;
create table if not exists stripe_sandbox.object (
    id text primary key, kind text not null, place bigint generated always as identity unique, body jsonb not null);
create index if not exists object_by_kind on stripe_sandbox.object (kind, place);
create index if not exists object_by_content on stripe_sandbox.object using gin (body jsonb_path_ops);
create table if not exists stripe_sandbox.answer (
    key text primary key, fingerprint text not null, status integer not null, body text not null);
create table if not exists stripe_sandbox.delivery (
    id bigint generated always as identity primary key, event text not null, tries integer not null default 0,
    due_at timestamptz not null, done_at timestamptz, held boolean not null default false);
create index if not exists delivery_due on stripe_sandbox.delivery (due_at) where done_at is null;
create table if not exists stripe_sandbox.behaviour (name text primary key, value bigint not null);
"""
GRANT = """
grant usage on schema chain, stripe_sandbox to grove_app, grove_read;
grant select, insert, update, delete on all tables in schema chain, stripe_sandbox to grove_app;
grant select on all tables in schema chain, stripe_sandbox to grove_read;
"""
REVOKE = """
revoke all on all tables in schema chain, stripe_sandbox from grove_app, grove_read;
revoke usage on schema chain, stripe_sandbox from grove_app, grove_read;
"""
# PostgreSQL lets everybody make temporary tables, and before version 15 lasting ones in `public` too.
NOTHING_OF_ITS_OWN = """
revoke create on schema public from public;
do $$ begin execute format('revoke temporary on database %I from public', current_database()); end $$;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0007_chain_attempts_and_reorganisations")]

    operations = [
        migrations.RunSQL(CHAIN + STRIPE_SANDBOX, migrations.RunSQL.noop),
        migrations.RunSQL(GRANT, REVOKE),
        migrations.RunSQL(NOTHING_OF_ITS_OWN, migrations.RunSQL.noop),
    ]
