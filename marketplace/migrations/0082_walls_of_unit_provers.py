"""Walls: a key is one machine's, a unit's prover stays what it was let in as, and an answer counts machine by machine."""

from importlib import import_module

from django.db import migrations

HEARD_BEFORE = import_module("marketplace.migrations.0072_roll_of_real_machines").FUNCTIONS
HEARD_BEFORE = HEARD_BEFORE[HEARD_BEFORE.index("CREATE FUNCTION marketplace_roll_is_heard_in_its_span") :].replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)
ANSWERED_BEFORE = import_module("marketplace.migrations.0074_rolls_share_a_moment").FUNCTIONS

FUNCTIONS = """
CREATE OR REPLACE FUNCTION marketplace_roll_is_heard_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fresh jsonb := to_jsonb(NEW);
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_rollmember m JOIN marketplace_rollcall r ON r.id = m.roll_id
        WHERE m.id = NEW.member_id AND NEW.received_at BETWEEN r.opened_at AND r.closes_at
          AND coalesce((fresh ->> 'measured_at')::timestamptz, r.opened_at) BETWEEN r.opened_at AND r.closes_at
    ) THEN
        RAISE EXCEPTION 'roll_is_heard_in_its_span: another time'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_heard_in_its_span';
    END IF;
    IF NEW.prover_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM marketplace_unitprover u JOIN marketplace_rollmember m ON m.node_class_id = u.node_class_id
            JOIN marketplace_rollcall r ON r.id = m.roll_id
        WHERE u.enrolment_id = NEW.prover_id AND m.id = NEW.member_id AND u.enrolled_at <= r.opened_at
          AND (u.retired_at IS NULL OR u.retired_at > r.opened_at)
    ) THEN
        RAISE EXCEPTION 'roll_is_heard_of_called_machines: a prover of another class, or of another time'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_heard_of_called_machines';
    END IF;
    RETURN NEW;
END $$;

-- Every machine that was seen at work at its class's rate, when, and for which class.
CREATE FUNCTION marketplace_seen_at_work(asked uuid) RETURNS TABLE (
    member_id bigint, prover uuid, from_s numeric, until_s numeric
) LANGUAGE sql STABLE AS $$
    SELECT p.member_id, coalesce(p.prover_id, m.node_class_id), extract(epoch FROM p.measured_at),
           extract(epoch FROM p.ended_at)
    FROM marketplace_rollmember m JOIN marketplace_rollreport p ON p.member_id = m.id
        JOIN marketplace_nodeclass n ON n.id = m.node_class_id
        JOIN marketplace_resourceclass c ON c.code = n.resource_class_id
    WHERE m.roll_id = asked AND p.ended_at IS NOT NULL AND p.ops::numeric * 10000 >= c.ops_per_sec::numeric * 8500
$$;

CREATE OR REPLACE FUNCTION marketplace_roll_is_answered_in_its_span() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine marketplace_rollmember%ROWTYPE;
    shared bigint;
    needed bigint;
BEGIN
    SELECT * INTO mine FROM marketplace_rollmember WHERE id = NEW.member_id;
    IF NEW.machines > mine.machines OR NOT EXISTS (
        SELECT 1 FROM marketplace_rollcall r
        WHERE r.id = mine.roll_id AND NEW.answered_at BETWEEN r.opened_at AND r.closes_at
    ) THEN
        RAISE EXCEPTION 'roll_is_answered_in_its_span: another class, another time or more machines than called'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_is_answered_in_its_span';
    END IF;
    -- Each machine that is counted signed for itself, and two verifiers saw it at work.
    IF NEW.machines > (
        SELECT count(*) FROM marketplace_rollreply y
        WHERE y.member_id = mine.id AND 2 <= (
            SELECT count(*) FROM marketplace_seen_at_work(mine.roll_id) s
            WHERE s.member_id = mine.id AND s.prover = coalesce(y.prover_id, mine.node_class_id))
    ) THEN
        RAISE EXCEPTION 'roll_answer_rests_on_two_verifiers: nobody measured it, or a machine did not sign'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_rests_on_two_verifiers';
    END IF;
    -- And each was at work together with each other of the roll: as many pairs as there are.
    WITH seen AS MATERIALIZED (SELECT * FROM marketplace_seen_at_work(mine.roll_id)),
        pairs AS (
            SELECT DISTINCT a.prover AS one, b.prover AS other FROM seen a JOIN seen b ON b.prover <> a.prover
            WHERE a.member_id = mine.id
              AND (least(a.until_s, b.until_s) - greatest(a.from_s, b.from_s)) * 10000
                  > 1500 * (a.until_s - a.from_s + b.until_s - b.from_s))
    SELECT (SELECT count(*) FROM pairs),
           (SELECT count(DISTINCT prover) FROM seen WHERE member_id = mine.id)
           * (SELECT count(DISTINCT prover) - 1 FROM seen)
    INTO shared, needed;
    IF shared < needed OR EXISTS (
        SELECT 1 FROM marketplace_rollmember o WHERE o.roll_id = mine.roll_id
            AND NOT EXISTS (SELECT 1 FROM marketplace_seen_at_work(mine.roll_id) s WHERE s.member_id = o.id)
    ) THEN
        RAISE EXCEPTION 'roll_answer_shares_a_moment_with_all: measured after another, one machine may be both'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'roll_answer_shares_a_moment_with_all';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_key_is_one_machines() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'marketplace_unitprover' AND EXISTS (
           SELECT 1 FROM marketplace_machinekeychange WHERE public_key = NEW.public_key)
       OR TG_TABLE_NAME = 'marketplace_machinekeychange' AND EXISTS (
           SELECT 1 FROM marketplace_unitprover WHERE public_key = NEW.public_key) THEN
        RAISE EXCEPTION 'a_key_is_one_machines: it meters, or it answers for one more unit'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'a_key_is_one_machines';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_unit_prover_is_let_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_enrolment e
        WHERE e.id = NEW.enrolment_id AND e.node_class_id = NEW.node_class_id AND e.public_key = NEW.public_key
          AND e.is_for_a_unit AND e.is_accepted
    ) THEN
        RAISE EXCEPTION 'a_unit_prover_was_let_in: no accepted code of that class for that key'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_unit_prover_was_let_in';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_unit_prover_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD.retired_at IS NOT NULL OR NEW.sequence < OLD.sequence
       OR (NEW.enrolment_id, NEW.node_class_id, NEW.number, NEW.public_key, NEW.enrolled_at)
          IS DISTINCT FROM (OLD.enrolment_id, OLD.node_class_id, OLD.number, OLD.public_key, OLD.enrolled_at) THEN
        RAISE EXCEPTION 'a_unit_prover_stays_what_it_is: %', OLD.enrolment_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_unit_prover_stays_what_it_is';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER unit_prover_is_let_in BEFORE INSERT ON marketplace_unitprover
    FOR EACH ROW EXECUTE FUNCTION marketplace_unit_prover_is_let_in();
CREATE TRIGGER unit_prover_key_is_one_machines BEFORE INSERT ON marketplace_unitprover
    FOR EACH ROW EXECUTE FUNCTION marketplace_key_is_one_machines();
CREATE TRIGGER class_key_is_one_machines BEFORE INSERT ON marketplace_machinekeychange
    FOR EACH ROW EXECUTE FUNCTION marketplace_key_is_one_machines();
CREATE TRIGGER unit_prover_stays BEFORE UPDATE OR DELETE ON marketplace_unitprover
    FOR EACH ROW EXECUTE FUNCTION marketplace_unit_prover_stays();
GRANT SELECT, INSERT, UPDATE ON marketplace_unitprover TO grove_app;
"""
UNDO = """
REVOKE ALL ON marketplace_unitprover FROM grove_app;
DROP TRIGGER unit_prover_stays ON marketplace_unitprover;
DROP TRIGGER class_key_is_one_machines ON marketplace_machinekeychange;
DROP TRIGGER unit_prover_key_is_one_machines ON marketplace_unitprover;
DROP TRIGGER unit_prover_is_let_in ON marketplace_unitprover;
DROP FUNCTION marketplace_unit_prover_stays;
DROP FUNCTION marketplace_unit_prover_is_let_in;
DROP FUNCTION marketplace_key_is_one_machines;
DROP FUNCTION marketplace_seen_at_work;
"""


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0081_each_unit_has_a_prover")]
    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO + HEARD_BEFORE + ANSWERED_BEFORE)]
