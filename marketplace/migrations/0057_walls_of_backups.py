"""Walls of backups: a failure is decided once, what steps in is what was agreed and fits, and every rule of an award
holds for it too: the same functions judge both.
"""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("marketplace.migrations.0055_walls_of_tax").FUNCTIONS
MAPPED = BEFORE[BEFORE.index("CREATE OR REPLACE FUNCTION marketplace_invoice_line_is_mapped") :]
MAPPED = MAPPED[: MAPPED.index("CREATE OR REPLACE FUNCTION marketplace_invoice_adds_up")]
APPEND_ONLY = ("stepinrun",)
RULES_OF_AWARDS = (
    "award_complies", "award_has_its_papers", "award_is_of_sellable_capacity", "award_has_two_owners",
    "award_keeps_the_cap", "award_on_probation", "award_has_counsel",
)  # fmt: skip

NEW_FUNCTIONS = """
CREATE FUNCTION marketplace_step_in_path() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN TG_OP = 'INSERT' AND NEW.state NOT IN ('refused', 'returning') THEN 'step_in_starts_with_a_decision'
        WHEN TG_OP = 'INSERT' AND NEW.state = 'returning' AND NOT EXISTS (
            SELECT 1 FROM marketplace_leasehealth h WHERE h.lease_id = NEW.lease_id AND h.state = 'FAILED'
              AND h.since = NEW.failed_at) THEN 'step_in_is_for_a_failed_lease'
        WHEN TG_OP = 'UPDATE' AND NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('returning', 'locking'), ('locking', 'running'), ('locking', 'fallen')) THEN 'step_in_follows_its_path'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: lease %', broken, NEW.lease_id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_backup_run_is_agreed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    s marketplace_stepin%ROWTYPE;
    a marketplace_award%ROWTYPE;
    agreed marketplace_backup%ROWTYPE;
    l marketplace_lease%ROWTYPE;
    b marketplace_bid%ROWTYPE;
    starts timestamptz;
    broken text;
BEGIN
    SELECT * INTO s FROM marketplace_stepin WHERE id = NEW.step_in_id;
    SELECT * INTO l FROM marketplace_lease WHERE id = s.lease_id;
    SELECT * INTO a FROM marketplace_award WHERE id = NEW.award_id;
    SELECT * INTO agreed FROM marketplace_backup WHERE award_id = NEW.award_id;
    SELECT * INTO b FROM marketplace_bid WHERE id = NEW.bid_id;
    -- Two windows may draw on one node class at once: one after the other.
    PERFORM 1 FROM marketplace_nodeclass WHERE id = b.node_class_id FOR UPDATE;
    SELECT starts_at INTO starts FROM marketplace_window WHERE id = l.window_id;
    SELECT CASE
        WHEN agreed.bid_id IS DISTINCT FROM NEW.bid_id OR (a.demand_id, a.bid_id) <> (l.demand_id, l.bid_id)
            OR NEW.demand_id <> a.demand_id OR NEW.units <> a.units OR NEW.end_slot <> a.end_slot
            OR NEW.start_slot <> greatest(a.start_slot, s.from_slot)
            OR jsonb_array_length(NEW.slot_prices_micros) <> NEW.end_slot - NEW.start_slot
            OR EXISTS (SELECT 1 FROM jsonb_array_elements_text(NEW.slot_prices_micros) p
                       WHERE p::bigint <> agreed.strike_price_micros)
            OR NEW.amount_micros <> NEW.units * agreed.strike_price_micros * (NEW.end_slot - NEW.start_slot)
            THEN 'backup_run_is_the_one_agreed'
        WHEN bool_or(b.quantity_units < NEW.units + h.of_bid) THEN 'backup_run_fits_what_its_bid_has_left'
        WHEN bool_or(marketplace_sellable_units(b.node_class_id, starts + make_interval(hours => h.slot))
                     < NEW.units + h.of_class) THEN 'backup_run_fits_what_its_machines_have_left'
    END INTO broken
    FROM (
        SELECT slot,
            (SELECT coalesce(sum(x.units), 0) FROM marketplace_award x
             WHERE x.bid_id = b.id AND x.start_slot <= slot AND slot < x.end_slot)
            + (SELECT coalesce(sum(r.units), 0) FROM marketplace_stepinrun r
               JOIN marketplace_stepin t ON t.id = r.step_in_id
               WHERE r.bid_id = b.id AND t.state <> 'refused' AND r.start_slot <= slot AND slot < r.end_slot) AS of_bid,
            (SELECT coalesce(sum(x.units), 0) FROM marketplace_award x JOIN marketplace_bid o ON o.id = x.bid_id
                 JOIN marketplace_window w ON w.id = o.window_id
             WHERE o.node_class_id = b.node_class_id
               AND w.starts_at + make_interval(hours => x.start_slot) <= starts + make_interval(hours => slot)
               AND starts + make_interval(hours => slot) < w.starts_at + make_interval(hours => x.end_slot))
            + (SELECT coalesce(sum(r.units), 0) FROM marketplace_stepinrun r JOIN marketplace_bid o ON o.id = r.bid_id
                   JOIN marketplace_window w ON w.id = o.window_id
               WHERE o.node_class_id = b.node_class_id
                 AND w.starts_at + make_interval(hours => r.start_slot) <= starts + make_interval(hours => slot)
                 AND starts + make_interval(hours => slot) < w.starts_at + make_interval(hours => r.end_slot)
              ) AS of_class
        FROM generate_series(NEW.start_slot, NEW.end_slot - 1) AS slot) h;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: bid %', broken, b.reference USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_lease_keeps_to_its_backup() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    broken := CASE
        WHEN TG_OP = 'UPDATE' AND NEW.ended_slot IS DISTINCT FROM OLD.ended_slot AND NOT EXISTS (
            SELECT 1 FROM marketplace_stepin s WHERE s.lease_id = NEW.id AND s.state <> 'refused'
              AND s.from_slot = NEW.ended_slot) THEN 'lease_ends_where_its_backup_begins'
        WHEN TG_OP = 'INSERT' AND NEW.step_in_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_stepin s JOIN marketplace_stepinrun r ON r.step_in_id = s.id
            WHERE s.id = NEW.step_in_id AND s.state = 'returning' AND r.bid_id = NEW.bid_id
              AND r.demand_id = NEW.demand_id
            HAVING sum(r.amount_micros) = NEW.fee_micros) THEN 'backup_lease_is_the_one_agreed'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION '%: lease %', broken, NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
"""
NOW_MAPPED = MAPPED.replace(
    "        WHEN NEW.verdict_id IS NOT NULL",
    """        WHEN NEW.backup_run_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM marketplace_stepinrun r JOIN marketplace_demand d ON d.id = r.demand_id
                JOIN marketplace_lease l ON l.step_in_id = r.step_in_id AND l.bid_id = r.bid_id
            WHERE r.id = NEW.backup_run_id AND r.amount_micros = NEW.amount_micros AND d.party_id = i.party_id
              AND d.window_id = i.window_id AND l.state <> 'refused') THEN 'invoice_line_is_a_backup_of_its_buyer'
        WHEN NEW.verdict_id IS NOT NULL""",
    1,
)
FUNCTIONS = NEW_FUNCTIONS + NOW_MAPPED
TRIGGERS = """
CREATE TRIGGER step_in_path BEFORE INSERT OR UPDATE ON marketplace_stepin
    FOR EACH ROW EXECUTE FUNCTION marketplace_step_in_path();
CREATE TRIGGER backup_run_is_agreed BEFORE INSERT ON marketplace_stepinrun
    FOR EACH ROW EXECUTE FUNCTION marketplace_backup_run_is_agreed();
CREATE TRIGGER lease_keeps_to_its_backup BEFORE INSERT OR UPDATE OF ended_slot ON marketplace_lease
    FOR EACH ROW EXECUTE FUNCTION marketplace_lease_keeps_to_its_backup();
CREATE TRIGGER stepinrun_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_stepinrun
    FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();
GRANT SELECT, INSERT ON marketplace_stepin, marketplace_stepinrun TO grove_app;
GRANT UPDATE (state, code, sentence, mandate_id, return_key, ended_at) ON marketplace_stepin TO grove_app;
""" + "".join(
    f"CREATE TRIGGER backup_{name} BEFORE INSERT ON marketplace_stepinrun\n"
    f"    FOR EACH ROW EXECUTE FUNCTION marketplace_{name}();\n"
    for name in RULES_OF_AWARDS
)
UNDO = (
    MAPPED
    + "".join(f"DROP TRIGGER backup_{name} ON marketplace_stepinrun;\n" for name in RULES_OF_AWARDS)
    + """
REVOKE ALL ON marketplace_stepin, marketplace_stepinrun FROM grove_app;
REVOKE UPDATE (state, code, sentence, mandate_id, return_key, ended_at) ON marketplace_stepin FROM grove_app;
DROP TRIGGER stepinrun_stays ON marketplace_stepinrun;
DROP TRIGGER lease_keeps_to_its_backup ON marketplace_lease;
DROP TRIGGER backup_run_is_agreed ON marketplace_stepinrun;
DROP TRIGGER step_in_path ON marketplace_stepin;
DROP FUNCTION marketplace_lease_keeps_to_its_backup, marketplace_backup_run_is_agreed, marketplace_step_in_path;
"""
)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0056_backups_step_in")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
