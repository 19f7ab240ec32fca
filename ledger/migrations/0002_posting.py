"""The posting function, the lock of a ledger, the opening of accounts, and the walls around what is append-only."""

from django.db import migrations

LOCKS = """
-- Every writer of a ledger waits here first, so one transaction may post several times without a deadlock.
-- The number 7601 only keeps these locks apart from other advisory locks of the database.
create function lock_ledger(p_ledger integer) returns void language sql as $$
    select pg_advisory_xact_lock(7601, p_ledger)
$$;

create function refuse_posting(p_code text, p_message text, p_facts jsonb) returns void language plpgsql as $$
begin
    raise exception using errcode = 'GL000', message = p_message,
        detail = (p_facts || jsonb_build_object('refusal', p_code))::text;
end $$;

-- An account id is the ledger in the high bits and a running number below: no sequence, and no id outside its ledger.
create function open_account(p_ledger integer, p_code text, p_party uuid, p_scope uuid, p_floor text)
returns bigint language plpgsql as $$
declare
    v_id bigint;
    v_base bigint := p_ledger::bigint << 40;
begin
    perform lock_ledger(p_ledger);
    select id into v_id from ledger_account
     where ledger = p_ledger and code = p_code
       and party is not distinct from p_party and scope is not distinct from p_scope;
    if found then
        return v_id;
    end if;
    select greatest(coalesce(max(id), v_base), v_base) + 1 into v_id
      from ledger_account where id >= v_base and id < v_base + (1::bigint << 40);
    insert into ledger_account (id, ledger, code, party, scope, floor, debits_posted, credits_posted,
                                debits_pending, credits_pending, version)
    values (v_id, p_ledger, p_code, p_party, p_scope, p_floor, 0, 0, 0, 0, 0);
    return v_id;
end $$;
"""

DROP_LOCKS = """
drop function open_account(integer, text, uuid, uuid, text);
drop function refuse_posting(text, text, jsonb);
drop function lock_ledger(integer);
"""

POST = """
-- What each transfer of a run adds to the counters of its two accounts; the only place where the kinds have a meaning.
-- A run has two ends although the first would do: with one end the planner guesses a third of the table.
create function transfer_effects(p_ledger integer, p_from_seq bigint, p_to_seq bigint)
returns table (account bigint, seq bigint, posted_at timestamptz,
               debits_posted bigint, credits_posted bigint, debits_pending bigint, credits_pending bigint)
language sql stable as $$
    with moved as (
        select t.debit, t.credit, t.seq, t.posted_at,
               case when t.kind in ('posted', 'post') then t.amount else 0 end as posted,
               case t.kind when 'posted' then 0 when 'pending' then t.amount else -p.amount end as pending
          from ledger_transfer t
          left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
         where t.ledger = p_ledger and t.seq between p_from_seq and p_to_seq)
    select debit, seq, posted_at, posted, 0::bigint, pending, 0::bigint from moved
    union all
    select credit, seq, posted_at, 0::bigint, posted, 0::bigint, pending from moved
$$;

create function check_new_links(p_ledger integer, p_from_seq bigint, p_to_seq bigint) returns void language plpgsql as $$
declare
    v_bad record;
begin
    select t.link, count(*) as members, min(t.seq) as first_seq into v_bad
      from ledger_transfer t
     where t.ledger = p_ledger
       and t.link in (select n.link from ledger_transfer n
                       where n.ledger = p_ledger and n.seq between p_from_seq and p_to_seq and n.link is not null)
     group by t.link
    having count(*) < 2 or min(t.seq) < p_from_seq
     limit 1;
    if found then
        perform refuse_posting('link_broken', 'A linked group arrives whole, in one call, or not at all.',
            jsonb_build_object('link', v_bad.link, 'members', v_bad.members,
                               'joins_older', v_bad.first_seq < p_from_seq));
    end if;
end $$;

create function check_new_pendings(p_ledger integer, p_from_seq bigint, p_to_seq bigint, p_now timestamptz)
returns void language plpgsql as $$
declare
    v_bad record;
begin
    select t.id into v_bad from ledger_transfer t
     where t.ledger = p_ledger and t.seq between p_from_seq and p_to_seq and t.kind = 'pending' and t.timeout_at <= p_now limit 1;
    if found then
        perform refuse_posting('pending_timed_out', 'A hold that is already over reserves nothing.',
            jsonb_build_object('pending_id', v_bad.id));
    end if;
    select t.id, t.kind, t.pending_id, t.amount, p.amount as reserved, p.timeout_at,
           case when p.id is null or p.kind <> 'pending' or p.seq >= t.seq then 'pending_not_found'
                when t.debit <> p.debit or t.credit <> p.credit or t.amount > p.amount
                     or (t.kind <> 'post' and t.amount <> p.amount) then 'pending_mismatch'
                when t.kind <> 'expire' and p.timeout_at <= p_now then 'pending_timed_out'
                when t.kind = 'expire' and (p.timeout_at is null or p.timeout_at > p_now) then 'pending_not_timed_out'
           end as problem
      into v_bad
      from ledger_transfer t
      left join ledger_transfer p on p.ledger = t.ledger and p.id = t.pending_id
     where t.ledger = p_ledger and t.seq between p_from_seq and p_to_seq and t.pending_id is not null
       and (p.id is null or p.kind <> 'pending' or p.seq >= t.seq or t.debit <> p.debit or t.credit <> p.credit
            or t.amount > p.amount or (t.kind <> 'post' and t.amount <> p.amount)
            or (t.kind <> 'expire' and p.timeout_at <= p_now)
            or (t.kind = 'expire' and (p.timeout_at is null or p.timeout_at > p_now)))
     order by t.seq limit 1;
    if found then
        perform refuse_posting(v_bad.problem, 'This hold cannot be resolved like that.',
            jsonb_build_object('id', v_bad.id, 'kind', v_bad.kind, 'pending_id', v_bad.pending_id,
                               'amount', v_bad.amount, 'reserved', v_bad.reserved, 'timeout_at', v_bad.timeout_at));
    end if;
end $$;

-- Returns how many transfers were written: those whose id was not known. Locks, in this order and no other: the ledger,
-- its account rows by id, its row (for the numbers), then the insert. Everything below the locks sees all that committed
-- before, because each statement of a volatile function takes a new snapshot.
create function post_transfers(
    p_ledger integer, p_now timestamptz, p_id uuid[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind text[], p_code smallint[], p_origin text[], p_pending_id uuid[], p_link uuid[],
    p_timeout_at timestamptz[], p_reference bytea[], p_effective_at timestamptz[])
returns bigint language plpgsql as $$
declare
    v_ledger ledger_ledger%rowtype;
    v_first bigint;
    v_last bigint;
    v_new bigint;
    v_touched bigint;
    v_bad record;
begin
    perform lock_ledger(p_ledger);
    perform 1 from ledger_account a
      where a.ledger = p_ledger and a.id in (select unnest(p_debit) union select unnest(p_credit))
      order by a.id for no key update;
    select * into v_ledger from ledger_ledger where id = p_ledger for no key update;
    if not found then
        perform refuse_posting('unknown_ledger', 'There is no such ledger.', jsonb_build_object('ledger', p_ledger));
    end if;
    v_first := v_ledger.next_seq;

    with given as (
        select distinct on (g.id) g.*
          from unnest(p_id, p_debit, p_credit, p_amount, p_kind, p_code, p_origin, p_pending_id, p_link, p_timeout_at,
                      p_reference, p_effective_at) with ordinality
            as g(id, debit, credit, amount, kind, code, origin, pending_id, link, timeout_at, reference, effective_at,
                 place)
         order by g.id, g.place),
    fresh as (
        select g.*, row_number() over (order by g.place) as n from given g
         where not exists (select 1 from ledger_transfer x where x.ledger = p_ledger and x.id = g.id))
    insert into ledger_transfer (ledger, id, seq, debit, credit, amount, kind, code, origin, pending_id, link,
                                 timeout_at, reference, effective_at, posted_at)
    select p_ledger, f.id, v_first + f.n - 1, f.debit, f.credit, f.amount, f.kind, f.code, f.origin, f.pending_id,
           f.link, f.timeout_at, f.reference, coalesce(f.effective_at, p_now), p_now
      from fresh f;
    get diagnostics v_new = row_count;

    if v_new < cardinality(p_id) then
        -- Some ids were known: their bodies must be the same. An effective time that the caller leaves open matches any.
        select g.id, x.seq,
               case when x.debit <> g.debit then 'debit' when x.credit <> g.credit then 'credit'
                    when x.amount <> g.amount then 'amount' when x.kind <> g.kind then 'kind'
                    when x.code <> g.code then 'code' when x.origin <> g.origin then 'origin'
                    when x.pending_id is distinct from g.pending_id then 'pending_id'
                    when x.link is distinct from g.link then 'link'
                    when x.timeout_at is distinct from g.timeout_at then 'timeout_at'
                    when x.reference is distinct from g.reference then 'reference'
                    when g.effective_at is not null and x.effective_at <> g.effective_at then 'effective_at'
               end as field
          into v_bad
          from unnest(p_id, p_debit, p_credit, p_amount, p_kind, p_code, p_origin, p_pending_id, p_link, p_timeout_at,
                      p_reference, p_effective_at) with ordinality
            as g(id, debit, credit, amount, kind, code, origin, pending_id, link, timeout_at, reference, effective_at,
                 place)
          join ledger_transfer x on x.ledger = p_ledger and x.id = g.id
         where (x.debit, x.credit, x.amount, x.kind, x.code, x.origin)
               <> (g.debit, g.credit, g.amount, g.kind, g.code, g.origin)
            or x.pending_id is distinct from g.pending_id or x.link is distinct from g.link
            or x.timeout_at is distinct from g.timeout_at or x.reference is distinct from g.reference
            or (g.effective_at is not null and x.effective_at <> g.effective_at)
         order by g.place limit 1;
        if found then
            perform refuse_posting('id_reused', 'This id already stands for another transfer.',
                jsonb_build_object('id', v_bad.id, 'field', v_bad.field, 'seq', v_bad.seq));
        end if;
    end if;
    if v_new = 0 then
        return 0;
    end if;
    v_last := v_first + v_new - 1;

    if v_ledger.halted and exists (select 1 from ledger_transfer t
                                    where t.ledger = p_ledger and t.seq between v_first and v_last
                                      and t.code between 700 and 799) then
        perform refuse_posting('ledger_halted', 'Payouts stand still: ' || v_ledger.halted_reason,
            jsonb_build_object('ledger', p_ledger, 'reason', v_ledger.halted_reason));
    end if;
    perform check_new_links(p_ledger, v_first, v_last);
    perform check_new_pendings(p_ledger, v_first, v_last, p_now);

    select t.id, a.code, t.origin into v_bad
      from ledger_transfer t join ledger_account a on a.id = t.debit and a.ledger = p_ledger
     where t.ledger = p_ledger and t.seq between v_first and v_last
       and ((a.code = 'programme.incentive' and t.origin <> 'incentive')
            or (a.code = 'programme.grant' and t.origin <> 'grant'))
     limit 1;
    if found then
        perform refuse_posting('origin_mismatch', 'Money of a programme keeps its origin.',
            jsonb_build_object('id', v_bad.id, 'account_code', v_bad.code, 'origin', v_bad.origin));
    end if;

    with delta as (
        select e.account, sum(e.debits_posted)::bigint as debits_posted, sum(e.credits_posted)::bigint as credits_posted,
               sum(e.debits_pending)::bigint as debits_pending, sum(e.credits_pending)::bigint as credits_pending
          from transfer_effects(p_ledger, v_first, v_last) e group by e.account),
    changed as (
        update ledger_account a
           set debits_posted = a.debits_posted + d.debits_posted, credits_posted = a.credits_posted + d.credits_posted,
               debits_pending = a.debits_pending + d.debits_pending,
               credits_pending = a.credits_pending + d.credits_pending, version = a.version + 1
          from delta d where a.id = d.account and a.ledger = p_ledger
        returning 1)
    select (select count(*) from delta) - (select count(*) from changed) into v_touched;
    if v_touched <> 0 then
        select e.account into v_bad from transfer_effects(p_ledger, v_first, v_last) e
         where not exists (select 1 from ledger_account a where a.id = e.account and a.ledger = p_ledger) limit 1;
        perform refuse_posting('unknown_account', 'There is no such account in this ledger.',
            jsonb_build_object('ledger', p_ledger, 'account', v_bad.account));
    end if;
    update ledger_ledger set next_seq = v_last + 1 where id = p_ledger;
    return v_new;
end $$;
"""

DROP_POST = """
drop function post_transfers(integer, timestamptz, uuid[], bigint[], bigint[], bigint[], text[], smallint[], text[],
                             uuid[], uuid[], timestamptz[], bytea[], timestamptz[]);
drop function check_new_pendings(integer, bigint, bigint, timestamptz);
drop function check_new_links(integer, bigint, bigint);
drop function transfer_effects(integer, bigint, bigint);
"""

APPEND_ONLY = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception using errcode = 'GL001', message = tg_table_name || ' is append-only: ' || tg_op || ' is refused';
end $$;
create trigger transfer_is_append_only before update or delete or truncate on ledger_transfer
    for each statement execute function refuse_change();
create trigger epoch_is_append_only before update or delete or truncate on ledger_epoch
    for each statement execute function refuse_change();
create trigger epoch_anchor_is_append_only before update or delete or truncate on ledger_epochanchor
    for each statement execute function refuse_change();
"""

DROP_APPEND_ONLY = """
drop trigger epoch_anchor_is_append_only on ledger_epochanchor;
drop trigger epoch_is_append_only on ledger_epoch;
drop trigger transfer_is_append_only on ledger_transfer;
drop function refuse_change();
"""

# Batches rewrite the same account rows again and again: leave room on the page and clean up early, or the table bloats.
ROOM = """
alter table ledger_account set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
                                autovacuum_vacuum_cost_delay = 0);
"""
DROP_ROOM = """
alter table ledger_account reset (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_books_outbox_and_rails")]

    operations = [
        migrations.RunSQL(LOCKS, DROP_LOCKS),
        migrations.RunSQL(POST, DROP_POST),
        migrations.RunSQL(APPEND_ONLY, DROP_APPEND_ONLY),
        migrations.RunSQL(ROOM, DROP_ROOM),
    ]
