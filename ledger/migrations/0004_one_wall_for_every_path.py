"""The rules of the books move into one trigger, so that a transfer obeys them by whatever path it is written.

An INSERT of the function, a COPY and a statement typed by hand all end in `apply_transfers`: it judges the new rows
together, moves the counters and takes the numbers. `post_transfers` keeps what only it can do: tell a repeated id from a
reused one, before anything is written.
"""

from importlib import import_module

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models

before = import_module("ledger.migrations.0002_posting")

# A run of transfers is looked up by its keys, however the tables have grown since a plan was kept: a plan that was made
# for one row must not read the whole history for the next. What is worth a hash here is small. So the one plan is kept:
# to make it anew for each call took longer than the call.
PLANS = ("set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off "
         "set plan_cache_mode = force_generic_plan")
PINNED = "security definer set search_path = pg_catalog, public, pg_temp"

APPLY = f"""
-- Judges and applies all rows of one INSERT or COPY. The order of these checks is the order in which refusals are given.
-- GL002 is no refusal of the books: only a statement that goes around `post_transfers` and numbers rows itself gets it.
create function apply_transfers() returns trigger language plpgsql {PINNED} {PLANS} as $$
declare
    v_ledger ledger_ledger%rowtype;
    v_run record;
    v_bad record;
    v_unknown bigint;
    v_programmes bigint[];
begin
    select count(*) as n, min(ledger) as ledger, max(ledger) as other_ledger, min(seq) as first, max(seq) as last,
           min(posted_at) as since, max(posted_at) as until, bool_or(link is not null) as has_links,
           bool_or(kind <> 'posted') as has_holds, bool_or(code between 700 and 799) as has_payouts
      into v_run from fresh;
    if v_run.n = 0 then
        return null;
    end if;
    if v_run.ledger <> v_run.other_ledger or v_run.since <> v_run.until then
        raise exception using errcode = 'GL002', message = 'one statement writes into one ledger, at one time';
    end if;
    perform lock_ledger(v_run.ledger);
    select * into v_ledger from ledger_ledger where id = v_run.ledger for no key update;
    if not found then
        perform refuse_posting('unknown_ledger', 'There is no such ledger.', jsonb_build_object('ledger', v_run.ledger));
    end if;
    if v_run.first <> v_ledger.next_seq or v_run.last <> v_run.first + v_run.n - 1 then
        raise exception using errcode = 'GL002', message = 'transfers take the next numbers of their ledger, without a gap';
    end if;

    if v_ledger.halted and v_run.has_payouts then
        perform refuse_posting('ledger_halted', 'Payouts stand still: ' || v_ledger.halted_reason,
            jsonb_build_object('ledger', v_run.ledger, 'reason', v_ledger.halted_reason));
    end if;
    if v_run.has_links then
        perform check_new_links(v_run.ledger, v_run.first, v_run.last);
    end if;
    if v_run.has_holds then
        perform check_new_pendings(v_run.ledger, v_run.first, v_run.last, v_run.since);
    end if;
    v_programmes := array(select id from ledger_account
                           where ledger = v_run.ledger and code in ('programme.incentive', 'programme.grant'));
    if cardinality(v_programmes) > 0 then
        select f.id, a.code, f.origin into v_bad
          from fresh f join ledger_account a on a.id = f.debit
         where f.debit = any(v_programmes) and f.origin <> split_part(a.code, '.', 2)
         order by f.seq limit 1;
        if found then
            perform refuse_posting('origin_mismatch', 'Money of a programme keeps its origin.',
                jsonb_build_object('id', v_bad.id, 'account_code', v_bad.code, 'origin', v_bad.origin));
        end if;
    end if;

    if v_run.has_holds then
        with delta as (
            select e.account, sum(e.debits_posted)::bigint as dp, sum(e.credits_posted)::bigint as cp,
                   sum(e.debits_pending)::bigint as dn, sum(e.credits_pending)::bigint as cn
              from transfer_effects(v_run.ledger, v_run.first, v_run.last) e group by e.account),
        changed as (
            update ledger_account a
               set debits_posted = a.debits_posted + d.dp, credits_posted = a.credits_posted + d.cp,
                   debits_pending = a.debits_pending + d.dn, credits_pending = a.credits_pending + d.cn,
                   version = a.version + 1
              from delta d where a.id = d.account and a.ledger = v_run.ledger
            returning 1)
        select (select count(*) from delta) - (select count(*) from changed) into v_unknown;
    else  -- rows that only move money need no look at the holds they end
        with delta as (
            select e.account, sum(e.dp)::bigint as dp, sum(e.cp)::bigint as cp
              from (select debit as account, amount as dp, 0::bigint as cp from fresh
                    union all select credit, 0, amount from fresh) e
             group by e.account),
        changed as (
            update ledger_account a
               set debits_posted = a.debits_posted + d.dp, credits_posted = a.credits_posted + d.cp,
                   version = a.version + 1
              from delta d where a.id = d.account and a.ledger = v_run.ledger
            returning 1)
        select (select count(*) from delta) - (select count(*) from changed) into v_unknown;
    end if;
    if v_unknown <> 0 then
        select t.account into v_bad
          from (select debit as account, seq from fresh union all select credit, seq from fresh) t
         where not exists (select 1 from ledger_account a where a.id = t.account and a.ledger = v_run.ledger)
         order by t.seq limit 1;
        perform refuse_posting('unknown_account', 'There is no such account in this ledger.',
            jsonb_build_object('ledger', v_run.ledger, 'account', v_bad.account));
    end if;
    update ledger_ledger set next_seq = v_run.last + 1 where id = v_run.ledger;
    return null;
end $$;
create trigger transfer_obeys_the_rules after insert on ledger_transfer
    referencing new table as fresh for each statement execute function apply_transfers();
"""

DROP_APPLY = """
drop trigger transfer_obeys_the_rules on ledger_transfer;
drop function apply_transfers();
"""

ARGUMENTS = """
    p_ledger integer, p_now timestamptz, p_id uuid[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind text[], p_code smallint[], p_origin text[], p_pending_id uuid[], p_link uuid[],
    p_timeout_at timestamptz[], p_reference bytea[], p_effective_at timestamptz[]"""
GIVEN = """
          from unnest(p_id, p_debit, p_credit, p_amount, p_kind, p_code, p_origin, p_pending_id, p_link, p_timeout_at,
                      p_reference, p_effective_at) with ordinality
            as g(id, debit, credit, amount, kind, code, origin, pending_id, link, timeout_at, reference, effective_at,
                 place)"""

POST = f"""
-- Waits for its turn in the ledger and returns the number that its next transfer takes. Lock order, always: the ledger
-- (advisory), its row, the insert with its keys, then the counters; all writers of a ledger meet at the first of these.
create function next_number(p_ledger integer) returns bigint language plpgsql {PINNED} as $$
declare
    v_first bigint;
begin
    perform lock_ledger(p_ledger);
    select next_seq into v_first from ledger_ledger where id = p_ledger for no key update;
    if not found then
        perform refuse_posting('unknown_ledger', 'There is no such ledger.', jsonb_build_object('ledger', p_ledger));
    end if;
    return v_first;
end $$;

-- Refuses an id that stands for another transfer, in the books or earlier in this call. An effective time that the caller
-- leaves open matches any. Runs under the ledger's lock and in a statement of its own: within the INSERT its snapshot
-- would not see what a competing transaction committed while we waited.
create function compare_known({ARGUMENTS}) returns void language plpgsql set enable_seqscan = off as $$
declare
    v_bad record;
begin
    with given as materialized (select g.* {GIVEN}),
    first as (select distinct on (id) * from given order by id, place),
    known as (
        select f.id, x.seq, coalesce(x.debit, f.debit) as debit, coalesce(x.credit, f.credit) as credit,
               coalesce(x.amount, f.amount) as amount, coalesce(x.kind, f.kind) as kind,
               coalesce(x.code, f.code) as code, coalesce(x.origin, f.origin) as origin,
               case when x.id is null then f.pending_id else x.pending_id end as pending_id,
               case when x.id is null then f.link else x.link end as link,
               case when x.id is null then f.timeout_at else x.timeout_at end as timeout_at,
               case when x.id is null then f.reference else x.reference end as reference,
               coalesce(x.effective_at, f.effective_at, p_now) as effective_at
          from first f left join ledger_transfer x on x.ledger = p_ledger and x.id = f.id)
    select g.id, k.seq,
           case when k.debit is distinct from g.debit then 'debit' when k.credit is distinct from g.credit then 'credit'
                when k.amount is distinct from g.amount then 'amount' when k.kind is distinct from g.kind then 'kind'
                when k.code is distinct from g.code then 'code' when k.origin is distinct from g.origin then 'origin'
                when k.pending_id is distinct from g.pending_id then 'pending_id'
                when k.link is distinct from g.link then 'link'
                when k.timeout_at is distinct from g.timeout_at then 'timeout_at'
                when k.reference is distinct from g.reference then 'reference'
                when g.effective_at is not null and k.effective_at <> g.effective_at then 'effective_at'
           end as field
      into v_bad
      from given g join known k on k.id = g.id
     where (k.debit, k.credit, k.amount, k.kind, k.code, k.origin)
           is distinct from (g.debit, g.credit, g.amount, g.kind, g.code, g.origin)
        or k.pending_id is distinct from g.pending_id or k.link is distinct from g.link
        or k.timeout_at is distinct from g.timeout_at or k.reference is distinct from g.reference
        or (g.effective_at is not null and k.effective_at <> g.effective_at)
     order by g.place limit 1;
    if found then
        perform refuse_posting('id_reused', 'This id already stands for another transfer.',
            jsonb_build_object('id', v_bad.id, 'field', v_bad.field, 'seq', v_bad.seq));
    end if;
end $$;

-- Returns how many transfers were written: those whose id was not known.
create function post_transfers({ARGUMENTS}) returns bigint language plpgsql {PINNED} {PLANS} as $$
declare
    v_first bigint := next_number(p_ledger);
    v_new bigint;
begin
    if exists (select 1 from unnest(p_id) g(id) join ledger_transfer x on x.ledger = p_ledger and x.id = g.id)
       or (select count(distinct g.id) from unnest(p_id) g(id)) < cardinality(p_id) then
        perform compare_known(p_ledger, p_now, p_id, p_debit, p_credit, p_amount, p_kind, p_code, p_origin, p_pending_id,
                              p_link, p_timeout_at, p_reference, p_effective_at);
        with given as (select distinct on (g.id) g.* {GIVEN} order by g.id, g.place),
        unknown as (
            select g.*, row_number() over (order by g.place) as n from given g
             where not exists (select 1 from ledger_transfer x where x.ledger = p_ledger and x.id = g.id))
        insert into ledger_transfer (ledger, id, seq, debit, credit, amount, kind, code, origin, pending_id, link,
                                     timeout_at, reference, effective_at, posted_at)
        select p_ledger, u.id, v_first + u.n - 1, u.debit, u.credit, u.amount, u.kind, u.code, u.origin, u.pending_id,
               u.link, u.timeout_at, u.reference, coalesce(u.effective_at, p_now), p_now
          from unknown u;
    else
        insert into ledger_transfer (ledger, id, seq, debit, credit, amount, kind, code, origin, pending_id, link,
                                     timeout_at, reference, effective_at, posted_at)
        select p_ledger, g.id, v_first + g.place - 1, g.debit, g.credit, g.amount, g.kind, g.code, g.origin,
               g.pending_id, g.link, g.timeout_at, g.reference, coalesce(g.effective_at, p_now), p_now
        {GIVEN};
    end if;
    get diagnostics v_new = row_count;
    return v_new;
end $$;

-- The first account whose floor held only because groups of several callers were posted together: what the groups
-- before it brought in is not counted for any of them. `p_group` names the group of each transfer of the run from
-- `p_first`. Whoever combines callers splits such a run, so that nobody spends what another has not yet paid.
create function first_leaning_account(p_ledger integer, p_first bigint, p_group integer[])
returns bigint language plpgsql stable {PINNED} {PLANS} as $$
begin
    return (
    with moved as (
        select e.account, p_group[e.seq - p_first + 1] as grp,
               sum(e.credits_posted - e.debits_posted - e.debits_pending) as credit_room,
               sum(e.debits_posted - e.credits_posted - e.credits_pending) as debit_room
          from transfer_effects(p_ledger, p_first, p_first + cardinality(p_group) - 1) e
         group by e.account, p_group[e.seq - p_first + 1]),
    brought as (
        select account, coalesce(sum(credit_room) filter (where credit_room > 0), 0) as credit_room,
               coalesce(sum(debit_room) filter (where debit_room > 0), 0) as debit_room
          from moved group by account having count(*) > 1)
    select a.id from brought b join ledger_account a on a.id = b.account
     where (a.floor = 'credit' and a.credits_posted - a.debits_posted - a.debits_pending < b.credit_room)
        or (a.floor = 'debit' and a.debits_posted - a.credits_posted - a.credits_pending < b.debit_room)
     order by a.id limit 1);
end $$;

-- Posts the groups of several callers as one call, durable when it has committed, and returns how many transfers were
-- written. GL003 where some group had another answer alone, or none would know how many of its own were new. One
-- statement, so that whoever combines callers waits for the server once.
create function post_run({ARGUMENTS}, p_group integer[]) returns bigint language plpgsql {PINNED} as $$
declare
    v_written bigint;
begin
    perform set_config('synchronous_commit', 'on', true);
    v_written := post_transfers(p_ledger, p_now, p_id, p_debit, p_credit, p_amount, p_kind, p_code, p_origin,
                                p_pending_id, p_link, p_timeout_at, p_reference, p_effective_at);
    if p_group[1] <> p_group[cardinality(p_group)]
       and (v_written < cardinality(p_group)
            or first_leaning_account(p_ledger, next_number(p_ledger) - v_written, p_group) is not null) then
        raise exception using errcode = 'GL003', message = 'these groups are not written as one';
    end if;
    return v_written;
end $$;
"""

TYPES = """integer, timestamptz, uuid[], bigint[], bigint[], bigint[], text[], smallint[], text[], uuid[], uuid[],
           timestamptz[], bytea[], timestamptz[]"""
DROP_POST = f"""
drop function post_run({TYPES}, integer[]);
drop function first_leaning_account(integer, bigint, integer[]);
drop function post_transfers({TYPES});
drop function compare_known({TYPES});
drop function next_number(integer);
"""

# A row is as short as its columns allow when the wide ones stand first and no gap is left between them: 8 bytes less than
# before, of 128. Only a new table has a new order; what hung on the old one is written down first and hung on again.
PACK = """
do $$
declare
    v_parts text[] := array(
        select format('alter table ledger_transfer add constraint %I %s', conname, pg_get_constraintdef(oid))
          from pg_constraint where conrelid = 'ledger_transfer'::regclass and contype in ('p', 'u', 'c')
        union all
        select pg_get_indexdef(i.indexrelid) from pg_index i
         where i.indrelid = 'ledger_transfer'::regclass
           and not exists (select 1 from pg_constraint c where c.conindid = i.indexrelid)
        union all
        select pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'ledger_transfer'::regclass and not tgisinternal);
    v_part text;
begin
    alter table ledger_transfer rename to transfer_of_old;
    create table ledger_transfer (
        seq bigint not null, debit bigint not null, credit bigint not null, amount bigint not null,
        effective_at timestamptz not null, posted_at timestamptz not null, ledger integer not null,
        code smallint not null, id uuid not null, kind text not null, origin text not null,
        pending_id uuid, link uuid, timeout_at timestamptz, reference bytea);
    insert into ledger_transfer (seq, debit, credit, amount, effective_at, posted_at, ledger, code, id, kind, origin,
                                 pending_id, link, timeout_at, reference)
    select seq, debit, credit, amount, effective_at, posted_at, ledger, code, id, kind, origin, pending_id, link,
           timeout_at, reference
      from transfer_of_old order by ledger, seq;
    drop table transfer_of_old;
    foreach v_part in array v_parts loop
        execute v_part;
    end loop;
    -- numbers only ever grow: no page of their index is met again, so none needs room for later
    alter index transfer_seq_is_taken_once set (fillfactor = 100);
end $$;
"""

OLD_POST = before.POST[before.POST.index("-- Returns how many transfers were written"):]
DROP_OLD_POST = f"drop function post_transfers({TYPES});"

WALLS = """
create trigger account_is_never_deleted before delete or truncate on ledger_account
    for each statement execute function refuse_change();
"""
DROP_WALLS = "drop trigger account_is_never_deleted on ledger_account;"

# The same floors as before, as differences: the sum of two counters may leave 64 bits where each of them fits.
FLOORS = {
    "account_never_spends_more_than_it_holds":
        ~models.Q(floor="credit")
        | models.Q(debits_pending__lte=models.F("credits_posted") - models.F("debits_posted")),
    "account_never_gives_more_than_it_took":
        ~models.Q(floor="debit")
        | models.Q(credits_pending__lte=models.F("debits_posted") - models.F("credits_posted")),
}


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_card_rail")]

    operations = [
        migrations.RemoveIndex("transfer", "transfer_by_debit"),
        migrations.RemoveIndex("transfer", "transfer_by_credit"),
        migrations.RunSQL(PACK, migrations.RunSQL.noop),
        migrations.AddIndex("transfer", GinIndex(
            models.Func(models.F("debit"), models.F("credit"), template="ARRAY[%(expressions)s]",
                        output_field=ArrayField(models.BigIntegerField())),
            name="transfer_by_account", fastupdate=True, gin_pending_list_limit=16_384)),
        *(each for name, condition in FLOORS.items() for each in (
            migrations.RemoveConstraint("account", name),
            migrations.AddConstraint("account", models.CheckConstraint(name=name, condition=condition)))),
        migrations.RunSQL(DROP_OLD_POST, OLD_POST),
        migrations.RunSQL(APPLY, DROP_APPLY),
        migrations.RunSQL(POST, DROP_POST),
        migrations.RunSQL(WALLS, DROP_WALLS),
    ]
